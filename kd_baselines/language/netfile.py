"""A trained language model in one safetensors file, with its vocabulary and what else is needed to use it.

saved = SavedLanguageModel.load("runs/ban-ptb-s0")
net = saved.net()                                  # in evaluation mode
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datadistill.errors import DataError
from datadistill.nets.limits import limited
from datadistill.runs.atomic import write_bytes
from datadistill.runs.content import check_number, check_record, check_text, content_of, shown
from datadistill.runs.tensors import checksum, pack
from kd_baselines.language.model import vocabulary_of
from kd_baselines.language.nets import LanguageModel, build_language
from kd_baselines.netfile import LANGUAGE_NET, SCHEMA, read_net, refuse_other_tensors

__all__ = ["SavedLanguageModel"]

_KEYS = {"schema", "kind", "checksum", "net", "args", "words", "dataset", "scores", "record"}


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
        """Of all tensors."""
        return sum(t.numel() * t.element_size() for t in self.state.values())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the net's tensors alone."""
        return checksum(self.state)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, atomically: the same bytes for the same content.

        Raises:
            UsageError, ResourceError: it could not be written.
        """
        meta = {
            "schema": SCHEMA, "kind": LANGUAGE_NET, "net": self.name, "args": dict(self.args),
            "words": list(self.words), "dataset": self.dataset,
            "scores": None if self.scores is None else dict(self.scores),
            "record": None if self.record is None else dict(self.record),
        }  # fmt: skip
        write_bytes(path, pack(self.state, meta))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SavedLanguageModel:
        """Read a file, or the one in a run folder.

        Raises:
            DataError: it is missing, unfinished, damaged, or something else: the file of an image classifier,
                say.
        """
        path, tensors, meta = read_net(path, LANGUAGE_NET, _KEYS)
        with content_of(path, "a language model"):
            for name in ("net", "dataset"):
                check_text(name, meta[name])
            if not isinstance(meta["args"], dict):
                raise DataError(f"args is {shown(meta['args'])}, wanted the arguments of the net by name")
            vocabulary_of(meta["words"])
            check_record("record", meta["record"])
            check_record("scores", meta["scores"])
            for name, value in (meta["scores"] or {}).items():
                check_number(f"scores.{name[:80]}", value, 0)
            with torch.device("meta"), limited(meta["net"], meta["args"], 2 * len(tensors) + 20):
                built = build_language(meta["net"], meta["words"], **meta["args"])
            refuse_other_tensors(built, [tensors], meta["net"])
            return cls(
                tensors, meta["net"], meta["args"], tuple(meta["words"]), meta["dataset"], meta["scores"],
                meta["record"],
            )  # fmt: skip
