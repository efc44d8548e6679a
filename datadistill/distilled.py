"""A distilled set: what is learned, and how to train on it.

N synthetic images in K classes, their labels, T step sizes and the order of use: step t trains on
`images[order[t]]` with step size `step_sizes[t]`. Training on it replays exactly that.

Reference: Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from datadistill import distilled_file
from datadistill.data.normalization import Normalization
from datadistill.data.reference import DataReference
from datadistill.distilled_checks import check_set, schedule_of
from datadistill.distilled_prefix import take_prefix
from datadistill.distilled_start import InitialValues
from datadistill.distilled_training import train_on
from datadistill.errors import UsageError
from datadistill.innerloop.steps import Pair, Steps, as_steps
from datadistill.innerloop.update_rules import UpdateRule
from datadistill.nets.factory import NetFactory
from datadistill.nets.spec import NetSpec
from datadistill.nets.trained_parameters import EVERY, select_trained
from datadistill.objectives import Classification, Objective
from datadistill.quantization import Quantization
from datadistill.starts import Start, default_start
from datadistill.synthetic.decoders import Decoder, decode
from datadistill.synthetic.schedule import Schedule
from datadistill.theta import Theta, put
from datadistill.torch_defaults import use_library_defaults


class DistilledDataset(InitialValues):
    """Synthetic images, labels and step sizes that train a net in T gradient steps.

    Args:
        images: (N, C, H, W) floats as trained on: normalized, their values not bounded. None with a
            decoder.
        labels: (N,) integers, or (N, K) probabilities; see `loss`.
        step_sizes: (T,), or (T, P) with one column for each parameter tensor; positive.
        order: T index tensors into the images, one for each step; or the schedule that has them.
        classes: K names, in the order of the labels.
        normalization: what the real images went through; call it on your own.
        net: name and arguments of the net it was learned with.
        update: the update rule it was learned with.
        theta_0: the initial parameters a set for one fixed initialization was learned for, else
            None.
        buffers: the buffers (running statistics) and frozen parameters of a net whose values were
            given, which go with theta_0, else None.
        own: names of the tensors of theta_0 and buffers that the weights which `start` names do not
            give: a fresh last layer, re-estimated statistics.
        by_reference: whether the file holds these alone; see `with_weights`.
        trained: the parameters that the steps train; see `nets.trained_parameters`.
        tensors: with (T, P) step sizes, the P names; taken from theta_0 or the net where absent.
        norm: what BatchNorm used in the inner loop.
        loss: of a step, a name of `innerloop.LOSSES`; "squared-error" goes with labels (N, K) of
            any real numbers.
        start: where the nets that it was learned for start; draws of the net's scheme where absent.
        objective: what was asked of the nets; accuracy where absent.
        data: the real data it was learned from, as far as they can be found again.
        origin: recipe, seed, data set and so on, to be read by people; nothing is decided by it.
        accuracies: what was measured, for the file.
        quantization: of the images in the file; see `quantized`.
        decoder: what makes the images, where they are not stored as they are; see
            `datadistill.synthetic`.
        coded: the tensors that it makes them of.

    Raises:
        DataError: anything that does not fit together, naming the tensor, what was found and
            wanted.

    Example:
        >>> from datadistill.innerloop import sgd
        >>> from datadistill.nets.spec import NetSpec
        >>> d = DistilledDataset(
        ...     torch.zeros(2, 1, 8, 8),
        ...     torch.arange(2),
        ...     torch.tensor([0.1]),
        ...     [torch.arange(2)],
        ...     classes=("no", "yes"),
        ...     normalization=Normalization((0.5,), (0.5,), size=8, channels=1),
        ...     net=NetSpec("mlp", {"channels": 1, "size": 8, "classes": 2}),
        ...     update=sgd(),
        ... )
        >>> d
        DistilledDataset(2 images 1x8x8, 2 classes, 1 step, any initialization of mlp)
        >>> d.train()(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 2])
    """

    @use_library_defaults()
    def __init__(
        self,
        images: Float[Tensor, "n c h w"] | None,
        labels: Tensor,
        step_sizes: Float[Tensor, T * P],
        order: Sequence[Tensor] | Schedule,
        *,
        classes: Sequence[str],
        normalization: Normalization,
        net: NetSpec,
        update: UpdateRule,
        theta_0: Theta | None = None,
        buffers: Theta | None = None,
        own: Sequence[str] = (),
        by_reference: bool = False,
        trained: Sequence[str] | None = None,
        tensors: Sequence[str] | None = None,
        norm: str = "batch",
        loss: str = "cross-entropy",
        start: Start | None = None,
        objective: Objective | None = None,
        data: DataReference | None = None,
        origin: dict[str, Any] | None = None,
        accuracies: dict[str, Any] | None = None,
        quantization: Quantization | None = None,
        decoder: Decoder | None = None,
        coded: Mapping[str, Tensor] | None = None,
    ) -> None:
        if (decoder is None) != (coded is None) or (decoder is None) != (images is not None):
            raise UsageError(
                "images are given, or a decoder and the tensors it makes them of (coded)"
            )
        self.decoder, self.coded = (
            decoder,
            None if coded is None else {k: x.detach() for k, x in coded.items()},
        )
        if images is None:
            assert self.decoder is not None and self.coded is not None
            images = decode(self.decoder, self.coded, len(labels))
        self.images, self.labels = images.detach(), labels.detach()
        self.step_sizes, self.schedule = step_sizes.detach(), schedule_of(order)
        self.classes, self.normalization, self.net, self.update = (
            tuple(classes),
            normalization,
            net,
            update,
        )
        self.theta_0 = None if theta_0 is None else {k: p.detach() for k, p in theta_0.items()}
        self.buffers = None if buffers is None else {k: b.detach() for k, b in buffers.items()}
        self.own, self.by_reference = tuple(own), by_reference
        self.trained = tuple(trained or EVERY)
        self.norm, self.loss, self.quantization = norm, loss, quantization
        self.start = start or default_start(net, theta_0 is not None)
        self.objective, self.data = objective or Classification(), data or DataReference()
        self.origin, self.accuracies = dict(origin or {}), dict(accuracies or {})
        if tensors is None and self.step_sizes.dim() == 2:
            tensors = list(self._theta_0 or dict(net.shapes().named_parameters()))
        self.tensors = tuple(tensors) if tensors is not None else None
        check_set(self)

    def __repr__(self) -> str:
        n, c, h, w = self.images.shape
        fixed = self._theta_0 is not None
        kind = "its own fixed initialization" if fixed else "any initialization"
        kind = "the given values" if self.start.kind == "given" else kind
        steps = f"{self.schedule.steps} step{'s' if self.schedule.steps != 1 else ''}"
        return (
            f"DistilledDataset({n} images {c}x{h}x{w}, {len(self.classes)} classes, {steps}, "
            f"{kind} of {self.net.name})"
        )

    # --- using it

    @property
    def order(self) -> tuple[Int[Tensor, " b"], ...]:
        """T index tensors into the images, one for each step: those of `schedule`."""
        return tuple(self.schedule.order)

    @order.setter
    def order(self, order: Sequence[Tensor] | Schedule) -> None:
        self.schedule = schedule_of(order)

    @property
    def label_kind(self) -> str:
        """ "hard", "soft" (probabilities) or "raw" (numbers for a squared error)."""
        if not self.labels.is_floating_point():
            return "hard"
        return "raw" if self.loss == "squared-error" else "soft"

    @use_library_defaults()
    def build(self) -> nn.Module:
        """The net it was learned with, with the buffers it carries; its parameters have no
        meaning."""
        net = select_trained(self.net.build(), self.trained)
        if self.is_complete:
            put(net, self.buffers or {})
        return net

    @use_library_defaults()
    def steps(self, stream: int = 0) -> Steps:
        """The T steps of training, for `unroll`: pairs (images, labels). `stream` seeds random
        minibatches and augmentation."""
        if not self.schedule.is_random:
            return as_steps([(self.images[i], self.labels[i]) for i in self.order])
        kept = {"images": self.images, "labels": self.labels}
        return Steps(kept, partial(self._pair, stream), self.schedule.steps)

    def _pair(self, stream: int, tensors: Mapping[str, Tensor], t: int) -> Pair:
        images, labels = tensors["images"], tensors["labels"]
        return self.schedule.pair(images.__getitem__, labels, t, stream)

    @use_library_defaults()
    def train(
        self,
        net: nn.Module | NetFactory | None = None,
        theta_0: Theta | None = None,
        *,
        seed: int = 0,
    ) -> nn.Module:
        """Train a net exactly as the set was learned to: T steps. Your net is never changed.

        A set learned for one fixed initialization, or for given values, starts from those it
        carries (buffers and frozen parameters too, where it has some), whatever the net's own
        values are; from any other start it reaches next to nothing, and this says so. Any other set
        starts from `theta_0`, else from the values of the `net` you pass, else from a fresh draw.

        Args:
            net: any module for images of this shape and these classes, or a function without
                arguments that builds one; default: the net it was learned with.
            theta_0: where to start, name -> tensor; names absent from it stay frozen.
            seed: stream of the fresh draw, which such a function makes too, and of random
                minibatches and augmentation.

        Returns:
            A new net. BatchNorm buffers are re-estimated on the distilled images and others are
            those after the T steps, so `net.eval()` is right.

        Raises:
            UsageError: no net to build, or theta_0 that does not fit it.

        Example:
            `net = DistilledDataset.load("runs/mnist5k-fixed-s0").train()`
        """
        return train_on(self, net, theta_0, seed)

    @property
    def passes(self) -> int:
        """The epochs that it was learned with."""
        return self.schedule.epochs

    def as_tensor_dataset(self) -> TensorDataset:
        """Images (normalized) and labels for a plain loop of your own; order and step sizes stay
        behind."""
        return TensorDataset(self.images, self.labels)

    @use_library_defaults()
    def pixels(self) -> Float[Tensor, "n c h w"]:
        """Images in 0..1, for looking only: each image's own smallest value becomes 0, its largest
        1. Whitened images are shown as before they were."""
        images = self.normalization.to_view(self.images)
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        return (images - low) / (high - low).clamp_min(1e-12)

    @use_library_defaults()
    def quantized(self, bits: int = 8) -> DistilledDataset:
        """A copy whose images have 2**bits levels over their own range (1 to 8 bits), one byte each
        when saved.

        They are stored as pixels, whatever the decoder. Learned pixels leave 0..1, so the range is
        stored with them and nothing is clipped. What it costs in accuracy depends on the set:
        measure it (`evaluate`).
        """
        quantization = Quantization.of(self.images, bits)
        images = quantization.round(self.images)
        return self._replace(  # accuracies were those of other images
            images=images, quantization=quantization, decoder=None, coded=None, accuracies={}
        )

    @use_library_defaults()
    def prefix(self, ipc: int) -> DistilledDataset:
        """The first `ipc` images of each class, as a set. Steps keep their own images and step
        sizes; a step without an image is left out. Random minibatches are drawn from fewer images,
        so an epoch has fewer steps.

        Every prefix of a boosted set is good for its size (`DistillConfig.boost_from`); that of
        another set is far from one that was learned for it.

        Raises:
            UsageError: fewer images, classes in another order, a decoder, or step sizes that do not
                follow.
        """
        return take_prefix(self, ipc)

    @use_library_defaults()
    def to(self, device: torch.device | str) -> DistilledDataset:
        moved = {k: getattr(self, k).to(device) for k in ("images", "labels", "step_sizes")}
        for k in ("_theta_0", "_buffers", "coded"):
            tensors = getattr(self, k)
            moved[k] = (
                None if tensors is None else {name: p.to(device) for name, p in tensors.items()}
            )
        return self._replace(**moved, schedule=self.schedule.to(device))

    def with_images(
        self, images: Float[Tensor, "n c h w"], labels: Int[Tensor, " n"]
    ) -> DistilledDataset:
        """A copy with other images and their classes, trained on all at once in one step of its
        first step size."""
        changed = self._replace(
            images=images,
            labels=labels,
            schedule=Schedule([torch.arange(len(images), device=images.device)]),
            step_sizes=self.step_sizes[:1],
            loss="cross-entropy",
            quantization=None,
            decoder=None,
            coded=None,
            accuracies={},
        )
        check_set(changed)
        return changed

    def with_labels(self, labels: Tensor, **origin: Any) -> DistilledDataset:
        """A copy with other labels, (N,) integers or (N, K) probabilities, and more in its origin;
        accuracies were those of the labels before.

        Raises:
            DataError: labels that do not fit the images and classes.
        """
        changed = self._replace(
            labels=labels, loss="cross-entropy", origin={**self.origin, **origin}, accuracies={}
        )
        check_set(changed)
        return changed

    def with_training(
        self, schedule: Schedule, step_sizes: Float[Tensor, " T"], update: UpdateRule
    ) -> DistilledDataset:
        """A copy with another schedule, other step sizes and another update rule; accuracies were
        those of the training before.

        Raises:
            DataError: a schedule of another number of images, or of steps than there are sizes.
        """
        changed = self._replace(
            schedule=schedule, step_sizes=step_sizes, update=update, accuracies={}
        )
        check_set(changed)
        return changed

    def _replace(self, **changes: Any) -> DistilledDataset:
        twin = copy.copy(self)
        twin.origin, twin.accuracies = dict(self.origin), dict(self.accuracies)
        for name, value in changes.items():
            setattr(twin, name, value)
        return twin

    # --- sizes

    @property
    def bytes(self) -> int:
        """Bytes of images, labels and step sizes as stored (theta_0 apart)."""
        tensors = distilled_file.to_tensors(self)
        carried = ("theta_0.", "buffer.")
        return sum(
            x.numel() * x.element_size() for k, x in tensors.items() if not k.startswith(carried)
        )

    @property
    def bytes_theta_0(self) -> int:
        """Bytes of the initialization it carries, its buffers too; 0 for a set that needs none."""
        return sum(p.numel() * p.element_size() for p in self.carried.values())

    # --- files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file: temporary file, sync, rename; mode 0644. An update rule of
        the user's own cannot be written."""
        distilled_file.refuse_own_rule(self)
        distilled_file.SET.save(self, path)

    @classmethod
    @use_library_defaults()
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        verify: bool = True,
        weights: str | os.PathLike[str] | nn.Module | None = None,
        net: nn.Module | NetFactory | None = None,
    ) -> DistilledDataset:
        """Read a file of `save`, or the one in a run folder. With `verify=False` an edited or
        damaged file is read all the same. `weights` and `net` are those of `with_weights`, for a
        set whose file names pretrained values and does not hold them.

        Raises:
            DataError: truncated, altered, of the wrong shapes, not finite, or from a newer schema;
                the sentence says which and gives the value found.
        """
        found = distilled_file.SET.load(path, cls, verify=verify)
        return found if weights is None else found.with_weights(weights, net)
