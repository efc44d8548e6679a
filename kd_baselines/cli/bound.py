"""`kd-baselines bound RUN ...`: the Lipschitz-Hausdorff bound of students with a second head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from datadistill.cli.options import MachineOptions, open_output, parse
from datadistill.config import RunOptions

if TYPE_CHECKING:
    from kd_baselines.studies.bound import BoundRow

Runs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
HEADS = (
    "source images",
    "accuracy (%)",
    "teacher's",
    "H_a",
    "K, pairs",
    "max gap, target",
    "bound",
    "max gap, source",
    "mean gap, source",
    "K, layers",
)
MEASURES = {
    "H_a": "distance",
    "the bound": "right",
    "the mean gap on the source": "mean_source_gap",
}

SCORES = {
    "accuracy": "accuracy",
    "source_accuracy": "second head's accuracy on the source",
    "teacher_accuracy": "teacher's own accuracy on the target",
}


@dataclass(frozen=True)
class Bounds:
    """The Lipschitz-Hausdorff bound of students with a second head: how far they may be from their
    teacher on its own images.

    Of runs, of comparisons, or of several of each. Prints the asymmetric Hausdorff distance H_a of
    the teacher's images from the student's, the Lipschitz constant K of the difference of both nets
    (the largest slope to the nearest target image, and the product over layers), and both sides of
    the bound: max gap on the source <= max gap on the target + K H_a. Of comparisons with three
    arms or more also whether the bound orders them as accuracy does.
    """

    runs: Runs
    """Run folders of the method lwf, or folders of comparisons."""
    parts: int = 1
    """The source images in so many parts, from the nearest to the target to the farthest."""
    layer: str | None = None
    """Layer of the teacher between whose outputs distances are measured; default: between
    images."""
    options: MachineOptions = field(default_factory=MachineOptions)


def run(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    args = parse(Bounds, argv, "kd-baselines bound")
    output = open_output(args.options)
    from kd_baselines.studies.bound import correlate, find_students, measure_student

    options = RunOptions(data_root=args.options.data_root, download=args.options.download)
    rows = [
        row
        for path in args.runs
        for folder in find_students(path)
        for row in measure_student(folder, options, parts=args.parts, layer=args.layer)
    ]
    groups: dict[tuple[str, str], list[BoundRow]] = {}
    for row in rows:
        groups.setdefault((row.arm, row.part), []).append(row)
    cells = [[f"{arm}, {part}", *_cells(group)] for (arm, part), group in groups.items()]
    output.table(("arm", *HEADS), cells, right=tuple(range(1, len(HEADS) + 1)))
    found: dict[str, Any] = {}
    over = "comparisons" if len({row.study for row in rows}) > 1 else "seeds"
    if args.parts == 1:
        for (words, name), score in product(MEASURES.items(), SCORES):
            interval = correlate(rows, name, score)
            if interval is None:
                continue
            found[f"{name}, {score}"] = asdict(interval)
            output.say(
                f"rank correlation of a small value of {words} with the {SCORES[score]}, over the "
                f"arms: {interval} (95% interval over {over})"
            )
    output.say(f"{len(rows)} rows; distances between {args.layer or 'normalized images'}")
    output.result({"rows": [_record(row) for row in rows], "correlations": found})
    return 0


def _cells(group: Sequence[BoundRow]) -> list[str]:
    from datadistill.stats import mean
    from kd_baselines.studies.bound import mean_of

    known_teacher = [row.teacher_accuracy for row in group if row.teacher_accuracy is not None]
    bounds = [row.bound for row in group]
    names = ("distance", "lipschitz", "target_gap", "right", "source_gap", "mean_source_gap")
    known = all(bound.by_layers is not None for bound in bounds)
    return [
        str(bounds[0].source_images),
        f"{mean([row.accuracy for row in group]):.2f}",
        f"{mean(known_teacher):.2f}" if known_teacher else "-",
        *(f"{mean_of(group, name):.2f}" for name in names),
        f"{mean_of(group, 'by_layers'):.3g}" if known else "-",
    ]


def _record(row: BoundRow) -> dict[str, Any]:
    both = {"bound": row.bound.right, "bound_by_layers": row.bound.right_by_layers}
    about = {"study": str(row.study), "arm": row.arm, "seed": row.seed, "part": row.part}
    scores = {name: getattr(row, name) for name in SCORES}
    return {**about, **scores, **asdict(row.bound), **both}
