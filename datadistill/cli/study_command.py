"""Commands that carry out many runs and write a table, as `reproduce` and `kd-baselines compare` do."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from datadistill.cli.options import Options
from datadistill.cli.printing import Output


class Written(Protocol):
    """The result of a study, whose files are written."""

    @property
    def files(self) -> Sequence[Path]: ...


W = TypeVar("W", bound=Written)


def carry_out(
    study: Callable[..., W], output: Output, options: Options, out: Path, command: Sequence[str]
) -> tuple[W, float]:
    """Carry out a study; what was done before is loaded.

    Args:
        study: takes `out`, `options`, `say` and `again`.
        output: where its lines go.
        options: how its runs are carried out.
        out: folder for everything.
        command: the words that were typed, which continue it after a stop.

    Returns:
        Its result, and the seconds that it took.
    """
    began = time.monotonic()
    say = (lambda line: None) if options.quiet else output.say
    with output.working(not options.quiet):
        found = study(out=out, options=options, say=say, again=shlex.join(command))
    return found, time.monotonic() - began


def say_files(output: Output, found: Written, out: Path, seconds: float) -> None:
    """What was written, and where."""
    output.say(f"wrote {out}: {', '.join(path.name for path in found.files)} ({seconds:.0f} s)")
