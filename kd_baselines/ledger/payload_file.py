"""The file of a payload, and what is refused: parts that do not fit together, damaged files, other
files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datadistill.data.normalization import normalization_from
from datadistill.distilled_checks import check_images, check_labels
from datadistill.distilled_file import carried_names
from datadistill.errors import UsageError, suggest
from datadistill.nets.spec import NetSpec, refuse_other_tensors
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import (
    Check,
    accept,
    check_class_names,
    check_fields,
    check_object,
    check_text,
    check_texts,
    check_whole,
    optional,
    parse_with,
)
from kd_baselines.ledger.image_storage import IMAGE_STORAGE, width
from kd_baselines.ledger.net_storage import NET_STORAGE, net_tensors

if TYPE_CHECKING:
    from kd_baselines.ledger.payload import Payload

_SCHEDULE: dict[str, Check] = {
    **dict.fromkeys(("net", "update", "norm"), accept),  # the distilled set refuses them
    **dict.fromkeys(("tensors", "theta_0", "buffers"), optional(check_texts)),
    "passes": partial(check_whole, least=1),
    "batch": optional(partial(check_whole, least=1)),
}

_PARTS = {
    "images": "images",
    "range": "range",
    "labels": "labels",
    "soft_labels": "soft labels",
    "step_sizes": "step sizes",
    "order": "order",
    "order.sizes": "order",
    "theta_0": "initial net",
    "buffer": "initial net",
    "weight": "weights",
    "scales": "scales",
}
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
        "normalization": parse_with(normalization_from),
        "net": optional(parse_with(NetSpec.from_dict)),
        "schedule": optional(check_object),
        "note": check_text,
    },
    with_tensors=["normalization"],
    tensors=attrgetter("stored"),
    values=lambda p: {"what": p.kind, "net": p.spec},
    arguments=_arguments,
)


def check_payload(p: Payload) -> None:
    """Refuse parts that do not fit together; a file's too."""
    known = {"images": IMAGE_STORAGE, "net": NET_STORAGE}
    if p.kind not in known:
        raise UsageError(f"the payload is of kind {p.kind!r}; {suggest(str(p.kind), known)}")
    if p.storage not in known[p.kind]:
        raise UsageError(
            f"{p.kind} cannot be stored as {p.storage!r}; {suggest(str(p.storage), known[p.kind])}"
        )
    check_class_names(p.classes)
    check_text("note", p.note)
    _check_net(p) if p.kind == "net" else _check_images(p)


def _check_net(p: Payload) -> None:
    if p.spec is None or p.schedule is not None:
        raise UsageError(
            "a payload of a net needs its spec and no schedule; pass the NetSpec it was built by"
        )
    if p.spec.args.get("classes") != len(p.classes):
        raise UsageError(
            f"the net has {p.spec.args.get('classes')} outputs for {len(p.classes)} "
            "classes; one each"
        )
    if p.spec.args.get("channels") != p.normalization.channels:
        raise UsageError(
            f"the net takes {p.spec.args.get('channels')} channels, but the normalization is for "
            f"{p.normalization.channels}; pass the one of its data"
        )
    wanted = net_tensors(p.spec, len(p.stored))
    coded = [
        name
        for name, t in wanted.items()
        if p.storage == "int8" and t.is_floating_point() and t.dim() > 1
    ]
    stored = (
        {"scales": torch.empty(len(coded), dtype=torch.float32, device="meta")} if coded else {}
    )
    for name, like in wanted.items():
        dtype = (
            torch.float32 if p.storage == "int8" and name not in coded else NET_STORAGE[p.storage]
        )
        stored[f"weight.{name}"] = like.to(dtype) if like.is_floating_point() else like
    refuse_other_tensors(p.stored, stored, p.spec.name, exact=True)


def _check_images(p: Payload) -> None:
    labels = next((name for name in ("labels", "soft_labels") if name in p.stored), "labels")
    names = {"images", labels} | ({"range"} if p.storage == "uint8" else set())
    s: Mapping[str, Any] = p.schedule or {}
    if p.schedule is not None:
        check_fields("schedule", s, _SCHEDULE)
        names |= {"step_sizes"} | ({"order"} if s["batch"] is None else set())
        names |= {"order.sizes"} & p.stored.keys() if s["batch"] is None else set()
        names |= carried_names(s)
    if p.spec is not None:
        raise UsageError("a payload of images has no net; make one of the net with Payload.of_net")
    if p.stored.keys() != names:
        raise UsageError(
            f"the payload has the tensors {sorted(p.stored)[:12]}, wanted {sorted(names)[:12]}"
        )
    images, found, k = p.stored["images"], p.stored[labels], len(p.classes)
    if images.dtype != IMAGE_STORAGE[p.storage]:
        raise UsageError(f"images are {images.dtype}, wanted {p.storage}")
    if p.storage == "uint8" and (p.stored["range"].shape, p.stored["range"].dtype) != (
        (2,),
        torch.float32,
    ):
        raise UsageError(
            "the range of the images is not two float32 numbers; make the payload again"
        )
    if labels == "soft_labels" and found.dtype != torch.float32:
        raise UsageError(f"labels are probabilities in {found.dtype}, wanted torch.float32")
    if labels == "labels" and (found.is_floating_point() or found.element_size() != width(k)):
        raise UsageError(f"labels are {found.dtype}, wanted whole numbers of {width(k)} bytes")
    check_images(p.images(), p.normalization)  # refuses a range that is none, too
    check_labels(p.labels(), len(images), p.classes)
    if p.schedule is not None:
        steps, passes, batch = len(p.stored["step_sizes"]), s["passes"], s["batch"]
        if passes > steps or steps % passes:  # no order is repeated more often than there are steps
            raise UsageError(
                f"the schedule has {steps} steps in {passes} passes of batches of {batch}"
            )
        p.to_distilled()  # checks the rest
