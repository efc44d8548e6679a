"""The scores of a trained net: accuracy, the same under noise, and classes that it never saw.

Notation: z (N,K) logits, y (N,) labels, c a class that was left out of the student's training, s
its shift.

    noise      accuracy on x + n, n ~ N(0, deviation^2) on pixels in the range 0 to 1
    left out   accuracy on class c of argmax z, and of argmax (z + s e_c): "raising the bias" of the
               class

Reference: Hinton, Vinyals and Dean 2015, section 3, https://arxiv.org/abs/1503.02531 (a transfer
set without any 3). There s is the best on the test images; here it is chosen on the validation
images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.data import RealData, Split
from datadistill.errors import DataError, NumericalError, UsageError, suggest
from datadistill.innerloop.net_mode import NetMode
from datadistill.nets.copying import bare_net
from datadistill.nets.logits import refuse_labels_beyond, refuse_one_logit
from datadistill.objectives import evaluation_logits
from datadistill.progress import Report, iterate, show_progress
from datadistill.streams import generator
from datadistill.torch_defaults import use_library_defaults
from kd_baselines.features import cast_images, logits_in, run
from kd_baselines.scores import LeftOut, Scores
from kd_baselines.splits import as_split, refuse_distilled
from kd_baselines.teachers import Teacher

__all__ = ["LeftOut", "Scores", "choose_shift", "score", "score_second_head"]


@use_library_defaults()
@show_progress
def score(
    net: nn.Module | Callable[[Tensor], Tensor],
    data: RealData | Any,
    *,
    noise: Sequence[float] = (),
    missing: Sequence[str] = (),
    seed: int = 0,
    split: str = "test",
    batch: int = 500,
    progress: bool | Report = False,
) -> Scores:
    """Measure a net on real images, in evaluation mode; neither the net nor the data is changed.

    Args:
        net: images (B,C,H,W) to logits (B,K), K the classes of the data, on any device; or a
            `Teacher`, on the device of the data.
        data: normalized as the net wants them. In place of `RealData`, for the accuracy alone:
            images with labels as `kd_baselines.splits.as_split` takes them (a data set, a pair of
            tensors), all tested.
        noise: deviations, 0 or more, of Gaussian noise on pixels in the range 0 to 1; not clipped.
            The noise of a deviation is a function of the seed and of it alone: unit noise of the
            stream (seed, "test_noise", k), k the deviation in millionths, times the deviation.
        missing: names of classes that were left out of the net's training.
        seed: of the noise.
        split: which images; the shifts of `missing` are chosen on the validation images all the
            same.
        batch: images at once.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Example:
        >>> from datadistill.data import load
        >>> data = load("digits")
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> _ = nn.init.zeros_(net[1].weight), nn.init.zeros_(net[1].bias)
        >>> found = score(net, data, noise=(0.3,), missing=("3",))
        >>> found.per_class[0], found.per_class[3]  # equal logits: the first class is taken
        (100.0, 0.0)
    """
    for deviation in noise:
        if not 0 <= deviation < math.inf:
            raise UsageError(
                f"noise is {deviation}, but a deviation is 0 or more; give such as 0.3"
            )
    refuse_distilled(
        data,
        "on which nothing is tested; pass the real data (datadistill.data.load), or measure the "
        "set itself with datadistill.evaluate",
    )
    net = bare_net(net) if isinstance(net, nn.Module) else _Called(net)
    if not isinstance(data, RealData):
        return _accuracy_alone(net, as_split(data), noise, missing, split, batch)
    if noise and data.normalization.tensors:
        raise UsageError(
            f"noise is added to images of {data.name} where a channel is divided by one deviation, "
            f"and these went through {data.normalization.words}; leave noise out"
        )
    for name in missing:
        if name not in data.classes:
            raise UsageError(f"{data.name} has no class {name!r}; {suggest(name, data.classes)}")
    data = data.to(next(net.parameters(), data.train.images).device)
    target, classes = data.split(split), len(data.classes)
    if not len(target):
        raise DataError(f"the {split} split of {data.name} has no image; pass another --split")
    logits = _logits(net, target.images, classes, batch)
    right = logits.argmax(1) == target.labels
    groups = [right[target.labels == k] for k in range(classes)]
    validation = _logits(net, data.validation.images, classes, batch) if missing else logits
    return Scores(
        accuracy=_percent(right),
        images=len(right),
        errors=_errors(right),
        per_class=tuple(_percent(group) if len(group) else None for group in groups),
        noise={
            d: _noisy(net, target, data.normalization.std, d, seed, batch, classes) for d in noise
        },
        missing={
            name: _score_left_out(
                logits, target.labels, validation, data.validation.labels, k, name
            )
            for name in missing
            for k in [data.classes.index(name)]
        },
        split=split,
    )


@use_library_defaults()
def score_second_head(
    student: nn.Module,
    teacher: Teacher,
    data: RealData,
    source: RealData | None = None,
    *,
    batch: int = 500,
) -> dict[str, float]:
    """What the second head of a student (`kd_baselines.heads`) has of its teacher's knowledge, in
    percent.

    Args:
        student: with a layer "source", in evaluation mode.
        teacher: on the student's device.
        data: the student's own; "source agreement" is how often, on the test images, the largest
            logit of the second head is the teacher's.
        source: the teacher's data, where they are at hand; "source accuracy" is the second head's
            on their test images.
        batch: images at once.
    """

    def second_head(images: Tensor) -> Tensor:
        return run(student, images, ["source"]).features["source"]

    images = data.test.images
    with torch.no_grad():
        alike = [
            second_head(x).argmax(1) == teacher(x).argmax(1)
            for x in iterate(images.split(batch), "testing the second head")
        ]
    found = {"source agreement": _percent(torch.cat(alike))}
    if source is not None:
        found["source accuracy"] = score(second_head, source, batch=batch).accuracy
    return found


def choose_shift(
    logits: Float[Tensor, "n k"], labels: Int[Tensor, " n"], class_index: int
) -> float:
    """The shift s of class c's logit with the most right answers; exact.

    Image i is taken for c where s > t_i = max over the other classes of z_ij, minus z_ic. So the
    number of right answers changes at the t_i alone, and one s from each interval between
    neighbours decides:

        right(s) = #{y_i = c, t_i < s} + #{y_i = argmax over the others of z_ij, t_i > s}

    Args:
        logits: (N,K), K at least 2.
        labels: (N,).
        class_index: c.

    Returns:
        s: 0, the middle between two neighbours, or 1 beyond the first or last; of the best ones the
        smallest in absolute value.

    Example:
        >>> logits = torch.tensor([[1.0, 0.0], [3.0, 0.0], [9.0, 0.0]])
        >>> choose_shift(logits, torch.tensor([1, 1, 0]), class_index=1)  # t = 1, 3, 9
        6.0
    """
    if logits.ndim != 2 or logits.shape[1] < 2 or labels.shape != logits.shape[:1]:
        raise UsageError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; wanted (N, "
            "K) with K at least 2, and (N,)"
        )
    if not 0 <= class_index < logits.shape[1]:
        raise UsageError(
            f"class_index is {class_index}; the logits have classes 0 to {logits.shape[1] - 1}"
        )
    if not len(labels):
        raise DataError("there is no image to choose a shift on; hold some out (validation=...)")
    others = logits.detach().double().clone()
    own = others[:, class_index].clone()
    others[:, class_index] = -math.inf
    highest, taken = others.max(1)
    t = highest - own
    gained = t[labels == class_index].sort().values  # right where s lies above
    lost = t[labels == taken].sort().values  # right where s lies below
    between = t.unique()
    middles = (between[1:] + between[:-1]) / 2
    candidates = torch.cat([middles, between[:1] - 1, between[-1:] + 1, between.new_zeros(1)])
    candidates = candidates[candidates.abs().argsort(stable=True)]
    below = torch.searchsorted(lost, candidates, right=True)  # right before, wrong at s
    right = torch.searchsorted(gained, candidates) + len(lost) - below
    return float(candidates[right.argmax()]) + 0.0  # argmax takes the first; + 0.0: never -0.0


class _Called(nn.Module):
    """A teacher as a module without tensors of its own: it minds its nets' modes itself."""

    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, images: Tensor) -> Tensor:
        return self.call(images)


