"""The file of a distilled set: one safetensors file, all metadata in one canonical JSON key.

Tensors: images (float32, or uint8 codes), labels (int64, or float32 probabilities), step_sizes, and
theta_0.NAME (and, of a net whose values were given, buffer.NAME for buffers and frozen parameters) for a set
learned for one fixed initialization. The JSON says the rest; no date, duration, host or path is in it, so the
same run gives the same bytes. `runs/artifact.py` has the refusals of damaged and other files; here a whole file
is checked for sense.

Schema 3: a decoder and `coded.NAME` in place of images. A set without one is written as schema 2, where the
checksum covers all of the file; in schema 1, which is still read, it left the accuracies out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datadistill.data.normalization import Normalization, normalization_from
from datadistill.errors import DataError, UsageError, nearest
from datadistill.innerloop import update_rules
from datadistill.nets import INITIALIZATIONS
from datadistill.nets.limits import MOST_TENSORS
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec, refuse_other_tensors
from datadistill.quantization import Quantization
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import (
    accept,
    check_class_names,
    check_object,
    check_texts,
    optional,
    parse_with,
    shown,
)
from datadistill.runs.set_record import check_accuracies, check_origin
from datadistill.synthetic.decoders import decoder_from

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset

FILE_NAME = "distilled.safetensors"


CARRIED = {"theta_0": "theta_0.", "buffers": "buffer."}
"""What a set may carry by name -> what stands before the names of its tensors in a file."""


def carried_tensors(d: DistilledDataset) -> dict[str, Tensor]:
    """The tensors of what the set carries, named as in a file."""
    return {f"{prefix}{k}": t for name, prefix in CARRIED.items() for k, t in (getattr(d, name) or {}).items()}


def take_carried(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> dict[str, Any]:
    """What the set carries, from the tensors of a file and the lists of names in its values."""
    return {
        name: None if values[name] is None else {k: tensors[f"{prefix}{k}"] for k in values[name]}
        for name, prefix in CARRIED.items()
    }


def carried_names(values: Mapping[str, Any]) -> set[str]:
    """Names of the tensors that `take_carried` takes."""
    return {f"{prefix}{k}" for name, prefix in CARRIED.items() for k in values[name] or []}


def to_tensors(d: DistilledDataset) -> dict[str, Tensor]:
    """The tensors as stored."""
    if d.coded is not None:
        images = {f"coded.{k}": x.float() for k, x in d.coded.items()}
    else:
        images = {"images": d.quantization.codes(d.images) if d.quantization else d.images.float()}
    labels = d.labels.float() if d.labels.is_floating_point() else d.labels
    return {**images, "labels": labels, "step_sizes": d.step_sizes.float(), **carried_tensors(d)}


def _values(d: DistilledDataset) -> dict[str, Any]:
    return {
        "schema": 2 if d.decoder is None else 3,  # older versions read what they can
        "decoder": None if d.decoder is None else {**d.decoder.describe(), "tensors": sorted(d.coded or {})},
        "update": update_rules.describe(d.update),
        "order": [i.tolist() for i in d.order],
        "tensors": None if d.tensors is None else list(d.tensors),
        "theta_0": None if d.theta_0 is None else list(d.theta_0),
        "buffers": None if d.buffers is None else list(d.buffers),
    }


def _arguments(tensors: dict[str, Tensor], values: dict[str, Any], schema: int) -> dict[str, Any]:
    coded = None if values["decoder"] is None else [f"coded.{k}" for k in values["decoder"]["tensors"]]
    wanted = {"labels", "step_sizes", *(coded or ["images"]), *carried_names(values)}
    if set(tensors) != wanted:
        raise DataError(f"holds the tensors {shown(sorted(tensors), 400)}, wanted {shown(sorted(wanted), 400)}")
    _check_stored(tensors, values["quantization"])
    update = update_rules.from_description(values["update"])
    lacking = sorted(update_rules.describe(update).keys() - values["update"].keys())
    if lacking and schema > 1:  # older files may be older than an argument
        raise DataError(f"update lacks {lacking}, wanted every argument of {values['update']['name']}")
    if coded is None:
        quantization = values["quantization"]
        images = quantization.values(tensors["images"]) if quantization else tensors["images"]
        made_of = {"images": images}
    else:
        description = {k: v for k, v in values["decoder"].items() if k != "tensors"}
        made_of = {
            "images": None,
            "decoder": decoder_from(description),
            "coded": {k.removeprefix("coded."): tensors[k] for k in coded},
        }
    return {
        **{k: v for k, v in values.items() if k != "decoder"},
        **made_of,
        "labels": tensors["labels"],
        "step_sizes": tensors["step_sizes"],
        "update": update,
        **take_carried(tensors, values),
    }


def _check_stored(tensors: dict[str, Tensor], quantization: Quantization | None) -> None:
    if quantization is not None and "images" not in tensors:
        raise DataError("quantization goes with images, and the file has a decoder; get the file again")
    wanted = {"images": torch.float32 if quantization is None else torch.uint8, "step_sizes": torch.float32}
    if tensors["labels"].is_floating_point():
        wanted["labels"] = torch.float32
    wanted |= {name: torch.float32 for name in tensors if name.startswith("coded.")}
    for name, dtype in wanted.items():
        if name in tensors and tensors[name].dtype != dtype:
            raise DataError(f"{name} are {tensors[name].dtype}, wanted {dtype}")
    images = tensors.get("images", torch.zeros(0))
    if quantization is not None and int(images.max() if images.numel() else 0) >= 2**quantization.bits:
        raise DataError(f"images has the code {int(images.max())}, wanted codes of {quantization.bits} bits")


def _check_decoder(field: str, value: Any) -> dict[str, Any]:
    found = check_object(field, value)
    names = check_texts(f"{field}.tensors", found.get("tensors"))
    if names != sorted(names):
        raise DataError(f"{field}.tensors is {shown(names)}, wanted the names in order; get the file again")
    return found


def _check_order(field: str, value: Any) -> list[Tensor]:
    if not isinstance(value, list) or not all(
        isinstance(index, list) and all(type(i) is int for i in index) for index in value
    ):
        raise DataError(f"{field} is {shown(value)}, wanted whole numbers for each step")
    return [torch.tensor(index, dtype=torch.long) for index in value]


SET = Artifact(
    "distilled dataset",
    schema=3,
    uncovered={1: ("accuracies",)},
    name_key="what",
    fields={
        "classes": parse_with(check_class_names),
        "normalization": parse_with(normalization_from),
        "net": parse_with(NetSpec.from_dict),
        "update": accept,
        "norm": accept,
        "order": _check_order,
        "tensors": optional(check_texts),
        "theta_0": optional(check_texts),
        "buffers": check_texts,
        "origin": check_object,
        "accuracies": check_accuracies,
        "quantization": optional(parse_with(Quantization.from_dict)),
        "decoder": _check_decoder,
    },
    with_tensors=["normalization"],
    optional=["buffers", "decoder"],
    tensors=to_tensors,
    values=_values,
    arguments=_arguments,
    file_name=FILE_NAME,
    runs=["distill"],
    command="datadistill distill",
)


def refuse_own_rule(d: DistilledDataset) -> None:
    """UsageError for a set whose update rule is the user's own."""
    if update_rules.describe(d.update)["name"] == "custom":
        raise UsageError(
            f"the update rule is {d.update!r:.80}, your own, which no file can hold; take "
            f"{', '.join(update_rules.UPDATE_RULES)}, or keep the tensors yourself"
        )


