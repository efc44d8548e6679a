"""Training of a net of your own on images, in one call; `fit_loop.py` has the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import nn

from datadistill.data import RealData, Split
from datadistill.data.user_split import split_of
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.nets.copying import bare_net, copy_net, keep_hooks, refuse_original_layers
from datadistill.progress import Report, show_progress, track
from datadistill.torch_defaults import use_library_defaults
from datadistill.training.fit_loop import lay_out, of_module
from datadistill.training.fit_plan import FitPlan

__all__ = ["fit"]


@use_library_defaults()
@show_progress
def fit(
    net: nn.Module,
    split: Split | Any,
    plan: FitPlan,
    *,
    seed: int = 0,
    on_step: Callable[[int, nn.Module], bool | None] | None = None,
    poll: Callable[[], None] | None = None,
    progress: bool | Report = False,
) -> nn.Module:
    """Train a copy of a net by cross-entropy on real images, and return it with its layers in the
    modes of `net`.

    Args:
        net: images (B,C,H,W) to logits (B,K); never changed. Parameters without a gradient stay
            frozen, and so do layers in evaluation mode inside a net in training mode (BatchNorm
            keeps its statistics).
        split: images and labels, on the net's device: a `Split`, a `DistilledDataset`, a pair of
            tensors, a torch data set, a list of pairs or a DataLoader; see
            `datadistill.data.user_split.split_of`.
        plan: how to train.
        seed: of order, augmentation and dropout.
        on_step: called after every step with the number of steps done and the net being trained,
            which it must leave in training mode; True stops.
        poll: called before every step, for signals.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        UsageError: nothing to train, or data or a net of another form.
        DataError: the split is empty.
        NumericalError: the loss is not finite.

    Example:
        >>> from datadistill.data import load
        >>> from datadistill.nets import build
        >>> data = load("digits")
        >>> net = build("mlp", channels=1, size=8, classes=10, width=16)
        >>> trained = fit(net, data.train, FitPlan(epochs=5, lr=0.01))
        >>> hits = trained(data.validation.images).argmax(1) == data.validation.labels
        >>> bool(hits.float().mean() > 0.8)
        True
    """
    split = _split(split)
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"net is {net!r:.80}, wanted a torch module; build one first: fit(make_net(), ...)"
        )
    trained = keep_hooks(copy_net(net), net)
    loop = of_module(trained, split, plan, seed=seed)
    with track("training", plan.epochs * loop.steps_per_epoch) as task:
        while not loop.is_done:
            if poll is not None:
                poll()
            with nullcontext() if loop.step else refuse_original_layers(net):
                loop.advance()
            task.advance()
            if on_step is not None and on_step(loop.step, trained):
                break
    for module, old in zip(trained.modules(), bare_net(net).modules(), strict=True):
        module.training = old.training
    lay_out(trained, None)
    for p in trained.parameters():
        p.grad = None
    # without the graph of what it kept of its last forward
    return keep_hooks(copy_net(trained), net)


def _split(data: Any) -> Split:
    if isinstance(data, RealData):
        raise UsageError(
            f"split is the RealData {data.name!r}; pass the part to train on: data.train"
        )
    if isinstance(data, DistilledDataset):
        data = (data.images, data.labels)
    return split_of(data, "split")
