"""`datadistill pretrain RECIPE`: train a pool of nets that distilled sets can be learned for.

`datadistill pretrain --resume DIR` resumes a pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datadistill.cli.options import Hidden, RecipeArguments
from datadistill.cli.printing import Output, percent, size_of
from datadistill.cli.run_command import RunCommand, RunFlags
from datadistill.config import PoolConfig
from datadistill.errors import list_some
from datadistill.recipes import RECIPES
from datadistill.recipes.pools import POOLS, pool_recipe
from datadistill.runs.folder import POOL_FILE
from datadistill.stats import deviation, mean
from datadistill.studies.published import compare_published

if TYPE_CHECKING:
    from datadistill.pool import Pool


@dataclass(frozen=True)
class Config(PoolConfig):
    """What to train. All of it changes the numbers; the defaults are the recipe's."""

    recipe: Hidden[str] = "custom"
    net_args: RecipeArguments = field(default_factory=dict)


@dataclass(frozen=True)
class Pretrain(RunFlags):
    """Train many nets alike on one data set: the pool that sets for pretrained nets are learned
    for."""

    config: Config = field(default_factory=Config)


class PretrainCommand(RunCommand[Pretrain, PoolConfig]):
    """`datadistill pretrain`."""

    prog, kind, nouns = "datadistill pretrain", "pool", ("pool", "pool recipe")
    recipes, config_class, flags = POOLS, PoolConfig, Pretrain

    def make(self, name: str, words: Sequence[str]) -> PoolConfig:
        return pool_recipe(name)


def run(argv: Sequence[str]) -> int:
    """Parse, train, print."""
    command = PretrainCommand(argv)
    config = command.config
    output = command.open_output()
    from datadistill.pool import Pool
    from datadistill.training.pretrain import pretrain

    with output.redirect_prints(not command.args.options.quiet):
        work = f"{config.total} nets ({config.net}), {config.epochs} epochs each,"
        seconds = command.carry_out(pretrain, output, work)
        pool = Pool.load(command.out)  # from disk: what is told of is what is kept
    print_result(output, pool, config, command.out, seconds)
    return 0


def use_of(pool: Pool, path: Path, recipe: str) -> str:
    """The option that passes a pool to a recipe, and which recipes take it."""
    if pool.epochs is None:
        return f"--pool {path} (datadistill recipes lists those for pretrained nets)"
    followers = [name for name, page in RECIPES.items() if page.experts == recipe]
    if followers:
        return f"--experts {path} (RECIPE: {list_some(followers)})"
    return f"--experts {path} (those of trajectory matching take experts)"


def print_result(output: Output, pool: Pool, config: PoolConfig, out: Path, seconds: float) -> None:
    """Print what was made, where it is, and the next command."""
    found = pool.accuracies
    average, spread = mean(found), deviation(found)
    number, changed = compare_published(POOLS, config)
    bytes_ = sum(p.numel() * p.element_size() for p in pool.tensors.values())
    output.say(
        f"trained {pool.nets} + {pool.validation_nets} + {pool.held_out} nets (to learn with, for "
        f"looks, held out) on {pool.dataset} in {seconds:.1f} s",
        f"accuracy {percent(average, spread, len(found))} % on images held out of its training "
        f"part, {min(found):.2f} to {max(found):.2f}",
        f"wrote {out}: {POOL_FILE} ({size_of(bytes_)}), metrics.jsonl",
        f"next: datadistill distill RECIPE {use_of(pool, out, config.recipe)}",
    )
    output.result(
        {
            "run": str(out),
            "recipe": config.recipe,
            "run_seed": config.seed,
            "dataset": pool.dataset,
            "net": pool.net.name,
            "nets": pool.nets,
            "validation_nets": pool.validation_nets,
            "held_out": pool.held_out,
            "accuracy_mean": average,
            "accuracy_std": spread,
            "accuracy_min": min(found),
            "accuracy_max": max(found),
            "split": "validation",
            "bytes": bytes_,
            "fingerprint": pool.fingerprint,
            "seconds": seconds,
            "published": number,
            "changed": changed,
        }
    )