def identity(d: DistilledDataset) -> str:
    """'sha256:' and the digest of all but the accuracies: equal for the same set, whatever was measured on it.
    It is the checksum that files of schema 1 carry."""
    return SET.fingerprint(d, schema=1)


def check(d: DistilledDataset) -> None:
    """Refuse parts that do not fit together. The constructor calls this, so a file is checked too."""
    check_images(d.images, d.normalization, d.net)
    check_labels(d.labels, len(d.images), d.classes)
    _check_steps(d.step_sizes, d.order, len(d.images), d.tensors)
    check_origin("origin", d.origin, len(d.classes))
    if d.norm not in ("batch", "frozen"):
        raise DataError(f"norm is {shown(d.norm)}, wanted batch or frozen")
    if d.net.init not in INITIALIZATIONS and (d.net.name, d.net.init) != (CUSTOM, FACTORY):
        init = d.net.init[:80]
        raise DataError(f"the initialization is {init!r}; {nearest(init, INITIALIZATIONS)}")
    for k, p in (d.theta_0 or {}).items():
        if not p.is_floating_point() or not bool(torch.isfinite(p).all()):
            raise DataError(f"theta_0 {k!r} is {p.dtype}, or not finite; wanted finite floats")
    if d.net.name != CUSTOM:
        net = d.net.shapes(MOST_TENSORS if d.theta_0 is None else len({**d.theta_0, **(d.buffers or {})}))
        if d.theta_0 is not None:
            refuse_other_tensors(d.theta_0, dict(net.named_parameters()), d.net.name, "theta_0")
        buffers = {k: b for k, b in net.named_buffers() if k in (d.buffers or {})}
        refuse_other_tensors(d.buffers or {}, buffers, d.net.name, "buffer")
        if d.net.args.get("classes") != len(d.classes):
            raise DataError(f"the net has {d.net.args.get('classes')} outputs for {len(d.classes)} classes")


