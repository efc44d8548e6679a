"""`kd-baselines ledger NAME`: bytes that are sent against accuracy, for images, distilled sets and
nets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from datadistill.cli.options import (
    Hidden,
    RecipeArguments,
    as_flags,
    open_output,
    parse,
    take_name,
)
from datadistill.cli.printing import Output
from datadistill.cli.study_command import carry_out, say_files
from datadistill.errors import suggest
from kd_baselines.cli.configs import StudyFlags, find_changes
from kd_baselines.ledger.config import LedgerConfig
from kd_baselines.ledger.plans import LEDGERS, ledger_config

if TYPE_CHECKING:
    from kd_baselines.ledger.table import Ledger

PROG = "kd-baselines ledger"


@dataclass(frozen=True)
class Config(LedgerConfig):
    """What is sent and how the receiver trains. All of it changes the numbers; the defaults are the
    ledger's own."""

    name: Hidden[str] = "custom"
    student_args: RecipeArguments = field(default_factory=dict)
    teacher_args: RecipeArguments = field(default_factory=dict)
    distill_changes: RecipeArguments = field(default_factory=dict)


@dataclass(frozen=True)
class MakeLedger(StudyFlags):
    """Send real images, a distilled set and trained nets, and test what the receiver's student then
    knows.

    Finished runs and rows are loaded, interrupted ones are resumed: typed again it continues.
    Writes ledger.md, ledger.csv and ledger.png.
    """

    rows: tuple[str, ...] = ()
    """Only these, of real-hard, real-soft, distilled, distilled-own, distilled-soft, teacher,
    student, born-again and full. Rows that were made before stay in the table."""
    distilled: Path | None = None
    """A distilled set that exists: its file, or a run folder; default: learned here."""
    teacher: Path | None = None
    """A teacher that is trained: its file, or a run folder; default: trained here."""
    config: Config = field(default_factory=Config)


def run(argv: Sequence[str]) -> int:
    """Parse, make, print."""
    name, words = take_name(argv, f"no ledger was given; type {PROG} NAME ({suggest('', LEDGERS)})")
    base = ledger_config(name) if name is not None else LedgerConfig()
    default = MakeLedger(config=as_flags(Config, base))
    args = parse(MakeLedger, words, f"{PROG} {name or 'NAME'}", default)
    assert name is not None  # --help has left
    changes = find_changes(args.config, base, words)
    output = open_output(args.options)
    from kd_baselines.ledger.ledger_study import make_ledger

    out = args.out or Path("runs") / "ledger" / name
    study = partial(
        make_ledger,
        name,
        seeds=args.count_or_seeds(),
        rows=args.rows or None,
        distilled=args.distilled,
        teacher=args.teacher,
        changes=changes,
    )
    found, seconds = carry_out(study, output, args.options, out, [*PROG.split(), *argv])
    print_result(output, found)
    say_files(output, found.files, out, seconds)
    if not any(entry.row == "full" for entry in found.entries):
        output.say(f"next: {PROG} {name} --rows full, for the break-even numbers")
    elif (run_ := out / "nets" / f"full-s{found.seeds[0]}").exists():
        output.say(f"next: kd-baselines evaluate {run_} --noise 0.3")
    output.result(
        {
            "ledger": found.name,
            "seeds": list(found.seeds),
            "run": str(out),
            "seconds": seconds,
            "changes": changes,
            "rows": list(found.records()),
            "files": [str(path) for path in found.files],
        }
    )
    return 0


def print_result(output: Output, found: Ledger) -> None:
    """The table, and which images or nets beat the other kind on both bytes and accuracy."""
    from kd_baselines.ledger.markdown_page import columns

    # the others are in ledger.md
    shown = [
        column
        for column in columns(found)
        if column.heading not in ("95% interval", "beats", "steps")
    ]
    rows = [[column.cell(entry) for column in shown] for entry in found.entries]
    output.table([column.heading for column in shown], rows, right=range(2, len(shown)))
    output.say("")
    for entry in found.entries:
        if others := found.find_beaten(entry):
            names = ", ".join(other.name for other in others)
            output.say(f"{entry.name} is smaller and more accurate than {names}")
