"""`datadistill compare FILE_OR_DIR`: a set beside the baselines of the literature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datadistill.cli.options import MachineOptions, SetPath, open_output, parse
from datadistill.cli.outputs import refuse_inputs
from datadistill.cli.own_run import find_folder, load_set
from datadistill.cli.printing import Output, percent, size_of
from datadistill.errors import UsageError
from datadistill.recipes.poisoning import PURPOSE
from datadistill.runs.inside import refuse_inside
from datadistill.studies.table import to_csv


@dataclass(frozen=True)
class Compare:
    """Test a distilled set and the baselines of the literature on the same held-out nets.

    Baselines have as many images as have the bytes of the set's. How each is trained (step sizes,
    epochs) is chosen on training images with other nets.
    """

    set_: SetPath
    """The file of a distilled set, or its run folder."""
    pool: Path | None = None
    """For a set learned for pretrained nets: the pool whose held-out nets are tested."""
    nets: int = 20
    """Held-out nets; the paper's 200. A set for one fixed initialization has one."""
    sets: int = 5
    """Sets of random real images, and k-means runs; the paper's 10."""
    selection_nets: int = 5
    """Nets that choose how a baseline is trained; the paper's 20."""
    candidates: Literal["all", "grid", "learned"] = "all"
    """Step sizes that baselines may take: the set's own, a fixed one of the paper's grid, or
    both."""
    optimized_from: int = 20
    """Random sets that optimized-real chooses from, the best fifth; the paper's 50."""
    baselines: tuple[str, ...] = ()
    """Only these: random-real, optimized-real, k-means, average-real, knn-random-real,
    knn-k-means; and herding, which is none of the paper's."""
    net: str | None = None
    """Another architecture: lenet, alexcifarnet, alexnet, convnet, mlp, resnet18, vgg11,
    torchvision."""
    weights: str | None = None
    """For a set whose file names pretrained values: their file, or imagenet for torchvision's;
    default: those of its run folder, where they are there."""
    data: Path | None = None
    """The folder of class sub-folders, for a set that was learned from one; default: that of its
    run folder, where it is there."""
    seed: int = 0
    """Seed of the held-out nets and of the baselines."""
    out: Path | None = None
    """A CSV file to write the table to."""
    options: MachineOptions = field(default_factory=MachineOptions)


def run(argv: Sequence[str]) -> int:
    """Parse, compare, print."""
    args = parse(Compare, argv, "datadistill compare")
    if args.out is not None and (args.out.is_dir() or not args.out.parent.is_dir()):
        raise UsageError(
            f"--out is {args.out}, wanted a file in a folder that is there, such as table.csv"
        )
    options = args.options
    output = open_output(options)
    folder = find_folder(args.set_, args.data, output)
    if args.out is not None:
        refuse_inputs(args.out, args.set_, args.pool)
        refuse_inside(args.out, folder)
    from datadistill.evaluation.compare import compare
    from datadistill.evaluation.own_data import load_own_data
    from datadistill.runs.atomic import write_text
    from datadistill.runs.signals import StopFlag, interruptible

    d = load_set(args.set_, output, args.weights, options.download)
    stopped = "stopped; nothing was measured to the end, and no file was written"
    with StopFlag(), interruptible(stopped), output.redirect_prints():
        data = load_own_data(
            d, data_root=options.data_root, folder=folder, download=options.download
        )
        found = compare(
            d,
            data=data,
            net=args.net,
            pool=args.pool,
            nets=args.nets,
            sets=args.sets,
            selection_nets=args.selection_nets,
            candidates=args.candidates,
            optimized_from=args.optimized_from,
            seed=args.seed,
            device=options.device,
            baselines=args.baselines or None,
        ).as_dict()
    _table(output, found)
    if args.out is not None:
        write_text(args.out, to_csv(list(found["rows"][0]), found["rows"], spec=""))
        output.say(f"wrote {args.out}")
    output.say(f"next: datadistill show {args.set_}")
    output.result(found)
    return 0


def _table(output: Output, found: dict[str, Any]) -> None:
    attack = _ATTACK if "modified_accuracy_mean" in found["rows"][0] else {}
    columns = ["", "accuracy (%)", *attack.values(), "stored", "nets", "sets", "trained by"]
    rows = []
    for row in found["rows"]:
        over = max(row["nets"], 1) * max(row["sets"], 1)
        scores = [percent(row[f"{k}_mean"], row[f"{k}_std"], over) for k in ("accuracy", *attack)]
        counts = [str(row[k]) if row[k] else "-" for k in ("nets", "sets")]
        rows.append([row["name"], *scores, size_of(row["bytes"]), *counts, row["combination"]])
    output.table(columns, rows, right=range(1, len(columns) - 1))
    output.say(f"tested on the test split, deviations over nets and sets; {found['description']}")
    if attack:
        output.say(PURPOSE)


_ATTACK = {
    "attacked_to_target": "attacked as target",
    "others_accuracy": "other classes",
    "modified_accuracy": "modified labels",
}
