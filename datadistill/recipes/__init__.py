"""Recipes: each is a function that returns a full config, one experiment of a paper.

A recipe's docstring says what it is and where it comes from; `RECIPES` has the published number beside it, and
the README the numbers seen. To add one, write a function in a file of this folder and add its line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from datadistill.config import DistillConfig
from datadistill.errors import UsageError, nearest
from datadistill.recipes import cifar10, mnist, own_images, small

Recipe = Callable[[], DistillConfig]


@dataclass(frozen=True)
class Page:
    """A recipe and the number it is held against."""

    make: Recipe
    published: str
    """Published accuracy with its source, or a dash."""

    @property
    def summary(self) -> str:
        """The first line of the recipe's docstring."""
        return (self.make.__doc__ or "").strip().splitlines()[0]


PAPER = "Wang et al. 2018"

RECIPES: dict[str, Page] = {
    "mnist5k-fixed": Page(small.mnist5k_fixed, "-"),
    "digits-random": Page(small.digits_random, "-"),
    "mnist-fixed": Page(mnist.mnist_fixed, f"93.76 ({PAPER}, fig. 2a)"),
    "mnist-fixed-fast": Page(mnist.mnist_fixed_fast, f"93.76 with 3 epochs ({PAPER}, fig. 2a)"),
    "mnist-fixed-100": Page(mnist.mnist_fixed_100, f"96.6 ({PAPER}, table 1)"),
    "mnist-random": Page(mnist.mnist_random, f"79.5 +- 8.1 ({PAPER}, table 1)"),
    "cifar10-fixed": Page(cifar10.cifar10_fixed, f"54.0 ({PAPER}, table 1)"),
    "cifar10-random": Page(cifar10.cifar10_random, f"36.8 +- 1.2 ({PAPER}, table 1)"),
    "own-images": Page(own_images.own_images, "-"),
}


def page(name: str) -> Page:
    """The recipe called `name`, with its published number; UsageError names the nearest."""
    if name not in RECIPES:
        raise UsageError(f"there is no recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]


def recipe(name: str) -> DistillConfig:
    """The config of a recipe.

    Example:
        >>> recipe("mnist-fixed").inner_steps
        3
    """
    return page(name).make()
