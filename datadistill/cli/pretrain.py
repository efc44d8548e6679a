"""`datadistill pretrain RECIPE`: train a pool of nets that distilled sets can be learned for.

`datadistill pretrain --resume DIR` goes on with a pool.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from datadistill.cli.options import (
    NAMES_AND_VALUES,
    given,
    parse,
    set_threads,
    value_of,
    wants_help,
    with_arguments,
)
from datadistill.cli.printing import Output, percent, size_of
from datadistill.cli.published import published_number
from datadistill.config import PoolConfig, RunOptions, Value
from datadistill.errors import UsageError, nearest
from datadistill.recipes.pools import POOLS, pool_recipe
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config
from datadistill.stats import deviation, mean

if TYPE_CHECKING:
    from datadistill.pool import Pool

PROG = "datadistill pretrain"


@dataclass(frozen=True)
class Config(PoolConfig):
    """What to train. All of it changes the numbers; the defaults are the recipe's."""

    recipe: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "custom"
    net_args: Annotated[dict[str, Value], NAMES_AND_VALUES] = field(default_factory=dict)


@dataclass(frozen=True)
class Options(RunOptions):
    """How the run is carried out; none of it changes the numbers."""


@dataclass(frozen=True)
class Pretrain:
    """Train many nets alike on one data set: the pool that sets for pretrained nets are learned for."""

    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED."""
    resume: Path | None = None
    """Run folder to go on with, in place of a recipe."""
    threads: int | None = None
    """CPU threads of torch."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""
    config: Config = field(default_factory=Config)
    options: Options = field(default_factory=Options)


def run(argv: Sequence[str]) -> int:
    """Parse, train, print."""
    args, config, changed = read_arguments(argv)
    out = args.resume or args.out or Path("runs") / f"{config.recipe}-s{config.seed}"
    if args.resume is None:
        RunFolder.refuse_occupied(out)
    output = Output(args.json)
    set_threads(args.threads)
    from datadistill.device import resolve
    from datadistill.pool import Pool
    from datadistill.runs.timing import spent
    from datadistill.training.pretrain import pretrain

    with output.working(not args.options.quiet):
        if not args.options.quiet:
            on = resolve(config.device).type
            output.say(
                f"{config.recipe}, seed {config.seed}: {config.total} nets ({config.net}), {config.epochs} "
                f"epochs each, on {on} -> {out}"
            )
        before = spent(out) or 0.0  # a resumed run has sessions behind it
        began = time.monotonic()
        pretrain(config if changed else None, out=out, resume=args.resume is not None, options=args.options)
        seconds = before + time.monotonic() - began
        pool = Pool.load(out)  # from disk: what is told of is what is kept
    tell(output, pool, config, out, seconds)
    return 0


def read_arguments(argv: Sequence[str]) -> tuple[Pretrain, PoolConfig, bool]:
    """What was typed, the config it makes, and whether that must be handed on (a resume without changes has
    its config in the folder)."""
    words = list(argv)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    resumed = value_of(words, "--resume")
    if resumed is not None and not wants_help(words):
        stored = RunFolder.open(Path(resumed), kind="pool").config
        base = build_config(PoolConfig, stored, str(Path(resumed) / "config.json"))
        if name not in (None, base.recipe):
            raise UsageError(f"{resumed} is a pool of {base.recipe}, not of {name}; leave the recipe out")
        if given(words, "--out"):
            raise UsageError("--resume goes on in its own folder; leave --out out")
    elif name is not None:
        base = pool_recipe(name)
    elif wants_help(words):
        base = PoolConfig()
    else:
        raise UsageError(
            f"no pool recipe was given; type {PROG} RECIPE, or {PROG} --resume DIR "
            f"({nearest('', POOLS, 'datadistill recipes')})"
        )
    default = Config(**{f.name: getattr(base, f.name) for f in fields(base)})
    shown = f"{PROG} {name}" if name else f"{PROG} {'--resume DIR' if resumed else 'RECIPE'}"
    args = parse(Pretrain, words, shown, Pretrain(config=default))
    config = PoolConfig(**{f.name: getattr(args.config, f.name) for f in fields(PoolConfig)})
    config = with_arguments(config, base, words)
    return args, config, resumed is None or config != base


def tell(output: Output, pool: Pool, config: PoolConfig, out: Path, seconds: float) -> None:
    """What came out, where it is, what to type next."""
    found = pool.accuracies
    average, spread = mean(found), deviation(found)
    page = POOLS.get(config.recipe)
    number, changed = ("-", []) if page is None else published_number(page.published, page.make(), config)
    bytes_ = sum(p.numel() * p.element_size() for p in pool.tensors.values())
    output.say(
        f"trained {pool.nets} + {pool.validation_nets} + {pool.held_out} nets (to learn with, for looks, held "
        f"out) on {pool.dataset} in {seconds:.1f} s",
        f"accuracy {percent(average, spread, len(found))} % on images held out of its training part, "
        f"{min(found):.2f} to {max(found):.2f}",
        f"wrote {out}: pool.safetensors ({size_of(bytes_)}), metrics.jsonl",
        f"next: datadistill distill RECIPE --pool {out} (datadistill recipes lists those for pretrained nets)",
    )
    output.result({
        "run": str(out), "recipe": config.recipe, "run_seed": config.seed, "dataset": pool.dataset,
        "net": pool.net.name, "nets": pool.nets, "validation_nets": pool.validation_nets,
        "held_out": pool.held_out, "accuracy_mean": average, "accuracy_std": spread,
        "accuracy_min": min(found), "accuracy_max": max(found), "split": "validation", "bytes": bytes_,
        "fingerprint": pool.fingerprint, "seconds": seconds,
        "published": number, "changed": changed,
    })  # fmt: skip
