"""The measurements of a table, as JSON keeps them and the table prints them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datadistill.reproduce.plan import Part
from datadistill.stats import deviation, mean


@dataclass(frozen=True)
class Value:
    """A mean and its population deviation, in percent; None where there is but one number."""

    mean: float
    std: float | None = None


@dataclass(frozen=True)
class MeasuredRow:
    """One row of a measurement.

    Args:
        name: of the row: "ours", "random-real".
        values: column -> value.
        nets: held-out nets that each set was tested on; 0 where no net takes part.
        sets: how many sets of real images, for baselines that draw several.
        runs: distilled sets that it was measured on.
        bytes: stored bytes of images, labels and step sizes; None where nothing is stored.
        how: what was chosen: the step size and the epochs, say.
        seconds: of the processor, for learning a set; None where nothing was learned, or unknown.
    """

    name: str
    values: Mapping[str, Value]
    nets: int = 1
    sets: int = 1
    runs: int = 1
    bytes: int | None = None
    how: str = ""
    seconds: float | None = None

    @property
    def over(self) -> str:
        """What the mean and the deviation are over."""
        parts = [_count(self.runs, "run")] if self.runs > 1 else []
        parts += [_count(self.sets, "set")] if self.sets > 1 else []
        parts += [_count(self.nets, "net")] if self.nets > 1 else []
        return " x ".join(parts) or ("1 net" if self.nets else "1 set")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> MeasuredRow:
        """The inverse of `as_dict`."""
        return cls(**{**stored, "values": {k: Value(**v) for k, v in stored["values"].items()}})


def combine_runs(runs: Sequence[Sequence[MeasuredRow]]) -> list[MeasuredRow]:
    """Rows of several runs, the same names in each, as one: means over the runs, deviations of the
    runs' means.

    >>> a, b = (MeasuredRow("ours", {"accuracy": Value(v)}) for v in (80.0, 82.0))
    >>> combine_runs([[a], [b]])[0].values["accuracy"]
    Value(mean=81.0, std=1.0)
    """
    if len(runs) == 1:
        return list(runs[0])
    merged = []
    for rows in zip(*runs, strict=True):
        first, values = rows[0], {}
        for column in first.values:
            means = [row.values[column].mean for row in rows if column in row.values]
            values[column] = Value(mean(means), deviation(means))
        chosen = list(dict.fromkeys(row.how for row in rows if row.how))
        how = chosen[0] if len(chosen) == 1 else "chosen anew in each run" if chosen else ""
        known = [row.seconds for row in rows if row.seconds is not None]
        seconds = mean(known) if len(known) == len(rows) else None
        counts = (first.nets, first.sets, len(rows), first.bytes)
        merged.append(MeasuredRow(first.name, values, *counts, how, seconds))
    return merged


@dataclass(frozen=True)
class Result:
    """A table as far as it has been measured.

    Args:
        parts: those that were, in the plan's order: the part, and the measured row of each of its
            rows.
        missing: names of the parts that were not.
        environments: what the numbers depend on besides, as `environment` describes it, without
            doubles.
    """

    parts: Sequence[tuple[Part, Sequence[MeasuredRow | None]]]
    missing: Sequence[str]
    environments: Sequence[Mapping[str, Any]]


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
