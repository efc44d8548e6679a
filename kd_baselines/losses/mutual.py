"""Deep mutual learning (DML): nets that are trained together teach each other.

Notation: K nets with logits z_1 to z_K, of which the first is the student and the others are its
peers; p_k = softmax(z_k). Net k minimizes

    L_k = CE(z_k, y) + 1/(K - 1) sum_(l != k) KL(p_l || p_k)

where p_l is taken as it is, without a gradient.

Reference: Zhang et al., Deep Mutual Learning, CVPR 2018, https://arxiv.org/abs/1706.00384
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # BatchNorm, SyncBatchNorm and InstanceNorm

from datadistill.errors import UsageError
from datadistill.nets.copying import copy_net
from datadistill.nets.initialization import draw
from kd_baselines.features import run
from kd_baselines.losses.checks import check_draws
from kd_baselines.losses.cross_entropy import label_loss
from kd_baselines.losses.schedules import Weight
from kd_baselines.losses.soft_targets import soft_target_loss
from kd_baselines.losses.term import Needs, Seen, Term

__all__ = ["DeepMutual", "mutual_loss"]


def mutual_loss(logits: Sequence[Float[Tensor, "b k"]]) -> Float[Tensor, ""]:
    """sum_k 1/(K - 1) sum_(l != k) KL(p_l || p_k), mean over the batch (Zhang et al. 2018).

    The gradient of net k is that of its own summands alone, so it is not the derivative of the sum.

    Args:
        logits: z_1 to z_K, (B,C) each, of the same samples and classes; K at least 2.

    Example:
        >>> mutual_loss([torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, -2.0]])])
        tensor(1.9281)
    """
    if isinstance(logits, Tensor) or len(logits) < 2:
        found = "one tensor" if isinstance(logits, Tensor) else f"logits of {len(logits)} nets"
        raise UsageError(f"mutual learning got {found}; give a list of the logits of 2 or more")
    pairs = [(z, other) for z in logits for other in logits if other is not z]
    losses = [soft_target_loss(z, other, 1.0) for z, other in pairs]
    return torch.stack(losses).sum() / (len(logits) - 1)


class DeepMutual(Term):
    """Everything of L_1 to L_K but the student's own cross-entropy: add it to `CE()`.

    The peers are the term's own: copies of the student with first weights of their own, trained
    with it by the same optimizer, kept in checkpoints and thrown away at the end. All nets are
    updated at once by one gradient; the paper updates one after the other, each with the new
    answers of those before it.

    Args:
        peers: K - 1, at least 1.
        init: distribution of the peers' first weights (`datadistill.nets.initialization`).
        nets: the peers themselves, in place of copies; trained in place.
    """

    needs = Needs(student_logits=True, student=True)

    def __init__(
        self,
        peers: int = 1,
        init: str = "default",
        weight: Weight = 1.0,
        nets: Sequence[nn.Module] = (),
        name: str | None = None,
    ) -> None:
        super().__init__(weight, name)
        check_draws("peers", peers)
        self.peers, self.init = peers, init
        self.nets = nn.ModuleList(nets)
        self.given = bool(nets)

    def prepare(self, seen: Seen) -> None:
        if self.given:
            return
        assert seen.student is not None
        stream = torch.Generator().manual_seed(int(torch.randint(1 << 62, ())))
        self.nets = nn.ModuleList(
            _draw_peer(seen.student, self.init, stream) for _ in range(self.peers)
        )

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        if not self.nets:
            raise UsageError("the peers are not made yet; call prepare(seen) once before training")
        own = seen.require("student_logits")
        logits = [own]
        for peer in self.nets:
            found = run(peer, seen.images, classes=own.shape[1]).logits
            assert found is not None
            logits.append(found)
        labels = torch.stack([label_loss(z, seen.labels) for z in logits[1:]])
        return labels.sum() + mutual_loss(logits)


def _draw_peer(student: nn.Module, init: str, stream: torch.Generator) -> nn.Module:
    """A copy of a net, with first weights and statistics of its own."""
    peer = copy_net(student)
    with torch.no_grad():
        for name, value in draw(peer, init, stream).items():
            peer.get_parameter(name).copy_(value)
        for module in peer.modules():
            if isinstance(module, _NormBase):
                module.reset_running_stats()
    return peer
