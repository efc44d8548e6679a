"""What stands in a file besides its tensors, checked field by field.

A checksum says that a file is as it was written, not that what was written makes sense. Whoever reads a file
checks each field here, at once, and gives its name; `content_of` is the net below: whatever goes wrong while
the parts of a file are put together is a sentence about that file.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from ..errors import DataError, OutOfMemory, UsageError


@contextlib.contextmanager
def content_of(source: object, what: str) -> Iterator[None]:
    """Whatever fails inside the block is said of the file.

    Args:
        source: the file.
        what: what it should hold, such as "a pool".

    Raises:
        DataError: naming the file.

    Example:
        >>> with content_of("p.safetensors", "a pool"):
        ...     {}["nets"]
        Traceback (most recent call last):
        ...
        datadistill.errors.DataError: p.safetensors: its metadata is not that of a pool (KeyError: 'nets'); get the file again
    """  # noqa: E501
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


def shown(value: Any, limit: int = 80) -> str:
    """A value of a file for a message, cut.

    >>> shown("x" * 100, 10)
    "'xxxxx...'"
    """
    # cut first: a text of a million characters costs nothing
    text = repr(value[:limit] + "..." if isinstance(value, str) and len(value) > limit else value)
    return text if len(text) <= limit else f"{text[: limit - 4]}...{text[-1]}"


def visible(text: str) -> str:
    """A text as one line of a terminal: what cannot be printed as an escape, so that a name from a file moves
    no cursor, changes no colour, begins no line and turns none around.

    >>> print(visible("red" + chr(27) + "[31m" + chr(10) + chr(0x202E) + "bird"))
    red\\x1b[31m\\n\\u202ebird
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\u00a0" else repr(c)[1:-1] for c in text)


def check_class_names(classes: Any) -> tuple[str, ...]:
    """The names, where they are two or more different ones.

    Raises:
        DataError: otherwise.

    Example:
        >>> check_class_names(["cat", "dog", "cat"])
        Traceback (most recent call last):
        ...
        datadistill.errors.DataError: classes has 'cat' twice, wanted two or more different names; rename one
    """
    wanted = "wanted two or more different names"
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) and name for name in classes):
        raise DataError(f"classes are {shown(classes)}, {wanted}")
    if len(classes) < 2:
        raise DataError(f"classes are {shown(list(classes))}, {wanted}")
    seen: set[str] = set()
    for name in classes:
        if name in seen:
            raise DataError(f"classes has {shown(name)} twice, {wanted}; rename one")
        seen.add(name)
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError(f"classes has {shown(name)}, which is not in UTF-8, {wanted}; rename it")
    return tuple(classes)


def check_text(field: str, value: Any, *, optional: bool = False) -> None:
    """DataError unless `value` is a text (or, if optional, None)."""
    if not isinstance(value, str) and not (optional and value is None):
        raise DataError(f"{field} is {shown(value)}, wanted a text")


def check_texts(field: str, value: Any, *, optional: bool = False) -> None:
    """DataError unless `value` is a list of different texts (or, if optional, None)."""
    if value is None and optional:
        return
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{field} is {shown(value)}, wanted a list of names")
    if len(set(value)) < len(value):
        raise DataError(f"{field} has a name twice, wanted each once")


def check_whole(field: str, value: Any, least: int = 0, most: int | None = None) -> None:
    """DataError unless `value` is a whole number from `least` to `most`."""
    if type(value) is not int or value < least or (most is not None and value > most):
        end = "" if most is None else f" to {most}"
        raise DataError(f"{field} is {shown(value)}, wanted a whole number from {least}{end}")


def check_number(
    field: str, value: Any, least: float = -math.inf, most: float = math.inf, *, optional: bool = False
) -> None:
    """DataError unless `value` is a finite number from `least` to `most` (or, if optional, None)."""
    if value is None and optional:
        return
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
        between = "" if math.isinf(most) and math.isinf(least) else f" from {least:g} to {most:g}"
        raise DataError(f"{field} is {shown(value)}, wanted a finite number{between}")


def check_record(field: str, value: Any) -> None:
    """DataError unless `value` is None or an object: the config of a training, which only people read."""
    if value is not None and not isinstance(value, dict):
        raise DataError(f"{field} is {shown(value)}, wanted the config of the training")
