"""Cross-entropy with the labels."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from datadistill.data.user_split import to_labels
from datadistill.errors import UsageError
from datadistill.nets.logits import refuse_labels_beyond, refuse_one_logit
from kd_baselines.losses.checks import at_least_float32
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["CE", "label_loss"]


class CE(Term):
    """-log softmax(z)_y, mean over the batch; with labels p (B,K), probabilities, -sum_i p_i log
    softmax(z)_i."""

    needs = Needs(student_logits=True)

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        return label_loss(seen.require("student_logits"), seen.labels)


def label_loss(logits: Float[Tensor, "b k"], labels: Tensor) -> Float[Tensor, ""]:
    """The cross-entropy of `CE`, of logits z (B,K) and labels as a step has them."""
    z = at_least_float32(logits)
    refuse_one_logit(z, "the student")
    labels = to_labels(labels, len(z))
    if not labels.is_floating_point():
        refuse_labels_beyond(labels, z.shape[1])
    elif labels.shape != z.shape:
        raise UsageError(
            f"labels are probabilities {tuple(labels.shape)} for logits {tuple(z.shape)}; pass "
            "one for each class, in the order of the logits"
        )
    return F.cross_entropy(z, labels.to(z.dtype) if labels.is_floating_point() else labels)
