"""Perplexity of a language model, or of several together.

    PPL = exp( -(1/N) sum_t log q_t(w_{t+1}) )        over the N words that are asked for

    arithmetic    q = (1/K) sum_k q_k                 the ensemble BANE of probabilities
    geometric     q ~ (prod_k q_k)^(1/K)              the same of logits: z = (1/K) sum_k z_k

Reference: Furlanello et al., Born-again neural networks, 2018, https://arxiv.org/abs/1805.04770,
section 3.1, which does not say which of the two averages it takes
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.errors import NumericalError, UsageError
from datadistill.innerloop.net_mode import NetMode
from datadistill.nets.layers import check_choice
from datadistill.runs.signals import poll
from kd_baselines.language.model import LanguageModel, State
from kd_baselines.language.windows import columns, windows
from kd_baselines.teachers import AVERAGES

__all__ = ["COLUMNS", "Ensemble", "perplexity"]

COLUMNS = 10
"""Columns that a text is measured in unless told."""


class Ensemble(LanguageModel):
    """Several language models as one, by the mean of their probabilities or of their logits. Its
    state is theirs, one after the other.

    Args:
        *nets: one or more, over the same words; they are held, not copied.
        average: "arithmetic": the logits are log (1/K) sum_k softmax(z_k); "geometric": (1/K) sum_k
            z_k.
    """

    def __init__(self, *nets: LanguageModel, average: str = "arithmetic") -> None:
        if not nets:
            raise UsageError("an ensemble of no model; give one language model or more")
        for k, net in enumerate(nets):
            if net.words != nets[0].words:
                found = (
                    f"model 0 has {len(nets[0].words):,} words, model {k} has {len(net.words):,}"
                )
                raise UsageError(
                    f"{found}, and they are not the same; give models of one vocabulary"
                )
        super().__init__(nets[0].words)
        self.average = check_choice("average", average, AVERAGES)
        self.nets = nn.ModuleList(nets)

    def forward(
        self, tokens: Int[Tensor, "t b"], state: State | None = None
    ) -> tuple[Float[Tensor, "t b v"], State]:
        parts = self._split(state, tokens.shape[-1])
        outs = [net(tokens, part) for net, part in zip(self.nets, parts, strict=True)]
        after = tuple(tensor for _, part in outs for tensor in part)
        logits = torch.stack([z for z, _ in outs])
        if self.average == "geometric":
            return logits.mean(0), after
        return logits.log_softmax(-1).logsumexp(0) - math.log(len(outs)), after

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        nets = [cast(LanguageModel, net) for net in self.nets]
        return tuple(tensor for net in nets for tensor in net.initial_state(batch, device))

    def _split(self, state: State | None, batch: int) -> list[State | None]:
        if state is None:
            return [None] * len(self.nets)
        sizes = [len(cast(LanguageModel, net).initial_state(batch)) for net in self.nets]
        if len(state) != sum(sizes):
            raise UsageError(
                f"the state has {len(state)} tensors, but the ensemble's has {sum(sizes)}; pass "
                "the state of the window before, or None"
            )
        ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
        return [tuple(state[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


@torch.no_grad()
def perplexity(
    net: LanguageModel, tokens: Int[Tensor, " n"], *, batch: int = COLUMNS, unroll: int = 35
) -> float:
    """exp of the mean cross-entropy a word, the state carried on through the whole text.

    In evaluation mode and without a gradient; the net's modes are put back. Summed in float64.

    The text is read as `batch` columns side by side: the first word of each column is not asked
    for, each column starts from the initial state, and at most batch - 1 words at the text's end
    are left out. `batch=1` is the exact figure: every word but the first, after all the words
    before it. `unroll` changes nothing but the memory it takes.

    Args:
        net: a language model, or an `Ensemble`.
        tokens: the text, each a number of `net.words`, on any device.
        batch: columns, at least 1.
        unroll: words at once, at least 1; cut to a column's length.

    Example:
        >>> from kd_baselines.language.nets import build_language
        >>> net = build_language("lstm", ["a", "b"], seed=0, width=3)
        >>> _ = [torch.nn.init.zeros_(p) for p in net.parameters()]
        >>> # all words alike: their number
        >>> round(perplexity(net, torch.tensor([0, 1, 1, 0]), batch=1), 12)
        2.0
    """
    cols = columns(tokens, batch)
    low, high = int(cols.min()), int(cols.max())
    if low < 0 or high >= len(net.words):
        raise UsageError(
            f"tokens are {low} to {high}, the model has {len(net.words):,} words; give the text of "
            "the corpus it was made for"
        )
    place = next(net.parameters(), tokens)
    cols = cols.to(place.device)
    total = torch.zeros((), dtype=torch.float64, device=place.device)
    state: State | None = None
    with NetMode(net, "frozen", training=False):
        for inputs, targets in windows(cols, min(unroll, len(cols) - 1)):
            poll()
            logits, state = net(inputs, state)
            total += F.cross_entropy(
                logits.flatten(0, 1).double(), targets.flatten(), reduction="sum"
            )
    mean = float(total) / cols[1:].numel()
    if not mean < math.log(torch.finfo(torch.float64).max):
        raise NumericalError(
            f"the mean cross-entropy of the text is {mean}, so its perplexity is not finite; lower "
            "the learning rate or clip the gradient harder when training"
        )
    return math.exp(mean)
