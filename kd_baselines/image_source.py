"""Images that a student learns from in place of the real training images.

    FILE or RUN           a distilled set
    random:IPC            real images of each class, drawn by the seed
    herding:IPC           real images of each class whose mean is nearly the class's
    k-means:IPC           the centres of clusters of each class

The last three are the coresets of `datadistill.evaluation.coresets`. The teacher, the validation
and the test images stay the real ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from datadistill.data import RealData, Split
from datadistill.distilled import DistilledDataset
from datadistill.distilled_file import identity
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.coresets import BASELINES
from datadistill.evaluation.own_data import check_data
from datadistill.features import FeatureNormalization
from datadistill.nets import has_batchnorm
from datadistill.nets.trained_parameters import EVERY
from datadistill.runs.tensors import checksum
from kd_baselines.config import KdConfig, parse_coreset
from kd_baselines.splits import labels_of

__all__ = ["ImageSource", "find_source", "refuse_own_steps", "start_at"]

MAKERS = {"random": BASELINES["random-real"], **BASELINES}
PLAIN = "take the plain schedule (--data-schedule plain)"


@dataclass(frozen=True, eq=False)
class ImageSource:
    """The images and labels that a student sees, on the device of the real data.

    Args:
        split: class numbers or probabilities as labels.
        fingerprint: "sha256:" and a digest of the set.
        bytes: of the set as stored; of a coreset its images and labels.
        own: the set whose own steps the student is trained in; None: a plain schedule.
    """

    split: Split
    fingerprint: str
    bytes: int
    own: DistilledDataset | None = None

    def record(self) -> dict[str, Any]:
        """What a net's file says of the images it learned from."""
        return {
            "data_from_images": len(self.split),
            "data_from_bytes": self.bytes,
            "data_from_fingerprint": self.fingerprint,
        }


def find_source(
    config: KdConfig, data: RealData, given: DistilledDataset | None = None
) -> ImageSource | None:
    """What a config's `data_from` names, or the given set; None for the real training images. A set
    of other classes, shapes or another normalization than the real images is refused."""
    if config.data_from is None:
        return None
    coreset = None if given is not None else parse_coreset(config.data_from)
    if coreset is not None:
        return _draw_coreset(config, data, *coreset)
    d = DistilledDataset.load(config.data_from) if given is None else given
    if isinstance(d.normalization, FeatureNormalization):
        raise UsageError(
            "the distilled set has features in the place of images, which no net of images takes; "
            "pass a set of images"
        )
    check_data(d, data)
    d = d.to(data.device)
    split = Split(d.images, labels_of(d, config.data_labels))
    own = d if config.data_schedule == "own" else None
    return ImageSource(split, identity(d), d.bytes, own)


def _draw_coreset(config: KdConfig, data: RealData, name: str, ipc: int) -> ImageSource:
    for k, of_class in enumerate(data.classes):
        count = int((data.train.labels == k).sum())
        if count < ipc:
            raise DataError(
                f"class {of_class} has {count} training images, {ipc} wanted of each; lower the "
                f"number in --data-from {config.data_from}"
            )
    seed = config.seed if config.images_seed is None else config.images_seed
    images = MAKERS[name](data.train, len(data.classes), ipc, seed, 0)
    labels = torch.arange(len(data.classes), device=images.device).repeat_interleave(ipc)
    tensors = {"images": images.flatten(0, 1), "labels": labels}
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    return ImageSource(Split(**tensors), checksum(tensors), size)


def refuse_own_steps(d: DistilledDataset, net: nn.Module) -> None:
    """Refuse a net that the own steps of a set are not made for."""
    if d.trained != EVERY:
        parts = ", ".join(d.trained)
        raise UsageError(f"the set's own steps train {parts} of a net alone; {PLAIN}")
    if has_batchnorm(net) and d.norm != "batch":
        raise UsageError(
            f"the set's own steps have BatchNorm {d.norm}, and the student's is trained with "
            f"statistics of the batch; {PLAIN}, or a net without BatchNorm"
        )
    if not d.is_complete or (d.theta_0 is None and d.start.kind in ("pool", "weights")):
        raise UsageError(
            f"the set's own steps start from pretrained nets ({d.start.source}); {PLAIN}"
        )
    if d.theta_0 is not None and not d.is_for(net):
        raise UsageError(
            f"the set was learned for one initialization of {d.net.title}, and the student has "
            f"other tensors; take that net as the student, or {PLAIN}"
        )


@torch.no_grad()
def start_at(d: DistilledDataset, net: nn.Module) -> None:
    """Put a net where a set for one initialization starts; of another set nothing is changed."""
    if d.theta_0 is None:
        return
    values = {**d.theta_0, **(d.buffers or {})}
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if name in values:
            tensor.copy_(values[name])
