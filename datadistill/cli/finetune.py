"""`datadistill finetune FILE_OR_DIR --weights NET`: adapt your own net with a distilled set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datadistill.cli.options import MachineOptions, NamesAndValues, SetPath, open_output, parse
from datadistill.cli.outputs import refuse_inputs
from datadistill.cli.printing import Output, percent
from datadistill.config.values import check_range
from datadistill.errors import DataError, UsageError
from datadistill.runs.inside import refuse_inside

if TYPE_CHECKING:
    from torch import nn

    from datadistill.distilled import DistilledDataset
    from datadistill.theta import Theta
    from datadistill.training.finetune import FineTuning


@dataclass(frozen=True)
class Finetune:
    """Adapt your own net in the set's steps, write it, and compare with ordinary fine-tuning."""

    set_: SetPath
    """The file of a distilled set, or its run folder."""
    weights: Path
    """Your net's tensors by name (.safetensors, or a state dict of torch.save: .pt, .pth); with
    --pool-net, a pool."""
    pool_net: int | None = None
    """Take this held-out net, counted from 0, of the pool."""
    net: str | None = None
    """Its architecture: lenet, alexcifarnet, ...; default: the one the set was learned with."""
    net_args: NamesAndValues = field(default_factory=dict)
    """Arguments of --net, such as width 32 norm instance."""
    out: Path | None = None
    """File to write; default: NAME-finetuned.safetensors beside the set."""
    reach: bool = True
    """Count the steps of ordinary fine-tuning until it is as good; --no-reach leaves that out."""
    max_steps: int = 1000
    """Most steps of ordinary fine-tuning."""
    every: int = 10
    """Its steps between tests on the validation split."""
    lr: float = 1e-3
    """Its learning rate (Adam)."""
    batch: int = 128
    """Its images a step."""
    data: Path | None = None
    """The folder of class sub-folders, for a set that was learned from one."""
    seed: int = 0
    """Seed of the batches of ordinary fine-tuning."""
    options: MachineOptions = field(default_factory=MachineOptions)


def run(argv: Sequence[str]) -> int:
    """Parse, adapt, write, compare, print."""
    args = parse(Finetune, argv, "datadistill finetune")
    if args.net_args and args.net is None:
        raise UsageError("--net-args go with --net; name the architecture")
    check_range(args, ("max_steps", "every", "batch"), least=1)
    check_range(args, ("lr",), above=0, hint="Adam's usual one is 0.001")
    options = args.options
    output = open_output(options)
    from datadistill.device import resolve
    from datadistill.distilled import DistilledDataset
    from datadistill.evaluation.own_data import load_own_data
    from datadistill.runs.signals import StopFlag, interruptible
    from datadistill.training.finetune import count_ordinary, finetune

    d = DistilledDataset.load(args.set_)
    out = choose_out(args)
    if not d.is_complete and args.net is None and args.pool_net is None:
        d = d.with_weights(args.weights, download=options.download)
    net = own_net(d, args)
    with StopFlag(), output.redirect_prints():
        with interruptible("stopped; nothing was written"):
            data = load_own_data(
                d, data_root=options.data_root, folder=args.data, download=options.download
            )
            data = data.to(resolve(options.device))
            tuning = finetune(d, net, data=data, device=options.device, reach=False, seed=args.seed)
        tuning.save(out)  # now, for the comparison may take minutes
        if args.reach:
            with interruptible(
                f"the adapted net is in {out}; it was not compared with ordinary fine-tuning"
            ):
                tuning = count_ordinary(
                    tuning,
                    net,
                    data,
                    max_steps=args.max_steps,
                    every=args.every,
                    lr=args.lr,
                    batch=args.batch,
                    seed=args.seed,
                )
    print_result(output, tuning, args)
    output.say(
        f"tested on the test split; {tuning.description}",
        f"wrote {out}",
        'next: net.load_state_dict(safetensors.torch.load_file("' + str(out) + '"))',
    )
    output.result({**tuning.as_dict(), "out": str(out)})
    return 0


