"""`datadistill recipes [NAME]`: what recipes there are, or all of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datadistill.cli.options import OptionalName, parse
from datadistill.cli.printing import Output
from datadistill.errors import UsageError, suggest
from datadistill.recipes import RECIPES
from datadistill.recipes.pools import POOLS
from datadistill.recipes.summary import about


@dataclass(frozen=True)
class Recipes:
    """List the recipes with their published accuracy in percent, or show one with its full
    config."""

    name: OptionalName = None
    """Recipe to show."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse and print."""
    args = parse(Recipes, argv, "datadistill recipes")
    output = Output(args.json)
    if args.name is None:
        keys = ("name", "published", "summary")
        rows, pools = (
            [(name, p.published, p.summary) for name, p in t.items()] for t in (RECIPES, POOLS)
        )
        output.table(("recipe", "published (%)", "what it does"), rows)
        output.say("")
        output.table(("pool recipe", "published (%)", "what it trains"), pools)
        output.say(
            "",
            "next: datadistill recipes NAME, datadistill distill RECIPE, or datadistill "
            "pretrain POOL_RECIPE",
        )
        tables = {"recipes": rows, "pools": pools}
        output.result(
            {k: [dict(zip(keys, row, strict=True)) for row in t] for k, t in tables.items()}
        )
        return 0
    if args.name not in RECIPES and args.name not in POOLS:
        raise UsageError(
            f"there is no recipe {args.name!r}; "
            f"{suggest(args.name, [*RECIPES, *POOLS], 'datadistill recipes')}"
        )
    found = RECIPES[args.name] if args.name in RECIPES else POOLS[args.name]
    words, config = about(found.make), asdict(found.make())
    output.say(
        args.name, "", *words.splitlines(), "", f"published accuracy (%): {found.published}", ""
    )
    output.table(("option", "value"), config_rows(config))
    output.say("", *format_next(args.name, config))
    output.result(
        {"name": args.name, "about": words, "published": found.published, "config": config}
    )
    return 0


def format_next(name: str, config: Mapping[str, Any]) -> list[str]:
    """The commands that carry out a recipe."""
    if name in POOLS:
        return [f"next: datadistill pretrain {name}"]
    if (experts := RECIPES[name].experts) is not None:
        return [
            f"first: datadistill pretrain {experts}",
            f"next: datadistill distill {name} --experts runs/{experts}-s0",
        ]
    folder = " --data FOLDER" if config["dataset"] == "folder" else ""
    pool = " --pool POOL" if config.get("source") else ""
    return [f"next: datadistill distill {name}{folder}{pool}"]


def config_rows(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The fields of a config and their values, as they are typed."""
    return [(flag(name), format_value(value)) for name, value in config.items()]


def flag(field: str) -> str:
    """A field as it is typed."""
    return "--" + field.replace("_", "-")


def format_value(value: Any) -> str:
    """A value as it is typed.

    >>> format_value({"depth": 3, "norm": "instance"}), format_value(("crop", "flip"))
    ('depth 3 norm instance', 'crop flip')
    """
    if isinstance(value, dict):
        return " ".join(f"{k} {v}" for k, v in value.items()) or "-"
    if isinstance(value, tuple | list):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
