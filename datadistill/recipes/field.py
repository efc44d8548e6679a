"""What the recipes of the field's methods share: data sets, numbers of images, the ConvNet, and the
published accuracies.

No number is from memory: each was read in the source that it names.
"""

from __future__ import annotations

from typing import Any

from datadistill.config.choices import Value
from datadistill.config.strategies import DSA_STRATEGY, DSA_STRATEGY_OF_DIGITS

IPC = (1, 10, 50)
DATA = {"mnist": "mnist", "fashion": "fashion-mnist", "svhn": "svhn", "cifar10": "cifar10"}
"""Names in recipes -> data sets."""
PADDED = ("mnist", "mnist5k", "fashion-mnist")
"""Data sets of grey images of 28 px, which the papers pad to maps of 32."""
STRATEGIES = {
    "mnist": DSA_STRATEGY_OF_DIGITS,
    "fashion": DSA_STRATEGY,
    "svhn": DSA_STRATEGY_OF_DIGITS,
    "cifar10": DSA_STRATEGY,
}
"""Siamese augmentation of DSA, DM and MTT, by name in recipes."""

DC_README = "README of the authors' code"
NCFM = "as quoted by Wang et al. 2025, NCFM"
FENG = "Feng et al. 2024, chosen on the test set"
FTD = "Cazenavette et al. 2022, quoted in FTD; chosen on the test set"
ZHOU = "Zhou et al. 2022, as NCFM and PAD cite it, with a wider net than the other methods"
# fmt: off
PUBLISHED = {
    ("dc", "mnist"): (DC_README, "91.7 ± 0.5", "97.4 ± 0.2", "98.8 ± 0.1"),
    ("dc", "fashion"): (DC_README, "70.5 ± 0.6", "82.3 ± 0.4", "83.6 ± 0.4"),
    ("dc", "svhn"): (DC_README, "31.2 ± 1.4", "76.1 ± 0.6", "82.3 ± 0.3"),
    ("dc", "cifar10"): (DC_README, "28.3", "44.9", "53.9"),
    ("dsa", "mnist"): (DC_README, "88.7 ± 0.6", "97.8 ± 0.1", "99.2 ± 0.1"),
    ("dsa", "fashion"): (DC_README, "70.6 ± 0.6", "84.6 ± 0.3", "88.7 ± 0.2"),
    ("dsa", "svhn"): (DC_README, "27.5 ± 1.4", "79.2 ± 0.5", "84.4 ± 0.4"),
    ("dsa", "cifar10"): (DC_README, "28.8", "52.1", "60.6"),
    ("dm", "cifar10"): (NCFM, "26.0", "48.9", "63.0"),
    ("rat", "cifar10"): (FENG, "53.2", "69.4", "75.3"),
    ("mtt", "cifar10"): (FTD, "46.2 ± 0.8", "65.4 ± 0.7", "71.6 ± 0.2"),
    ("frepo", "cifar10"): (ZHOU, "46.8", "65.5", "71.7"),
}
# fmt: on
"""(Method, name of the data) -> source, and accuracy in percent at 1, 10 and 50 images a class, of
the protocol by which the method's own paper tests its sets."""


def published(method: str, name: str, ipc: int) -> str:
    """The published accuracy with its source, or a dash.

    >>> published("dc", "mnist", 10), published("rat", "mnist", 1)
    ("97.4 ± 0.2 (README of the authors' code)", '-')
    """
    if (method, name) not in PUBLISHED:
        return "-"
    source, *accuracies = PUBLISHED[method, name]
    return f"{accuracies[IPC.index(ipc)]} ({source})"


def padding_of(dataset: str) -> dict[str, Value]:
    """The arguments of a ConvNet that say its first padding, where it is not the net's own."""
    return {"first_padding": 3} if dataset in PADDED else {}


def convnet(dataset: str, width: int = 128) -> dict[str, Any]:
    """The fields of a config for fresh ConvNets and images of a data set."""
    return {
        "dataset": dataset,
        "net": "convnet",
        "net_args": {"width": width, **padding_of(dataset)},
        "init": "default",
        "theta_0": "random",
    }
