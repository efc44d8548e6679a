"""`kd-baselines methods [NAME]`: how students can learn, and the arguments of each method."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from datadistill.cli.options import OptionalName, parse
from datadistill.cli.printing import Output
from datadistill.cli.recipes import format_value


@dataclass(frozen=True)
class Methods:
    """List the methods, or show one with its arguments and their defaults."""

    name: OptionalName = None
    """Method to show."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse and print."""
    args = parse(Methods, argv, "kd-baselines methods")
    output = Output(args.json)
    from kd_baselines.methods import METHODS, arguments

    if args.name is None:
        rows = [(name, m.source, m.about) for name, m in METHODS.items()]
        output.table(("method", "source", "what the student learns from"), rows)
        output.say("", "next: kd-baselines methods NAME")
        output.result(
            {
                "methods": [
                    {
                        "name": name,
                        "about": m.about,
                        "source": m.source,
                        "teacher": m.teacher,
                        "arguments": arguments(name),
                    }
                    for name, m in METHODS.items()
                ]
            }
        )
        return 0
    known = arguments(args.name)  # names the nearest where there is none
    method = METHODS[args.name]
    about = inspect.getdoc(method.stages) or ""
    output.say(args.name, "", method.about, f"source: {method.source}", "", *about.splitlines(), "")
    if known:
        output.table(
            ("argument", "default"),
            [(name, format_value(value) or '""') for name, value in known.items()],
        )
    output.say("", f"next: kd-baselines train RECIPE --method {args.name}{_arguments(known)}")
    output.result(
        {
            "name": args.name,
            "about": method.about,
            "source": method.source,
            "teacher": method.teacher,
            "arguments": known,
            "description": about,
        }
    )
    return 0


def _arguments(known: dict[str, object]) -> str:
    """The arguments as options: those that must be given, else the first.

    >>> _arguments({"temperature": 4.0}), _arguments({})
    (' --method-args temperature 4.0', '')
    >>> _arguments({"guided": "", "hint": "", "lam_start": 4.0})
    ' --method-args guided GUIDED hint HINT'
    """
    wanted: dict[str, object] = {name: name.upper() for name, value in known.items() if value == ""}
    shown = wanted or dict([*known.items()][:1])
    typed = " ".join(f"{name} {format_value(value)}" for name, value in shown.items())
    return f" --method-args {typed}" if typed else ""
