"""Scores of data poisoning: images of class K that nets take for class T after training on the
attacker's set.

Notation: K the attacked class, T the class it is to be taken for. The attacker wants images of K
predicted as T after one gradient step, and everything else as before, so that nothing is noticed.

Reference: Wang et al. 2018, section 3.6 and figure 6, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from torch import Tensor, nn

from datadistill.data import Split
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.objectives import Attack, predictions
from datadistill.stats import deviation, mean
from datadistill.theta import Theta
from datadistill.torch_defaults import use_library_defaults


@dataclass(frozen=True)
class AttackScores:
    """The scores of an attack in percent, of one net, or a mean or deviation over nets.

    Args:
        attacked_accuracy: images of class K that are classified right.
        attacked_to_target: images of class K that are taken for T.
        others_accuracy: images of the other classes (T among them) that are classified right.
        accuracy: all images, true labels.
        modified_accuracy: all images, class K relabelled T: what the attack asks for.
    """

    attacked_accuracy: float
    attacked_to_target: float
    others_accuracy: float
    accuracy: float
    modified_accuracy: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@use_library_defaults()
def attack_scores(
    net: nn.Module, theta: Theta, target: Split, attack_class: int, target_class: int
) -> AttackScores:
    """The scores of one net on real images with their true labels.

    With `functools.partial(attack_scores, attack_class=K, target_class=T)` it is a `measure` of
    `measure_training`.

    Args:
        net: the architecture; in evaluation mode during the call.
        theta: its parameters, name -> tensor.
        target: real images and their true labels.
        attack_class: K, 0 or more.
        target_class: T, another class.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
        >>> import torch
        >>> theta = {"1.weight": torch.eye(2)}
        >>> images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]).view(3, 2, 1, 1)
        >>> found = attack_scores(net, theta, Split(images, torch.tensor([0, 0, 1])), 0, 1)
        >>> found.attacked_accuracy, found.attacked_to_target, found.others_accuracy
        (50.0, 50.0, 100.0)
    """
    found, labels, classes = predictions(net, theta, target)
    wanted = Attack(attack_class, target_class, classes)
    attacked = labels == attack_class
    if not bool(attacked.any()) or bool(attacked.all()):
        raise DataError(
            f"{int(attacked.sum())} of {len(labels)} images are of the attacked class "
            f"{attack_class}; wanted some of it and some of another, so measure on more images"
        )
    right = found == labels
    return AttackScores(
        attacked_accuracy=_percent(right[attacked]),
        attacked_to_target=_percent(found[attacked] == target_class),
        others_accuracy=_percent(right[~attacked]),
        accuracy=_percent(right),
        modified_accuracy=_percent(found == wanted.labels(labels)),
    )


def get_attack(d: DistilledDataset) -> tuple[int, int] | None:
    """(K, T) of a set learned to attack: class K is to be taken for T. None for any other set."""
    return (d.objective.attacked, d.objective.target) if isinstance(d.objective, Attack) else None


def measure_of(d: DistilledDataset) -> Callable[[nn.Module, Theta, Split], AttackScores] | None:
    """The scores that are taken of each net of an attacked set; None for any other set, whose score
    is the accuracy."""
    pair = get_attack(d)
    if pair is None:
        return None
    return functools.partial(attack_scores, attack_class=pair[0], target_class=pair[1])


def mean_and_std(scores: Sequence[AttackScores]) -> tuple[AttackScores, AttackScores]:
    """Mean and deviation (population) of every score."""
    if not scores:
        raise UsageError("there are no scores to take a mean of; measure at least one net")
    table = [s.as_dict() for s in scores]
    columns = [[row[name] for row in table] for name in table[0]]
    return AttackScores(*map(mean, columns)), AttackScores(*map(deviation, columns))


def _percent(hits: Tensor) -> float:
    return 100.0 * int(hits.sum()) / len(hits)