def check_images(images: Tensor, normalization: Normalization, net: NetSpec | None = None) -> None:
    """DataError unless the images are finite floats (N, C, H, W) for the normalization, and for the net."""
    if images.dim() != 4 or not images.numel() or not images.is_floating_point():
        raise DataError(f"images are {tuple(images.shape)} {images.dtype}, wanted floats (N, C, H, W), N >= 1")
    if not bool(torch.isfinite(images).all()):
        first = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise DataError(f"images: image {first} has values that are not finite; wanted finite numbers")
    shape = tuple(images.shape[1:])
    if shape[0] != normalization.channels:
        raise DataError(
            f"images have {shape[0]} channels, but the normalization is for {normalization.channels}"
        )
    if net is None or net.name == CUSTOM:
        return
    own = tuple(net.args.get(name) for name in ("channels", "size", "size"))
    if shape != own:
        sides, wanted = ("x".join(map(str, of)) for of in (shape, own))
        raise DataError(f"images are {sides}, but the net {net.name} takes {wanted}")


def check_labels(labels: Tensor, n: int, classes: Sequence[str]) -> None:
    """DataError unless the labels are n int64 below the number of classes, or n rows of probabilities."""
    k = len(check_class_names(classes))
    if labels.is_floating_point():
        if labels.shape != (n, k):
            raise DataError(
                f"labels are {tuple(labels.shape)}, wanted ({n}, {k}): one row an image, one class a column"
            )
        if not bool((labels >= 0).all()) or not bool(((labels.sum(1) - 1).abs() < 1e-3).all()):
            raise DataError("labels are not probabilities: each row must be 0 or more and sum to 1")
    elif labels.dtype != torch.int64 or labels.shape != (n,):
        raise DataError(
            f"labels are {tuple(labels.shape)} {labels.dtype}, wanted {n} int64 or ({n}, {k}) floats"
        )
    elif n and not 0 <= int(labels.min()) <= int(labels.max()) < k:
        raise DataError(
            f"labels reach {int(labels.min())}..{int(labels.max())}, wanted 0..{k - 1}: one name a class"
        )


def _check_steps(step_sizes: Tensor, order: list[Tensor], n: int, tensors: tuple[str, ...] | None) -> None:
    T = len(order)
    if step_sizes.dim() not in (1, 2) or len(step_sizes) != T or not T:
        raise DataError(
            f"step_sizes are {tuple(step_sizes.shape)} for {T} steps; wanted ({T},) or ({T}, P), T >= 1"
        )
    if not step_sizes.is_floating_point():
        raise DataError(f"step_sizes are {step_sizes.dtype}, wanted floats")
    if not bool((torch.isfinite(step_sizes) & (step_sizes > 0)).all()):
        bad = float(step_sizes[~(torch.isfinite(step_sizes) & (step_sizes > 0))][0])
        raise DataError(f"step_sizes has {bad}, but each must be positive and finite")
    if step_sizes.dim() == 2 and len(tensors or ()) != step_sizes.shape[1]:
        raise DataError(f"step_sizes has {step_sizes.shape[1]} columns and {len(tensors or ())} tensor names")
    for t, index in enumerate(order):
        if index.dim() != 1 or not len(index) or not 0 <= int(index.min()) <= int(index.max()) < n:
            raise DataError(f"order of step {t} is {index.tolist()[:10]}, wanted indices of the {n} images")
