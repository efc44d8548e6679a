"""The arguments of a study: seeds, arms, changed fields, and the command with all of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datadistill.errors import UsageError, suggest
from datadistill.runs.jsonconfig import dump_config

__all__ = ["dump_changes", "format_command", "list_seeds", "select_arms"]


def list_seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds: 0 .. n - 1 for a number n, else those given; UsageError for none, or one given
    twice.

    >>> list_seeds(3), list_seeds([4, 2])
    ((0, 1, 2), (4, 2))
    """
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"seeds is {seeds!r}; give how many, 1 or more, or different ones")
    return numbers


def select_arms(asked: Sequence[str] | None, known: Sequence[str], name: str) -> list[str]:
    """The arms that were asked for, in the recipe's order; None: all. UsageError for an unknown
    one."""
    for arm in asked or ():
        if arm not in known:
            raise UsageError(f"{name} has no arm {arm!r}; {suggest(arm, known)}")
    return [arm for arm in known if asked is None or arm in asked]


def dump_changes(changes: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """The changed fields as config.json keeps them; UsageError for one that the class of config has
    not."""
    plain = dump_config(cls().with_changes(**changes))
    return {name: plain[name] for name in changes if name != "device"}


def format_command(
    program: str,
    recipe: str,
    seeds: Sequence[int],
    options: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> str:
    """The command of a program ("kd-baselines compare") for a recipe, with seeds, flags (None
    leaves one out) and changed fields.

    >>> format_command("p", "r", (0, 1), {"base": None}, {"net_args": {"width": 8}, "cache": False})
    'p r --seeds 2 --net-args width 8 --no-cache'
    """
    counted = tuple(seeds) == tuple(range(len(seeds)))
    words = len(seeds) if counted else " ".join(map(str, seeds))
    given = {**{name: value for name, value in options.items() if value is not None}, **changes}
    return f"{program} {recipe} --seeds {words}" + "".join(
        f" {_format_flag(k, v)}" for k, v in given.items()
    )


def _format_flag(field: str, value: Any) -> str:
    """A field as it is typed on the command line."""
    name = field.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    if isinstance(value, dict):
        cleared = [(name, "-") for name in getattr(value, "cleared", ())]
        value = [word for pair in (*value.items(), *cleared) for word in pair]
    many = isinstance(value, list | tuple)
    return f"--{name} {' '.join(map(str, value)) if many else value}"
