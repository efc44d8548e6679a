"""`kd-baselines recipes [NAME]`: what recipes there are, or all of one."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from datadistill.cli.options import OptionalName, parse
from datadistill.cli.printing import Output
from datadistill.cli.recipes import config_rows
from kd_baselines.config import KdConfig
from kd_baselines.recipes import OWN, RECIPES, page


@dataclass(frozen=True)
class Recipes:
    """List the recipes, or show one with its arms, the published numbers and its config."""

    name: OptionalName = None
    """Recipe to show."""
    arm: str = OWN
    """Which of its arms to show."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse and print."""
    args = parse(Recipes, argv, "kd-baselines recipes")
    output = Output(args.json)
    if args.name is None:
        output.table(
            ("recipe", "what it does"), [(name, one.summary) for name, one in RECIPES.items()]
        )
        output.say(
            "",
            "next: kd-baselines recipes NAME (published numbers, arms), or kd-baselines train NAME",
        )
        output.result(
            {
                "recipes": [
                    {
                        "name": name,
                        "published": one.published,
                        "measure": one.measure,
                        "summary": one.summary,
                        "arms": [OWN, *one.arms],
                    }
                    for name, one in RECIPES.items()
                ]
            }
        )
        return 0
    found = page(args.name)
    config, published = found.config(args.arm), found.published_of(args.arm)
    about = inspect.getdoc(found.make) or ""
    output.say(args.name, "", *about.splitlines(), "")
    known = [(OWN, found.published), *((name, one.published) for name, one in found.arms.items())]
    output.table(("arm", f"published {found.measure}"), known)
    output.say("")
    own, shown = config_rows(asdict(found.config())), config_rows(asdict(config))
    if args.arm != OWN:
        shown = [row for row in shown if row not in own]
    output.table(
        ("option" if args.arm == OWN else f"option of {args.arm} that differs", "value"), shown
    )
    arm = "" if args.arm == OWN else f" --arm {args.arm}"
    other = "compare" if isinstance(config, KdConfig) else "born-again"
    output.say(
        "", f"next: kd-baselines train {args.name}{arm}, or kd-baselines {other} {args.name}"
    )
    output.result(
        {
            "name": args.name,
            "arm": args.arm,
            "about": about,
            "published": published,
            "measure": found.measure,
            "config": asdict(config),
            "arms": {
                name: {"published": one.published, "changes": dict(one.changes)}
                for name, one in found.arms.items()
            },
        }
    )
    return 0
