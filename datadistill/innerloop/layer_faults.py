"""The layer of a net that has no second derivative, a wrong one, or a gradient that is none.

One call y = f(z) of a layer, random v, u and a direction d:

    p(z, v) = (dy/dz)' v                    what autograd gives as the layer's gradient
    (1)  <p, d>       against   <v, y(z + h d) - y(z - h d)> / 2h
    (2)  dG/dz . d    against   (G(z + h d) - G(z - h d)) / 2h      G(z, v) = <p(z, v), u>, and so
                                                                    for v

    missing        autograd refuses to differentiate G
    wrong          (1) holds and (2) does not
    approximate    (1) does not hold: detach(), rounding, a straight-through estimator, by intention
                   or not

An error counts where it is there at two points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.errors import is_out_of_memory
from datadistill.innerloop.differences import (
    TOLERANCE,
    find_worst,
    inner,
    norm,
    percent,
    relative_error,
    shift,
)
from datadistill.innerloop.layer_calls import (
    Call,
    graph_nodes,
    list_own_functions,
    record_calls,
    record_function,
)


@dataclass(frozen=True)
class LayerFault:
    """A layer that stands in the way of exact hypergradients."""

    path: str
    """Its name in the net, as in `net.named_modules()`; "" is the net's own forward, "loss" the
    loss."""
    kind: str
    """Its class."""
    fault: str
    """missing, wrong or approximate."""
    reason: str
    """What was found."""

    def __str__(self) -> str:
        where = (
            f"layer {self.path} ({self.kind})"
            if self.path
            else f"the net's own forward ({self.kind})"
        )
        where = f"the loss ({self.kind})" if self.path == "loss" else where
        return f"{where}: {self.reason}"


def find_missing(calls: list[Call]) -> list[LayerFault]:
    """The innermost layers without a second derivative."""
    return _innermost(calls, _missing)


def find_faults(calls: list[Call]) -> list[LayerFault]:
    """The innermost layers without a second derivative, or whose derivatives are not what they
    compute."""
    return _innermost(calls, lambda call: _missing(call) or _inexact(call))


def record_layer_calls(
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    mode: AbstractContextManager[Any],
) -> list[Call]:
    """Every layer's call for these images, and the loss's, which has the path "loss"."""
    calls, logits = record_calls(net, tensors, images, mode)
    last = record_function(loss, (logits, labels), {}, mode)
    last.path = "loss"
    return [*calls, last]


def name_missing(
    net: nn.Module,
    tensors: Mapping[str, Tensor],
    images: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    mode: AbstractContextManager[Any],
    reason: str,
) -> str:
    """The half of a sentence that names the layers of a net whose second derivative torch refused;
    `reason` stands there where no layer can be named. The other arguments are those of
    `record_layer_calls`."""
    try:
        faults = find_missing(record_layer_calls(net, tensors, images, labels, loss, mode))
    except Exception:  # the net cannot be run with hooks on its layers
        faults = []
    if not faults:
        return f"the net ({type(net).__name__}) has no second derivative (torch: {reason})"
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    return f"{'; '.join(map(str, faults[:3]))}{more}"


def _innermost(
    calls: list[Call], find: Callable[[Call], tuple[str, str] | None]
) -> list[LayerFault]:
    faults: list[LayerFault] = []
    for call in calls:  # a layer comes after those inside it
        prefix = f"{call.path}." if call.path else ""
        if any(
            f.path.startswith(prefix) and f.path != "loss" for f in faults if f.path != call.path
        ):
            continue
        if call.delegates:  # its layers were looked at
            continue
        found = find(call)
        if found is None or any(f.path == call.path for f in faults):
            continue
        kind, reason = found
        inside = [inner.kind for inner in call.inside if find(inner) is not None]
        written = list_own_functions(_outputs(call))
        where = ""
        if written:
            where = f"autograd.Function {', '.join(written)}: "
        elif inside:
            where = f"{', '.join(dict.fromkeys(inside))}: "
        if kind == "approximate" and call.cuts:
            reason += f" (it calls {', '.join(dict.fromkeys(call.cuts))})"
        faults.append(LayerFault(call.path, call.kind, kind, where + reason))
    return faults


def _outputs(call: Call) -> list[Tensor]:
    try:
        return call.run(_leaves(call.inputs))
    except Exception:  # the call cannot be run alone
        return []


def _missing(call: Call) -> tuple[str, str] | None:
    z = _leaves(call.inputs)
    try:
        outputs = [y for y in call.run(z) if y.requires_grad]
        v = [torch.ones_like(y).requires_grad_() for y in outputs]
        first = (
            torch.autograd.grad(outputs, z, v, create_graph=True, allow_unused=True)
            if outputs
            else ()
        )
    except Exception:
        # no first derivative, or the call cannot be run alone: not what is looked for
        return None
    reason = find_refusal([g for g in first if g is not None], [*z, *v])
    return None if reason is None else ("missing", f"no second derivative (torch: {reason})")


def find_refusal(
    gradients: Sequence[Tensor], inputs: Sequence[Tensor], keep: bool = True
) -> str | None:
    """Differentiate gradients once more; torch's own words where it refuses, else None. `keep`:
    whether their graph will be used again."""
    gradients = [g for g in gradients if g.requires_grad]
    if not gradients:
        return None
    # once_differentiable puts a node there that leads nowhere: no walk back to the inputs meets it,
    # and they would get no gradient without a word
    if any(
        node.name() == "torch::autograd::Error"
        for node in graph_nodes([g.grad_fn for g in gradients])
    ):
        return "its backward is marked once_differentiable"
    ones = [torch.ones_like(g) for g in gradients]
    try:
        torch.autograd.grad(gradients, list(inputs), ones, retain_graph=keep, allow_unused=True)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return _first_line(error)
    return None


def _inexact(call: Call) -> tuple[str, str] | None:
    try:
        first, second = _errors(call, 0)
        if max(first, second) > TOLERANCE:
            first, second = map(min, (first, second), _errors(call, 1))
    except Exception:  # the call cannot be run alone
        return None
    if first > TOLERANCE:
        return (
            "approximate",
            f"its gradient is not the derivative of what it computes, {percent(first)} off",
        )
    if second > TOLERANCE:
        return "wrong", f"its second derivative is {percent(second)} off finite differences"
    return None


def _errors(call: Call, point: int) -> tuple[float, float]:
    """Relative errors of (1) and (2) at a point near the call's own inputs."""
    noise = torch.Generator().manual_seed(point)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=noise, dtype=torch.float64).to(like)

    scales = [
        x.square().mean().sqrt().clamp_min(1e-3) if x.numel() else x.sum() for x in call.inputs
    ]
    z = [x + 1e-2 * (1 + point) * s * random(x) for x, s in zip(call.inputs, scales, strict=True)]
    d = [s * random(x) for x, s in zip(z, scales, strict=True)]
    z_leaves = _leaves(z)
    places = [i for i, y in enumerate(call.run(z_leaves)) if y.requires_grad]
    if not places:
        return 0.0, 0.0

    def outputs(z: list[Tensor]) -> list[Tensor]:
        y = call.run(z)
        return [y[i] for i in places]

    v = [random(y) for y in outputs(z_leaves)]
    u, e = [random(x) for x in z], [random(x) for x in v]

    def f(h: float) -> Tensor:
        return inner(outputs(shift(z, d, h)), v)

    def G(z: list[Tensor], v: list[Tensor]) -> Tensor:
        z = [x if x.requires_grad else x.detach().requires_grad_() for x in z]
        return inner(_gradient(outputs(z), z, v), u)

    p = _gradient(outputs(z_leaves), z_leaves, v)
    length = _scaled_norm(p, scales)
    with torch.no_grad():
        first = find_worst(relative_error(float(inner(p, d)), lambda h: (f(h), f(-h)), length))
    v_leaves = _leaves(v)
    g = G(z_leaves, v_leaves)
    by_z, by_v = _gradient([g], z_leaves), _gradient([g], v_leaves)
    second_z = relative_error(
        float(inner(by_z, d).detach()),
        lambda h: (G(shift(z, d, h), v).detach(), G(shift(z, d, -h), v).detach()),
        max(_scaled_norm(by_z, scales), 1e-4 * length),
    )
    second_v = relative_error(
        float(inner(by_v, e).detach()),
        lambda h: (G(z, shift(v, e, h)).detach(), G(z, shift(v, e, -h)).detach()),
        max(norm(by_v), 1e-4 * length),
    )
    return first, find_worst(second_z, second_v)


def _gradient(
    outputs: list[Tensor], inputs: list[Tensor], v: list[Tensor] | None = None
) -> list[Tensor]:
    if not any(y.requires_grad for y in outputs):
        return [torch.zeros_like(x) for x in inputs]
    return list(
        torch.autograd.grad(
            outputs, inputs, v, create_graph=True, materialize_grads=True, allow_unused=True
        )
    )


def _scaled_norm(gradients: list[Tensor], scales: list[Tensor]) -> float:
    return norm([g * s for g, s in zip(gradients, scales, strict=True)])


def _leaves(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [x.detach().clone().requires_grad_() for x in tensors]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:160]
