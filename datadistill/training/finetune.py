"""Fine-tuning with a distilled set: the user's own net, T gradient steps.

Domain adaptation in use (Wang et al. 2018, sections 3.5 and 4.2): a set learned for pretrained nets
takes a net that was trained on the source data to the target data in its own T steps. Beside it
stands ordinary fine-tuning of the same net on the whole target training set: after as many steps,
after as many seconds, in the end, and the number of its steps until it is as good
(`ordinary_finetuning.py`). The test split is read for the accuracies alone: nothing is chosen by
it.

Reference: Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import warnings
from dataclasses import replace

from torch import nn

from datadistill.data import RealData
from datadistill.device import resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.accuracy import Poll
from datadistill.evaluation.attack import get_attack
from datadistill.evaluation.own_data import load_own_data
from datadistill.features import FeatureNormalization
from datadistill.progress import Report, show_progress
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.adapted_net import FineTuning
from datadistill.training.head_finetuning import tune_head
from datadistill.training.net_finetuning import tune_net
from datadistill.training.ordinary_finetuning import (
    Observed,
    percent_of,
    run_ordinary,
)

__all__ = ["FineTuning", "check_comparison", "compare_ordinary", "finetune"]


@use_library_defaults()
@show_progress
def finetune(
    d: DistilledDataset,
    net: nn.Module,
    *,
    data: RealData | None = None,
    data_root: str | None = None,
    device: str = "auto",
    reach: bool = True,
    max_steps: int = 1000,
    every: int = 10,
    lr: float | str = 1e-3,
    batch: int = 128,
    seed: int = 0,
    poll: Poll | None = None,
    progress: bool | Report = False,
) -> FineTuning:
    """Adapt a net in the set's T steps, and compare with ordinary fine-tuning in as many steps, in
    as many seconds, and in the end.

    The net starts from its own values, also where the set carries an initialization: a set learned
    for one fixed initialization is of use to that net alone, and this says so. Its images must be
    prepared with `d.normalization`. A set of features is for the last layer of the net that made
    them, which is drawn afresh.

    Args:
        d: the set.
        net: any module for images of this shape and these classes. It is never changed.
        data: the target data; default: the set's own, found by name.
        data_root: where data sets lie.
        device: auto, cpu or cuda.
        reach: compare with ordinary fine-tuning (Adam on the whole training split), which takes
            minutes for a large net.
        max_steps, every: it stops after this many steps, and is tested on the validation split
            whenever `every` more are done.
        lr, batch: its learning rate and images a step. "auto" makes a run with each of
            `ordinary_finetuning.RATES`, and chooses on the validation split.
        seed: of its batches, and of dropout.
        poll: called before its steps, for signals.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        UsageError: a net that does not fit.
        DataError: data of other classes or another shape.
        NumericalError: the net's values are not finite after the steps.

    Example:
        >>> from datadistill.recipes import recipe
        >>> from datadistill.training import distill
        >>> d = distill(recipe("digits-random").with_changes(iterations=2))
        >>> finetune(d, d.net.build(), reach=False).steps
        10
    """
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"net is {net!r:.80}, wanted a torch module: fine-tuning starts from its values"
        )
    where = resolve(device)
    real = (data or load_own_data(d, data_root=data_root)).to(where)
    if reach:
        check_comparison(real, max_steps, every)
    _warn_of_attack(d)
    if _is_of_features(d) and not _is_of_features(real):
        tuning = tune_head(d, net, real, seed=seed)
    else:
        tuning = tune_net(d, net, real, seed=seed)
    if not reach:
        return tuning
    return compare_ordinary(
        tuning,
        real,
        max_steps=max_steps,
        every=every,
        lr=lr,
        batch=batch,
        seed=seed,
        poll=poll,
    )


def compare_ordinary(
    tuning: FineTuning,
    data: RealData,
    *,
    max_steps: int = 1000,
    every: int = 10,
    lr: float | str = 1e-3,
    batch: int = 128,
    seed: int = 0,
    poll: Poll | None = None,
) -> FineTuning:
    """Compare with ordinary fine-tuning of the same net. The arguments are those of `finetune`;
    `data` is on the device of the adapted net. After a set of features the head alone is trained,
    on features."""
    check_comparison(data, max_steps, every)
    net = tuning.net
    if tuning.head is not None and tuning.features is not None:
        net, data = tuning.head, tuning.features
    observed = Observed(
        set_steps=tuning.steps,
        set_seconds=tuning.seconds,
        wanted=percent_of(net, data.validation),
        max_steps=max_steps,
        every=every,
    )
    found = run_ordinary(
        tuning.start,
        data,
        observed,
        norm="batch" if tuning.norm in (None, "batch") else "frozen",
        lr=lr,
        batch=batch,
        seed=seed,
        poll=poll,
    )
    same_steps, same_seconds = found.same_steps, found.same_seconds
    end, reached = found.best, found.reached
    return replace(
        tuning,
        max_steps=max_steps,
        steps_ordinary=None if reached is None else reached.steps,
        seconds_ordinary=found.seconds if reached is None else reached.seconds,
        accuracy_same_steps=None if same_steps is None else percent_of(same_steps.net, data.test),
        seconds_same_steps=None if same_steps is None else same_steps.seconds,
        accuracy_same_seconds=percent_of(same_seconds.net, data.test),
        steps_same_seconds=same_seconds.steps,
        accuracy_end=percent_of(end.net, data.test),
        steps_end=end.steps,
        seconds_end=end.seconds,
        rates={
            "ordinary": (reached or end).lr,
            "same_steps": (same_steps or end).lr,
            "same_seconds": same_seconds.lr,
            "end": end.lr,
        },
    )


def check_comparison(data: RealData, max_steps: int = 1, every: int = 1) -> None:
    """Refuse what leaves nothing to compare with."""
    for name, count in (("max_steps", max_steps), ("every", every)):
        if count < 1:
            raise UsageError(f"{name} is {count}, but at least 1 is needed")
    if not len(data.validation):
        raise DataError(
            f"{data.name} leaves no validation images to compare on; hold some out, or leave the "
            "comparison out (--no-reach)"
        )


def _is_of_features(images: DistilledDataset | RealData) -> bool:
    """Whether what stands for images are features of a backbone."""
    return isinstance(images.normalization, FeatureNormalization)


def _warn_of_attack(d: DistilledDataset) -> None:
    if (pair := get_attack(d)) is not None:
        taken, target = (d.classes[k] for k in pair)
        warnings.warn(
            f"this set was learned to make a net take {taken} for {target} (a study of data "
            "poisoning): the net is meant to become worse on that class",
            stacklevel=5,
        )