def choose_out(args: Finetune) -> Path:
    """The file for the net; never one of those it came from."""
    beside = Path(os.path.abspath(args.set_)) if args.set_.name in ("", "..") else args.set_
    name = beside.name if args.set_.is_dir() else beside.stem
    out = args.out or beside.with_name(f"{name}-finetuned.safetensors")
    refuse_inputs(out, args.set_, args.weights)
    refuse_inside(out, args.data)
    if args.out is None and out.exists():
        raise UsageError(f"{out} exists already; pass --out FILE")
    return out


def own_net(d: DistilledDataset, args: Finetune) -> nn.Module:
    """The user's net: the architecture with the given tensors."""
    from datadistill.nets import build
    from datadistill.runs.file_kinds import read_kind

    _, c, h, _ = d.images.shape
    if args.net is None:
        net = d.build()
    else:
        net = build(args.net, channels=c, size=h, classes=len(d.classes), **args.net_args)
    if args.pool_net is None and read_kind(args.weights) == "pool":
        raise UsageError(
            f"{args.weights} is a pool of nets; choose one of those it holds out, with "
            "--pool-net 0 or above"
        )
    if args.pool_net is not None:
        tensors = from_pool(d, net, args.weights, args.pool_net)
    else:
        tensors = from_file(d, net, args)
    net.load_state_dict(tensors, strict=False)
    return net


def from_pool(d: DistilledDataset, net: nn.Module, path: Path, number: int) -> Theta:
    """A held-out net of a pool."""
    from datadistill.evaluation.tested_nets import fitting_pool
    from datadistill.pool import Pool

    pool = Pool.load(path)
    if pool.classes != d.classes:
        raise DataError(
            f"the nets of {path} were trained on {pool.dataset}, {len(pool.classes)} classes "
            f"({', '.join(pool.classes[:4])}, ...), the set is for {len(d.classes)} "
            f"({', '.join(d.classes[:4])}, ...); pass a pool of the same classes"
        )
    stacked = fitting_pool(pool, d, net).part("held_out")
    if not 0 <= number < pool.held_out:
        raise UsageError(
            f"pool_net is {number}, but {path} holds out {pool.held_out} nets, "
            f"0..{pool.held_out - 1}"
        )
    return {name: p[number] for name, p in stacked.items()}


def from_file(d: DistilledDataset, net: nn.Module, args: Finetune) -> Theta:
    """The tensors of a weights file. Where they are the ones that the set was learned for, the last
    layer that was drawn then, which the set carries, takes the place of the file's own."""
    from datadistill.nets.weights import read_weights
    from datadistill.starts import Start

    model = d.net.args.get("model") if args.net is None else args.net_args.get("model")
    source = str(args.weights)
    weights = read_weights(
        source, net, model=None if model is None else str(model), download=args.options.download
    )
    by_reference = d.embedded is not None and d.is_complete
    is_own = by_reference or d.start == Start("weights", True, None, weights.fingerprint)
    if args.net is None and is_own and d.theta_0 is not None:
        return {**d.theta_0, **(d.buffers or {})}
    theta, buffers, _ = weights.fit(net, fresh_last=False)
    return {**theta, **buffers}


def print_result(output: Output, tuning: FineTuning, args: Finetune) -> None:
    """Accuracy before and after; steps and seconds of both ways."""
    steps = f"its {tuning.steps} steps" if tuning.steps > 1 else "its one step"
    rows = [
        ("before", percent(tuning.accuracy_before), ""),
        (f"after {steps}", percent(tuning.accuracy_after), f"{tuning.seconds:.2f} s"),
    ]
    output.table(("", "accuracy (%)", ""), rows, right=(1,))
    if tuning.max_steps is None:
        return
    how = f"ordinary fine-tuning (Adam, learning rate {args.lr:g}, batches of {args.batch})"
    if tuning.steps_ordinary is None:
        found = f"not reached in {tuning.max_steps} steps, {tuning.seconds_ordinary:.2f} s"
    elif tuning.steps_ordinary == 0:
        found = "the net was as good before any step"
    else:
        found = f"reached after {tuning.steps_ordinary} steps, {tuning.seconds_ordinary:.2f} s"
    output.say(f"{how}: {found} (compared on the validation split every {args.every} steps)")
