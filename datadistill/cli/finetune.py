"""`datadistill finetune FILE_OR_DIR --weights NET`: adapt your own net with a distilled set."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from datadistill.cli.options import MachineOptions, NamesAndValues, SetPath, open_output, parse
from datadistill.cli.outputs import refuse_inputs
from datadistill.cli.own_run import find_folder, find_weights
from datadistill.cli.printing import Output
from datadistill.config.values import check_range
from datadistill.errors import DataError, UsageError
from datadistill.runs.inside import refuse_inside

if TYPE_CHECKING:
    from torch import nn

    from datadistill.distilled import DistilledDataset
    from datadistill.theta import Theta
    from datadistill.training.finetune import FineTuning


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
    if weights is None:
        raise UsageError(
            "no weights were given: fine-tuning starts from a net of yours; pass --weights FILE"
        )
    out = choose_out(args, weights, folder)
    from datadistill.device import resolve
    from datadistill.distilled import DistilledDataset
    from datadistill.evaluation.own_data import load_own_data
    from datadistill.runs.signals import StopFlag, interruptible
    from datadistill.training.finetune import compare_ordinary, finetune

    d = DistilledDataset.load(args.set_)
    if not d.is_complete and args.net is None and args.pool_net is None:
        d = d.with_weights(weights, download=options.download)
    net = own_net(d, args, weights)
    with StopFlag(), output.redirect_prints():
        with interruptible("stopped; nothing was written"):
            data = load_own_data(
                d, data_root=options.data_root, folder=folder, download=options.download
            )
            data = data.to(resolve(options.device))
            tuning = finetune(
                d, net, data=data, device=options.device, reach=False, seed=ordinary.seed
            )
        tuning.save(out)  # now, for the comparison may take minutes
        if ordinary.reach:
            with interruptible(
                f"the adapted net is in {out}; it was not compared with ordinary fine-tuning"
            ):
                tuning = compare_ordinary(
                    tuning,
                    data,
                    norm=d.norm,
                    max_steps=ordinary.max_steps,
                    every=ordinary.every,
                    lr=ordinary.lr,
                    batch=ordinary.batch,
                    seed=ordinary.seed,
                )
    print_result(output, tuning, ordinary)
    read = "torch.load" if out.suffix.lower() in (".pt", ".pth") else "safetensors.torch.load_file"
    output.say(
        f"tested on the test split; {tuning.description}",
        f"wrote {out}",
        f'next: net.load_state_dict({read}("{out}"))',
    )
    output.result({**tuning.as_dict(), "out": str(out)})
    return 0


def choose_out(args: Finetune, weights: str, folder: Path | None) -> Path:
    """The file for the net: a new one, in a folder that is there."""
    from datadistill.training.adapted_file import refuse_suffix

    beside = Path(os.path.abspath(args.set_)) if args.set_.name in ("", "..") else args.set_
    name = beside.name if args.set_.is_dir() else beside.stem
    out = args.out or beside.with_name(f"{name}-finetuned.safetensors")
    refuse_suffix(out)
    refuse_inputs(out, args.set_, Path(weights))
    refuse_inside(out, folder)
    if out.exists():
        raise UsageError(f"{out} exists already; pass --out FILE, one that does not exist")
    if not out.parent.is_dir():
        raise UsageError(f"cannot write to {out}: {out.parent} is no folder; make it first")
    return out


def own_net(d: DistilledDataset, args: Finetune, source: str) -> nn.Module:
    """The user's net: the architecture with the given tensors."""
    from datadistill.nets import build
    from datadistill.runs.file_kinds import read_kind

    _, c, h, _ = d.images.shape
    if args.net is None:
        net = d.build()
    else:
        net = build(args.net, channels=c, size=h, classes=len(d.classes), **args.net_args)
    if args.pool_net is None and read_kind(source) == "pool":
        raise UsageError(
            f"{source} is a pool of nets; choose one of those it holds out, with "
            "--pool-net 0 or above"
        )
    if args.pool_net is not None:
        tensors = from_pool(d, net, Path(source), args.pool_net)
    else:
        tensors = from_file(d, net, args, source)
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


