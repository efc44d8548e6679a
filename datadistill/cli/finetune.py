"""`datadistill finetune FILE_OR_DIR --weights NET`: adapt your own net with a distilled set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from datadistill.cli.finetuning_table import finetuning_table
from datadistill.cli.options import MachineOptions, NamesAndValues, SetPath, open_output, parse
from datadistill.cli.outputs import name_beside, refuse_inputs, refuse_taken
from datadistill.cli.own_run import find_folder, find_weights
from datadistill.config.values import check_range
from datadistill.errors import UsageError
from datadistill.runs.inside import refuse_inside


@dataclass(frozen=True)
class Ordinary:
    """Ordinary fine-tuning of the same net on the whole training split (Adam), to compare with.
    Its end is where it is best on the validation split."""

    reach: bool = True
    """Compare, which takes minutes for a large net; --no-reach leaves it out."""
    max_steps: int = 1000
    """Its steps in all."""
    every: int = 10
    """Its steps between tests on the validation split."""
    lr: float | Literal["auto"] = 1e-3
    """Its learning rate; auto tries 0.00003, 0.0001, 0.0003 and 0.001, and chooses on the
    validation split."""
    batch: int = 128
    """Its images a step."""
    seed: int = 0
    """Seed of its batches, and of dropout."""


@dataclass(frozen=True)
class Finetune:
    """Adapt your own net in the set's steps, write it, and compare with ordinary fine-tuning: in as
    many steps, in as many seconds, and in the end."""

    set_: SetPath
    """The file of a distilled set, or its run folder."""
    data: Path | None = None
    """The folder of class sub-folders, for a set that was learned from one; default: that of its
    run folder, where it is there."""
    weights: str | None = None
    """Your net's tensors by name (.safetensors, or a state dict of torch.save: .pt, .pth), or
    imagenet for torchvision's; with --pool-net, a pool. Default: those of the run folder, where
    they are there."""
    any_weights: bool = False
    """Take weights that the set was not learned for, which a set for one net's values is of little
    use to."""
    pool_net: int | None = None
    """Take this held-out net, counted from 0, of the pool."""
    net: str | None = None
    """Its architecture: lenet, alexcifarnet, ...; default: the one the set was learned with."""
    net_args: NamesAndValues = field(default_factory=dict)
    """Arguments of --net, such as width 32 norm instance."""
    out: Path | None = None
    """File to write, .safetensors, or .pt or .pth as torch.save writes them; default:
    NAME-finetuned.safetensors beside the set."""
    ordinary: Ordinary = field(default_factory=Ordinary)
    options: MachineOptions = field(default_factory=MachineOptions)


def run(argv: Sequence[str]) -> int:
    """Parse, adapt, write, compare, print."""
    args = parse(Finetune, argv, "datadistill finetune")
    if args.net_args and args.net is None:
        raise UsageError("--net-args go with --net; name the architecture")
    ordinary, options = args.ordinary, args.options
    check_range(ordinary, ("max_steps", "every", "batch"), least=1)
    if ordinary.lr != "auto":
        check_range(ordinary, ("lr",), above=0, hint="Adam's usual one is 0.001")
    output = open_output(options)
    folder = find_folder(args.set_, args.data, output)
    weights = find_weights(args.set_, args.weights, output)
    out = choose_out(args, weights, folder)
    from datadistill.device import resolve
    from datadistill.distilled import DistilledDataset
    from datadistill.evaluation.own_data import load_own_data
    from datadistill.runs.signals import StopFlag, interruptible
    from datadistill.training.finetune import check_comparison, compare_ordinary, finetune
    from datadistill.training.net_to_adapt import NetChoice, net_to_adapt

    d = DistilledDataset.load(args.set_)
    choice = NetChoice(
        weights=weights,
        name=args.net,
        arguments=args.net_args,
        pool_net=args.pool_net,
        any_weights=args.any_weights,
        download=options.download,
    )
    net = net_to_adapt(d, choice)
    with StopFlag(), output.redirect_prints():
        with interruptible("stopped; nothing was written"):
            data = load_own_data(
                d, data_root=options.data_root, folder=folder, download=options.download
            )
            data = data.to(resolve(options.device))
            if ordinary.reach:
                check_comparison(data)
            tuning = finetune(
                d, net, data=data, device=options.device, reach=False, seed=ordinary.seed
            )
        tuning.save(out)  # now, for the comparison may take minutes
        if ordinary.reach:
            output.say(
                f"wrote {out} after {tuning.seconds:.2f} s; now {ordinary.max_steps} steps of "
                "ordinary fine-tuning, to compare with (--no-reach leaves them out)"
            )
            with interruptible(
                f"the adapted net is in {out}; it was not compared with ordinary fine-tuning"
            ):
                tuning = compare_ordinary(
                    tuning,
                    data,
                    max_steps=ordinary.max_steps,
                    every=ordinary.every,
                    lr=ordinary.lr,
                    batch=ordinary.batch,
                    seed=ordinary.seed,
                )
    finetuning_table(output, tuning, ordinary.batch, ordinary.every)
    from datadistill.nets.export import format_load

    output.say(
        f"tested on the test split; {tuning.description}",
        f"wrote {out}",
        f"next: {format_load(out)}",
    )
    output.result({**tuning.as_dict(), "out": str(out)})
    return 0


def choose_out(args: Finetune, weights: str | None, folder: Path | None) -> Path:
    """The file for the net: a new one, in a folder that is there."""
    from datadistill.nets.export import refuse_suffix

    out = args.out or name_beside(args.set_, "finetuned")
    refuse_suffix(out)
    refuse_inputs(out, args.set_, None if weights is None else Path(weights))
    refuse_inside(out, folder)
    refuse_taken(out)
    return out
