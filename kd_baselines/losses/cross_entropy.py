"""Cross-entropy with the labels."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["CE"]


class CE(Term):
    """-log softmax(z)_y, mean over the batch.

    Args:
        weight: see `Term`.

    Example:
        >>> objective = CE() + CE(weight=0.5)
        >>> list(objective.named_terms)
        ['ce', 'ce-2']
    """

    needs = Needs(student_logits=True)

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        return F.cross_entropy(seen.got("student_logits"), seen.labels)