def from_file(d: DistilledDataset, net: nn.Module, args: Finetune, source: str) -> Theta:
    """The tensors of a weights file. Where they are the ones that the set was learned for, the last
    layer that was drawn then, which the set carries, takes the place of the file's own."""
    from datadistill.nets.weights import read_weights
    from datadistill.starts import Start

    model = d.net.args.get("model") if args.net is None else args.net_args.get("model")
    weights = read_weights(
        source, net, model=None if model is None else str(model), download=args.options.download
    )
    by_reference = d.embedded is not None and d.is_complete
    is_own = by_reference or d.start == Start("weights", True, None, weights.fingerprint)
    if args.net is None and is_own and d.theta_0 is not None:
        return {**d.theta_0, **(d.buffers or {})}
    theta, buffers, _ = weights.fit(net, fresh_last=False)
    return {**theta, **buffers}


def print_result(output: Output, tuning: FineTuning, ordinary: Ordinary) -> None:
    """Accuracy, steps and seconds of the set and of ordinary fine-tuning; the modes of both."""
    steps = f"its {tuning.steps} steps" if tuning.steps > 1 else "its one step"
    rows = [
        ("before", tuning.accuracy_before, 0, 0.0),
        (f"after {steps}", tuning.accuracy_after, tuning.steps, tuning.seconds),
    ]
    if tuning.max_steps is not None:
        rows += ordinary_rows(tuning)
    shown = [(name, *map(format_cell, cells)) for name, *cells in rows]
    output.table(("", "accuracy (%)", "steps", "seconds"), shown, right=(1, 2, 3))
    if tuning.norm is not None:
        output.say(f"BatchNorm: {BATCHNORM[tuning.norm]}")
    if tuning.dropout:
        output.say("dropout: on in the set's steps and in ordinary fine-tuning")
    if tuning.max_steps is None:
        return
    how = f"ordinary fine-tuning (Adam, learning rate {describe_rates(tuning.rates)}, "
    how += f"batches of {ordinary.batch})"
    if tuning.steps_ordinary is None:
        found = f"not reached in {tuning.max_steps} steps, {tuning.seconds_ordinary:.2f} s"
    elif tuning.steps_ordinary == 0:
        found = "the net was as good before any step"
    else:
        found = f"reached after {tuning.steps_ordinary} steps, {tuning.seconds_ordinary:.2f} s"
    output.say(f"{how}: {found} (compared on the validation split every {ordinary.every} steps)")


BATCHNORM = {
    "batch": "statistics of each batch, re-estimated on the distilled images at the end; running "
    "averages in ordinary fine-tuning",
    "frozen": "statistics of the net as they were (frozen), in ordinary fine-tuning too",
}
"""The `norm` of a set in words."""


def ordinary_rows(tuning: FineTuning) -> list[tuple[str, Any, Any, Any]]:
    """The rows of ordinary fine-tuning."""
    beyond = "" if tuning.accuracy_same_steps is not None else ": more than --max-steps"
    none = "" if tuning.steps_same_seconds else ": no step fits"
    return [
        (
            f"ordinary fine-tuning, same steps{beyond}",
            tuning.accuracy_same_steps,
            tuning.steps,
            tuning.seconds_same_steps,
        ),
        (
            f"ordinary fine-tuning, same seconds{none}",
            tuning.accuracy_same_seconds,
            tuning.steps_same_seconds,
            tuning.seconds,
        ),
        (
            f"ordinary fine-tuning, in the end (best of {tuning.max_steps} steps)",
            tuning.accuracy_end,
            tuning.steps_end,
            tuning.seconds_end,
        ),
    ]


def format_cell(value: float | None) -> str:
    """Accuracies and seconds with two decimals, short times with four.

    >>> [format_cell(x) for x in (93.456, 12, 0.00314, 0.0, None)]
    ['93.46', '12', '0.0031', '0.00', '-']
    """
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if 0 < value < 0.1 else f"{value:.2f}"


def describe_rates(rates: Mapping[str, float]) -> str:
    """The learning rate of ordinary fine-tuning, or those of its three rows."""
    of_rows = [rates[row] for row in ("same_steps", "same_seconds", "end")]
    if len(set(rates.values())) == 1:
        return f"{of_rows[0]:g}"
    return "chosen for each row: " + ", ".join(f"{rate:g}" for rate in of_rows)
