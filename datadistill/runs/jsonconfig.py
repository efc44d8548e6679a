"""Frozen dataclasses from JSON and back, strictly.

A config file may have been edited by hand. Every key must be known, every value of the type its
field declares; nothing is converted in silence (the string "1e-3" is no number) and nothing is
built by name: the file fills the fields of the class that the caller passes, and no other class.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..config.values import type_hints_of
from ..errors import UsageError, suggest
from .canonical import parse_json

T = TypeVar("T")

_LARGEST = 2**63 - 1
_PLAIN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    type(None): "null",
}
_MISSING = object()


def load_config(cls: type[T], text: str | bytes, source: str) -> T:
    """Build a dataclass from JSON text.

    Args:
        cls: a dataclass whose fields are bool, int, float, str, `Literal`, `X | None` and other
            unions, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, or dataclasses of these.
        text: a JSON object. Fields left out take their defaults. A whole number is accepted for a
            float field.
        source: the file's name, for messages.

    Raises:
        UsageError: not strict JSON, an unknown key (with the nearest known one), a missing one, a
            value of the wrong type or too large, or a value that the class itself refuses.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     ipc: int = 1
        >>> load_config(Config, '{"ipc": 10}', "config.json")
        Config(ipc=10)
        >>> load_config(Config, '{"icp": 10}', "config.json")
        Traceback (most recent call last):
        ...
        datadistill.errors.UsageError: config.json: unknown key 'icp'; did you mean ipc? (known:
        ipc)
    """
    try:
        value = parse_json(text)
    except ValueError as error:
        raise UsageError(f"{source}: {error}; write plain JSON") from None
    return build_config(cls, value, source)


def build_config(cls: type[T], value: Any, source: str) -> T:
    """Build a dataclass from JSON that has been read already, such as the `config` of a run folder;
    see `load_config`."""
    return typing.cast("T", _build(cls, value, source, ""))


def dump_config(obj: Any) -> dict[str, Any]:
    """The JSON-able dict of a config; `load_config` gives an equal config back. Equal configs give
    equal dicts: a whole number in a float field is written as a float."""
    built = _build(type(obj), _to_plain(obj), type(obj).__name__, "")
    return typing.cast("dict[str, Any]", _to_plain(built))


def diff_configs(a: Any, b: Any) -> list[str]:
    """Differences between two configs, dataclasses or their dicts, as `key old -> new`: nested keys
    joined by dots, sorted.

    >>> diff_configs({"ipc": 1, "net": {"name": "mlp"}}, {"ipc": 5, "net": {"name": "mlp"}})
    ['ipc 1 -> 5']
    """
    old, new = (
        _leaves(dump_config(x) if dataclasses.is_dataclass(x) else _to_plain(x), "") for x in (a, b)
    )
    return [
        f"{key} {_quote(old.get(key, _MISSING))} -> {_quote(new.get(key, _MISSING))}"
        for key in sorted(old.keys() | new.keys())
        if not _is_same(old.get(key, _MISSING), new.get(key, _MISSING))
    ]


def _build(cls: Any, value: Any, source: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise _make_error(source, where, value, "an object of keys and values")
    hints = type_hints_of(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in fields:
            raise UsageError(
                f"{source}: unknown key {(prefix + key)[:200]!r}; {suggest(key[:80], fields)}"
            )
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in value:
            raise UsageError(f"{source}: the key {prefix + name!r} is missing; add it")
    arguments = {
        key: _convert(hints[key], item, source, prefix + key) for key, item in value.items()
    }
    try:
        return cls(**arguments)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{source}: {where or 'the config'} is refused: {error}") from None


def _convert(hint: Any, value: Any, source: str, where: str) -> Any:
    """The value as the type that the hint asks for, or a `UsageError` naming the key."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, source, where)
    if origin is typing.Literal:
        for choice in arguments:
            if type(choice) is type(value) and choice == value:
                return choice
        raise _make_error(source, where, value, _describe_type(hint))
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, source, where)
    if origin is tuple and isinstance(value, list):
        items = (arguments[0],) * len(value) if arguments[1:] == (...,) else arguments
        if len(items) == len(value):
            pairs = enumerate(zip(items, value, strict=True))
            return tuple(_convert(item, v, source, f"{where}[{i}]") for i, (item, v) in pairs)
    if origin is dict and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {
            key: _convert(arguments[1], item, source, f"{where}.{key}")
            for key, item in value.items()
        }
    if type(value) is int and hint in (int, float) and abs(value) > _LARGEST:
        raise UsageError(
            f"{_describe_found(source, where, value)}, which is too large; wanted at "
            f"most {_LARGEST}"
        )
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint in _PLAIN and hint is not float and type(value) is hint:
        return value
    raise _make_error(source, where, value, _describe_type(hint))


def _convert_union(members: tuple[Any, ...], value: Any, source: str, where: str) -> Any:
    if value is None and type(None) in members:
        return None
    members = tuple(member for member in members if member is not type(None))
    if len(members) == 1:  # X | None: the error inside X says more than one about the union
        return _convert(members[0], value, source, where)
    # an exact match first, so that 1 stays an int in `float | int`
    for member in sorted(members, key=lambda m: m is not type(value)):
        try:
            return _convert(member, value, source, where)
        except UsageError:
            continue
    raise _make_error(source, where, value, " or ".join(map(_describe_type, members)))


def _make_error(source: str, where: str, value: Any, wanted: str) -> UsageError:
    message = f"{_describe_found(source, where, value)}, wanted {wanted}"
    if isinstance(value, str) and "number" in wanted:
        try:
            float(value)
            message += "; write it without quotes"
        except ValueError:
            pass
    return UsageError(message)


def _describe_found(source: str, where: str, value: Any) -> str:
    return f"{source}: {where[:200] or 'the config'} is {_quote(value)}"


def _quote(value: Any) -> str:
    """A value as JSON would write it, shortened."""
    words = {True: "true", False: "false", None: "null", _MISSING: "(absent)"}
    if value is None or value is _MISSING or isinstance(value, bool):
        return words[value]
    text = repr(value) if not isinstance(value, dict) else f"an object with {len(value)} keys"
    return text if len(text) <= 80 else text[:77] + "..."


def _describe_type(hint: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_describe_type, arguments))
    if origin is typing.Literal:
        return "one of " + ", ".join(map(_quote, arguments))
    if origin is tuple:
        if arguments[1:] == (...,):
            return f"a list, each of its items {_describe_type(arguments[0])}"
        return f"a list of {len(arguments)} ({', '.join(map(_describe_type, arguments))})"
    if origin is dict:
        return f"an object, each of its values {_describe_type(arguments[1])}"
    return "an object of keys and values" if dataclasses.is_dataclass(hint) else str(hint)


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init
        }
    if isinstance(value, Mapping):
        return {key: _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return value


def _leaves(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        prefix = f"{where}." if where else ""
        return {
            k: v for key, item in value.items() for k, v in _leaves(item, f"{prefix}{key}").items()
        }
    return {where: value}


def _is_same(a: Any, b: Any) -> bool:
    # 1 == 1.0 == True in Python; in a config they are different values
    return type(a) is type(b) and repr(a) == repr(b)