def _accuracy_alone(
    net: nn.Module,
    target: Split,
    noise: Sequence[float],
    missing: Sequence[str],
    split: str,
    batch: int,
) -> Scores:
    """Accuracy on images that have labels and neither names of classes nor a normalization."""
    if noise or missing:
        raise UsageError(
            "noise and classes left out are measured on a RealData, which has a normalization and "
            "names of classes; pass one (RealData.from_tensors), or leave them out"
        )
    if not len(target):
        raise DataError("there is no image to test on; pass some")
    if target.labels.dim() != 1:
        raise UsageError(
            f"labels are probabilities {tuple(target.labels.shape)}, of which there is no "
            "accuracy; pass class numbers"
        )
    device = next(net.parameters(), target.images).device
    images, labels = target.images.to(device), target.labels.to(device)
    logits = _logits(net, images, None, batch)
    refuse_labels_beyond(labels, logits.shape[1])
    right = logits.argmax(1) == labels
    groups = [right[labels == k] for k in range(logits.shape[1])]
    per_class = tuple(_percent(group) if len(group) else None for group in groups)
    return Scores(_percent(right), len(right), _errors(right), per_class, split=split)


@torch.no_grad()
def _logits(net: nn.Module, images: Tensor, classes: int | None, batch: int) -> Tensor:
    theta: dict[str, Tensor] = dict(net.named_parameters())
    images = cast_images(net, images)
    # which take no other tensors
    if any(isinstance(m, torch.jit.ScriptModule) for m in net.modules()):
        with NetMode(net, "frozen", training=False):
            returned = [net(x.clone()) for x in iterate(images.split(batch), "testing")]
    else:
        batches = evaluation_logits(net, theta, images, batch)
        returned = list(iterate(batches, "testing", -(-len(images) // batch)))
    parts = [logits_in(one, type(net).__name__) for one in returned]
    if classes is None and parts and parts[0].dim() == 2:
        classes = parts[0].shape[1]
        refuse_one_logit(parts[0])
    found = torch.cat(parts) if parts else images.new_zeros(0, classes or 1)
    if found.shape != (len(images), classes):
        raise UsageError(
            f"the net makes {tuple(found.shape)} of {len(images)} images, but the data have "
            f"{classes} classes; test it on its own data"
        )
    if not bool(torch.isfinite(found).all()):
        raise NumericalError(
            "the net's logits are not finite; train it with a smaller learning rate"
        )
    return found


def _noisy(
    net: nn.Module,
    target: Split,
    std: Sequence[float],
    deviation: float,
    seed: int,
    batch: int,
    classes: int,
) -> float:
    """Accuracy on x + deviation * n: in normalized values n is divided by the normalization's
    std."""
    # on the CPU: the same on every device
    stream = generator(seed, "test_noise", round(1e6 * deviation))
    n = torch.randn(target.images.shape, generator=stream).to(target.images.device)
    scale = deviation / target.images.new_tensor(std).view(-1, 1, 1)
    noisy = Split(target.images + scale * n, target.labels)
    return _percent(_logits(net, noisy.images, classes, batch).argmax(1) == noisy.labels)


def _score_left_out(
    logits: Tensor, labels: Tensor, chosen_on: Tensor, chosen_labels: Tensor, k: int, name: str
) -> LeftOut:
    of_class = labels == k
    if not bool(of_class.any()):
        raise DataError(f"no tested image is of class {name}; test on a split that has some")
    shift = choose_shift(chosen_on, chosen_labels, k)
    shifted = logits.double().clone()
    shifted[:, k] += shift
    before, after = logits.argmax(1) == labels, shifted.argmax(1) == labels
    return LeftOut(
        int(of_class.sum()),
        _percent(before[of_class]),
        _errors(before[of_class]),
        shift,
        _percent(after[of_class]),
        _errors(after[of_class]),
        _percent(after),
        _errors(after),
    )


def _percent(right: Tensor) -> float:
    return 100.0 * int(right.sum()) / len(right)


def _errors(right: Tensor) -> int:
    return len(right) - int(right.sum())
