"""`datadistill relabel FILE_OR_DIR --teachers POOL`: give a set soft labels of trained nets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datadistill.cli.options import SetPath, parse
from datadistill.cli.outputs import name_beside, refuse_inputs, refuse_taken
from datadistill.cli.printing import Output
from datadistill.errors import UsageError


@dataclass(frozen=True)
class Relabel:
    """Write a copy of a set with soft labels in the place of its own: the mean over the nets of a
    pool of softmax(logits / T)."""

    set_: SetPath
    """The file of a distilled set, or its run folder."""
    teachers: Path | None = None
    """The pool, its file or run folder: nets trained on real images of the same classes and
    normalization, such as those of datadistill pretrain mnist5k-teachers."""
    temperature: float = 4.0
    """T; the higher, the more alike the classes."""
    out: Path | None = None
    """File to write; default: NAME-relabelled.safetensors beside the set."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse, label, write."""
    args = parse(Relabel, argv, "datadistill relabel")
    if args.teachers is None:
        raise UsageError(
            "no teachers were given; train some with datadistill pretrain, and pass --teachers "
            "FILE_OR_DIR"
        )
    output = Output(args.json)
    out = args.out or name_beside(args.set_, "relabelled")
    refuse_inputs(out, args.set_, args.teachers)
    refuse_taken(out)
    from datadistill.distilled import DistilledDataset
    from datadistill.pool import Pool
    from datadistill.stats import mean
    from datadistill.teacher_labels import agreement, relabel

    with output.redirect_prints():
        d, pool = DistilledDataset.load(args.set_), Pool.load(args.teachers)
        relabelled = relabel(d, pool, temperature=args.temperature)
        relabelled.save(out)
    agree, sure = agreement(d, relabelled), 100.0 * float(relabelled.labels.amax(1).mean())
    output.say(
        f"labels of {pool.total} nets of {pool.net.name} (mean accuracy {mean(pool.accuracies):.1f}"
        f"%) at T = {args.temperature:g}: the likeliest class has {sure:.0f}% on average, and is "
        f"the set's own for {agree:.0f}% of the images",
        f"wrote {out}, {relabelled.bytes / 1000:.1f} kB with labels ({d.bytes / 1000:.1f} before)",
        f"next: datadistill evaluate {out} --protocol plain",
    )
    output.result(
        {
            "out": str(out),
            "teachers": pool.total,
            "temperature": args.temperature,
            "agreement": agree,
            "bytes": relabelled.bytes,
        }
    )
    return 0
