"""Generations of nets: the config, the training and the scores of one net of a chain.

`kd_baselines.studies.generations` trains chains of nets, each from a fresh draw, each taught by the
one before. There is a `Lineage` for each kind of config, in `LINEAGES` there.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from datadistill.config import RunOptions
from datadistill.errors import DataError
from datadistill.runs.driver import run
from datadistill.runs.folder import RunFolder
from datadistill.torch_defaults import use_library_defaults
from kd_baselines.saved_model import SavedModel
from kd_baselines.student_runs import StudentKind

__all__ = ["Lineage"]


class Data(Protocol):
    """Images or a text."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...


C = TypeVar("C", bound=Any)
D = TypeVar("D", bound=Data)
S = TypeVar("S", bound=SavedModel)


class Lineage(abc.ABC, Generic[C, D, S]):
    """Nets of one kind of config, generation by generation; `data` None are those that the config
    names."""

    unit: ClassVar[str]
    """Of the scores: "%" or "" (perplexity)."""
    data_fields: ClassVar[tuple[str, ...]]
    """Fields of a config that say which data are loaded, and where they go."""
    kind: type[StudentKind[C, Any, D, Any]]
    file: type[S]

    def __init__(self, options: RunOptions = RunOptions(quiet=True), data: D | None = None) -> None:  # noqa: B008
        self.options, self.data = options, data
        self._loaded: tuple[tuple[Any, ...], D] | None = None

    @abc.abstractmethod
    def build_first(self, config: C, seed: int) -> C:
        """The config of generation 0, the teacher: on labels alone, with the teacher's net and
        schedule."""

    def build_later(self, config: C, seed: int) -> C:
        """The config of a generation from 1 on, from a fresh draw."""
        return config.with_changes(seed=seed)

    @abc.abstractmethod
    def name_scores(self, scores: Mapping[str, Any]) -> dict[str, float]:
        """The scores in a net's file by the words over their columns, the one to compare by
        first."""

    @abc.abstractmethod
    def measure(self, nets: Sequence[S], config: C, average: str, data: D) -> dict[str, float]:
        """The same scores of nets together."""

    def refuse(self, config: C) -> None:
        """Refuse an arm whose chain cannot be trained, before anything is written."""
        self.kind(self.load_data(config)).build(config, self.options)

    @use_library_defaults()
    def train(self, config: C, teacher: Path | None, out: Path, resume: bool) -> None:
        """Train one net in its run folder, taught by the net in the file `teacher`, or resume its
        run."""
        if teacher is not None:
            refuse_other_data(teacher.parent, self.load_data(config))
        run(self.kind(self.data, teacher), config, out, resume=resume, options=self.options)

    def fingerprint(self, net: Path) -> str:
        """The fingerprint of the net in a file, as the environment.json of a run that it teaches
        has it."""
        return self.file.load(net).to_teacher().hash

    def scores(self, nets: Sequence[Path], config: C, average: str) -> dict[str, float]:
        """Scores on the test part of one net, as its training measured them, or of several files as
        an ensemble: "arithmetic" averages probabilities, "geometric" logits."""
        files = [self.file.load(path) for path in nets]
        if len(files) == 1 and files[0].scores is not None:
            return self.name_scores(files[0].scores)
        data = self.load_data(config)
        for path, saved in zip(nets, files, strict=True):
            saved.refuse_other(str(path), data)
            refuse_other_data(path.parent, data)
        return self.measure(files, config, average, data)

    def load_data(self, config: C) -> D:
        """The data of a config, loaded once for a chain."""
        key = tuple(getattr(config, name) for name in self.data_fields)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, self.kind(self.data).load_data(config, self.options))
        return self._loaded[1]


def refuse_other_data(path: Path, data: Data) -> None:
    """Refuse a run that was trained on other data."""
    if RunFolder.open(path).environment.get("data") != data.fingerprint:
        raise DataError(
            f"{path} was trained on other data than {data.name} is now (its fingerprint differs); "
            "restore the data, or choose another --out"
        )
