"""The files of Wang et al.'s own code: its `results.pth` as a distilled set.

That code keeps a distilled set as `torch.save` of a list of S x E entries (S steps, E epochs),

    (images (B, C, H, W), labels (B,), lr (1,))          one gradient step each, in the order of
                                                         training

and nothing else: not the data set, not the normalization the images live in, not the net, not
theta_0. What the file does not say is an argument here. In its test phase it writes another
`results.pth`: measured accuracies (step numbers, accuracies, losses) and no images;
`read_test_results` reads that one.

Reference: Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959; the code,
https://github.com/ssnl/dataset-distillation
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datadistill.data import SOURCES, Normalization
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError, suggest
from datadistill.export.wang_entries import check_entries, store_once
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.objectives import Attack, Classification
from datadistill.runs.torchfile import is_plain, read_torch_file
from datadistill.starts import Start
from datadistill.stats import deviation, mean
from datadistill.theta import Theta
from datadistill.torch_defaults import use_library_defaults

_MNIST = ((0.1307,), (0.3081,), "lenet")
_VOC = ((0.4850, 0.4560, 0.4060), (0.2290, 0.2240, 0.2250), "alexnet")
AUTHORS: dict[str, tuple[tuple[float, ...], tuple[float, ...], str]] = {
    "mnist": _MNIST,
    "mnist5k": _MNIST,  # images of MNIST
    "usps": ((0.1597,), (0.2573,), "lenet"),
    "svhn": ((0.4379, 0.4440, 0.4729), (0.1980, 0.2010, 0.1970), "lenet"),
    "voc": _VOC,
    "voc2007": _VOC,
    "cub": ((0.4785, 0.4993, 0.4022), (0.2321, 0.2277, 0.2665), "alexnet"),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2430, 0.2610), "alexcifarnet"),
}
"""Data set: mean, deviation and net of the authors' code, to four decimals. CIFAR-10's and CUB's
are not those of our own sources. Their USPS is brought to 28 px."""


@use_library_defaults()
def import_results(
    path: str | os.PathLike[str],
    dataset: str,
    *,
    net: str | None = None,
    net_args: Mapping[str, Any] | None = None,
    init: str = "xavier",
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    theta_0: Theta | str | os.PathLike[str] | None = None,
    source: str | None = None,
    attack: Sequence[int] | None = None,
) -> DistilledDataset:
    """The distilled set in a `results.pth` of the authors' code.

    The file is a pickle from elsewhere: it is read by torch's restricted reader, which runs none of
    it, and each entry is checked. Images that come back in later epochs are recognized by their
    values and stored once. Update rule: plain gradient descent, as in that code.

    Args:
        path: the file, of any torch version.
        dataset: what it was learned from, a name of `datadistill doctor`; the file does not say.
        net, net_args, init: what it was learned with; by default the authors' net for that data
            set.
        channels: 3 for a grey data set used in three channels (the authors' MNIST_RGB); its own by
            default.
        mean, std: one number a channel on the 0..1 scale: the normalization of the real images; by
            default the authors' for that data set.
        theta_0: for a set learned for one fixed initialization: that one (name -> tensor, or a
            weights file). Without it the set passes for one made for any initialization.
        source: the data set that the nets were pretrained on, for a set learned for pretrained
            nets.
        attack: (K, T) for a set learned to make class K be taken for class T.

    Example:
        >>> path = getfixture("tmp_path") / "results.pth"
        >>> step = (torch.randn(10, 1, 28, 28), torch.arange(10), torch.tensor([0.02]))
        >>> torch.save([step] * 3, path)
        >>> import_results(path, "mnist")
        DistilledDataset(10 images 1x28x28, 10 classes, 3 steps, any initialization of lenet)
    """
    if dataset not in SOURCES:
        raise UsageError(
            f"unknown data set {dataset!r}; {suggest(str(dataset), SOURCES, 'datadistill doctor')}"
        )
    if source is not None and source not in SOURCES:
        raise UsageError(
            f"unknown source {source!r}; {suggest(str(source), SOURCES, 'datadistill doctor')}"
        )
    classes = SOURCES[dataset].classes
    if attack is not None and not (
        len(set(attack)) == len(attack) == 2 and set(attack) <= set(range(len(classes)))
    ):
        raise UsageError(
            f"attack is {tuple(attack)}, wanted two different classes within 0..{len(classes) - 1}"
        )
    if (mean is None) != (std is None):
        raise UsageError(
            f"mean is {mean} and std is {std}; pass both, one number a channel, or neither"
        )
    channels = channels or SOURCES[dataset].shape[0]
    found, digest = read_torch_file(path)
    if _is_test_results(found):
        raise DataError(
            f"{path} holds measured accuracies (step numbers, accuracies, losses) of the authors' "
            "test phase and no images; import the results.pth of the training phase"
        )
    entries = check_entries(found, path, dataset, channels, len(classes))
    size = entries[0][0].shape[2]
    own = (
        _statistics(dataset, channels) if mean is None or std is None else (tuple(mean), tuple(std))
    )
    scale = Normalization(*own, size, channels)
    name = net or AUTHORS.get(_whole(dataset), ((), (), "lenet"))[2]
    spec = NetSpec(
        name,
        {"channels": channels, "size": size, "classes": len(classes), **(net_args or {})},
        init,
    )
    images, labels, order = store_once(entries)
    origin: dict[str, Any] = {
        "recipe": "imported",
        "dataset": dataset,
        "split": "train",
        "sha256": digest,
        "description": (
            "imported from a results.pth of the authors' code; the file says neither data set nor "
            "normalization nor net: they are as the importer gave them"
        ),
    }
    start = Start("draws" if source is None else "pool", theta_0 is not None, source)
    objective = Classification() if attack is None else Attack(attack[0], attack[1], len(classes))
    try:
        return DistilledDataset(
            images,
            labels,
            torch.tensor([lr for _, _, lr in entries]),
            order,
            classes=classes,
            normalization=scale,
            net=spec,
            update=sgd(),
            theta_0=_theta_0(theta_0, spec),
            start=start,
            objective=objective,
            data=DataReference(dataset),
            origin=origin,
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _whole(dataset: str) -> str:
    """The data set that a subset is part of; any other itself."""
    return SOURCES[dataset].subset_of or dataset


def _statistics(dataset: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    known = AUTHORS.get(_whole(dataset), SOURCES[dataset].statistics)
    if known is None:
        raise UsageError(
            "the file does not say how its images are normalized, and no published numbers are "
            f"known for {dataset}; pass the mean and the deviation of each channel (--mean, --std)"
        )
    repeat = channels if len(known[0]) == 1 else 1  # grey in three channels
    return known[0] * repeat, known[1] * repeat


def _theta_0(given: Theta | str | os.PathLike[str] | None, spec: NetSpec) -> Theta | None:
    if given is None or isinstance(given, Mapping):
        return None if given is None else dict(given)
    from datadistill.nets.weights import read_weights

    module = spec.build()
    theta, _, _ = read_weights(given, module).fit(module, fresh_last=False)
    return theta


# --- the other results.pth


@dataclass(frozen=True)
class TestResults:
    """Accuracies that the authors' test phase measured: percent, over its nets (population
    deviations)."""

    __test__ = False  # no test of pytest's

    steps: tuple[int, ...]
    accuracy_mean: tuple[float, ...]
    accuracy_std: tuple[float, ...]
    nets: int

    def as_dict(self) -> dict[str, Any]:
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items()}


def _is_test_results(found: Any) -> bool:
    return (
        isinstance(found, list | tuple)
        and len(found) == 3
        and all(isinstance(x, Tensor) for x in found)
        and found[0].dim() == 1
        and not found[0].is_floating_point()
    )


def read_test_results(path: str | os.PathLike[str]) -> TestResults | None:
    """The accuracies in a test-phase `results.pth`; None for a file of another kind. They are
    (steps, nets), or (steps, nets, ...) with the overall one first (an attack)."""
    found, _ = read_torch_file(path)
    if not _is_test_results(found):
        return None
    steps, accuracies = found[:2]
    if (
        not (is_plain(steps) and is_plain(accuracies))
        or accuracies.dim() not in (2, 3)
        or not accuracies.numel()
    ):
        raise DataError(f"{path}: accuracies are {tuple(accuracies.shape)}, wanted (steps, nets)")
    overall = (accuracies if accuracies.dim() == 2 else accuracies[..., 0]).double()
    if len(overall) != len(steps) or not bool(((overall >= 0) & (overall <= 1)).all()):
        raise DataError(
            f"{path}: accuracies of {len(steps)} steps do not lie in 0..1, or are {len(overall)}"
        )
    percents = (100 * overall).tolist()
    return TestResults(
        tuple(steps.tolist()),
        tuple(map(mean, percents)),
        tuple(map(deviation, percents)),
        overall.shape[1],
    )
