"""`datadistill evaluate FILE_OR_DIR`: train held-out nets on a set and test them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datadistill.cli.launch import count_processes, launch
from datadistill.cli.options import MachineOptions, SetPath, open_output, parse
from datadistill.cli.own_run import find_folder, load_set
from datadistill.errors import UsageError
from datadistill.recipes.poisoning import PURPOSE


@dataclass(frozen=True)
class Evaluate:
    """Train held-out nets on a distilled set, test them, and say what they reach."""

    set_: SetPath
    """The file of a distilled set, or its run folder."""
    protocol: Literal["own", "plain", "dc", "dsa"] = "own"
    """How nets are trained: by the set's own steps; for 300 epochs of plain SGD; or as the papers
    DC and DSA test, for 1,000 augmented epochs (dc: on MNIST alone)."""
    nets: int | None = None
    """Held-out nets; default 200, and 5 for another protocol than own and for sets that are trained
    on in random minibatches. By its own steps a set for one fixed initialization has one."""
    epochs: int | None = None
    """Another number of epochs than the protocol's."""
    plain_nets: int = 5
    """With the protocol own: nets of the plain loop beside it, which takes minutes for a large net;
    0 leaves it out."""
    init: str | None = None
    """Another initialization scheme than PyTorch's own, default; with the protocol own than the
    set's: xavier, kaiming, orthogonal, normal and others."""
    net: tuple[str, ...] = ()
    """Other architectures, one or several: lenet, alexcifarnet, alexnet, convnet, mlp, resnet18,
    vgg11, torchvision; with arguments: convnet:width=128,depth=4."""
    beside: tuple[str, ...] = ()
    """Real images in the place of the set's, as many as have the bytes of its images, by the same
    protocol: random-real, k-means, herding, average-real."""
    sets: int | None = None
    """Of random-real and k-means beside the set; default 3."""
    teachers: Path | None = None
    """A pool whose nets give the set, and the real images beside it, soft labels in the place of
    their own; see datadistill relabel."""
    temperature: float = 4.0
    """Of these labels."""
    split: Literal["test", "validation", "train"] = "test"
    """Which real images to test on."""
    pool: Path | None = None
    """For a set learned for pretrained nets: the pool whose held-out nets are tested."""
    weights: str | None = None
    """For a set whose file names pretrained values: their file, or imagenet for torchvision's;
    default: those of its run folder, where they are there."""
    data: Path | None = None
    """The folder of class sub-folders, for a set that was learned from one; default: that of its
    run folder, where it is there."""
    seed: int = 0
    """Seed of the held-out initializations."""
    quantize: int | None = None
    """Test the set with its images stored in this many bits, 1 to 8."""
    processes: str = "1"
    """Processes that share out the nets, ten at a time; auto: one a core."""
    save: bool = False
    """Write the accuracies into the file, if it still holds the set that was measured."""
    options: MachineOptions = field(default_factory=MachineOptions)


def run(argv: Sequence[str]) -> int:
    """Parse, evaluate, print."""
    args = parse(Evaluate, argv, "datadistill evaluate")
    other = args.net or args.beside or args.quantize or args.split != "test" or args.init
    if args.save and (other or args.teachers or args.protocol != "own"):
        raise UsageError(
            "--save writes how the set does by its own steps on its own net and the test split; "
            "leave --net, --init, --beside, --quantize, --teachers, --split and --protocol out"
        )
    options = args.options
    processes = count_processes(args.processes, args.nets)
    output = open_output(options)
    if (code := launch("datadistill", ["evaluate", *argv], processes)) is not None:
        return code
    from datadistill.cli.accuracy_table import accuracy_table, cross_table
    from datadistill.evaluation.cross_architecture import evaluate_across
    from datadistill.evaluation.own_data import load_own_data
    from datadistill.evaluation.saving import save_accuracies
    from datadistill.pool import Pool
    from datadistill.runs.ranks import current
    from datadistill.runs.signals import StopFlag, interruptible

    folder = find_folder(args.set_, args.data, output)
    d = load_set(args.set_, output, args.weights, options.download)
    if args.quantize is not None:
        d = d.quantized(args.quantize)
    teachers = None if args.teachers is None else Pool.load(args.teachers)
    if teachers is not None:
        output.say(
            f"labels: of the {teachers.total} nets of {args.teachers}, T = {args.temperature:g}"
        )
    stopped = "stopped; nothing was measured to the end, and no file was changed"
    deferred = current().size > 1
    with StopFlag(deferred=deferred), interruptible(stopped), output.redirect_prints():
        data = load_own_data(
            d, data_root=options.data_root, folder=folder, download=options.download
        )
        rows = evaluate_across(
            d,
            architectures=args.net or (None,),
            beside=args.beside,
            sets=args.sets,
            nets=args.nets,
            data=data,
            split=args.split,
            seed=args.seed,
            device=options.device,
            protocol=args.protocol,
            teachers=teachers,
            temperature=args.temperature,
            epochs=args.epochs,
            init=args.init,
            pool=args.pool,
            plain_nets=args.plain_nets,
            before=args.protocol == "own" and not args.beside and len(args.net) <= 1,
        )
    if not current().writes:
        return 0
    found = rows[0].evaluations[0].as_dict()
    if found["attack"]:
        output.say(PURPOSE)
    if len(rows) == 1:
        accuracy_table(output, found, d)
    else:
        cross_table(output, rows, d)
    # first: whatever becomes of the file
    every = [row.as_dict() for row in rows]
    labels = {"teachers": None if teachers is None else teachers.total}
    output.result({**found, "quantize": args.quantize, **labels, "rows": every})
    if args.save:
        output.say(f"wrote the accuracies into {save_accuracies(args.set_, d, found)}")
    output.say(f"next: datadistill show {args.set_}")
    return 0
