"""What a recipe says of itself, and the line about it in a list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import getdoc
from typing import Any

__all__ = ["about", "summary_of"]


def about(make: Callable[..., Any]) -> str:
    """The docstring of a recipe, with arguments of its own or without."""
    function = make.func if isinstance(make, partial) else make
    return getdoc(function) or ""


def summary_of(make: Callable[..., Any]) -> str:
    """The first paragraph of a recipe's docstring, in one line.

    >>> summary_of(partial(summary_of, print))
    "The first paragraph of a recipe's docstring, in one line."
    """
    return " ".join(about(make).partition("\n\n")[0].split())
