"""What fields of a config may hold."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from datadistill.errors import UsageError, nearest

Value = int | float | str | bool
C = TypeVar("C", bound=Any)


def refuse_unknown_choices(config: Any) -> None:
    """UsageError for a field declared as a `Literal` that holds none of its values."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            value = getattr(config, name)
            raise UsageError(f"{name} is {value!r}; {nearest(str(value), map(str, get_args(hint)))}")


def changed(config: C, changes: dict[str, Any]) -> C:
    """A copy of a config with some fields changed; UsageError names the field nearest to an unknown one."""
    known = [f.name for f in fields(config)]
    for name in changes:
        if name not in known:
            raise UsageError(f"the config has no field {name!r}; {nearest(name, known)}")
    return replace(config, **changes)
