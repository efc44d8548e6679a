"""The file of a distilled set: one safetensors file, all metadata in one canonical JSON key.

Tensors: images (float32, or uint8 codes), labels (int64, or float32 probabilities), step_sizes, and
theta_0.NAME (and, of a net whose values were given, buffer.NAME for buffers and frozen parameters) for a set
learned for one fixed initialization. The JSON
says the rest; no date, duration, host or path is in it, so the same run gives the same bytes.
`runs/tensors.py` has the checksum and the refusals of damaged files; here a whole file is checked for sense.

Schema 2: the checksum covers all of the file. In schema 1, which is still read, it left the accuracies out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datadistill.data.normalization import Normalization
from datadistill.errors import DataError, UsageError, nearest
from datadistill.innerloop import update_rules
from datadistill.nets import INITIALIZATIONS
from datadistill.nets.limits import MOST_TENSORS
from datadistill.nets.spec import CUSTOM, FACTORY, NetSpec
from datadistill.quantization import Quantization
from datadistill.runs.atomic import write_bytes
from datadistill.runs.content import check_class_names, check_texts, content_of, shown
from datadistill.runs.folder import RunFolder
from datadistill.runs.set_record import check_accuracies, check_origin
from datadistill.runs.tensors import checksum, pack, unpack

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset

SCHEMA = 2
UNCOVERED = {1: ("accuracies",)}
"""Schema -> the keys that its checksum leaves out."""
FILE_NAME = "distilled.safetensors"
WHAT = "distilled dataset"
_KEYS = {
    "schema", "checksum", "what", "classes", "normalization", "net", "update", "norm", "order", "tensors",
    "theta_0", "origin", "accuracies", "quantization",
}  # fmt: skip
_OPTIONAL = {"buffers"}  # there only where the net has some


def to_tensors(d: DistilledDataset) -> dict[str, Tensor]:
    """The tensors as stored."""
    images = d.quantization.codes(d.images) if d.quantization else d.images.float()
    carried = {f"theta_0.{k}": p for k, p in (d.theta_0 or {}).items()}
    carried |= {f"buffer.{k}": b for k, b in (d.buffers or {}).items()}
    labels = d.labels.float() if d.labels.is_floating_point() else d.labels
    return {"images": images, "labels": labels, "step_sizes": d.step_sizes.float(), **carried}


def to_meta(d: DistilledDataset) -> dict[str, Any]:
    """The JSON object, less the checksum."""
    return {
        "schema": SCHEMA,
        "what": WHAT,
        "classes": list(d.classes),
        "normalization": d.normalization.as_dict(),
        "net": d.net.as_dict(),
        "update": update_rules.describe(d.update),
        "norm": d.norm,
        "order": [i.tolist() for i in d.order],
        "tensors": None if d.tensors is None else list(d.tensors),
        "theta_0": None if d.theta_0 is None else list(d.theta_0),
        **({} if d.buffers is None else {"buffers": list(d.buffers)}),
        "origin": d.origin,
        "accuracies": d.accuracies,
        "quantization": None if d.quantization is None else d.quantization.as_dict(),
    }


def identity(d: DistilledDataset) -> str:
    """'sha256:' and the digest of all but the accuracies: equal for the same set, whatever was measured on it.
    It is the checksum that files of schema 1 carry."""
    covered = {name: value for name, value in to_meta(d).items() if name not in UNCOVERED[1]}
    return checksum(to_tensors(d), {**covered, "schema": 1})


def save(d: DistilledDataset, path: str | os.PathLike[str]) -> None:
    """See `DistilledDataset.save`."""
    if update_rules.describe(d.update)["name"] == "custom":
        raise UsageError(
            f"the update rule is {d.update!r}, your own, which no file can hold; "
            f"use {', '.join(update_rules.UPDATE_RULES)}, or keep the tensors yourself"
        )
    write_bytes(path, pack(to_tensors(d), to_meta(d)))


def load(
    path: str | os.PathLike[str], make: Callable[..., DistilledDataset], *, verify: bool = True
) -> DistilledDataset:
    """What `make` makes of a file or of the one in a run folder; see `DistilledDataset.load`."""
    path = Path(path)
    if path.is_dir():
        if not (path / FILE_NAME).exists():
            if (kind := _kind(path)) not in (None, "distill"):
                raise DataError(f"{path} holds a run of {kind}; pass the file or run folder of a distilled set")
            raise DataError(
                f"{path} has no {FILE_NAME}: the run has not finished; go on with it "
                f"(datadistill distill --resume {path})"
                if (path / "config.json").exists()
                else f"{path} is a folder without {FILE_NAME}; pass a file or a run folder of datadistill"
            )
        path = path / FILE_NAME
    tensors, meta = unpack(
        path, schema=SCHEMA, verify=verify, uncovered=UNCOVERED, kind=[WHAT], what="a distilled set"
    )
    with content_of(path, "a distilled set"):
        return make(**_arguments(tensors, meta))


def _kind(path: Path) -> str | None:
    """The kind of run that a folder holds; None where it holds none that can be read."""
    try:
        return RunFolder.open(path).kind
    except UsageError:
        return None


def _arguments(tensors: dict[str, Tensor], meta: dict[str, Any]) -> dict[str, Any]:
    if set(meta) - _OPTIONAL != _KEYS:
        missing, unknown = sorted(_KEYS - set(meta)), sorted(set(meta) - _KEYS - _OPTIONAL)
        raise DataError(
            f"metadata lacks {missing} and has unknown {shown(unknown)}; wanted exactly the known keys"
        )
    for name in ("theta_0", "tensors"):
        check_texts(name, meta[name], optional=True)
    check_texts("buffers", meta.get("buffers"), optional="buffers" not in meta)
    wanted = {"images", "labels", "step_sizes", *(f"theta_0.{k}" for k in meta["theta_0"] or [])}
    wanted |= {f"buffer.{k}" for k in meta.get("buffers", [])}
    if set(tensors) != wanted:
        raise DataError(f"holds the tensors {shown(sorted(tensors), 400)}, wanted {shown(sorted(wanted), 400)}")
    quantization = None if meta["quantization"] is None else Quantization.from_dict(meta["quantization"])
    images = tensors["images"]
    if (images.dtype == torch.uint8) != (quantization is not None):
        raise DataError(
            f"images are {images.dtype} with quantization {meta['quantization']}; one needs the other"
        )
    for name in ("step_sizes", "labels"):
        kind = tensors[name].dtype
        if kind.is_floating_point and kind != torch.float32:
            raise DataError(f"{name} are {kind}, wanted torch.float32")
    if quantization is None and images.dtype != torch.float32:
        raise DataError(f"images are {images.dtype}, wanted torch.float32, or codes and their range")
    if quantization is not None and int(images.max() if images.numel() else 0) >= 2**quantization.bits:
        raise DataError(f"images has the code {int(images.max())}, wanted codes of {quantization.bits} bits")
    update = update_rules.from_description(meta["update"])
    lacking = sorted(update_rules.describe(update).keys() - meta["update"].keys())
    if lacking and meta["schema"] > 1:  # older files may be older than an argument
        raise DataError(f"update lacks {lacking}, wanted every argument of {meta['update']['name']}")
    order = meta["order"]
    if not isinstance(order, list) or not all(
        isinstance(index, list) and all(type(i) is int for i in index) for index in order
    ):
        raise DataError(f"order is {shown(order)}, wanted whole numbers for each step")
    check_accuracies(meta["accuracies"])
    check_origin(meta["origin"], len(check_class_names(meta["classes"])))
    theta_0 = None if meta["theta_0"] is None else {k: tensors[f"theta_0.{k}"] for k in meta["theta_0"]}
    return {
        "images": quantization.values(images) if quantization else images,
        "labels": tensors["labels"],
        "step_sizes": tensors["step_sizes"],
        "order": [torch.tensor(i, dtype=torch.long) for i in order],
        "classes": meta["classes"],
        "normalization": Normalization.from_dict(meta["normalization"]),
        "net": NetSpec.from_dict(meta["net"]),
        "update": update,
        "theta_0": theta_0,
        "buffers": {k: tensors[f"buffer.{k}"] for k in meta["buffers"]} if "buffers" in meta else None,
        "tensors": meta["tensors"],
        "norm": meta["norm"],
        "origin": meta["origin"],
        "accuracies": meta["accuracies"],
        "quantization": quantization,
    }


def check(d: DistilledDataset) -> None:
    """Refuse parts that do not fit together. The constructor calls this, so a file is checked too."""
    _check_images(d.images, d.normalization, d.net)
    _check_labels(d.labels, len(d.images), d.classes)
    _check_steps(d.step_sizes, d.order, len(d.images), d.tensors)
    check_origin(d.origin, len(d.classes))
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
        own = {k: p.shape for k, p in net.named_parameters()}
        if d.theta_0 is not None and (lacking := [k for k in own if k not in d.theta_0]):
            raise DataError(f"theta_0 lacks {shown(lacking)}, wanted every tensor of the net {d.net.name}")
        for k, p in (d.theta_0 or {}).items():
            if own.get(k) != p.shape:
                wanted = f"{tuple(own[k])}" if k in own else f"one of {shown(sorted(own), 400)}"
                raise DataError(
                    f"theta_0 {shown(k)} is {tuple(p.shape)}, wanted {wanted} for the net {d.net.name}"
                )
        buffers = {k: b.shape for k, b in net.named_buffers()}
        for k, b in (d.buffers or {}).items():
            if buffers.get(k) != b.shape:
                raise DataError(
                    f"buffer {shown(k)} is {tuple(b.shape)}, which the net {d.net.name} does not have; get the "
                    "file again"
                )
        if d.net.args.get("classes") != len(d.classes):
            raise DataError(f"the net has {d.net.args.get('classes')} outputs for {len(d.classes)} classes")


def _check_images(images: Tensor, normalization: Normalization, net: NetSpec) -> None:
    if images.dim() != 4 or not len(images) or not images.is_floating_point():
        raise DataError(f"images are {tuple(images.shape)} {images.dtype}, wanted floats (N, C, H, W), N >= 1")
    if not bool(torch.isfinite(images).all()):
        first = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise DataError(f"images: image {first} has values that are not finite; wanted finite numbers")
    c, h, w = images.shape[1:]
    if c != normalization.channels:
        raise DataError(f"images have {c} channels, but the normalization is for {normalization.channels}")
    if net.name != CUSTOM and (c, h, w) != (
        net.args.get("channels"),
        net.args.get("size"),
        net.args.get("size"),
    ):
        raise DataError(
            f"images are {c}x{h}x{w}, but the net {net.name} takes "
            f"{net.args.get('channels')}x{net.args.get('size')}x{net.args.get('size')}"
        )


def _check_labels(labels: Tensor, n: int, classes: tuple[str, ...]) -> None:
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
        raise DataError(f"labels reach {int(labels.min())}..{int(labels.max())}, wanted 0..{k - 1}")


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
