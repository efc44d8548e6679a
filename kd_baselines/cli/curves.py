"""`kd-baselines curves FOLDER ... --out FILE.png`: the metrics of runs, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from datadistill.cli.options import parse
from datadistill.cli.outputs import refuse_taken
from datadistill.cli.printing import Output
from datadistill.errors import UsageError


@dataclass(frozen=True)
class Curves:
    """Draw metrics of runs by epoch: mean and deviation over the seeds of each arm."""

    folders: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER ...")]
    """Run folders, or the folders of studies (compare, born-again)."""
    out: Path
    """Picture to write, .png."""
    metrics: tuple[str, ...] = ()
    """Names of metrics, such as loss accuracy; default: all that the runs have."""
    arms: tuple[str, ...] = ()
    """Only these arms, in this order; default: all that have one of the metrics."""
    title: str = ""
    """Above the figure; default: the names of the folders."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse, draw, say where the picture is."""
    args = parse(Curves, argv, "kd-baselines curves")
    output = Output(args.json)
    from datadistill.errors import suggest
    from datadistill.stats import mean
    from datadistill.visualize.canvas import save
    from kd_baselines.studies.metric_curves import metrics_figure, read_metrics

    if args.out.suffix != ".png":
        raise UsageError(f"--out is {args.out}, but the picture is a PNG; give a name with .png")
    if not args.folders:
        raise UsageError("no folder is named; give a run folder, or the folder of a study")
    refuse_taken(args.out)
    found = read_metrics(args.folders, args.metrics)
    for arm in args.arms:
        if arm not in found:
            raise UsageError(f"no run is of the arm {arm!r}; {suggest(arm, found)}")
    arms = {arm: found[arm] for arm in args.arms or found}
    title = args.title or ", ".join(folder.name for folder in args.folders)
    save(metrics_figure(title, arms), args.out)
    last = {
        arm: {name: [series[-1] for series in several] for name, several in lines.items()}
        for arm, lines in arms.items()
    }
    for arm, lines in last.items():
        told = ", ".join(f"{k} {mean(v):.4g}" for k, v in lines.items())
        output.say(f"{arm}: after the last epoch {told}")
    output.say(f"wrote {args.out}")
    output.result({"out": str(args.out), "last": last})
    return 0
