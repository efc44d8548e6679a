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

from datadistill.errors import DataError, UsageError
from datadistill.runs.atomic import write_bytes
from datadistill.runs.tensors import checksum, pack
from kd_baselines.language.nets import LanguageModel, build_language
from kd_baselines.netfile import LANGUAGE_NET, SCHEMA, read_net

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
        try:
            with torch.device("meta"):
                built = build_language(meta["net"], meta["words"], **meta["args"])
            wanted = {name: (tuple(t.shape), t.dtype) for name, t in built.state_dict().items()}
            found = {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
            if other := sorted(k for k in {**wanted, **found} if wanted.get(k) != found.get(k)):
                raise DataError(
                    f"its tensors are not those of a {meta['net']} ({', '.join(other[:3])}); get the file again"
                )
            return cls(
                tensors, meta["net"], meta["args"], tuple(meta["words"]), meta["dataset"], meta["scores"],
                meta["record"],
            )  # fmt: skip
        except (DataError, UsageError) as error:
            raise DataError(f"{path}: {error}") from None
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            what = f"its content is not that of a language model ({error!r:.200})"
            raise DataError(f"{path}: {what}; get the file again") from None
