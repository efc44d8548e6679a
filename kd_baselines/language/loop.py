"""Truncated backpropagation through time, with or without a teacher at each step.

The text stands in B columns that are read side by side, from top to bottom, in windows of U words;
the state of the net is carried from window to window and detached, and is zero where an epoch
starts. With the logits z of the net and v of the teacher at each of the window's n = U B places, y
the next word there, w the label weight:

    plain           L = 1/n sum  CE(y, softmax(z))
    born-again      L = 1/n sum  H(softmax(v), softmax(z)) + w CE(y, softmax(z)),
                    H(p, q) = -sum_k p_k log q_k
    update          theta - lr min(1, clip / |g|) g,   g = U dL/dtheta
    learning rate   after an epoch, from the second on, whose validation perplexity was not lower
                    than that of the epoch before by more than `decay_below`: lr <- decay_factor lr

L is what is told; g is of the sum over a window's words and the mean over columns, as in Zaremba et
al. and in Kim et al. (the CNN-LSTM). Learning rates of 1 or 2 and a norm of 5 belong to that sum.

Dropout of step s, from 0, is drawn from the stream (seed, "language_dropout", s), so a fit can stop
and go on at any step.

References: Furlanello et al. 2018, Born-Again Neural Networks, https://arxiv.org/abs/1805.04770,
section 4 (Penn Treebank); Zaremba et al. 2014, https://arxiv.org/abs/1409.2329, for the training of
such models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.innerloop.net_mode import NetMode
from datadistill.runs.signals import interruptible
from datadistill.streams import global_stream
from datadistill.training.fit_loop import train_mode
from kd_baselines.language.model import LanguageModel
from kd_baselines.language.perplexity import perplexity
from kd_baselines.language.plan import LanguagePlan
from kd_baselines.language.windows import columns, windows
from kd_baselines.losses.born_again import born_again_loss

__all__ = ["LanguageFit"]


class LanguageFit:
    """The loop, one window at a time: `while not fit.is_done: fit.advance()`.

    Args:
        net: (tokens (T,B), state or None) -> (logits (T,B,V), state); changed in place.
        text: words of the training text, on the net's device.
        plan: how to train.
        validation: words on which the perplexity is measured after each epoch; None: it is not, and
            the learning rate stays.
        teacher: of the same form and the same V; run in evaluation mode, without a gradient, on the
            same windows with a state of its own, and never changed. None: method plain.
        label_weight: of the words, beside the teacher.
        seed: of dropout.

    Example:
        >>> from kd_baselines.language.nets import build_language
        >>> text = torch.tensor([0, 1, 2]).repeat(100)
        >>> net = build_language("lstm", ["a", "b", "c"], seed=0, width=8, dropout=0.0)
        >>> fit = LanguageFit(net, text, LanguagePlan(epochs=20, batch=2, unroll=10, lr=4.0))
        >>> lines = []
        >>> while not fit.is_done:
        ...     lines += [fit.advance()]
        >>> perplexity(net, text) < 1.5, lines[-1]["epoch"]  # the next word is certain
        (True, 20)
    """

    def __init__(
        self,
        net: LanguageModel,
        text: Int[Tensor, " n"],
        plan: LanguagePlan,
        *,
        validation: Int[Tensor, " m"] | None = None,
        teacher: LanguageModel | None = None,
        label_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.net, self.plan, self.teacher = net, plan, teacher
        self.validation, self.label_weight, self.seed = validation, label_weight, seed
        # views: no copy of the text
        self.windows = list(windows(columns(text, plan.batch), plan.unroll))
        self.trained = [p for p in net.parameters() if p.requires_grad]
        if not self.trained:
            raise UsageError(
                "no tensor requires a gradient, so there is nothing to train; unfreeze some"
            )
        self._refuse_what_does_not_fit()
        self.step = 0  # windows done
        self.lr = plan.lr
        self.last: float | None = None  # validation perplexity after the last epoch
        self.sum = 0.0  # of the loss over this epoch's words
        self.due = False  # whether the test after an epoch is still to come
        self.state_of_net: Any = None
        self.state_of_teacher: Any = None
        train_mode(self.net)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.windows)

    @property
    def steps(self) -> int:
        return self.plan.epochs * self.steps_per_epoch

    @property
    def is_done(self) -> bool:
        return self.step >= self.steps and not self.due

    @property
    def epoch(self) -> int:
        """The epoch of the next step, from 0."""
        return self.step // self.steps_per_epoch

    def advance(self) -> dict[str, Any] | None:
        """One step. Returns a line about the epoch where the step was its last: mean loss of a
        word, the learning rate that it was trained with, and the validation perplexity.

        Raises:
            NumericalError: a loss or gradient that is not finite (nothing was updated), or such a
                perplexity.
            Interrupted: a signal came while the net was tested; the next call tests it again.
        """
        if self.due:
            return self._end_of_epoch()
        inputs, targets = self.windows[self.step % self.steps_per_epoch]
        loss, state = self._loss(inputs, targets)
        value = loss.item()
        if not math.isfinite(value):
            self._refuse(f"the loss became {value}")
        gradient = torch.autograd.grad(
            len(inputs) * loss, self.trained, allow_unused=True, materialize_grads=True
        )
        norm = float(torch.nn.utils.get_total_norm(gradient))
        if not math.isfinite(norm):
            self._refuse(f"the gradient's norm became {norm}")
        rate = self.lr * min(1.0, self.plan.clip / norm) if norm else self.lr
        with torch.no_grad():
            for p, g in zip(self.trained, gradient, strict=True):
                p.sub_(g, alpha=rate)
        self.state_of_net = _detach(state)
        self.sum += value * targets.numel()
        self.step += 1
        self.due = self.step % self.steps_per_epoch == 0
        return self._end_of_epoch() if self.due else None

    def _loss(
        self, inputs: Int[Tensor, "u b"], targets: Int[Tensor, "u b"]
    ) -> tuple[Float[Tensor, ""], Any]:
        """L of one window, and the state after it."""
        with global_stream(self.seed, "language_dropout", self.step, everything=True):
            logits, state = self.net(inputs, self.state_of_net)
        logits, words = logits.flatten(0, 1), targets.flatten()
        if self.teacher is None:
            return F.cross_entropy(logits, words), state
        taught = self._teach(inputs)
        labels = words if self.label_weight else None
        return born_again_loss(logits, taught, labels, label_weight=self.label_weight), state

    @torch.no_grad()
    def _teach(self, inputs: Int[Tensor, "u b"]) -> Float[Tensor, "n v"]:
        """The teacher's logits on the window; its state is carried on."""
        assert self.teacher is not None
        with NetMode(self.teacher, "frozen", training=False):
            logits, self.state_of_teacher = self.teacher(inputs, self.state_of_teacher)
        return logits.flatten(0, 1)

    def _end_of_epoch(self) -> dict[str, Any]:
        words = sum(targets.numel() for _, targets in self.windows)
        line: dict[str, Any] = {"epoch": self.epoch, "loss": self.sum / words, "lr": self.lr}
        found = None
        if self.validation is not None:
            with interruptible():
                found = perplexity(self.net, self.validation)
        self.sum, self.state_of_net, self.state_of_teacher, self.due = 0.0, None, None, False
        if found is not None:
            if not math.isfinite(found):
                self._refuse(f"the validation perplexity became {found}")
            line["perplexity"] = found
            if self.last is not None and self.last - found <= self.plan.decay_below:
                self.lr *= self.plan.decay_factor
            self.last = found
        if self.is_done:
            self.net.eval()
            if not all(bool(torch.isfinite(p).all()) for p in self.trained):
                self._refuse("the parameters are not finite")
        return line

    def _refuse(self, what: str) -> None:
        raise NumericalError(
            f"step {self.step} of {self.steps}, learning rate {self.lr:g}: {what}; train with a "
            f"smaller learning rate (lr {self.plan.lr / 10:g}) or gradient (clip "
            f"{self.plan.clip / 5:g})"
        )

    @torch.no_grad()
    def _refuse_what_does_not_fit(self) -> None:
        if self.teacher is None:
            return
        if self.teacher is self.net:
            raise UsageError(
                "the teacher is the net itself; pass another one, or a copy (copy.deepcopy)"
            )
        first = self.windows[0][0][:1]
        found = []
        for net in (self.net, self.teacher):
            with NetMode(net, "frozen", training=False):
                found.append(net(first, None)[0].shape[-1])
        if found[0] != found[1]:
            raise DataError(
                f"the teacher gives logits of {found[1]} words, the net of {found[0]}; take a "
                "teacher that was trained on the same words"
            )

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs, as nested tensors and plain values."""
        tensors = {name: tensor.detach() for name, tensor in self.net.state_dict().items()}
        return {
            "tensors": tensors,
            "state_of_net": self.state_of_net,
            "state_of_teacher": self.state_of_teacher,
            "step": self.step,
            "lr": self.lr,
            "last": self.last,
            "sum": self.sum,
            "due": self.due,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(dict(state["tensors"]))
        device = self.trained[0].device
        self.state_of_net = _detach(state["state_of_net"], device)
        self.state_of_teacher = _detach(state["state_of_teacher"], device)
        self.step, self.lr, self.last, self.sum = (
            state[name] for name in ("step", "lr", "last", "sum")
        )
        self.due = state.get("due", False)
        if self.is_done:
            self.net.eval()
        else:
            train_mode(self.net)


def _detach(state: Any, device: torch.device | None = None) -> Any:
    """A carried state, tensors in tuples, without its graph and on a device."""
    if isinstance(state, Tensor):
        return state.detach() if device is None else state.detach().to(device)
    return None if state is None else tuple(_detach(one, device) for one in state)
