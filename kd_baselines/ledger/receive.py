"""Training of the receiver: a fresh student on images that were sent, or the net that was sent.

    images         a fresh student, S gradient steps by cross-entropy with hard labels y or
                   probabilities p,
                   - mean_i sum_k p_ik log softmax(z_i)_k          (one row of p is 1 at y for hard
                                                                   labels)
    own steps      a distilled set used as it was learned: its T steps and step sizes
    weights        nothing to train

The student's draw and its training are functions of the seed alone, so payloads are compared on
equal students. The net after the last step counts: nothing is chosen on held-out images.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.data import Split
from datadistill.errors import NumericalError, UsageError
from datadistill.nets import has_batchnorm
from datadistill.nets.spec import NetSpec
from datadistill.streams import generator
from datadistill.training.fit_loop import Batch, Fit, lay_out
from datadistill.training.fit_plan import FitPlan
from kd_baselines.ledger.payload import Payload
from kd_baselines.student_setup import draw_net
from kd_baselines.teachers import Teacher

__all__ = ["Received", "receive", "soft_labels"]


@dataclass(frozen=True, eq=False)
class Received:
    """The receiver's net in evaluation mode, on its device; the seconds and the gradient steps of
    its training, 0 for a net that was sent."""

    net: nn.Module
    seconds: float
    steps: int


def receive(
    payload: Payload,
    student: NetSpec,
    plan: FitPlan,
    seed: int,
    *,
    steps: int = 1000,
    own_steps: bool = False,
    device: torch.device | str = "cpu",
) -> Received:
    """A student that learned from a payload.

    Args:
        payload: made or loaded.
        student: which net is trained and how it is drawn: the stream (seed, "ledger_student"). A
            net that was shipped is used as it is and may be another, for the same images and
            classes.
        plan: how it is trained on images, in batches of all of them where there are fewer; not read
            with `own_steps`. Its epochs are those in which `steps` lie.
        seed: of the draw, the order of the images, augmentation and dropout.
        steps: gradient steps on images, 1 or more, whatever the number of images.
        own_steps: train in the distilled set's own steps. A set learned for one fixed
            initialization starts from that, not from a draw.
        device: where it is trained.

    Example:
        >>> from datadistill.data import Normalization
        >>> payload = Payload.of_images(
        ...     torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]), classes=("no", "yes"),
        ...     normalization=Normalization((0.5,), (0.5,), size=8, channels=1))
        >>> spec = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 2})
        >>> got = receive(payload, spec, FitPlan(batch=2), seed=0, steps=3)
        >>> got.steps, got.net(torch.zeros(5, 1, 8, 8)).shape
        (3, torch.Size([5, 2]))
    """
    if type(steps) is not int or steps < 1:
        raise UsageError(f"steps is {steps!r}, but it must be a whole number, at least 1")
    _refuse_what_does_not_fit(payload, student, own_steps)
    if payload.kind == "net":
        return Received(payload.net().to(device), 0.0, 0)
    net = draw_student(student, seed).to(device)
    if own_steps:
        return _train_own_steps(payload, net, seed)
    return _train_plan(payload, net, plan, steps, seed, torch.device(device))


def draw_student(spec: NetSpec, seed: int) -> nn.Module:
    """The student's draw, in training mode, from the stream (seed, "ledger_student")."""
    return draw_net(spec, generator(seed, "ledger_student"))


@torch.no_grad()
def soft_labels(
    teacher: Teacher | nn.Module, images: Float[Tensor, "n c h w"], *, batch: int = 500
) -> Float[Tensor, "n k"]:
    """The teacher's probabilities at T = 1, (N,K) float32 on the CPU: p_i = softmax(v_i), computed
    `batch` images at once. Label the images that the receiver will have (`Payload.images`), not
    those before quantization.

    Example:
        >>> soft_labels(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """
    if not len(images) or batch < 1:
        raise UsageError(
            f"there are {len(images)} images in batches of {batch}; wanted 1 or more of both"
        )
    teacher = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
    device = next((p.device for net in teacher.nets for p in net.parameters()), images.device)
    parts = [
        teacher(part.to(device)).double().softmax(1).float().cpu() for part in images.split(batch)
    ]
    return torch.cat(parts)


def _refuse_what_does_not_fit(payload: Payload, student: NetSpec, own_steps: bool) -> None:
    if own_steps and payload.schedule is None:
        raise UsageError(
            f"own steps are wanted, but a payload of {payload.kind} without a schedule has none; "
            "make it with schedule=, or leave own_steps out"
        )
    if (k := student.args.get("classes")) != len(payload.classes):
        raise UsageError(
            f"the student has {k} outputs, but the payload is of {len(payload.classes)} "
            "classes; one each"
        )
    sides = ("channels", "size", "size")
    wanted = tuple(student.args.get(name) for name in sides)
    if payload.spec is not None:
        found = tuple(payload.spec.args.get(name) for name in sides)
    else:
        found = tuple(payload.stored["images"].shape[1:])
    if found != wanted:
        raise UsageError(
            f"the payload is for images {'x'.join(map(str, found))}, but the student takes "
            f"{'x'.join(map(str, wanted))}; give them one size"
        )


def _train_plan(
    payload: Payload, net: nn.Module, plan: FitPlan, steps: int, seed: int, device: torch.device
) -> Received:
    images, targets = payload.images().to(device), payload.labels().to(device)
    hard = targets.argmax(1) if targets.is_floating_point() else targets
    batch = min(plan.batch, len(images))
    an_epoch = -(-len(images) // batch)
    if has_batchnorm(net) and len(images) // an_epoch < 2:
        raise UsageError(
            f"{len(images)} images in batches of {batch} leave a batch of one, which has no "
            "variance for BatchNorm; take a larger batch, more images, or a student "
            "without BatchNorm"
        )
    lay_out(net, device)

    def loss(batch: Batch) -> Tensor:
        return F.cross_entropy(net(batch.images), targets[batch.index])

    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    plan = replace(plan, batch=batch, epochs=-(-steps // an_epoch))
    loop = Fit(tensors, loss, Split(images, hard), plan, seed=seed)
    loop.steps = steps  # in the middle of the last epoch
    start = _read_clock(device)
    while not loop.is_done:
        loop.advance()
    seconds = _read_clock(device) - start
    lay_out(net, None)
    for p in net.parameters():
        p.grad = None
    return Received(net.eval(), seconds, loop.step)


def _train_own_steps(payload: Payload, net: nn.Module, seed: int) -> Received:
    d = payload.to_distilled()
    assert d is not None
    theta = {name: p.detach() for name, p in net.named_parameters()}
    device = next(iter(theta.values())).device
    if d.theta_0 is not None:
        found = {name: tuple(p.shape) for name, p in d.theta_0.items()}
        if found != {name: tuple(p.shape) for name, p in theta.items()}:
            raise UsageError(
                f"the distilled set was learned for one initialization of {d.net.name}, and the "
                "student has other tensors; take that net as the student, or leave own_steps out"
            )
        theta = {name: p.to(device) for name, p in d.theta_0.items()}
        net.load_state_dict(d.buffers or {}, strict=False)
    start = _read_clock(device)
    trained = d.train(net, theta, seed=seed)
    seconds = _read_clock(device) - start
    if not all(bool(torch.isfinite(p).all()) for p in trained.parameters()):
        raise NumericalError(
            "the parameters are not finite after the distilled set's own steps; train "
            "by a plan instead"
        )
    return Received(trained.eval(), seconds, d.schedule.steps)


def _read_clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
