"""Recipes: each is a function that returns a full config, one experiment of a paper.

A recipe's docstring says what it is and where it comes from; `RECIPES` has the published number
beside it, and the README the numbers seen. To add one, write a function in a file of this folder
and add its line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from datadistill.config import DistillConfig
from datadistill.errors import UsageError, suggest
from datadistill.recipes import (
    ablations,
    adaptation,
    cifar10,
    frepo,
    head,
    imagenet,
    matching,
    mnist,
    mtt,
    own_images,
    poisoning,
    rat,
    small,
)
from datadistill.recipes.field import DATA, IPC, published
from datadistill.recipes.pools import POOLS
from datadistill.recipes.summary import summary_of

Recipe = Callable[[], DistillConfig]


@dataclass(frozen=True)
class Page:
    """A recipe and the number it is compared with."""

    make: Recipe
    published: str
    """Published accuracy with its source, or a dash."""
    experts: str | None = None
    """The pool recipe of the experts that the recipe follows; None for a recipe without experts."""

    @property
    def summary(self) -> str:
        """The first paragraph of the recipe's docstring."""
        return summary_of(self.make)


PAPER = "Wang et al. 2018"
FIELD: dict[str, Callable[[str, int], DistillConfig]] = {
    "rat": rat.rat,
    "mtt": mtt.mtt,
    "dc": matching.dc,
    "dsa": matching.dsa,
    "dm": matching.dm,
    "frepo": frepo.frepo,
}
"""Methods of the field -> a recipe for a data set (`DATA`) and a number of images a class
(`IPC`)."""

RECIPES: dict[str, Page] = {
    "mnist5k-fixed": Page(small.mnist5k_fixed, "-"),
    "digits-random": Page(small.digits_random, "-"),
    "mnist-fixed": Page(mnist.mnist_fixed, f"93.76 ({PAPER}, fig. 2a)"),
    "mnist-fixed-fast": Page(mnist.mnist_fixed_fast, f"93.76 with 3 epochs ({PAPER}, fig. 2a)"),
    "mnist-fixed-100": Page(mnist.mnist_fixed_100, f"96.6 ({PAPER}, table 1)"),
    "mnist-random": Page(mnist.mnist_random, f"79.5 ± 8.1 ({PAPER}, table 1)"),
    "mnist-random-long": Page(mnist.mnist_random_long, "-"),
    "cifar10-fixed": Page(cifar10.cifar10_fixed, f"54.0 ({PAPER}, table 1)"),
    "cifar10-random": Page(cifar10.cifar10_random, f"36.8 ± 1.2 ({PAPER}, table 1)"),
    "mnist-to-usps": Page(adaptation.mnist_to_usps, f"95.4 ± 1.8 ({PAPER}, table 2)"),
    "mnist-to-usps-fixed": Page(adaptation.mnist_to_usps_fixed, f"97.9 ({PAPER}, table 2)"),
    "usps-to-mnist": Page(adaptation.usps_to_mnist, f"92.7 ± 1.4 ({PAPER}, table 2)"),
    "usps-to-mnist-fixed": Page(adaptation.usps_to_mnist_fixed, f"93.2 ({PAPER}, table 2)"),
    "svhn-to-mnist": Page(adaptation.svhn_to_mnist, f"85.2 ± 4.7 ({PAPER}, table 2)"),
    "svhn-to-mnist-fixed": Page(adaptation.svhn_to_mnist_fixed, f"96.2 ({PAPER}, table 2)"),
    "svhn-grey-to-mnist": Page(adaptation.svhn_grey_to_mnist, "-"),
    "imagenet-to-voc": Page(
        imagenet.imagenet_to_voc, f"70.75 on objects cut out of VOC 2007 ({PAPER}, table 3)"
    ),
    "imagenet-to-cub": Page(imagenet.imagenet_to_cub, f"38.76 ({PAPER}, table 3)"),
    "squeezenet-to-voc-animals": Page(imagenet.squeezenet_to_voc_animals, "-"),
    "squeezenet-to-cub-20": Page(imagenet.squeezenet_to_cub20, "-"),
    "mnist-attack": Page(
        poisoning.mnist_attack, f"71.4 ± 29.6 of zeros taken for ones ({PAPER}, project page)"
    ),
    "cifar10-attack": Page(
        poisoning.cifar10_attack, f"45.9 ± 18.1 of planes taken for cars ({PAPER}, project page)"
    ),
    **{
        f"mnist-steps-{s}-epochs-{e}": Page(
            partial(ablations.figure4, s, e), f"{n} ({PAPER}, {figure}, read off)"
        )
        for s, e, n, figure in (
            (1, 2, 30, "fig. 4a"),
            (5, 2, 60, "fig. 4a"),
            (10, 2, 75, "fig. 4a"),
            (20, 2, 73, "fig. 4a"),
            (30, 2, 77, "fig. 4a"),
            (10, 1, 69, "fig. 4b"),
            (10, 3, 77, "fig. 4b"),
            (10, 4, 80, "fig. 4b"),
            (10, 5, 77, "fig. 4b"),
        )
    },
    **{
        f"mnist-images-{n}-steps-{1 if one else n}": Page(partial(ablations.figure5, n, one), "-")
        for n in (5, 10, 20, 30)
        for one in (False, True)
    },
    **{
        f"{name}-{method}-ipc{ipc}": Page(
            partial(make, name, ipc),
            published(method, name, ipc),
            f"{name}-experts" if method == "mtt" else None,
        )
        for method, make in FIELD.items()
        for name in DATA
        for ipc in IPC
    },
    "cifar10-tesla-ipc1": Page(mtt.cifar10_tesla_ipc1, "-", "cifar10-experts"),
    "mnist-rat-cpu": Page(rat.mnist_rat_cpu, "-"),
    "fashion-rat-cpu": Page(rat.fashion_rat_cpu, "-"),
    "mnist5k-mtt": Page(mtt.mnist5k_mtt, "-", "mnist5k-experts"),
    "mnist-mtt-cpu": Page(mtt.mnist_mtt_cpu, "-", "mnist-experts-cpu"),
    "mnist5k-dm": Page(matching.mnist5k_dm, "-"),
    "mnist-dm-cpu": Page(matching.mnist_dm_cpu, "-"),
    "fashion-dm-cpu": Page(matching.fashion_dm_cpu, "-"),
    "mnist5k-frepo": Page(frepo.mnist5k_frepo, "-"),
    "mnist-frepo-cpu": Page(frepo.mnist_frepo_cpu, "-"),
    "fashion-frepo-cpu": Page(frepo.fashion_frepo_cpu, "-"),
    "own-images": Page(own_images.own_images, "-"),
    "own-images-finetune": Page(own_images.own_images_finetune, "-"),
    "own-images-head": Page(head.own_images_head, "-"),
    "cub-20-head": Page(head.cub20_head, "-"),
}


def page(name: str) -> Page:
    """The recipe called `name`, with its published number; UsageError names the nearest."""
    if name not in RECIPES:
        if name in POOLS:
            raise UsageError(f"{name} is a recipe of a pool; type datadistill pretrain {name}")
        raise UsageError(
            f"there is no recipe {name!r}; {suggest(name, RECIPES, 'datadistill recipes')}"
        )
    return RECIPES[name]


def recipe(name: str) -> DistillConfig:
    """The config of a recipe."""
    return page(name).make()
