"""`datadistill recipes [NAME]`: what recipes there are, or all of one."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from datadistill.cli.options import parse
from datadistill.cli.printing import Output
from datadistill.recipes import RECIPES, page


@dataclass(frozen=True)
class Recipes:
    """List the recipes with their published accuracy in percent, or show one with its full config."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """Recipe to show."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse and print."""
    args = parse(Recipes, argv, "datadistill recipes")
    output = Output(args.json)
    if args.name is None:
        rows = [(name, p.published, p.summary) for name, p in RECIPES.items()]
        output.table(("recipe", "published (%)", "what it does"), rows)
        output.say("", "next: datadistill recipes NAME, or datadistill distill NAME")
        output.result({"recipes": [dict(zip(("name", "published", "summary"), r, strict=True)) for r in rows]})
        return 0
    found = page(args.name)
    about, config = inspect.getdoc(found.make) or "", asdict(found.make())
    output.say(args.name, "", about, "", f"published accuracy (%): {found.published}", "")
    output.table(("option", "value"), [(flag(name), words(value)) for name, value in config.items()])
    folder = " --data FOLDER" if config["dataset"] == "folder" else ""
    output.say("", f"next: datadistill distill {args.name}{folder}")
    output.result({"name": args.name, "about": about, "published": found.published, "config": config})
    return 0


def flag(field: str) -> str:
    """A field as it is typed.

    >>> flag("lr_step_sizes")
    '--lr-step-sizes'
    """
    return "--" + field.replace("_", "-")


def words(value: Any) -> str:
    """A value as it is typed.

    >>> words({"depth": 3, "norm": "instance"}), words(("crop", "flip"))
    ('depth 3 norm instance', 'crop flip')
    """
    if isinstance(value, dict):
        return " ".join(f"{k} {v}" for k, v in value.items()) or "-"
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
