"""The line about a recipe in a list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import getdoc
from typing import Any

__all__ = ["summary_of"]


def summary_of(make: Callable[..., Any]) -> str:
    """The first paragraph of a recipe's docstring, in one line.

    >>> summary_of(partial(summary_of, print))
    "The first paragraph of a recipe's docstring, in one line."
    """
    function = make.func if isinstance(make, partial) else make
    return " ".join((getdoc(function) or "").partition("\n\n")[0].split())
