"""Canonical JSON: one text for one value, and a reader that accepts nothing else than plain JSON.

Keys are sorted, characters outside ASCII are escaped, NaN and infinity are refused both ways. Equal
values give equal bytes, so a hash of the text is a hash of the value. The reader also refuses what
Python's own reader lets through: a key given twice (the last one wins there), `NaN`, and `1e999`
(infinity there).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

# Python refuses to read integers of more than 4300 digits; no honest file of ours comes near.
_LONGEST_NUMBER = 400
_LONG_NUMBER = re.compile(rf"\d{{{_LONGEST_NUMBER + 1}}}")
# Levels of lists and objects. Python's own limit depends on how deep the call is that reads.
_DEEPEST = 100
# What may be half of a surrogate pair, or a number beyond 64 bits.
_DOUBTFUL = re.compile(r"\\u[dD][89a-fA-F]|\d{19}")


def canonical_json(value: Any, *, indent: int | None = None) -> str:
    """The canonical JSON text of a value in ASCII, without a newline at its end; `parse_json` gives
    the value back (tuples as lists).

    Args:
        value: None, bool, int, finite float, str, and lists, tuples and dicts (string keys) of
            these.
        indent: spaces a level for people to read; None gives one line.

    Raises:
        TypeError: a value of another type, or a key that is no string (JSON would turn 1 into "1").
        ValueError: NaN or infinity. Both name the place.

    Example:
        >>> canonical_json({"b": 1.5, "a": [None, True]})
        '{"a":[null,true],"b":1.5}'
    """
    _check(value, "")
    return dump_plain(value, indent=indent)


def dump_plain(value: Any, *, indent: int | None = None) -> str:
    """`canonical_json` of a value that `parse_json` gave, which needs no check; many times as
    fast."""
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(value, sort_keys=True, allow_nan=False, indent=indent, separators=separators)


def parse_json(text: str | bytes) -> Any:
    """Read JSON strictly, from a str or from bytes in UTF-8.

    Raises:
        ValueError: not JSON, not UTF-8, a key given twice, NaN or infinity (also written as 1e999),
            a number of more than 400 characters, or more than 100 levels of nesting; the message is
            one sentence.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            # a function costs most of the time
            parse_int=_integer if _LONG_NUMBER.search(text) else None,
        )
        _refuse_deep(value)
        return value
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"not valid JSON ({error.msg} at line {error.lineno} column {error.colno})"
        ) from None
    except RecursionError:
        raise ValueError("not readable JSON (nested too deeply)") from None


def refuse_unusable(value: Any, text: str) -> None:
    """Refuse JSON that nothing here can use, naming the place: half of a surrogate pair, which is
    no character, and whole numbers beyond 64 bits. `value` is `parse_json` of `text`."""
    if not _DOUBTFUL.search(text):
        return
    places: list[tuple[str, Any]] = [("", value)]
    while places:
        where, item = places.pop()
        if isinstance(item, dict):
            places += [(f"{where}.{key}" if where else key, inner) for key, inner in item.items()]
            places += [(f"the key {key!r}", key) for key in item]
        elif isinstance(item, list):
            places += [(f"{where}[{index}]", inner) for index, inner in enumerate(item)]
        elif isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item):
            raise ValueError(
                f"{where[:200] or 'the value'} is {item[:80]!r}, with half of a surrogate pair"
            )
        elif isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise ValueError(
                f"{where[:200] or 'the value'} is {str(item)[:40]}, a number beyond 64 bits"
            )


def _refuse_deep(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST + 1):
        inner = [
            container.values() if isinstance(container, dict) else container
            for container in level
            if isinstance(container, dict | list)
        ]
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(f"not readable JSON (nested too deeply: more than {_DEEPEST} levels)")


def _check(value: Any, where: str) -> None:
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where or 'the value'} is {value}, which JSON cannot hold")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of {where or 'the value'} is no string")
            _check(item, f"{where}.{key}" if where else key)
    else:
        raise TypeError(
            f"{where or 'the value'} is a {type(value).__name__}, which JSON cannot hold"
        )


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"the key {key[:80]!r} appears twice")
        out[key] = value
    return out


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} digits ({text[:20]}...) is too large")
    return int(text)
