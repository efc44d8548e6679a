"""A published number stands beside a run only where the run is of the recipe as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datadistill.runs.jsonconfig import diff_configs

SAME_NUMBER = (
    "seed",
    "teacher_seed",
    "images_seed",
    "device",
    "cache",
    "noise",
    "data",
    "pool",
    "experts",
    "boost_from",
    "at_once",
    "validate_every",
    "validate_nets",
)
"""Fields of any config that a published number does not depend on: seeds, places, how a run is
carried out, and what it is tested by besides."""


def published_number(published: str, recipe: Any, run: Any) -> tuple[str, list[str]]:
    """The published number of a recipe, or a dash where the run's config is another one; and what
    is not the recipe's, as `field recipe -> run`. Fields in `SAME_NUMBER` may differ.

    >>> published_number("79.5", {"ipc": 1, "seed": 0}, {"ipc": 1, "seed": 3})
    ('79.5', [])
    >>> published_number("79.5", {"ipc": 1, "seed": 0}, {"ipc": 5, "seed": 3})
    ('-', ['ipc 1 -> 5'])
    """
    if published == "-":
        return "-", []
    changed = [
        text
        for text in diff_configs(recipe, run)
        if text.split()[0].partition(".")[0] not in SAME_NUMBER
    ]
    return "-" if changed else published, changed


def compare_published(pages: Mapping[str, Any], run: Any) -> tuple[str, list[str]]:
    """The same for the recipe that a run's config names, from a table of recipes."""
    page = pages.get(run.recipe)
    return ("-", []) if page is None else published_number(page.published, page.make(), run)
