"""Recipes: each is a function that returns a full config, one experiment of a paper, with the
paper's other rows as arms.

A recipe's docstring says what it is, and what in it is the paper's and what is ours; `RECIPES` has
the published numbers beside it. To add one, write a function in a file of this folder and its line
in `PAGES` there.
"""

from __future__ import annotations

from datadistill.errors import UsageError, suggest
from kd_baselines.recipes.attention import PAGES as ATTENTION
from kd_baselines.recipes.born_again import PAGES as BORN_AGAIN
from kd_baselines.recipes.born_again_small import PAGES as BORN_AGAIN_SMALL
from kd_baselines.recipes.bridge import PAGES as BRIDGE
from kd_baselines.recipes.fitnets import PAGES as FITNETS
from kd_baselines.recipes.fitnets_small import PAGES as FITNETS_SMALL
from kd_baselines.recipes.hinton import PAGES as HINTON
from kd_baselines.recipes.jacobian import PAGES as JACOBIAN
from kd_baselines.recipes.jacobian_small import PAGES as JACOBIAN_SMALL
from kd_baselines.recipes.language import PAGES as LANGUAGE
from kd_baselines.recipes.methods import PAGES as METHODS
from kd_baselines.recipes.mutual import PAGES as MUTUAL
from kd_baselines.recipes.recipe_page import NOT_VERIFIED, OWN, Arm, Config, Grid, Page
from kd_baselines.recipes.repdistiller import PAGES as REPDISTILLER
from kd_baselines.recipes.transfer import PAGES as TRANSFER

__all__ = ["NOT_VERIFIED", "OWN", "RECIPES", "Arm", "Config", "Grid", "Page", "page", "recipe"]

RECIPES: dict[str, Page] = {
    **JACOBIAN,
    **JACOBIAN_SMALL,
    **HINTON,
    **FITNETS,
    **FITNETS_SMALL,
    **ATTENTION,
    **TRANSFER,
    **BORN_AGAIN,
    **BORN_AGAIN_SMALL,
    **MUTUAL,
    **BRIDGE,
    **METHODS,
    **REPDISTILLER,
    **LANGUAGE,
}


def page(name: str) -> Page:
    """The recipe called `name`, with its arms and published numbers; UsageError names the
    nearest."""
    if name not in RECIPES:
        raise UsageError(
            f"there is no recipe {name!r}; {suggest(str(name), RECIPES, 'kd-baselines recipes')}"
        )
    return RECIPES[name]


def recipe(name: str, arm: str = OWN) -> Config:
    """The config of a recipe, or of one of its arms: a `KdConfig`, which `train` takes; of text a
    `LanguageConfig`, which `train_language` takes.

    Example:
        >>> recipe("hinton-missing-digit").without
        ('3',)
        >>> recipe("hinton-missing-digit", arm="hard").method
        'plain'
    """
    return page(name).config(arm)
