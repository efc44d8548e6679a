"""The payload of a sender, as stored, and its bytes.

    payload = Payload.of_images(images, labels, classes=classes, normalization=normalization)
    payload.bytes, payload.parts    # 307308, {"images": 307200, "range": 8, "labels": 100}
    payload.images()                # as the receiver has them: after quantization

A payload holds what its file holds and no more. Counted are the tensors; what names them (classes,
normalization, architecture, update rule) is in the file's header, which `file_bytes` counts too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from datadistill.data import Normalization
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.nets.spec import NetSpec
from datadistill.quantization import Quantization
from kd_baselines.ledger import payload_file
from kd_baselines.ledger.image_storage import (
    pack_images,
    pack_labels,
    pack_schedule,
    unpack_schedule,
    widen,
)
from kd_baselines.ledger.net_storage import pack_weights, unpack_weights

__all__ = ["Payload"]


@dataclass(frozen=True, eq=False, repr=False)
class Payload:
    """The tensors that are sent. Make one with `of_images` or `of_net`.

    Args:
        kind: "images" or "net".
        storage: of the images ("uint8", "float32") or of the weights ("float32", "float16",
            "int8").
        stored: the tensors of the file, by name.
        classes: K names, in the order of the labels.
        normalization: of the images, or of those that the net takes.
        spec: how the net is built, of a net.
        schedule: the file's header about a distilled set's use; None for plain images.
        note: free text for the header.
    """

    kind: str
    storage: str
    stored: Mapping[str, Tensor]
    classes: tuple[str, ...]
    normalization: Normalization
    spec: NetSpec | None = None
    schedule: Mapping[str, Any] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        payload_file.check_payload(self)

    def __repr__(self) -> str:
        parts = " + ".join(f"{name} {size:,}" for name, size in self.parts.items())
        return f"Payload({self.kind} as {self.storage}, {self.bytes:,} bytes: {parts})"

    @classmethod
    def of_images(
        cls,
        images: Float[Tensor, "n c h w"],
        labels: Tensor,
        *,
        storage: str = "uint8",
        classes: tuple[str, ...],
        normalization: Normalization,
        schedule: DistilledDataset | None = None,
        note: str = "",
    ) -> Payload:
        """Images and their labels, and how to train on them where they are a distilled set's.

        Args:
            images: (N,C,H,W) floats, normalized, finite.
            labels: (N,) int64 below K; or (N,K) probabilities, stored as float32.
            storage: "uint8": 8-bit codes over the images' own range, which is two float32 numbers
                more; or "float32".
            schedule: the distilled set of which these are the images: its step sizes, order, update
                rule and what BatchNorm uses are sent too, and its initial net where it was learned
                for one. The labels may be others than its own.

        Example:
            >>> import torch
            >>> payload = Payload.of_images(
            ...     torch.rand(2, 1, 8, 8), torch.arange(2), classes=("no", "yes"),
            ...     normalization=Normalization((0.5,), (0.5,), size=8, channels=1))
            >>> payload
            Payload(images as uint8, 138 bytes: images 128 + range 8 + labels 2)
        """
        stored = {**pack_images(images, storage), **pack_labels(labels, len(classes))}
        header = None
        if schedule is not None:
            found = (len(schedule.images), len(schedule.classes))
            if found != (len(images), len(classes)):
                raise UsageError(
                    f"the schedule is for {found[0]} images of {found[1]} classes, and there are "
                    f"{len(images)} of {len(classes)}; pass the distilled set that "
                    "the images are of"
                )
            more, header = pack_schedule(schedule)
            stored |= more
        return cls("images", storage, stored, tuple(classes), normalization, None, header, note)

    @classmethod
    def of_net(
        cls,
        net: Mapping[str, Tensor] | nn.Module,
        spec: NetSpec,
        *,
        storage: str = "float32",
        classes: tuple[str, ...],
        normalization: Normalization,
        note: str = "",
    ) -> Payload:
        """The parameters and buffers of a trained net; shared ones once, BatchNorm's
        `num_batches_tracked` not at all, as no answer of the net depends on it. Other buffers of
        whole numbers are stored as they are.

        Args:
            net: its state dict, or the net itself.
            spec: how it is built, with as many classes as there are names.
            storage: "float32"; "float16", running statistics too; or "int8", as `net_storage` has
                it.
        """
        state = net.state_dict() if isinstance(net, nn.Module) else net
        stored = pack_weights(state, spec, storage)
        return cls("net", storage, stored, tuple(classes), normalization, spec, None, note)

    # --- sizes

    @cached_property
    def parts(self) -> dict[str, int]:
        """Bytes by part, in a fixed order, of the parts that are there: "images", "range", "labels"
        or "soft labels", "step sizes", "order", "initial net", "weights", "scales". The order is 0
        where it is batch after batch: a number in the header says it."""
        return payload_file.bytes_by_part(self)

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @cached_property
    def file_bytes(self) -> int:
        """Size of the file that `save` writes: `bytes` and its header."""
        return len(payload_file.PAYLOAD.pack(self))

    # --- what the receiver has

    def images(self) -> Float[Tensor, "n c h w"]:
        """Images as the receiver has them, float32: after quantization."""
        stored = self._tensors_of("images")["images"]
        return stored.clone() if (q := self._quantization) is None else q.values(stored)

    def labels(self) -> Tensor:
        """(N,) int64, or (N,K) float32 probabilities; UsageError for a net."""
        stored = self._tensors_of("images")
        return stored["soft_labels"].clone() if "soft_labels" in stored else widen(stored["labels"])

    def net(self) -> nn.Module:
        """The net with the weights as the receiver has them, float32, in evaluation mode, on the
        CPU."""
        stored = self._tensors_of("net")
        assert self.spec is not None
        return unpack_weights(stored, self.spec)

    def to_distilled(self) -> DistilledDataset | None:
        """The distilled set as the receiver has it: images after quantization and the labels that
        were shipped. None for plain images and for nets."""
        if self.schedule is None:
            return None
        return unpack_schedule(
            self.stored,
            self.schedule,
            self.images(),
            self.labels(),
            self.classes,
            self.normalization,
            self._quantization,
        )

    @property
    def _quantization(self) -> Quantization | None:
        return Quantization(8, *self.stored["range"].tolist()) if self.storage == "uint8" else None

    def _tensors_of(self, kind: str) -> Mapping[str, Tensor]:
        if self.kind != kind:
            raise UsageError(
                f"the payload is of kind {self.kind!r} and has no {kind}; ask for its {self.kind}"
            )
        return self.stored

    # --- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file; see `Artifact.save`."""
        payload_file.PAYLOAD.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Payload:
        """Read a file of `save`; see `Artifact.load`."""
        return payload_file.PAYLOAD.load(path, cls)
