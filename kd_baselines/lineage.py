"""What differs between generations of image classifiers and generations of language models.

`kd_baselines.studies.generations` trains chains of nets, each from a fresh draw, each taught by the one before;
a `Lineage` knows how one net of a chain is configured, trained and measured. One for each kind of config, in
`LINEAGES` there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from datadistill.config import RunOptions
from datadistill.data import RealData

__all__ = ["Lineage"]


class Lineage(Protocol):
    """How nets of one kind of config are trained and measured, generation by generation."""

    unit: str
    """Of the scores: "%" or "" (perplexity)."""

    def build_first(self, config: Any, seed: int) -> Any:
        """The config of generation 0, the teacher: on labels alone, with the teacher's net and schedule."""

    def build_later(self, config: Any, seed: int) -> Any:
        """The config of a generation from 1 on, from a fresh draw."""

    def refuse(self, config: Any, options: RunOptions, data: RealData | None = None) -> None:
        """Refuse an arm whose chain cannot be trained, before anything is written."""

    def train(
        self, config: Any | None, teacher: Path | None, out: Path, resume: bool, options: RunOptions,
        data: RealData | None = None,
    ) -> None:  # fmt: skip
        """Train one net into its run folder, taught by the net in the file `teacher`, or go on."""

    def fingerprint(self, net: Path) -> str:
        """Of the net in a file, as the environment.json of a run that it teaches keeps it."""

    def scores(
        self, nets: Sequence[Path], config: Any, average: str, options: RunOptions,
        data: RealData | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Scores on the test part of one net, or of several as an ensemble; the first is the one to tell.

        Args:
            nets: files of nets.
            average: of several: "arithmetic", of the probabilities, or "geometric", of the logits.
        """
