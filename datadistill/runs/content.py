"""Values of a file beside its tensors, checked field by field.

A checksum says that a file is as it was written, not that its content makes sense. Whoever reads a
file checks each field here and gives its name; `content_of` turns whatever else goes wrong while
the parts of a file are put together into a sentence about that file.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ..errors import DataError, OutOfMemory, UsageError


@contextlib.contextmanager
def content_of(source: object, what: str) -> Iterator[None]:
    """Raise any failure inside the block as a DataError about the file `source`, which should hold
    `what`.

    Example:
        >>> with content_of("p.safetensors", "a pool"):
        ...     {}["nets"]
        Traceback (most recent call last):
        ...
        datadistill.errors.DataError: p.safetensors: its metadata is not that of a pool (KeyError:
        'nets');
        get the file again
    """
    try:
        yield
    except (DataError, UsageError) as error:
        raise DataError(f"{source}: {str(error)[:1000]}") from None
    except (OutOfMemory, MemoryError):
        raise
    except Exception as error:
        found = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(
            f"{source}: its metadata is not that of {what} ({found}); get the file again"
        ) from error


def quote(value: Any, limit: int = 80) -> str:
    """A value of a file for a message, cut."""
    # cut first: a text of a million characters costs nothing
    text = repr(value[:limit] + "..." if isinstance(value, str) and len(value) > limit else value)
    return text if len(text) <= limit else f"{text[: limit - 4]}...{text[-1]}"


def check_class_names(classes: Any) -> tuple[str, ...]:
    """The names, where they are two or more different ones; DataError otherwise."""
    wanted = "wanted two or more different names"
    if not isinstance(classes, list | tuple) or not all(
        isinstance(name, str) and name for name in classes
    ):
        raise DataError(f"classes are {quote(classes)}, {wanted}")
    if len(classes) < 2:
        raise DataError(f"classes are {quote(list(classes))}, {wanted}")
    seen: set[str] = set()
    for name in classes:
        if name in seen:
            raise DataError(f"classes has {quote(name)} twice, {wanted}; rename one")
        seen.add(name)
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError(
                f"classes has {quote(name)}, which is not in UTF-8, {wanted}; rename it"
            )
    return tuple(classes)


# --- checks of one field: (its name, the value in the file) -> the value

Check = Callable[[str, Any], Any]


def accept(field: str, value: Any) -> Any:
    """The value as it is, which the class that takes it checks."""
    return value


def check_text(field: str, value: Any) -> str:
    """The value, a text; DataError otherwise."""
    if not isinstance(value, str):
        raise DataError(f"{field} is {quote(value)}, wanted a text")
    return value


def check_texts(field: str, value: Any) -> list[str]:
    """The value, a list of different texts; DataError otherwise."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{field} is {quote(value)}, wanted a list of names")
    if len(set(value)) < len(value):
        raise DataError(f"{field} has a name twice, wanted each once")
    return list(value)


def check_truth(field: str, value: Any) -> bool:
    """The value, true or false; DataError otherwise."""
    if type(value) is not bool:
        raise DataError(f"{field} is {quote(value)}, wanted true or false")
    return value


def check_whole(field: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """The value, a whole number from `least` to `most`; DataError otherwise."""
    if type(value) is not int or value < least or (most is not None and value > most):
        end = "" if most is None else f" to {most}"
        raise DataError(f"{field} is {quote(value)}, wanted a whole number from {least}{end}")
    return value


def check_number(field: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """The value, a finite number from `least` to `most`; DataError otherwise."""
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
        between = "" if math.isinf(most) and math.isinf(least) else f" from {least:g} to {most:g}"
        raise DataError(f"{field} is {quote(value)}, wanted a finite number{between}")
    return value


def check_list(field: str, value: Any) -> list[Any]:
    """The value, a list; DataError otherwise."""
    if not isinstance(value, list):
        raise DataError(f"{field} is {quote(value)}, wanted a list")
    return value


def check_object(field: str, value: Any) -> dict[str, Any]:
    """The value, an object; DataError otherwise."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{field} is {quote(value)}, wanted an object: values by name")
    return dict(value)


def check_fields(
    field: str, value: Any, fields: Mapping[str, Check], optional: Collection[str] = ()
) -> dict[str, Any]:
    """The values of an object of known names, each as its check returns it; None for `optional`
    ones that are absent. DataError otherwise. `field` is "" for the whole metadata of a file."""
    found = check_object(field, value)
    missing = sorted(fields.keys() - found.keys() - set(optional))
    unknown = sorted(found.keys() - fields.keys())
    if missing or unknown:
        whole = field or "metadata"
        raise DataError(
            f"{whole} lacks {missing} and has unknown {quote(unknown)}; get the file again"
        )
    prefix = f"{field}." if field else ""
    return {
        name: check(f"{prefix}{name}", found[name]) if name in found else None
        for name, check in fields.items()
    }


def check_choice(field: str, value: Any, choices: Collection[str]) -> str:
    """The value, one of `choices`; DataError otherwise."""
    if value not in list(choices):
        raise DataError(f"{field} is {quote(value)}, wanted {' or '.join(choices)}")
    return value


def list_of(check: Check) -> Check:
    """The check of a list by a check of each of its items."""

    def check_items(field: str, value: Any) -> list[Any]:
        return [
            check(f"{field}[{index}]", item) for index, item in enumerate(check_list(field, value))
        ]

    return check_items


def optional(check: Check) -> Check:
    """The same check for a value that may be None."""
    return lambda field, value: None if value is None else check(field, value)


def parse_with(parse: Callable[[Any], Any]) -> Check:
    """The check of a value by a function of it that refuses, and returns what the value stands
    for."""
    return lambda field, value: parse(value)
