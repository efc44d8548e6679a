"""The file of a payload, and what is refused: parts that do not fit together, damaged files, other files."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datadistill.data import Normalization
from datadistill.errors import UsageError, nearest
from datadistill.nets.spec import NetSpec
from datadistill.quantization import Quantization
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import (
    check_class_names,
    check_object,
    check_text,
    check_texts,
    optional,
    parse_with,
)
from kd_baselines.ledger.stored_images import IMAGE_STORAGE, wide, width
from kd_baselines.ledger.stored_net import NET_STORAGE, net_tensors

if TYPE_CHECKING:
    from kd_baselines.ledger.payload import Payload

_SCHEDULE_KEYS = {"net", "update", "norm", "tensors", "theta_0", "buffers", "passes", "batch"}


_PARTS = {
    "images": "images", "range": "range", "labels": "labels", "soft_labels": "soft labels",
    "step_sizes": "step sizes", "order": "order", "order.sizes": "order", "theta_0": "initial net",
    "buffer": "initial net", "weight": "weights", "scales": "scales",
}  # fmt: skip
"""Name of a tensor, or what is before its first dot -> the part that it counts for."""
PARTS = tuple(dict.fromkeys(_PARTS.values()))
"""In the order of `Payload.parts`."""


def bytes_by_part(p: Payload) -> dict[str, int]:
    """See `Payload.parts`."""
    sizes = dict.fromkeys(_PARTS.values(), -1)
    if p.schedule is not None:
        sizes["order"] = 0
    for name, t in p.stored.items():
        part = _PARTS.get(name) or _PARTS[name.partition(".")[0]]
        sizes[part] = max(sizes[part], 0) + t.numel() * t.element_size()
    return {part: size for part, size in sizes.items() if size >= 0}


def _arguments(tensors: dict[str, Tensor], values: dict[str, Any], schema: int) -> dict[str, Any]:
    return {"kind": values.pop("what"), "stored": tensors, "spec": values.pop("net"), **values}


PAYLOAD = Artifact(
    "kd-payload",
    fields={
        "what": check_text,
        "storage": check_text,
        "classes": parse_with(check_class_names),
        "normalization": parse_with(Normalization.from_dict),
        "net": optional(parse_with(NetSpec.from_dict)),
        "schedule": optional(check_object),
        "note": check_text,
    },
    tensors=attrgetter("stored"),
    values=lambda p: {"what": p.kind, "net": p.spec},
    arguments=_arguments,
)


def check(p: Payload) -> None:
    """Refuse parts that do not fit together; a file's too.

    Raises:
        UsageError: which, what was found, what was wanted.
    """
    known = {"images": IMAGE_STORAGE, "net": NET_STORAGE}
    if p.kind not in known:
        raise UsageError(f"the payload is of kind {p.kind!r}; {nearest(str(p.kind), known)}")
    if p.storage not in known[p.kind]:
        raise UsageError(
            f"{p.kind} cannot be stored as {p.storage!r}; {nearest(str(p.storage), known[p.kind])}"
        )
    k = len(p.classes)
    if k < 2 or len(set(p.classes)) != k or not all(isinstance(c, str) and c for c in p.classes):
        raise UsageError(f"classes are {list(p.classes)[:12]}, wanted two or more different names")
    if not isinstance(p.note, str):
        raise UsageError(f"the note is {p.note!r:.60}, wanted a text")
    _check_net(p) if p.kind == "net" else _check_images(p)


def _expect(p: Payload, names: set[str]) -> None:
    if p.stored.keys() != names:
        raise UsageError(f"the payload has the tensors {sorted(p.stored)[:12]}, wanted {sorted(names)[:12]}")


def _check_net(p: Payload) -> None:
    if p.spec is None or p.schedule is not None:
        raise UsageError("a payload of a net needs its spec and no schedule; pass the NetSpec it was built by")
    if p.spec.args.get("classes") != len(p.classes):
        raise UsageError(
            f"the net has {p.spec.args.get('classes')} outputs for {len(p.classes)} classes; one each"
        )
    if p.spec.args.get("channels") != p.normalization.channels:
        raise UsageError(
            f"the net takes {p.spec.args.get('channels')} channels, but the normalization is for "
            f"{p.normalization.channels}; pass the one of its data"
        )
    wanted = net_tensors(p.spec, len(p.stored))
    coded = [
        name for name, t in wanted.items() if p.storage == "int8" and t.is_floating_point() and t.dim() > 1
    ]
    _expect(p, {f"weight.{name}" for name in wanted} | ({"scales"} if coded else set()))
    for name, like in wanted.items():
        found = p.stored[f"weight.{name}"]
        dtype = torch.float32 if p.storage == "int8" and name not in coded else NET_STORAGE[p.storage]
        dtype = dtype if like.is_floating_point() else like.dtype
        if (found.shape, found.dtype) != (like.shape, dtype):
            raise UsageError(
                f"{name} is {tuple(found.shape)} {found.dtype}, wanted {tuple(like.shape)} {dtype} of the net "
                f"{p.spec.name}; pass the spec of this net"
            )
    if coded and p.stored["scales"].shape != (len(coded),):
        raise UsageError(f"scales are {tuple(p.stored['scales'].shape)}, wanted ({len(coded)},)")


def _check_images(p: Payload) -> None:
    labels = next((name for name in ("labels", "soft_labels") if name in p.stored), "labels")
    names = {"images", labels} | ({"range"} if p.storage == "uint8" else set())
    s: Mapping[str, Any] = p.schedule or {}
    if p.schedule is not None:
        if s.keys() != _SCHEDULE_KEYS:
            raise UsageError(f"the schedule has {sorted(s)}, wanted {sorted(_SCHEDULE_KEYS)}")
        for name in ("tensors", "theta_0", "buffers"):
            optional(check_texts)(f"schedule.{name}", s[name])
        names |= {"step_sizes"} | ({"order"} if s["batch"] is None else set())
        names |= {"order.sizes"} & p.stored.keys() if s["batch"] is None else set()
        names |= {f"theta_0.{n}" for n in s["theta_0"] or ()} | {f"buffer.{n}" for n in s["buffers"] or ()}
    if p.spec is not None:
        raise UsageError("a payload of images has no net; make one of the net with Payload.of_net")
    _expect(p, names)
    images, found, k = p.stored["images"], p.stored[labels], len(p.classes)
    if images.dim() != 4 or not images.numel() or images.dtype != IMAGE_STORAGE[p.storage]:
        raise UsageError(
            f"images are {tuple(images.shape)} {images.dtype}, wanted {p.storage} (N, C, H, W), N >= 1"
        )
    n, c = images.shape[:2]
    if c != p.normalization.channels:
        raise UsageError(f"images have {c} channels, but the normalization is for {p.normalization.channels}")
    if p.storage == "uint8" and (p.stored["range"].shape, p.stored["range"].dtype) != ((2,), torch.float32):
        raise UsageError("the range of the images is not two float32 numbers; make the payload again")
    if p.storage == "uint8":
        Quantization(8, *p.stored["range"].tolist())  # refuses what is no range
    if labels == "soft_labels":
        sums = found.sum(1) if found.shape == (n, k) and found.dtype == torch.float32 else None
        if sums is None or not bool((found >= 0).all()) or not bool(((sums - 1).abs() < 1e-3).all()):
            raise UsageError(
                f"labels are {tuple(found.shape)} {found.dtype}, wanted ({n}, {k}) probabilities: a row an "
                "image, 0 or more, of sum 1"
            )
    elif found.shape != (n,) or found.element_size() != width(k) or found.is_floating_point():
        raise UsageError(f"labels are {tuple(found.shape)} {found.dtype}, wanted {n} of {width(k)} bytes")
    elif not 0 <= int(wide(found).min()) <= int(wide(found).max()) < k:
        raise UsageError(f"labels reach {int(wide(found).max())}, wanted 0..{k - 1}: one name a class")
    if p.schedule is not None:
        steps, passes, batch = len(p.stored["step_sizes"]), s["passes"], s["batch"]
        whole = type(passes) is int and (batch is None or (type(batch) is int and batch >= 1))
        # passes up to the steps that there are: no order is repeated more often
        if not whole or not 1 <= passes <= steps or steps % passes:
            raise UsageError(f"the schedule has {steps} steps in {passes} passes of batches of {batch}")
        p.distilled()  # checks the rest
