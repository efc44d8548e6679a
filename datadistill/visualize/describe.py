"""A distilled set in words, for the headings of its figures.

Notation: S steps an epoch, E epochs, T = S E inner steps; step t of T is step t mod S of an epoch.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from datadistill.distilled import DistilledDataset
from datadistill.objectives import Attack
from datadistill.stats import format_mean
from datadistill.visualize.canvas import clean, is_number

MAX_ETAS = 5  # step sizes spelled out in one line


def steps_an_epoch(distilled: DistilledDataset) -> int:
    """S, the batches of the schedule."""
    return distilled.schedule.steps_per_epoch


def mean_step_sizes(distilled: DistilledDataset) -> Float[Tensor, " steps"]:
    """(T,) step sizes; of (T, P) the geometric mean over the P parameter tensors."""
    sizes = distilled.step_sizes.detach().double().cpu()
    return sizes if sizes.dim() == 1 else sizes.log().mean(dim=1).exp()


def top_classes(distilled: DistilledDataset) -> tuple[list[int], list[float] | None]:
    """The (most probable) class of every image and, for labels that are probabilities, its own."""
    labels = distilled.labels.detach().cpu()
    if not labels.is_floating_point():
        return labels.tolist(), None
    largest, top = labels.max(dim=1)
    return top.tolist(), largest.tolist() if distilled.label_kind == "soft" else None


def step_line(distilled: DistilledDataset, step: int, steps: int, sizes: Tensor) -> str:
    """The line above the images of a step: its step size in every epoch, such as "step 1: η = 1.7,
    0.011, 0.114 (epochs 1-3)". `sizes` (T,) is from `mean_step_sizes`."""
    etas = [f"{eta:.3g}" for eta in sizes[step::steps].tolist()]
    notes = [f"epochs 1-{len(etas)}"] if len(etas) > 1 else []
    if distilled.step_sizes.dim() == 2:
        notes.append(f"geometric mean of {distilled.step_sizes.shape[1]} tensors")
    if len(etas) > MAX_ETAS:
        etas = [*etas[: MAX_ETAS - 2], "…", etas[-1]]
    return f"step {step + 1}: η = {', '.join(etas)}" + (f" ({'; '.join(notes)})" if notes else "")


def title(distilled: DistilledDataset, steps: int) -> str:
    """Such as "mnist-fixed: 10 images in 10 classes, 1 step × 3 epochs"."""
    n, k, epochs = len(distilled.images), len(distilled.classes), distilled.schedule.steps // steps
    return (
        f"{clean(distilled.origin.get('recipe') or 'distilled set', 60)}: {_count(n, 'image')} in "
        f"{k} classes, {_count(steps, 'step')} × {_count(epochs, 'epoch')}"
    )


def net_line(distilled: DistilledDataset) -> str:
    """Such as "Learned for one fixed initialization (xavier) of lenet, seed 0, 2,000 outer
    iterations"."""
    origin = distilled.origin
    name, init = clean(distilled.net.title, 30), clean(distilled.net.init, 30)
    start = clean(distilled.start.in_words(name, init), 120)
    parts = [f"Learned for {start}"]
    if isinstance(distilled.objective, Attack):
        pair = distilled.objective.attacked, distilled.objective.target
        attacked, target = (clean(distilled.classes[k], 30) for k in pair)
        parts = [f"Learned to make {start} take class {attacked} for class {target}"]
    seed, iterations = origin.get("seed"), origin.get("iterations")
    if isinstance(seed, int):
        parts.append(f"seed {seed}")
    if isinstance(iterations, int):
        parts.append(f"{iterations:,} outer iterations")
    return ", ".join(parts)


def data_line(distilled: DistilledDataset) -> str:
    """The data that it was learned from, in the data set's own words."""
    return (
        "Data: "
        f"{clean(distilled.origin.get('description') or distilled.data.dataset or 'not recorded')}"
    )


def accuracy_line(distilled: DistilledDataset) -> str | None:
    """The accuracies in the file, `Evaluation.as_dict()` or a dict of such by split, one clause a
    measurement; None where nothing was measured."""
    found = distilled.accuracies
    measured = {"": found} if "accuracy_mean" in found else found
    clauses = [_clause(distilled, split, value) for split, value in sorted(measured.items())]
    known = [clause for clause in clauses if clause is not None]
    return f"Accuracy: {'; '.join(known)}" if known else None


def _clause(distilled: DistilledDataset, split: str, value: Any) -> str | None:
    if is_number(value):
        value = {"accuracy_mean": value}
    if not isinstance(value, dict) or not is_number(value.get("accuracy_mean")):
        return None
    where = clean(value.get("dataset") or distilled.data.dataset or "its data", 40)
    of = f"{clean(value.get('split') or split or 'unnamed', 30)} split of {where}"
    nets, deviation = value.get("nets"), value.get("accuracy_std")
    many = isinstance(nets, int) and nets > 1 and is_number(deviation)
    text = (
        f"{format_mean(value['accuracy_mean'], deviation if many else None, '.1f')} % on the {of}"
    )
    notes = [f"mean ± deviation over {nets} nets"] if many else ["1 net"] if nets == 1 else []
    other = value.get("net")
    if isinstance(other, str) and other != distilled.net.name:
        notes.append(f"on {clean(other, 30)}")
    if is_number(value.get("accuracy_before_mean")):
        notes.append(f"{value['accuracy_before_mean']:.1f} % before training")
    return text + (f" ({', '.join(notes)})" if notes else "")


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
