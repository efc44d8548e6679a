"""The arguments of a study: seeds, arms, changed fields, and the command with all of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from datadistill.config.choices import OWNERS, Arguments
from datadistill.errors import UsageError, suggest
from datadistill.runs.jsonconfig import dump_config

__all__ = [
    "change_arms",
    "dump_changes",
    "format_changes",
    "format_command",
    "list_seeds",
    "select_arms",
]

C = TypeVar("C", bound=Any)


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


def change_arms(
    configs: Mapping[str, C], own: str, changes: Mapping[str, Any], selected: Sequence[str]
) -> dict[str, C]:
    """The configs of a recipe's arms with changed fields.

    Arguments that were typed (`Arguments`) are those of the recipe's net and method. They go over
    its own, name by name, in every arm that has the same net or method; an arm keeps what it sets
    otherwise than the recipe, which is what makes it that arm.

    Args:
        configs: of every arm.
        own: the arm that is the recipe itself.
        changes: fields and their values.
        selected: the arms that are wanted; UsageError where an argument reaches none of them.
    """
    found = {}
    for arm, config in configs.items():
        merged = {
            field: _merge_arguments(field, owner, config, configs[own], changes)
            for field, owner in OWNERS.items()
            if (field in changes or owner in changes) and hasattr(config, field)
        }
        found[arm] = config.with_changes(**{**changes, **merged})
    for field, typed in changes.items():
        if isinstance(typed, Arguments):
            _refuse_unused(field, typed, [getattr(found[arm], field) for arm in selected])
    return found


def _refuse_unused(field: str, typed: Arguments, arms: Sequence[Mapping[str, Any]]) -> None:
    unused = [name for name in typed if all(args.get(name) != typed[name] for args in arms)]
    unused += [name for name in typed.cleared if all(name in args for args in arms)]
    if unused:
        raise UsageError(
            f"{field} {unused[0]} changes no arm that is compared: each sets {unused[0]} itself, "
            f"or has another {OWNERS[field]} than the recipe; leave it out, or add the arm own"
        )


def _merge_arguments(
    field: str, owner: str, config: Any, own: Any, changes: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments `field` of an arm, which are those of what its field `owner` names."""
    typed, recipes, arms = changes.get(field), getattr(own, field), getattr(config, field)
    if typed is not None and not isinstance(typed, Arguments):
        return dict(typed)
    of_recipe, of_arm = getattr(own, owner), getattr(config, owner)
    wanted = changes.get(owner, of_arm)
    if owner not in changes and of_arm != of_recipe:
        return dict(arms)
    if of_arm != wanted:  # another one now
        arms = recipes if of_recipe == wanted else {}
    if typed is None:
        return dict(arms)
    if not typed and not typed.cleared:
        return {}
    kept = {name for name in arms.keys() | recipes.keys() if arms.get(name) != recipes.get(name)}
    if of_recipe != wanted:
        kept = set()
    return {
        **{name: value for name, value in arms.items() if name not in set(typed.cleared) - kept},
        **{name: value for name, value in typed.items() if name not in kept},
    }


def format_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changed fields for a reader, arguments that were taken out among them.

    >>> format_changes({"net_args": Arguments({"width": 8}, ["depth"]), "epochs": 3})
    {'net_args': {'width': 8, 'depth': '-'}, 'epochs': 3}
    """
    return {
        name: value.as_typed() if isinstance(value, Arguments) else value
        for name, value in changes.items()
    }


def dump_changes(changes: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """The changed fields as config.json keeps them; UsageError for one that the class of config has
    not."""
    plain = dump_config(cls().with_changes(**format_changes(changes)))
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
    given = {name: value for name, value in options.items() if value is not None}
    given |= format_changes(changes)
    return f"{program} {recipe} --seeds {words}" + "".join(
        f" {_format_flag(k, v)}" for k, v in given.items()
    )


def _format_flag(field: str, value: Any) -> str:
    """A field as it is typed on the command line."""
    name = field.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    if isinstance(value, dict):
        value = [word for pair in value.items() for word in pair]
    many = isinstance(value, list | tuple)
    return f"--{name} {' '.join(map(str, value)) if many else value}"
