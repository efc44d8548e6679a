"""`make_ledger`: bytes that are sent against the accuracy of the receiver's student, row by row.

    OUT/                       a run folder of kind "kd-ledger": config.json says what was asked
      nets/ distilled/         runs of the senders (`kd_baselines.ledger.senders`)
      payloads/ rows/          what is sent, and a record for each row, storage and seed
      ledger.md  ledger.csv  ledger.png

Finished runs and records are loaded, interrupted runs are resumed. The table holds every row whose
records are there for all seeds asked for, also from an earlier call.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datadistill import distilled_file
from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.errors import UsageError, suggest
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, show_progress
from datadistill.runs.atomic import write_text
from datadistill.runs.jsonconfig import dump_config
from datadistill.stats import mean
from datadistill.studies.arguments import dump_changes, format_command, list_seeds
from datadistill.studies.study import Study
from datadistill.studies.table import describe_machines
from datadistill.visualize.canvas import save
from kd_baselines.ledger.config import LEDGER_KIND, LedgerConfig
from kd_baselines.ledger.existing import Given
from kd_baselines.ledger.markdown_page import markdown
from kd_baselines.ledger.plans import ledger_config
from kd_baselines.ledger.plot import ledger_figure
from kd_baselines.ledger.rows import IMAGE_ROWS, Record, Rows
from kd_baselines.ledger.senders import LABELS_SEED, Senders, net_spec, real_data, refuse_nets
from kd_baselines.ledger.table import ABOUT, FULL, Entry, Ledger
from kd_baselines.splits import check_real_data

__all__ = ["FILES", "make_ledger"]

FILES = ("ledger.md", "ledger.csv", "ledger.png")


@show_progress
def make_ledger(
    plan: str | LedgerConfig,
    *,
    seeds: int | Sequence[int] = 5,
    rows: Sequence[str] | None = None,
    distilled: str | os.PathLike[str] | None = None,
    teacher: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str],
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    changes: Mapping[str, Any] | None = None,
    data: RealData | None = None,
    say: Callable[[str], None] = lambda line: None,
    again: str | None = None,
    progress: bool | Report = False,
) -> Ledger:
    """Make every row of a ledger with every seed, and write the table.

    Args:
        plan: name of a ledger, or a config of your own.
        rows: some keys of `kd_baselines.ledger.table.ABOUT`; default: all.
        distilled: file or run folder of a distilled set that exists; default: learned here.
        teacher: file or run folder of a net that exists; default: trained here.
        seeds, out, options, changes, data, say, again, progress: as in `kd_baselines.compare`.

    Raises:
        UsageError: an unknown ledger, row or field, no seed or one given twice, a set or a teacher
            of other classes, or `out` holds something else.
        DataError: a set or a teacher of other images, or a damaged file.
        Interrupted: a signal came; what was done is kept.

    Example:
        `make_ledger("mnist5k", seeds=2, out="runs/ledger").entry("student", "float16").bytes`
    """
    check_real_data(data)
    base = ledger_config(plan) if isinstance(plan, str) else plan
    if not isinstance(base, LedgerConfig):
        raise UsageError(f"plan is {plan!r:.60}, wanted the name of a ledger or a LedgerConfig")
    numbers, asked = list_seeds(seeds), _rows(rows)
    changed = dict(changes or {})
    config = base.with_changes(**changed)
    config = config if data is None else replace(config, dataset=CUSTOM)
    path = Path(out)
    given = Given(
        None if distilled is None else Path(distilled), None if teacher is None else Path(teacher)
    )
    flags = {
        "rows": None if len(asked) == len(ABOUT) else asked,
        "distilled": distilled and "FILE",
        "teacher": teacher and "FILE",
    }
    command = format_command(
        "kd-baselines ledger", config.name, numbers, flags, dump_changes(changed, LedgerConfig)
    )
    own = {name: value for name, value in dump_config(config).items() if name != "device"}
    own["given"] = {
        "distilled": None if given.distilled is None else distilled_file.identity(given.distilled),
        "teacher": None if given.teacher is None else given.teacher.fingerprint,
    }
    again = again or (command if data is None else f"make_ledger(..., out={str(out)!r}, data=...)")
    study = Study(path, LEDGER_KIND, own, again=again, say=say)
    study.refuse_other()  # before the data are read, which may take minutes
    with study:
        real = real_data(config, options, data)
        named = data is None and config.real_per_class is None
        refuse_nets(config, real)
        given.refuse_what_does_not_fit(real, net_spec(config, real, "student"))
        study.open()
        made = Rows(Senders(config, study, real, named, given, options))
        for row in asked:
            for seed in made.seeds(row, numbers):
                for storage in made.storages(row):
                    made.record(row, storage, seed)
        return _write(_gather(made, numbers), path, command)


def _rows(asked: Sequence[str] | None) -> list[str]:
    for row in asked or ():
        if row not in ABOUT:
            raise UsageError(f"a ledger has no row {row!r}; {suggest(str(row), ABOUT)}")
    return [row for row in ABOUT if not asked or row in asked]


def _gather(made: Rows, seeds: tuple[int, ...]) -> Ledger:
    """The table of all records that are there."""
    entries, machines = [], []
    for row in ABOUT:
        own = made.seeds(row, seeds)
        for storage in made.storages(row):
            files = [made.file(row, storage, seed) for seed in own]
            if all(file.exists() for file in files):
                records = [Record.load(file) for file in files]
                entries.append(_entry(made.senders, records))
                machines += [record.machine for record in records]
    config, senders = made.config, made.senders
    has_set = any(entry.row.startswith("distilled") for entry in entries)
    classes = len(made.data.classes)
    return Ledger(
        config.name,
        seeds,
        tuple(entries),
        made.data.shape,
        classes,
        config.per_class,
        len(senders.load_distilled().images) / classes if has_set else None,
        tuple(_collect_notes(made, entries)),
        tuple(dict.fromkeys([*machines, *describe_machines(senders.study.environments)])),
    )


def _entry(senders: Senders, records: Sequence[Record]) -> Entry:
    first = records[0]
    several = [_sender_seconds(senders, first.row, record.seed) for record in records]
    known = [seconds for seconds in several if seconds is not None]
    return Entry(
        first.row,
        first.storage,
        first.parts,
        first.file_bytes,
        {record.seed: record.accuracy for record in records},
        mean([record.seconds for record in records]),
        first.steps,
        mean(known) if len(known) == len(several) else None,
    )


def _sender_seconds(senders: Senders, row: str, seed: int) -> float | None:
    """Seconds of the sender's work before the first student: nets and the distilled set."""
    parts: list[float | None] = []
    if row.startswith("distilled"):
        parts.append(senders.distilled_seconds())
    if row.endswith("-soft"):
        parts.append(senders.net_seconds("teacher", LABELS_SEED))
    if row not in (*IMAGE_ROWS, FULL):
        parts.append(senders.net_seconds("teacher", seed))
        parts += [] if row == "teacher" else [senders.net_seconds(row, seed)]
    known = [part for part in parts if part is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def _collect_notes(made: Rows, entries: Sequence[Entry]) -> list[str]:
    """Lines for the page about the config."""
    config, senders, rows = made.config, made.senders, {entry.row for entry in entries}
    lines = [
        f"Real data: {made.data.description}"
        + (
            ""
            if config.real_per_class is None
            else (
                f"; of these the sender has {config.real_per_class} images of each "
                "class, in every row"
            )
        )
        + ".",
        f"Students: {config.student_net}; {config.steps:,} steps of {config.optimizer} on "
        f"{config.batch} images, learning rate {config.lr:g}, the same for every row of images "
        "but distilled-own.",
    ]
    if rows & {FULL, "teacher", "student", "born-again"}:
        teacher = (
            config.teacher_net if senders.given.teacher is None else senders.given.teacher.spec.name
        )
        each = "all seeds share one" if senders.has_one_teacher else "each seed has its own"
        lines.append(
            f"Nets that are sent, and those of the row full: {config.net_epochs} epochs over all "
            f"real data by {config.net_optimizer}, learning rate {config.net_lr:g}. Teacher: "
            f"{teacher}; {each}."
        )
    if any(row.endswith("-soft") for row in rows):
        whose = "the teacher" if senders.has_one_teacher else f"the teacher of seed {LABELS_SEED}"
        lines.append(f"Soft labels are those of {whose} for every seed.")
    if senders.given.teacher is not None:
        lines.append("The teacher existed before; it was not trained here.")
    if senders.given.distilled is not None and any(row.startswith("distilled") for row in rows):
        lines.append("The distilled set existed before; it was not learned here.")
    return lines


def _write(found: Ledger, folder: Path, command: str) -> Ledger:
    write_text(folder / FILES[0], markdown(found, command))
    write_text(folder / FILES[1], found.table().to_csv())
    save(ledger_figure(found), folder / FILES[2])
    return replace(found, files=tuple(folder / name for name in FILES))
