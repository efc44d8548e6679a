"""Storage of images, labels and a distilled set's schedule: whole numbers as narrow as they can be.

images            8-bit codes and the two float32 numbers of their range, or float32
labels, order     1 byte for up to 256 values, 2 for up to 65,536 (int16, 32,768 less), else 4
order             nothing where it is consecutive batches; else one pass over the steps
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from datadistill.data import Normalization
from datadistill.distilled import DistilledDataset
from datadistill.distilled_file import CARRIED, SET, carried_tensors, refuse_own_rule, take_carried
from datadistill.errors import UsageError
from datadistill.innerloop import update_rules
from datadistill.nets.spec import NetSpec
from datadistill.quantization import Quantization

IMAGE_STORAGE = {"uint8": torch.uint8, "float32": torch.float32}
_SHIFT = 1 << 15


def width(values: int) -> int:
    """Bytes of a number below `values`."""
    return 1 if values <= 1 << 8 else 2 if values <= 1 << 16 else 4


def narrow(numbers: Int[Tensor, "*n"], values: int) -> Shaped[Tensor, "*n"]:
    """Numbers 0 .. values - 1 at their width; `widen` reads them back."""
    if width(values) == 1:
        return numbers.to(torch.uint8)
    return (numbers - _SHIFT).to(torch.int16) if width(values) == 2 else numbers.to(torch.int32)


def widen(stored: Shaped[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """The int64 numbers that `narrow` stored."""
    return stored.long() + (_SHIFT if stored.dtype == torch.int16 else 0)


def pack_order(
    order: Sequence[Tensor], images: int, passes: int
) -> tuple[dict[str, Tensor], int | None]:
    """The order of use as tensors, none where one pass is images 0, 1, .. in batches of one size
    (the last may be smaller); and that size, None for every other order."""
    one = [index.cpu() for index in order[: len(order) // passes]]
    flat, sizes = torch.cat(one), [len(index) for index in one]
    if torch.equal(flat, torch.arange(images)) and sizes == [len(b) for b in flat.split(sizes[0])]:
        return {}, sizes[0]
    if len(set(sizes)) == 1:
        return {"order": narrow(torch.stack(one), images)}, None
    return {
        "order": narrow(flat, images),
        "order.sizes": narrow(torch.tensor(sizes), max(sizes) + 1),
    }, None


def unpack_order(
    stored: Mapping[str, Tensor], images: int, passes: int, batch: int | None
) -> list[Int[Tensor, " b"]]:
    """The T index tensors that `pack_order` stored."""
    if batch is not None:
        one = torch.arange(images).split(batch)
    elif "order.sizes" in stored:
        one = widen(stored["order"]).split(widen(stored["order.sizes"]).tolist())
    else:
        one = widen(stored["order"]).unbind()
    return list(one) * passes


def pack_images(images: Float[Tensor, "n c h w"], storage: str) -> dict[str, Tensor]:
    """Pixels as stored, and the range of their codes."""
    if images.dim() != 4 or not images.numel() or not images.is_floating_point():
        raise UsageError(
            f"images are {tuple(images.shape)} {images.dtype}, wanted normalized floats (N, "
            "C, H, W), N >= 1"
        )
    pixels = images.detach().cpu().float().clone()
    if not bool(torch.isfinite(pixels).all()):
        raise UsageError("images have values that are not finite in float32; wanted finite numbers")
    if storage != "uint8":
        return {"images": pixels}
    q = Quantization.of(pixels, bits=8)
    return {"images": q.codes(pixels), "range": torch.tensor([q.low, q.high])}


def pack_labels(labels: Tensor, classes: int) -> dict[str, Tensor]:
    """Labels as narrow as the number of classes allows, or probabilities as float32."""
    if labels.is_floating_point():
        return {"soft_labels": labels.detach().cpu().float().clone()}
    if labels.dtype != torch.int64 or labels.dim() != 1 or not len(labels):
        raise UsageError(
            f"labels are {tuple(labels.shape)} {labels.dtype}, wanted int64 (N,) or "
            f"float (N, {classes})"
        )
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UsageError(
            f"labels reach {int(labels.min())}..{int(labels.max())}, wanted "
            f"0..{classes - 1}: one a class"
        )
    return {"labels": narrow(labels.detach().cpu(), classes)}


def pack_schedule(d: DistilledDataset) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a distilled set besides images and labels, and the header's values about its
    use."""
    refuse_own_rule(d)
    if d.schedule.is_random or d.loss != "cross-entropy":
        raise UsageError(
            "the set is trained on in random minibatches, augmented, or by another loss than "
            "cross-entropy, which this format does not hold; send a set of explicit steps"
        )
    stored, batch = pack_order(d.order, len(d.images), d.passes)
    carried = {"step_sizes": d.step_sizes.float(), **carried_tensors(d)}
    stored |= {name: t.detach().cpu().clone() for name, t in carried.items()}
    values = {"buffers": None, **SET.metadata(d)}
    header = {name: values[name] for name in ("net", "update", "norm", "tensors", *CARRIED)}
    return stored, {**header, "passes": d.passes, "batch": batch}


def unpack_schedule(
    stored: Mapping[str, Tensor],
    header: Mapping[str, Any],
    images: Float[Tensor, "n c h w"],
    labels: Tensor,
    classes: tuple[str, ...],
    normalization: Normalization,
    quantization: Quantization | None,
) -> DistilledDataset:
    """The distilled set with these images and labels, used as `pack_schedule` wrote down."""

    return DistilledDataset(
        images,
        labels,
        stored["step_sizes"].clone(),
        unpack_order(stored, len(images), header["passes"], header["batch"]),
        classes=classes,
        normalization=normalization,
        net=NetSpec.from_dict(header["net"]),
        update=update_rules.from_description(header["update"]),
        tensors=header["tensors"],
        **take_carried({k: t.clone() for k, t in stored.items()}, header),
        norm=header["norm"],
        quantization=quantization,
    )
