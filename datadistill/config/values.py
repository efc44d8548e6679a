"""Values that the fields of a config may hold: their types, and the ranges of their numbers.

Numbers end up in float32 tensors and in counts of tensors, so a number that neither can hold is
refused here, before data are read: NaN, infinity, floats beyond 3.4e38, counts beyond 2^31 - 1.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from datadistill.errors import UsageError, suggest

LARGEST = 3.4e38
"""Of a float field: where float32 ends."""
MOST = 2**31 - 1
"""Of a count."""
LARGEST_SEED = 2**63 - 1
LONGEST_NAME, LONGEST_PATH = 255, 4095
MOST_PIXELS = 4096
"""Side of an image."""
_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    NoneType: "None",
}


@cache
def type_hints_of(cls: type[Any]) -> Mapping[str, Any]:
    """The types of a config's fields by name, found out once for each class.

    >>> from datadistill.config import PoolConfig
    >>> type_hints_of(PoolConfig)["epochs"]
    <class 'int'>
    """
    return get_type_hints(cls)


def check_types(config: Any) -> None:
    """Bring every field of a frozen dataclass to the type it declares. Numbers of numpy become
    Python's, lists become tuples and paths texts where such a thing is declared; anything else is
    refused.

    Example:
        >>> from datadistill.config import DistillConfig
        >>> DistillConfig(augment=["crop"]).augment
        ('crop',)
        >>> DistillConfig(ipc="3")
        Traceback (most recent call last):
        ...
        datadistill.errors.UsageError: ipc is '3', wanted a whole number
    """
    for name, hint in type_hints_of(type(config)).items():  # type: ignore[arg-type]
        value = getattr(config, name)
        typed = _convert(name, value, hint)
        if typed is not value:
            object.__setattr__(config, name, typed)


def check_range(
    config: Any,
    names: Iterable[str],
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    hint: str = "",
) -> None:
    """Refuse the named fields of a config outside a range; None is never refused. A whole number
    may be at most `MOST` in any case. `hint` is the rest of the sentence, such as "the paper starts
    at 0.02"."""
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        highest = MOST if most is None and below is None and isinstance(value, int) else most
        fits = (
            (least is None or value >= least)
            and (above is None or value > above)
            and (highest is None or value <= highest)
            and (below is None or value < below)
        )
        if not fits:
            if highest == MOST and value > MOST:
                wanted = f"at most {MOST}"
            elif (least, above, most, below) == (0, None, None, None):
                wanted = "0 or more"
            elif (least, above, most, below) == (None, 0, None, None):
                wanted = "positive"
            else:
                ends = (("at least", least), ("above", above), ("at most", most), ("below", below))
                wanted = " and ".join(f"{word} {end:g}" for word, end in ends if end is not None)
            raise UsageError(
                f"{name} is {quote(value)}, but it must be {wanted}" + (f"; {hint}" if hint else "")
            )


def quote(value: Any) -> str:
    """A value for a sentence, shortened.

    >>> quote(10**5000), quote("a" * 90)[-3:]
    ('a number of 16610 bits', '...')
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _convert(name: str, value: Any, hint: Any) -> Any:
    """The value as the hint declares it, or a UsageError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _convert_union(name, value, arguments)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            text = value if isinstance(value, str) else quote(value)
            raise UsageError(f"{name} is {quote(value)}; {suggest(text, arguments)}")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        items = (arguments[0],) * len(value) if arguments[1:] == (...,) else arguments
        if len(items) == len(value):
            typed = tuple(_convert(name, v, item) for v, item in zip(value, items, strict=True))
            return value if typed == value and type(value) is tuple else typed
    if origin is dict and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        typed_items = {key: _argument(f"{name}.{key}", item) for key, item in value.items()}
        return value if typed_items == value and isinstance(value, dict) else typed_items
    plain = not isinstance(value, bool)
    if hint is int and plain and isinstance(value, numbers.Integral):
        number = value if type(value) is int else int(value)
        if abs(number) > LARGEST_SEED:
            raise UsageError(f"{name} is {quote(number)}, but it must be at most {LARGEST_SEED}")
        return number
    if hint is float and plain and isinstance(value, numbers.Real):
        return _number(name, value)
    if hint is str and isinstance(value, str | os.PathLike):
        return _text(name, os.fspath(value))
    if hint in (bool, NoneType) and type(value) is hint:
        return value
    # a class of the library's own: nothing to be known here
    if hint not in _WORDS and origin is None:
        return value
    raise UsageError(f"{name} is {quote(value)}, wanted {_describe_type(hint)}")


def _convert_union(name: str, value: Any, members: tuple[Any, ...]) -> Any:
    if value is None and NoneType in members:
        return None
    members = tuple(member for member in members if member is not NoneType)
    for member in sorted(members, key=lambda m: m is not type(value)):  # an exact match first
        try:
            return _convert(name, value, member)
        except UsageError:
            if len(members) == 1:
                raise
    raise UsageError(
        f"{name} is {quote(value)}, wanted {' or '.join(map(_describe_type, members))}"
    )


def _number(name: str, value: Any) -> Any:
    """A finite number that float32 can hold, with room to compute."""
    if isinstance(value, int) and not isinstance(value, bool):
        too_large = abs(value) > LARGEST
    else:
        value = value if type(value) is float else float(value)
        if not math.isfinite(value):
            raise UsageError(f"{name} is {value}, wanted a finite number")
        too_large = abs(value) > LARGEST
    if too_large:
        raise UsageError(f"{name} is {quote(value)}, but it must be at most {LARGEST:g}")
    return value


def _text(name: str, text: Any) -> str:
    """A text that can be a name or a path."""
    if not isinstance(text, str) or "\0" in text:
        raise UsageError(f"{name} is {quote(text)}, wanted a text without null characters")
    longest = max(len(os.fsencode(part)) for part in text.split(os.sep))
    if longest > LONGEST_NAME or len(text) > LONGEST_PATH:
        raise UsageError(
            f"{name} is {quote(text)}, a text of {len(text)} characters; names of files have at "
            f"most {LONGEST_NAME} bytes, paths at most {LONGEST_PATH}"
        )
    return text


def _argument(name: str, value: Any) -> Any:
    """A value in a dict of arguments: what takes it knows its type; here numbers must be
    numbers."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    if isinstance(value, numbers.Integral):
        return _convert(name, value, int)
    return _number(name, value)


def _describe_type(hint: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(map(_describe_type, arguments))
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        if arguments[1:] == (...,):
            return f"a tuple, each of its items {_describe_type(arguments[0])}"
        return f"{len(arguments)} values"
    if origin is dict:
        return "a dict of names and values"
    return _WORDS.get(hint, str(hint))
