"""The seconds of a run over all its sessions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .folder import RunFolder


def read_seconds(run: str | os.PathLike[str], clock: str = "seconds") -> float | None:
    """Seconds of a run over all its sessions, from timing.jsonl, without those of the runs in
    folders below it; a killed session counts up to its last line. None where no session left a
    line. The clock "cpu_seconds" is the processor's, all cores together."""
    if not (Path(run) / "config.json").exists():
        return None
    return sum_sessions(RunFolder.open(run).read_timing(), clock)


def read_all_seconds(run: str | os.PathLike[str]) -> float:
    """Seconds of a run and of the runs that it needs, in folders below its own; 0 before any of
    them has begun."""
    runs = (Path(run), *(config.parent for config in Path(run).glob("*/config.json")))
    return sum(read_seconds(one) or 0.0 for one in runs)


def sum_sessions(lines: Sequence[Mapping[str, Any]], clock: str = "seconds") -> float | None:
    """Each line tells the seconds since its session began; a new session begins where they fall, or
    where an epoch, iteration or net comes a second time.

    Example:
        >>> sum_sessions([{"iteration": 1, "seconds": 2.0}, {"iteration": 2, "seconds": 4.0},
        ...         {"iteration": 2, "seconds": 5.0}, {"iteration": 3, "seconds": 1.0}])
        10.0
    """
    total, last = 0.0, 0.0
    seen: set[tuple[Any, ...]] = set()
    for line in lines:
        if not isinstance(line.get(clock), int | float):
            continue
        place = tuple(line.get(name) for name in ("stage", "epoch", "iteration", "net"))
        if line[clock] < last or place in seen:
            total, seen = total + last, set()
        last = line[clock]
        seen.add(place)
    return total + last if seen else None
