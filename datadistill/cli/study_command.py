"""Commands that carry out many runs and write a table, as `reproduce` and `kd-baselines compare`
do."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from datadistill.cli.options import Options
from datadistill.cli.printing import Output

S = TypeVar("S")


def carry_out(
    study: Callable[..., S], output: Output, options: Options, out: Path, command: Sequence[str]
) -> tuple[S, float]:
    """Carry out a study, a function of `out`, `options`, `say` and `again`; returns its result, and
    the seconds that it took. `command` are the words that were typed, which resume it."""
    began = time.monotonic()
    say = (lambda line: None) if options.quiet else output.say
    with output.redirect_prints(not options.quiet):
        found = study(out=out, options=options, say=say, again=shlex.join(command))
    return found, time.monotonic() - began


def say_files(output: Output, files: Sequence[Path], out: Path, seconds: float) -> None:
    """Print what was written, and where."""
    output.say(f"wrote {out}: {', '.join(path.name for path in files)} ({seconds:.0f} s)")
