"""Gradients against central finite differences, with a comparison that cannot be passed by zeros.

For a scalar function L and a step h, dL/dx_i = (L(x + h e_i) - L(x - h e_i)) / 2h + O(h^2). An
entry agrees when the difference is at most `rtol` times the larger of its size and `floor` times
the largest entry of its group; a group is all tensors whose names share the part before the first
dot (`theta_0.conv.weight`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
STEP, RTOL, FLOOR = 1e-6, 1e-3, 1e-3


def compare(found: Tensors, expected: Tensors, rtol: float = RTOL, floor: float = FLOOR) -> None:
    """Raise AssertionError unless every entry of `found` is `expected`'s, relative to itself or its
    group."""
    assert found.keys() == expected.keys(), (sorted(found), sorted(expected))
    largest: dict[str, float] = {}
    for name, x in expected.items():
        group = name.split(".")[0]
        largest[group] = max(largest.get(group, 0.0), float(x.abs().max()))
    for name, x in expected.items():
        scale = largest[name.split(".")[0]]
        # 1e-6: hundreds of times what rounding leaves of a difference of losses; below it nothing
        # is tested
        assert scale > 1e-6, (
            f"the gradient of {name} is at most {scale:.1e}: too small to be compared"
        )
        error = (found[name] - x).abs()
        allowed = rtol * x.abs().clamp_min(floor * scale)
        worst = int((error / allowed).argmax())
        assert bool((error <= allowed).all()), (
            f"{name}, entry {worst} of those compared: found {found[name].flatten()[worst]:.6e}, "
            f"finite differences {x.flatten()[worst]:.6e}, largest of its group {scale:.1e}"
        )


def _difference(
    function: Callable[[Tensors], Tensor], tensors: Tensors, name: str, direction: Tensor
) -> float:
    with torch.no_grad():
        up = function({**tensors, name: tensors[name] + STEP * direction})
        down = function({**tensors, name: tensors[name] - STEP * direction})
    return float(up - down) / (2 * STEP)


def sample(
    function: Callable[[Tensors], Tensor],
    tensors: Tensors,
    generator: torch.Generator,
    entries: int = 25,
) -> tuple[Tensors, Tensors]:
    """Random entries of each tensor, all of a small one: flat indices, and the differences
    there."""
    chosen, expected = {}, {}
    for name, x in tensors.items():
        chosen[name] = torch.randperm(x.numel(), generator=generator)[:entries]
        units = torch.zeros(len(chosen[name]), *x.shape, dtype=x.dtype)
        units.flatten(1).scatter_(1, chosen[name][:, None], 1.0)
        values = [_difference(function, tensors, name, unit) for unit in units]
        expected[name] = torch.tensor(values, dtype=x.dtype)
    return chosen, expected


def check_entries(
    function: Callable[[Tensors], Tensor],
    tensors: Tensors,
    gradients: Tensors,
    generator: torch.Generator,
    entries: int = 25,
) -> None:
    """Compare all entries of small tensors and a random sample of `entries` of larger ones."""
    chosen, expected = sample(function, tensors, generator, entries)
    compare({name: gradients[name].flatten()[i] for name, i in chosen.items()}, expected)


def check_directions(
    function: Callable[[Tensors], Tensor],
    tensors: Tensors,
    gradients: Tensors,
    generator: torch.Generator,
    directions: int = 2,
) -> None:
    """Compare directional derivatives <gradient, d> along random d of length 1, a few for each
    tensor."""
    found, expected = {}, {}
    for name, x in tensors.items():
        ds = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(directions)]
        ds = [d / d.norm() for d in ds]
        expected[name] = torch.tensor(
            [_difference(function, tensors, name, d) for d in ds], dtype=x.dtype
        )
        found[name] = torch.stack([(gradients[name] * d).sum() for d in ds])
    compare(found, expected)
