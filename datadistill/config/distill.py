"""The config of a distillation: one frozen dataclass, no torch.

A recipe (recipes/) is a function that returns a full config; the command line overrides fields of
it; a run folder keeps it as config.json. Everything here changes the numbers of a run. What does
not (where the folder is, how often to checkpoint) is in `RunOptions`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from datadistill.config.choices import Value
from datadistill.config.distill_checks import check_distill
from datadistill.config.plans import FolderPlan, NetPlan, NormalizationPlan, RunConfig
from datadistill.errors import UsageError


@dataclass(frozen=True)
class DistillConfig(NetPlan, NormalizationPlan, FolderPlan, RunConfig):
    """One distillation run.

    Example:
        >>> DistillConfig(dataset="digits", ipc=2, steps=2, epochs=3).inner_steps
        6
    """

    # --- real data
    holdout: float = 0.2
    """With dataset "folder": share of each class held out as the test set, at least one image."""
    skip_bad: bool = False
    """With dataset "folder": leave unreadable images out, and count them, instead of refusing."""
    augment: tuple[str, ...] = ()
    """Augmentations of the real batches: "crop", "flip", or a strategy such as "color_crop_rotate".
    Methods that match classes (gradient-matching, distribution-matching and its improvement)
    augment the set alike, by one draw for a class."""

    space: Literal["pixels", "features"] = "pixels"
    """What is learned: images, or in their place "features" of a frozen pretrained net, for its
    last layer alone. The features of the real images are computed once."""

    # --- where nets start
    theta_0: Literal["fixed", "random", "given"] = "fixed"
    """One draw kept, or fresh draws every outer iteration; with a pool, one of its nets or all of
    them. "given": the values of your own net (in Python net=), or all those of the file of
    weights."""
    source: str | None = None
    """Data set that the nets of the pool were trained on; None: nets are not pretrained on one."""
    pool: str | None = None
    """Pool of pretrained nets that theta_0 is drawn from: its file, or its run folder; "custom" for
    nets that Python passes."""
    weights: str | None = None
    """Weights of one pretrained net that theta_0 starts from: a file of tensors by name, or
    "imagenet" for those of torchvision."""
    head: Literal["auto", "keep", "fresh"] = "auto"
    """The last layer of a pretrained net: as it is (keep), or drawn afresh. "auto": with theta_0
    given kept where it fits the classes, else fresh."""
    embed_weights: bool = False
    """Keep the pretrained values in the set's file. Otherwise it names them and has their checksum,
    and whoever uses the set passes them."""
    train: tuple[str, ...] = ("all",)
    """Parameters that the steps train: all, head (the last layer), norm (the norm layers), or names
    of parameters and modules."""

    # --- the distilled set
    ipc: int = 1
    """Images per class, in all."""
    steps: int = 1
    """Gradient steps an epoch, each with its own ipc / steps images per class."""
    epochs: int = 3
    """Passes over the steps. Images are used again, step sizes are not."""
    minibatch: int | None = None
    """Images of a step, drawn by shuffled passes over the whole set, as an ordinary loop does; an
    epoch is one pass. None: the explicit steps of `steps`."""
    augment_synthetic: tuple[str, ...] = ()
    """Augmentations of the images of a step, which the set keeps."""
    labels: Literal["hard", "soft", "raw"] = "hard"
    """Fixed integer labels, or learned ones: the softmax of logits, started at 0.9 on the class; or
    raw numbers, which the logits of a net are brought to by a squared error."""
    images_from: Literal["noise", "unit-noise", "real", "mean", "kmeans"] = "noise"
    """Start images from unit Gaussian noise, the same with each image scaled to length 1, real
    images, class means, or k-means centres of each class."""
    boost_from: str | None = None
    """A distilled set, by its file or run folder, whose images are the first of this one
    (boosting): learned so, a set is good for its size, and so is each of the sets before
    (`DistilledDataset.prefix`)."""
    boost_rate: float = 0.0
    """With boost_from: the learning rates of these images and their labels are multiplied by this,
    from 0, which keeps them as they are, to 1."""
    step_size: float | None = 0.02
    """Every step size starts here; the paper has 0.02. None tries a grid on real training images
    before learning. With boost_from they start at the older set's, where that has as many for the
    same update rule."""
    step_sizes: Literal["per-step", "shared", "per-tensor"] = "per-step"
    """One for each step (the paper's), one for all, or one for each step and parameter tensor."""
    decoder: str = "pixels"
    """What makes images of learned tensors: pixels; mosaic, several images in the bytes of one; or
    bases, combinations of images that all classes share."""
    decoder_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the decoder."""

    # --- how real data pull on it
    method: str = "unrolled"
    """Outer method, a name of `methods.METHODS`: unrolled; gradient-matching;
    distribution-matching and improved-distribution-matching; kernel-regression; trajectory-matching
    and tesla, which follow experts; for the last layer of a frozen net ridge-regression and
    linear-gradient-matching."""
    method_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the method."""
    experts: str | None = None
    """Nets with every epoch kept (datadistill pretrain --keep every-epoch) that trajectory matching
    follows: their file, or run folder; "custom" for those that Python passes."""
    objective: str = "classification"
    """What theta_T is asked for, a name of `objectives.OBJECTIVES`: "classification", accuracy on
    the true labels; or "attack", on labels with one class relabelled (data poisoning)."""
    attack_class: int = 0
    """With objective "attack": the class K that is to be taken for another."""
    target_class: int = 1
    """With objective "attack": the class T it is to be taken for."""

    # --- the inner loop
    update: str = "sgd"
    """Update rule of the inner loop, a name of `innerloop.UPDATE_RULES`: sgd, momentum, adam."""
    update_args: dict[str, Value] = field(default_factory=dict)
    """Arguments of the rule, such as beta 0.9."""
    norm: Literal["auto", "batch", "frozen", "reestimated"] = "auto"
    """What BatchNorm layers use inside the inner loop: statistics of the batch, the net's own
    (frozen), or the net's own re-estimated on the real images before learning. "auto": frozen for
    pretrained nets, else batch."""
    adjoint: str = "auto"
    """How to differentiate, a name of `innerloop.ADJOINTS`: full, step-replay, truncated, higher;
    or auto, which keeps all graphs of up to 200 differentiated steps, and replays more steps."""
    window: int | None = None
    """The number of steps that are differentiated: the last ones with adjoint "truncated", those at
    a drawn place with a horizon of "random" or "growing"."""
    horizon: Literal["whole", "random", "growing"] = "whole"
    """The steps after which an outer iteration asks for theta: all; or a random number of them, of
    which the last `window` are differentiated (RaT-BPTT); or the same up to a limit that grows to
    all of them."""

    # --- the outer loop
    iterations: int = 2000
    """Outer iterations: updates of images, labels and step sizes by the `optimizer`."""
    batch: int = 256
    """Real images an outer iteration; of each class in methods that match classes."""
    nets: int = 1
    """Nets an outer iteration (random theta_0), trained at once; their gradients are averaged."""
    lr_images: float = 0.02
    """Learning rate of the images."""
    lr_labels: float = 0.02
    """Learning rate of the label logits."""
    lr_step_sizes: float = 0.02
    """Learning rate of the step sizes' free parameters."""
    optimizer: str = "adam"
    """Optimizer of the set: adam, lamb, or sgd with `momentum`."""
    beta1: float = 0.9
    """First decay of Adam and LAMB."""
    beta2: float = 0.999
    """Second decay of Adam and LAMB."""
    momentum: float = 0.5
    """Momentum of SGD."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the three learning rates fall to zero; constant: they stay."""
    warmup: int = 0
    """Iterations over which they rise first."""
    clip: float = 1.5
    """The gradient's norm is limited to this multiple of its own running mean; 0 turns it off."""
    validate_every: int = 100
    """Iterations between tests on the validation split."""
    validate_nets: int = 4
    """Nets of each test, the same at every test (random theta_0)."""
    keep: Literal["last", "best"] = "last"
    """Which iteration becomes the result: the last, or the best on the validation split."""
    on_nan: str = "stop"
    """A loss or gradient that is not finite: "stop", or "skip:N" to pass over up to N
    iterations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distill(self)
        self.skips  # noqa: B018  (refuses an on_nan it cannot read)

    @property
    def inner_steps(self) -> int | None:
        """T, the gradient steps of one training: steps x epochs. None with random minibatches, of
        which an epoch has one for each `minibatch` images of all classes
        (`DistilledDataset.schedule.steps`)."""
        return None if self.minibatch is not None else self.steps * self.epochs

    @property
    def skips(self) -> int:
        """The number of iterations that `on_nan` may pass over."""
        if self.on_nan == "stop":
            return 0
        kind, _, number = self.on_nan.partition(":")
        if kind != "skip" or not number.isdecimal() or len(number) > 9:
            raise UsageError(
                f"on_nan is {self.on_nan!r}, but it must be stop or skip:N, such as skip:3"
            )
        return int(number)
