"""The outer loop: Adam on images, labels and step sizes through the unrolled inner loop.

Iteration i (Wang et al. 2018, Algorithm 1):

    theta_0^(n) ~ p(theta_0), n = 1 .. nets                       initial.py
    theta_T^(n) = unroll(theta_0^(n), steps, step sizes)          innerloop/
    L           = mean_n loss(real batch_i; theta_T^(n))          objectives.py
    images, labels, rho  <-  Adam(clip(grad L))

Nothing is updated before the loss and the gradient have been found finite. Every random choice is drawn from
a stream named by the iteration, so the loop can stop and go on anywhere.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.config import DistillConfig
from datadistill.data import RealData, Split, augment
from datadistill.distilled import DistilledDataset
from datadistill.errors import NumericalError, worded
from datadistill.evaluation.accuracy import trained_accuracies
from datadistill.initial import Fixed, Theta, nets_at_once, nets_of, trainable
from datadistill.innerloop import (
    ADJOINTS,
    Adjoint,
    FullUnroll,
    StepReplay,
    Truncated,
    unroll,
    unroll_with_buffers,
)
from datadistill.innerloop.update_rules import UpdateRule
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.objectives import Attack, Objective
from datadistill.stats import deviation, mean
from datadistill.streams import derive, generator, global_stream
from datadistill.training.learned import Learned
from datadistill.training.schedule import learning_rate_factor
from datadistill.training.starts import Starts

EDGES = (1e-6, 1e2)  # step sizes outside are warned of
NORM_DECAY = 0.95  # of the running mean of the gradient norm
REPLAY_FROM = 200  # inner steps above which "auto" stops keeping every graph


def adjoint_of(config: DistillConfig) -> Adjoint:
    """The adjoint that `config.adjoint` names."""
    if config.adjoint == "auto":
        return FullUnroll() if config.inner_steps <= REPLAY_FROM else StepReplay()
    if config.adjoint == "truncated":
        assert config.window is not None  # the config sees to it
        return Truncated(config.window)
    return ADJOINTS[config.adjoint]()


class OuterLoop:
    """State and steps of one distillation.

    Args:
        config: what to learn, and how.
        data: real data, on the run's device.
        net: the architecture, with its buffers and frozen parameters; its others are not used.
        update: the update rule of the inner loop.
        spec: how a file names the net.
        starts: where theta_0 comes from, in learning and in looks at the validation split.
        objective: what theta_T is asked for.
    """

    def __init__(
        self,
        config: DistillConfig,
        data: RealData,
        net: nn.Module,
        update: UpdateRule,
        spec: NetSpec,
        starts: Starts,
        objective: Objective,
    ) -> None:
        self.config, self.data, self.update, self.spec = config, data, update, spec
        self.net, self.objective = net, objective
        self.start, self.validation_start, self.origin = starts.learning, starts.validation, starts.origin
        self.carried = starts.carried
        self.adjoint = adjoint_of(config)
        self.learned = Learned(config, data, len(trainable(self.net)))
        rates = {"images": config.lr_images, "labels": config.lr_labels, "step_sizes": config.lr_step_sizes}
        self.optimizer = torch.optim.Adam(
            [{"params": [p], "lr": rates[k], "rate": rates[k]} for k, p in self.learned.parameters().items()],
            betas=(config.beta1, config.beta2),
        )
        self.iteration = 0  # outer iterations done
        self.gradient_norm: float | None = None  # running mean
        self.skipped = 0
        self.warned_of_edges = False
        self.loss_sum, self.loss_count = 0.0, 0  # since the last look at the validation split
        self.best: tuple[float, int] | None = None  # accuracy, iteration
        self.best_tensors: dict[str, Tensor] = {}

    # --- one iteration

    def advance(self) -> float:
        """One outer iteration. Returns its loss; NaN where the iteration was skipped.

        Raises:
            NumericalError: a loss or gradient that is not finite, and nothing was changed; or an update that
                left the range of float32, and the last checkpoint stays as it is.
        """
        i, config = self.iteration, self.config
        loss, gradients = self._gradients(i)
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self._refuse(i, loss, norm)
            self.iteration += 1
            return math.nan
        scale = self._clip(norm)
        factor = learning_rate_factor(config.schedule, i, config.iterations, config.warmup)
        for group, (p, g) in zip(
            self.optimizer.param_groups,
            zip(self.learned.parameters().values(), gradients, strict=True),
            strict=True,
        ):
            group["lr"] = group["rate"] * factor
            p.grad = g * scale
        try:
            self.optimizer.step()
        except RuntimeError as error:  # a learning rate that Adam's bias correction takes beyond float32
            if "overflow" not in str(error):
                raise
            raise NumericalError(f"outer iteration {i}: {str(error)[:120]}; {_LOWER_RATES}") from error
        for name, p in self.learned.parameters().items():
            if not bool(torch.isfinite(p).all()):
                words = name.replace("_", " ")
                raise NumericalError(f"outer iteration {i}: the {words} stop being finite; {_LOWER_RATES}")
        self.iteration += 1
        self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1
        return loss

    def _gradients(self, i: int) -> tuple[float, list[Tensor]]:
        config, learned = self.config, self.learned
        images, labels = self.data.train.batch(generator(config.seed, "real_batch", i), config.batch)
        images = augment(images, generator(config.seed, "augment", i), config.augment)
        nets = self._nets(i)
        losses = []
        for net, theta_0, _ in nets:
            theta_T = unroll_with_buffers(
                net, theta_0, learned.steps(), learned.step_sizes(), self.update, self.adjoint,
                norm=config.norm, stream=derive(config.seed, "dropout", i),
            )  # fmt: skip
            with global_stream(config.seed, "outer_noise", i, everything=True):  # a net may be noisy here too
                losses.append(self.objective(net, theta_T, images, labels, config.norm))
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).mean()  # each is of one net, or all
        gradients = torch.autograd.grad(loss, list(learned.parameters().values()), materialize_grads=True)
        return float(loss.detach()), list(gradients)

    def _nets(self, i: int) -> list[tuple[nn.Module, Theta, int]]:
        """The nets of iteration i; see `nets_at_once`."""
        return nets_at_once(self.start, self.net, i, self.config.nets if self.config.theta_0 == "random" else 1)

    def _clip(self, norm: float) -> float:
        """Factor that limits the norm to `clip` times its running mean, which it then joins."""
        mean = self.gradient_norm
        limit = self.config.clip * mean if self.config.clip and mean else math.inf
        scale = limit / norm if norm > limit else 1.0
        self.gradient_norm = norm if mean is None else NORM_DECAY * mean + (1 - NORM_DECAY) * norm * scale
        return scale

    def _refuse(self, i: int, loss: float, norm: float) -> None:
        what = f"loss {loss}" if not math.isfinite(loss) else f"gradient norm {norm} (loss {loss:.4g})"
        if self.skipped < self.config.skips:
            self.skipped += 1
            return
        t, eta, largest = self._first_bad_step(i)
        how = f"reach {largest:.1e}" if math.isfinite(largest) else "stop being finite"
        where = f"the parameters {how} at inner step {t}, step size {eta:.4g}; "
        raise NumericalError(
            f"outer iteration {i}: {what}; {where}nothing was updated. Try smaller learning rates "
            "(--lr-step-sizes 0.005), or go on with other nets (--on-nan skip:3)"
        )

    @torch.no_grad()
    def _first_bad_step(self, i: int) -> tuple[int, float, float]:
        """The first inner step after which theta is not finite, else the one after which it is largest; the
        largest step size there; the largest |theta|."""
        nets, steps, sizes = self._nets(i), self.learned.steps(), self.learned.step_sizes()
        found: list[tuple[float, int]] = []
        for t in range(len(steps)):  # from the start each time: the same masks as in the iteration that failed
            for net, theta_0, _ in nets:
                theta = unroll(
                    net, theta_0, steps[: t + 1], sizes[: t + 1], self.update,
                    norm=self.config.norm, stream=derive(self.config.seed, "dropout", i),
                )  # fmt: skip
                if not all(bool(torch.isfinite(p).all()) for p in theta.values()):
                    return t, float(sizes[t].max()), math.inf
                found.append((max(float(p.abs().max()) for p in theta.values()), t))
        largest, t = max(found)
        return t, float(sizes[t].max()), largest

    # --- looking at it

    def validate(self) -> dict[str, Any]:
        """A line for metrics.jsonl: mean loss since the last one, accuracy on the validation split."""
        d = self.distilled()
        self._warn_of_edges(d.step_sizes)
        nets = nets_of(self.validation_start, self.config.validate_nets)
        target = self.data.validation
        if isinstance(self.objective, Attack):  # how often the modified labels are right
            target = Split(target.images, self.objective.labels(target.labels))
        _, found = trained_accuracies(d, self.net, self.validation_start, target, nets=nets, before=False)
        average = mean(found)
        record = {
            "iteration": self.iteration,
            "loss": self.loss_sum / self.loss_count if self.loss_count else None,
            "accuracy": average,
            "accuracy_std": deviation(found),
            "gradient_norm": self.gradient_norm,
            "step_sizes": d.step_sizes.double().log().reshape(len(d.step_sizes), -1).mean(1).exp().tolist(),
            "skipped": self.skipped,
        }
        self.loss_sum, self.loss_count = 0.0, 0
        if self.config.keep == "best" and (self.best is None or average > self.best[0]):
            self.best = (average, self.iteration)
            self.best_tensors = {k: p.detach().clone() for k, p in self.learned.parameters().items()}
        return record

    def _warn_of_edges(self, step_sizes: Tensor) -> None:
        """Once a run. With one step size a tensor, a tensor that hardly moves is no warning; a step is."""
        by_step = step_sizes.reshape(len(step_sizes), -1).amax(1)
        low, high = float(by_step.min()), float(by_step.max())
        if not self.warned_of_edges and (low < EDGES[0] or high > EDGES[1]):
            self.warned_of_edges = True
            message = (
                f"outer iteration {self.iteration}: the step sizes reach {low:.3g} to {high:.3g}, wanted "
                f"within {EDGES[0]:g} to {EDGES[1]:g}; try a smaller --lr-step-sizes"
            )
            warnings.warn(worded(message), stacklevel=3)

    def distilled(self) -> DistilledDataset:
        """The set as it stands."""
        config, data, learned = self.config, self.data, self.learned
        with torch.no_grad():
            return DistilledDataset(
                learned.images.clone(), learned.labels().clone(), learned.step_sizes().clone(), learned.order,
                classes=data.classes, normalization=data.normalization, net=self.spec, update=self.update,
                theta_0=self.start.draw(0) if isinstance(self.start, Fixed) else None,
                buffers=self.carried,
                tensors=trainable(self.net), norm=config.norm,
                origin={
                    "recipe": config.recipe, "seed": config.seed, "dataset": data.name,
                    "split": "train", "validation": config.validation, "iterations": self.iteration,
                    "description": data.description, **self.origin,
                    **({"attack": [config.attack_class, config.target_class]}
                       if config.objective == "attack" else {}),
                    # which of the folder's images were held out
                    **({"holdout": config.holdout, "skip_bad": config.skip_bad}
                       if config.dataset == "folder" else {}),
                    **({} if data.parts is None else {"parts": data.parts.as_dict()}),
                    **({"data_fingerprint": data.fingerprint}
                       if data.parts is None and config.dataset == CUSTOM else {}),
                },
            )  # fmt: skip

    def result(self) -> DistilledDataset:
        """The set to keep, on the CPU: the last, or the best on the validation split."""
        if self.config.keep == "best" and self.best is not None:
            self._set(self.best_tensors)
        return self.distilled().to("cpu")

    # --- stopping and going on

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs, as nested tensors and plain values."""
        return {
            "learned": {k: p.detach() for k, p in self.learned.parameters().items()},
            "optimizer": self.optimizer.state_dict(),
            "best": self.best, "best_tensors": self.best_tensors,
            "scalars": {k: getattr(self, k) for k in _SCALARS},
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self._set(state["learned"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.best_tensors = state["best"], dict(state["best_tensors"])
        for name in _SCALARS:
            setattr(self, name, state["scalars"][name])

    def _set(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.learned.parameters().items():
                p.copy_(tensors[name])


_LOWER_RATES = "lower lr_images, lr_labels or lr_step_sizes"
_SCALARS = ("iteration", "gradient_norm", "skipped", "warned_of_edges", "loss_sum", "loss_count")
