"""The steps of an inner loop: which images and labels step t trains on.

A user gives a list of T pairs (images, labels), or `Steps(tensors, fn, T)`: base tensors and a pure
function that makes step t's pair from them. Minibatches, augmentation of the synthetic images,
images combined from bases, labels as a softmax of logits all enter through `fn`; an adjoint that
replays steps calls it again, one step at a time, and differentiates through it into the base
tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from datadistill.errors import UsageError
from datadistill.runs.signals import poll

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Steps:
    """T inner steps as a pure function of base tensors.

    Args:
        tensors: name -> base tensor; gradients come back into those that require them.
        fn: `fn(tensors, t) -> (images (B, C, H, W), labels (B,) int or (B, K) probabilities)`, for
            t = 0 .. T-1. Pure: the same arguments give the same result, whenever it is called.
        T: number of steps, at least 0.

    Example:
        >>> import torch
        >>> bank = {"images": torch.zeros(20, 1, 8, 8), "labels": torch.arange(20) % 10}
        >>> halves = Steps(bank, lambda b, t: (b["images"][t::2], b["labels"][t::2]), T=2)
        >>> halves(0)[0].shape
        torch.Size([10, 1, 8, 8])
    """

    tensors: dict[str, Tensor]
    fn: Callable[[dict[str, Tensor], int], Pair]
    T: int

    def __call__(self, t: int) -> Pair:
        poll()
        return self.fn(self.tensors, t)

    def __len__(self) -> int:
        return self.T

    def __getitem__(self, t: int) -> Pair:
        if not 0 <= t < self.T:
            raise IndexError(f"there is no step {t} of {self.T}")
        return self(t)

    def __iter__(self) -> Iterator[Pair]:
        return (self(t) for t in range(self.T))

    def part(self, first: int, last: int) -> Steps:
        """Steps first .. last - 1.

        >>> import torch
        >>> steps = Steps({"x": torch.arange(4.0)}, lambda b, t: (b["x"][t], b["x"][t]), T=4)
        >>> steps.part(2, 4)(0)[0]
        tensor(2.)
        """
        whole = self.fn
        return replace(self, fn=lambda tensors, t: whole(tensors, first + t), T=last - first)


def as_steps(steps: Steps | Sequence[Pair]) -> Steps:
    """One form for both: a list of pairs becomes base tensors named by position.

    A tensor that occurs in several pairs (images reused over epochs) is one base tensor.
    """
    if isinstance(steps, Steps):
        return steps
    tensors: dict[str, Tensor] = {}
    names: dict[int, str] = {}
    pairs: list[tuple[str, str]] = []
    for t, pair in enumerate(steps):
        is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
        if not (is_pair and all(isinstance(x, Tensor) for x in pair)):
            raise UsageError(
                f"step {t} is {type(pair).__name__}, but each step is a pair (images, labels)"
            )
        images, labels = pair
        if len(images) != len(labels):
            raise UsageError(
                f"step {t} has {len(images)} images and {len(labels)} labels; give "
                "each image one label"
            )
        for x in pair:
            name = names.setdefault(id(x), f"{t}.{len(names)}")
            tensors[name] = x
        pairs.append((names[id(images)], names[id(labels)]))
    return Steps(tensors, lambda base, t: (base[pairs[t][0]], base[pairs[t][1]]), len(pairs))
