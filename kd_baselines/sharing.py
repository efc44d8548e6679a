"""Layers that a student of another family shares with its teacher: the same values, frozen.

Born-Again Networks teach a residual net by a densely connected one so: the student has the
teacher's first convolution and its last linear layer, and only what lies between is its own.

Reference: Furlanello et al., Born-Again Neural Networks, ICML 2018,
https://arxiv.org/abs/1805.04770, table 5
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations

import torch
from torch import nn

from datadistill.errors import UsageError
from datadistill.nets.module_paths import find_path, modules_by_path, parameters_by_path
from kd_baselines.methods.combining import layer_pairs
from kd_baselines.teachers import Teacher

__all__ = ["parse_pairs", "share_layers"]

OFFERED = 10
"""How many layers the sentence on an unknown one lists."""


def parse_pairs(names: Sequence[str], prefix: str = "") -> dict[str, str]:
    """The student's layers -> the teacher's, from texts NAME (the same in both) or STUDENT:TEACHER.
    `prefix` goes before the student's names, where it stands inside another net.

    >>> parse_pairs(("conv1", "fc:classifier"))
    {'conv1': 'conv1', 'fc': 'classifier'}
    """
    if not names:
        return {}
    try:
        return {prefix + mine: theirs for mine, theirs in layer_pairs(",".join(names)).items()}
    except UsageError as error:
        raise UsageError(f"shared {error}") from None


@torch.no_grad()
def share_layers(
    student: nn.Module, teacher: nn.Module | Teacher | None, pairs: Mapping[str, str]
) -> None:
    """Write the teacher's tensors into layers of the student, and freeze them there.

    The values are copied, byte for byte, and their `requires_grad` is switched off in the student,
    so that an optimizer leaves them; the teacher's stay as they are. A layer is a module with
    parameters and all that it contains. Where something does not fit, nothing is changed.

    Args:
        student: changed in place.
        teacher: a net, or a `Teacher` of one net.
        pairs: path of a module of the student -> path of one of the teacher, with tensors of the
            same names, shapes and types.

    Example:
        >>> teacher = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        >>> student = nn.Sequential(
        ...     nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)
        ... )
        >>> share_layers(student, teacher, {"0": "0", "4": "2"})
        >>> torch.equal(student[4].weight, teacher[2].weight)
        True
        >>> [name for name, p in student.named_parameters() if p.requires_grad]
        ['2.weight', '2.bias']
    """
    net = _get_net(teacher, pairs)
    pairs = {
        _get_path(student, mine, "student"): _get_path(net, theirs, "teacher")
        for mine, theirs in pairs.items()
    }
    for first, second in combinations(pairs, 2):
        inner, outer = sorted((first, second), key=len, reverse=True)
        if inner.startswith(f"{outer}."):
            raise UsageError(
                f"the shared layer {inner} lies within {outer}, shared too; name one of them"
            )
    found = {
        (mine, theirs): (_parameters(student, mine, "student"), _parameters(net, theirs, "teacher"))
        for mine, theirs in pairs.items()
    }
    for (mine, theirs), (own, taught) in found.items():
        _refuse_what_differs(mine, own, theirs, taught)
    frozen = {id(p) for own, _ in found.values() for p in own.values()}
    if pairs and all(id(p) in frozen or not p.requires_grad for p in student.parameters()):
        raise UsageError(
            f"with the shared layers {', '.join(pairs)} every parameter of the student is frozen, "
            "so nothing is left to train; share fewer layers"
        )
    for own, taught in found.values():
        for name, p in own.items():
            p.copy_(taught[name])
            p.requires_grad_(False)


def _get_net(teacher: nn.Module | Teacher | None, pairs: Mapping[str, str]) -> nn.Module:
    if teacher is None:
        raise UsageError(
            f"the layers {', '.join(pairs)} are to be shared with a teacher, and the method has "
            "none; take one with a teacher, such as born-again, or share no layers"
        )
    if isinstance(teacher, nn.Module):
        return teacher
    if len(teacher.nets) > 1:
        raise UsageError(
            f"the teacher is an ensemble of {len(teacher.nets)} nets, which have no layer in "
            "common to share; take one net as the teacher, or share none"
        )
    return teacher.nets[0]


def _get_path(net: nn.Module, path: str, whose: str) -> str:
    """The path of a layer without the names of wrappers."""
    found = find_path(net, path)
    if not found:
        offers = _list_offers(path, modules_by_path(net))
        raise UsageError(f"the {whose} has no layer {path!r} to share; {offers}")
    return found


def _parameters(net: nn.Module, path: str, whose: str) -> dict[str, nn.Parameter]:
    layer = modules_by_path(net)[path]
    found, buffers = parameters_by_path(layer), dict(layer.named_buffers())
    if buffers:
        raise UsageError(
            f"the {whose}'s layer {path} holds buffers ({', '.join(buffers)}), which training "
            "writes, frozen or not; share layers without BatchNorm, such as a convolution "
            "or a linear layer"
        )
    if not found:
        raise UsageError(
            f"the {whose}'s layer {path} has no parameters, so there is nothing to "
            "share; leave it out"
        )
    return found


def _list_offers(path: str, modules: Mapping[str, nn.Module]) -> str:
    """The layers that can be shared, the nearest names first: those with parameters of their own
    and no buffers."""
    names = [
        name
        for name, module in modules.items()
        if name
        and next(module.parameters(recurse=False), None) is not None
        and next(module.buffers(), None) is None
    ]
    if not names:
        return "it has none that can be shared, with parameters of its own and no buffers"
    near = {name: SequenceMatcher(None, name, path).ratio() for name in names}
    names.sort(key=lambda name: -near[name])
    close = [name for name in names[:3] if near[name] >= 0.5]
    more = f" and {len(names) - OFFERED} more" if len(names) > OFFERED else ""
    listing = f"layers that can be shared: {', '.join(names[:OFFERED])}{more}"
    return f"did you mean {' or '.join(close)}? ({listing})" if close else listing


def _refuse_what_differs(
    mine: str, own: dict[str, nn.Parameter], theirs: str, taught: dict[str, nn.Parameter]
) -> None:
    pair = f"the student's layer {mine} and the teacher's {theirs}"
    if own.keys() != taught.keys():
        raise UsageError(
            f"{pair} hold other tensors ({', '.join(own)}; {', '.join(taught)}); share layers of "
            "the same kind, both with a bias or both without"
        )
    for name, p in own.items():
        if p is taught[name]:
            raise UsageError(
                f"{pair} are one and the same; give the student layers of its own (copy.deepcopy)"
            )
        if p.shape != taught[name].shape:
            raise UsageError(
                f"{pair} do not fit: {name} is {tuple(p.shape)} and {tuple(taught[name].shape)}; "
                "give the student the teacher's width there, or share other layers"
            )
        if p.dtype != taught[name].dtype:
            raise UsageError(
                f"{pair} do not fit: {name} is {p.dtype} and {taught[name].dtype}; give "
                "both the same type"
            )
