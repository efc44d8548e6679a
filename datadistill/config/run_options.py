"""Options of a run, and the fields that a resumed run may change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datadistill.config.values import check_types
from datadistill.errors import UsageError

HARMLESS = ("device", "data", "pool", "experts", "weights", "boost_from")
"""Fields that a resumed run may change without `resume_with_changes`: they are checked
elsewhere."""

RESUMABLE_CHANGES = ("iterations", "validate_every", "validate_nets", "on_nan", "keep")
"""Fields that `resume_with_changes` lets a resumed run change."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out; none of it changes its numbers."""

    checkpoint_every: str = "60s"
    """Seconds ("60s") or iterations ("20") between checkpoints."""
    data_root: str | None = None
    """Where data sets lie; else $DATADISTILL_DATA, else the user's cache folder."""
    download: bool = True
    """Whether a data set that is not there may be fetched."""
    resume_with_changes: bool = False
    """Let a resumed run change the fields that may change."""
    require_exact: bool = False
    """Refuse to resume where the result could differ in its last bits (other torch, threads,
    device)."""
    rescue_dir: str | None = None
    """Where the state is saved once if the run folder's disk is full."""
    quiet: bool = False
    """No progress."""

    def __post_init__(self) -> None:
        check_types(self)
        self.checkpoint_interval  # noqa: B018  (refuses a value it cannot read)

    @property
    def checkpoint_interval(self) -> tuple[Literal["iterations", "seconds"], float]:
        """The unit and size of `checkpoint_every`."""
        text = self.checkpoint_every
        unit: Literal["iterations", "seconds"] = "seconds" if text.endswith("s") else "iterations"
        try:
            number = float(text[:-1]) if unit == "seconds" else int(text)
        except ValueError:
            number = 0
        if not 0 < number < float("inf"):
            raise UsageError(
                f"checkpoint_every is {text!r}; give iterations, such as 20, or "
                "seconds, such as 60s"
            )
        return unit, number
