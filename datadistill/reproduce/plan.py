"""A table as data: pools, distilled sets, measurements, rows.

    Part            a column block of the paper's table, by name: "mnist", "u-to-m", "voc"
      pools         name -> PoolConfig
      sets          name -> DistillConfig; its `pool` is the name of a pool above, its `weights` may
                    be WEIGHTS
      measurements  what is measured on which sets; a kind of `measure.KINDS` and its arguments
      rows          what stands in the table: a row of a measurement, and the published number
                    beside it

The engine (engine.py) makes what a plan names and measures it; the writer (table_files.py) prints
it. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from datadistill.config import DistillConfig, PoolConfig
from datadistill.errors import UsageError
from datadistill.studies.table import Published

Scale = Literal["smoke", "cpu", "full"]
SCALES: tuple[Scale, ...] = ("smoke", "cpu", "full")

WEIGHTS = "WEIGHTS"
"""Stands for the weights file that the command is given, or that a part draws
(`Part.drawn_weights`)."""

ACCURACY = "accuracy"


@dataclass(frozen=True)
class Measurement:
    """One thing that is measured.

    Args:
        name: what its file is called.
        kind: a key of `measure.KINDS`.
        sets: the sets it is measured on; with several, means and deviations are over them.
        arguments: of the kind's function.
    """

    name: str
    kind: str
    sets: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TableRow:
    """One row of the table, or one point of a curve.

    Args:
        label: what stands in front of it; points of one curve share it.
        measurement: name of a measurement of the part; None: published only.
        name: which of the measurement's rows.
        published: column -> number.
        ours: whether it is the paper's method.
        x: where the point lies, in a part of curves.
    """

    label: str
    measurement: str | None
    name: str = ""
    published: Mapping[str, Published] = field(default_factory=dict)
    ours: bool = False
    x: float | None = None


@dataclass(frozen=True)
class Part:
    """A part of a table, run by `--only NAME`; see the module.

    Args:
        name: as typed.
        title: as printed.
        columns: of the table: names of the measured values, in order.
        headings: column -> words over it.
        x: what the points of curves lie along; None: a table with bars.
        drawn_weights: a torchvision net that random weights are drawn for where the command is
            given none.
        remarks: what differs from the paper, one sentence each.
    """

    name: str
    title: str
    sets: Mapping[str, DistillConfig]
    measurements: tuple[Measurement, ...]
    rows: tuple[TableRow, ...]
    pools: Mapping[str, PoolConfig] = field(default_factory=dict)
    columns: tuple[str, ...] = (ACCURACY,)
    headings: Mapping[str, str] = field(default_factory=lambda: {ACCURACY: "accuracy"})
    x: str | None = None
    drawn_weights: str | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        known = {m.name for m in self.measurements}
        unknown = [r.measurement for r in self.rows if r.measurement not in {None, *known}]
        unknown += [s for m in self.measurements for s in m.sets if s not in self.sets]
        pools = [name for c in self.sets.values() for name in (c.pool, c.experts)]
        unknown += [name for name in pools if name is not None and name not in self.pools]
        if unknown:
            raise UsageError(f"the part {self.name} names {unknown[0]!r}, which it does not have")

    @property
    def needs_weights(self) -> bool:
        """Whether one of its sets starts from weights that the command is given."""
        return any(config.weights == WEIGHTS for config in self.sets.values())


@dataclass(frozen=True)
class Plan:
    """A table at one scale.

    Args:
        table: its name, a key of `TABLES`.
        scale: smoke, cpu or full.
        title: as printed.
        parts: in the order of printing.
        purpose: what the experiment is for, printed before it runs.
        is_of_paper: whether the published numbers are all those of Wang et al. 2018; else each says
            where it stands.
        remarks: of all parts.
    """

    table: str
    scale: Scale
    title: str
    parts: tuple[Part, ...]
    purpose: str = ""
    remarks: tuple[str, ...] = ()
    is_of_paper: bool = True

    def __post_init__(self) -> None:
        for kind in ("pools", "sets"):
            held: dict[str, Any] = {}
            for part in self.parts:
                for name, config in getattr(part, kind).items():
                    if held.setdefault(name, config) != config:
                        raise UsageError(
                            f"two parts of {self.table} have different {kind} called {name}"
                        )

    def with_changes(
        self,
        *,
        sets: Mapping[str, Any] | None = None,
        pools: Mapping[str, Any] | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> Plan:
        """A copy with fields of every `DistillConfig` and `PoolConfig`, and arguments of every
        measurement that has them, replaced.

        Example:
            >>> from datadistill.reproduce import plan_of
            >>> smaller = plan_of("table1", "smoke").with_changes(sets={"iterations": 2})
            >>> {c.iterations for part in smaller.parts for c in part.sets.values()}
            {2}
        """

        def change(m: Measurement) -> Measurement:
            new = {k: v for k, v in (arguments or {}).items() if k in m.arguments}
            return replace(m, arguments={**m.arguments, **new})

        parts = tuple(
            replace(
                part,
                sets={k: c.with_changes(**(sets or {})) for k, c in part.sets.items()},
                pools={k: c.with_changes(**(pools or {})) for k, c in part.pools.items()},
                measurements=tuple(map(change, part.measurements)),
            )
            for part in self.parts
        )
        return replace(self, parts=parts)

    def with_seed(self, seed: int) -> Plan:
        """A copy in which all runs and measurements draw anew; 0 changes nothing.

        Runs of one part that differ by seed keep their distance: 1000 seeds lie between two
        repetitions.
        """
        if seed == 0:
            return self
        away = 1000 * seed
        parts = tuple(
            replace(
                part,
                sets={k: c.with_changes(seed=c.seed + away) for k, c in part.sets.items()},
                pools={k: c.with_changes(seed=c.seed + away) for k, c in part.pools.items()},
                measurements=tuple(
                    replace(m, arguments={**m.arguments, "seed": m.arguments.get("seed", 0) + seed})
                    for m in part.measurements
                ),
            )
            for part in self.parts
        )
        return replace(self, parts=parts)
