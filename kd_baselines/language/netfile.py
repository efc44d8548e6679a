"""A trained language model in one safetensors file, with its vocabulary."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from datadistill.nets.limits import limit_size
from datadistill.nets.spec import refuse_other_tensors
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import check_number, check_object, check_text, optional, parse_with
from datadistill.runs.tensors import checksum
from kd_baselines.language.config import LANGUAGE_KIND
from kd_baselines.language.model import vocabulary_of
from kd_baselines.language.nets import LanguageModel, build_language
from kd_baselines.netfile import STUDENT

__all__ = ["SavedLanguageModel"]


def _check_scores(field: str, value: Any) -> dict[str, float]:
    found = check_object(field, value)
    return {name: check_number(f"{field}.{name[:80]}", score, least=0) for name, score in found.items()}


def _arguments(tensors: dict[str, Tensor], values: dict[str, Any], schema: int) -> dict[str, Any]:
    name = values.pop("net")
    with torch.device("meta"), limit_size(name, values["args"], 2 * len(tensors) + 20):
        built = build_language(name, values["words"], **values["args"])
    refuse_other_tensors(tensors, built.state_dict(), name)
    return {"state": tensors, "name": name, **values}


LANGUAGE_NET = Artifact(
    "kd-language-net",
    fields={
        "net": check_text,
        "args": check_object,
        "words": parse_with(vocabulary_of),
        "dataset": check_text,
        "scores": optional(_check_scores),
        "record": optional(check_object),
    },
    tensors=attrgetter("state"),
    values=lambda saved: {"net": saved.name},
    arguments=_arguments,
    file_name=STUDENT,
    runs=[LANGUAGE_KIND],
    command="kd-baselines train",
)


@dataclass(frozen=True, eq=False, repr=False)
class SavedLanguageModel:
    """A language model as a file holds it.

    Args:
        state: its state dict.
        name: of the architecture.
        args: all of its arguments.
        words: the vocabulary, number -> word.
        dataset: name of the text it was trained on.
        scores: "perplexity" on the test text and "validation perplexity", where they were measured.
        record: the config of the training.
    """

    state: Mapping[str, Tensor]
    name: str
    args: Mapping[str, Any]
    words: tuple[str, ...]
    dataset: str
    scores: Mapping[str, float] | None = None
    record: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"SavedLanguageModel({self.name} of {len(self.words)} words trained on {self.dataset})"

    def net(self) -> LanguageModel:
        """A net of its own with these tensors, in evaluation mode, on the CPU."""
        net = build_language(self.name, self.words, seed=0, **self.args)
        net.load_state_dict(dict(self.state))
        return net.eval()

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.state.values())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the net's tensors alone."""
        return checksum(self.state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; see `Artifact.save`."""
        LANGUAGE_NET.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SavedLanguageModel:
        """Read a file, or the one in a run folder; see `Artifact.load`."""
        return LANGUAGE_NET.load(path, cls)
