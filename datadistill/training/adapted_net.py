"""An adapted net, what it took, and its file: the state dict, as safetensors or as `torch.save`
writes it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from datadistill.data import RealData
from datadistill.nets.export import write_weights


@dataclass(frozen=True)
class FineTuning:
    """A net adapted by a distilled set, and what it took; accuracies in percent of the test
    split."""

    net: nn.Module = field(repr=False)
    """The adapted net."""
    start: nn.Module = field(repr=False)
    """The net before, as its steps start from it: of the parameters that train, with a last layer
    that the set carries."""
    accuracy_before: float
    """Of the net as it was given."""
    accuracy_after: float
    """After the set's steps."""
    steps: int
    """The set's steps, T."""
    seconds: float
    """That they took."""
    norm: str | None
    """What BatchNorm used in the set's steps: statistics of the "batch", the net's own ("frozen"),
    or those that the set carries, "reestimated" on the real images; None for a net without such
    layers."""
    dropout: bool
    """Whether dropout was on in the set's steps. In ordinary fine-tuning it is the same."""
    dataset: str
    """The target data."""
    description: str
    """What is in it."""
    meta: dict[str, Any] = field(repr=False)
    """What goes into the net's file beside the tensors."""
    steps_ordinary: int | None = None
    """Steps of ordinary fine-tuning until it was as good on the validation split; None where it was
    not, or where no comparison was asked for, as in all fields that follow."""
    seconds_ordinary: float | None = None
    """That these took, or all `max_steps` where it was not as good; measuring apart."""
    max_steps: int | None = None
    """Steps of ordinary fine-tuning in all."""
    accuracy_same_steps: float | None = None
    """Of ordinary fine-tuning after as many steps as the set's; None where `max_steps` are
    fewer."""
    seconds_same_steps: float | None = None
    """That these took."""
    accuracy_same_seconds: float | None = None
    """Of ordinary fine-tuning after the last step that ended within `seconds`."""
    steps_same_seconds: int | None = None
    """Its steps until then; 0 where not one step fits into `seconds`."""
    accuracy_end: float | None = None
    """Of ordinary fine-tuning in the end: at the test on the validation split, of those until
    `max_steps` and the net as it was given, where it was best there, of equals the last."""
    steps_end: int | None = None
    """Its steps until then."""
    seconds_end: float | None = None
    """That these took."""
    head: nn.Module | None = field(default=None, repr=False)
    """For a set of features: the trained head alone, whose place in `net` is the last layer; and
    `start` is the head before."""
    features: RealData | None = field(default=None, repr=False)
    """For a set of features: the target data that the head takes."""
    accuracy_fresh: float | None = None
    """For a set of features: of the head before, drawn afresh, where both the set's steps and
    ordinary fine-tuning start."""
    rates: dict[str, float] = field(default_factory=dict)
    """Its learning rate for each of "ordinary", "same_steps", "same_seconds" and "end"; they are
    chosen one by one on the validation split where `lr` is "auto"."""

    def as_dict(self) -> dict[str, Any]:
        """All fields but the nets, as plain values."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("net", "start", "meta", "head", "features")
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the adapted net's parameters and buffers by the net's own names, atomically: a
        safetensors file, or for `.pt` and `.pth` what `torch.save` makes of the state dict."""
        write_weights(self.net.state_dict(), path, self.meta)
