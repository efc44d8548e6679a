"""A trained language model in one safetensors file, with its vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from datadistill.nets.limits import limit_size
from datadistill.nets.spec import refuse_other_tensors
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import check_number, check_object, check_text, optional, parse_with
from kd_baselines.language.config import LANGUAGE_KIND
from kd_baselines.language.corpus import Corpus, refuse_other_words
from kd_baselines.language.model import vocabulary_of
from kd_baselines.language.nets import LanguageModel, build_language
from kd_baselines.netfile import STUDENT
from kd_baselines.saved_model import SavedModel
from kd_baselines.teachers import Teacher

__all__ = ["SavedLanguageModel"]


def _check_scores(field: str, value: Any) -> dict[str, float]:
    found = check_object(field, value)
    return {
        name: check_number(f"{field}.{name[:80]}", score, least=0) for name, score in found.items()
    }


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
    values=lambda saved: {"net": saved.name},
    arguments=_arguments,
    file_name=STUDENT,
    runs=[LANGUAGE_KIND],
    command="kd-baselines train",
)


@dataclass(frozen=True, eq=False, repr=False)
class SavedLanguageModel(SavedModel):
    """A trained language model and its vocabulary.

    Args:
        state: its state dict.
        name: of the architecture.
        args: all of its arguments.
        words: the vocabulary, number -> word.
        dataset: name of the text it was trained on.
        scores: "perplexity" on the test text and "validation perplexity", where they were measured.
        record: the config of the training.
    """

    artifact: ClassVar[Artifact] = LANGUAGE_NET

    state: Mapping[str, Tensor]
    name: str
    args: Mapping[str, Any]
    words: tuple[str, ...]
    dataset: str
    scores: Mapping[str, float] | None = None
    record: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return (
            f"SavedLanguageModel({self.name} of {len(self.words)} words trained on {self.dataset})"
        )

    def net(self) -> LanguageModel:
        """A new net with these tensors, in evaluation mode, on the CPU."""
        net = build_language(self.name, self.words, seed=0, **self.args)
        net.load_state_dict(dict(self.state))
        return net.eval()

    def to_teacher(self) -> Teacher:
        return Teacher(self.net())

    def refuse_other(self, who: str, data: Corpus) -> None:
        refuse_other_words(who, self.words, data)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return self.state
