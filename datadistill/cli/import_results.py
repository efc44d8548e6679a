"""`datadistill import FILE --dataset NAME`: a `results.pth` of Wang et al.'s own code as a
distilled set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from datadistill.cli.options import NamesAndValues, parse
from datadistill.cli.outputs import refuse_inputs
from datadistill.cli.printing import Output, percent, shape_of
from datadistill.errors import UsageError
from datadistill.recipes.poisoning import PURPOSE
from datadistill.runs.folder import SET_FILE

if TYPE_CHECKING:
    from datadistill.export.wang import TestResults


@dataclass(frozen=True)
class Import:
    """Read a results.pth of the authors' own code: a list of (images, labels, step size), one entry
    a step. What it does not say (data set, net, initialization) is said by options."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A results.pth, of the training phase (a distilled set) or of the test phase (accuracies)."""
    dataset: str | None = None
    """The data set it was learned from; the file does not say."""
    net: str | None = None
    """The net it was learned with; default: the authors' for that data set."""
    net_args: NamesAndValues = field(default_factory=dict)
    """Arguments of the net, such as width 32 norm instance."""
    init: str = "xavier"
    """The initialization it was learned with."""
    weights: Path | None = None
    """Weights of the one fixed initialization it was learned for."""
    source: str | None = None
    """The data set that the nets were pretrained on, for a set learned for pretrained nets."""
    attack: tuple[int, int] | None = None
    """K T, for a set learned to make class K be taken for class T."""
    channels: int | None = None
    """3 for a grey data set used in three channels."""
    mean: tuple[float, ...] = ()
    """Mean of each channel on the 0..1 scale; default: the authors' for that data set."""
    std: tuple[float, ...] = ()
    """Deviation of each channel on the 0..1 scale; default: the authors' for that data set."""
    out: Path | None = None
    """File to write; default: distilled.safetensors beside the results.pth."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse, read and check, write, say what came out."""
    args = parse(Import, argv, "datadistill import")
    if bool(args.mean) != bool(args.std):
        raise UsageError(
            "--mean and --std go together; pass both, one number a channel, or neither"
        )
    output = Output(args.json)
    from datadistill.export.wang import import_results, read_test_results

    measured = read_test_results(args.file)
    if measured is not None:
        return print_measured(output, measured, args)
    if args.dataset is None:
        raise UsageError(
            "the file does not say what the set was learned from; pass --dataset NAME, such as "
            "mnist or cifar10"
        )
    out = args.out or args.file.with_name(SET_FILE)
    refuse_inputs(out, args.file)
    if args.out is None and out.exists():
        raise UsageError(f"{out} exists already; pass --out FILE")
    if args.attack is not None:
        output.say(PURPOSE)
    with output.redirect_prints():
        d = import_results(
            args.file,
            args.dataset,
            net=args.net,
            net_args=args.net_args,
            init=args.init,
            channels=args.channels,
            mean=args.mean or None,
            std=args.std or None,
            theta_0=args.weights,
            source=args.source,
            attack=args.attack,
        )
    d.save(out)
    scale = d.normalization
    output.say(
        f"{len(d.images)} images {shape_of(d.images.shape[1:])}, {d.schedule.steps} steps in "
        f"{d.passes} epochs, for "
        f"{'the given initialization' if d.theta_0 is not None else 'any initialization'} "
        f"of {d.net.name}",
        f"taken for images of {args.dataset} with mean {list(scale.mean)} and deviation "
        f"{list(scale.std)}; the file does not say so itself",
        f"wrote {out}",
        f"next: datadistill evaluate {out}{' --pool POOL' if args.source else ''}",
    )
    output.result(
        {
            "out": str(out),
            "images": len(d.images),
            "steps": d.schedule.steps,
            "epochs": d.passes,
            "dataset": args.dataset,
            "net": d.net.as_dict(),
            "normalization": scale.as_dict(),
            "fixed_initialization": d.theta_0 is not None,
            "sha256": d.origin["sha256"],
            "bytes": d.bytes,
        }
    )
    return 0


def print_measured(output: Output, measured: TestResults, args: Import) -> int:
    """Print the accuracies of the authors' test phase; there is no set to write."""
    if args.out is not None:
        raise UsageError(
            f"{args.file} holds measured accuracies and no distilled set, so {args.out} was not "
            "written; import the results.pth of the training phase, or leave --out out"
        )
    output.say(
        f"accuracies of the authors' test phase over {measured.nets} nets; the file holds no "
        "distilled set, which is in the results.pth of the training phase"
    )
    columns = zip(measured.steps, measured.accuracy_mean, measured.accuracy_std, strict=True)
    rows = [(str(t), percent(mean, std, measured.nets)) for t, mean, std in columns]
    output.table(("after step", "accuracy (%)"), rows, right=(0, 1))
    output.result(measured.as_dict())
    return 0
