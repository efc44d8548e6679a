"""Jacobians of logits with respect to the images, a sample at a time, for the losses made of them.

Notation: B samples of D numbers each, K outputs f (B,K), J[b] = df[b]/dx[b] of shape (K,D) (the
article writes its transpose). A row of R projected outputs is u_r J with u_r (K,) a sample's
cotangent, one vector-Jacobian product:

    full       u_i = e_i, i = 1..K                    sum_r ||u_r J||^2 = ||J||_F^2
    top        u = e_c, c the largest output          one row of J
    label      u = e_y                                one row of J
    projected  u_r = +-1 by coin / sqrt(R), R draws   E sum_r ||u_r J||^2 = ||J||_F^2 (Hutchinson)

`autograd.grad(f[:, i].sum(), x)` is a sample's own gradient only if no sample's output depends on
another's image. BatchNorm in training mode breaks that: see `per_sample`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # BatchNorm1d, 2d, 3d and SyncBatchNorm

from datadistill.errors import UsageError
from datadistill.innerloop.layer_faults import find_refusal, name_missing
from datadistill.innerloop.net_mode import NetMode
from datadistill.innerloop.second_derivatives import TwiceDifferentiable
from datadistill.nets.layers import check_choice
from kd_baselines.features import run
from kd_baselines.losses.checks import check_draws, class_labels
from kd_baselines.losses.term import Seen

__all__ = [
    "Net",
    "Output",
    "cotangents",
    "input_jacobian",
    "make_leaf",
    "mixes_samples",
    "per_sample",
    "refuse_mixing",
    "refuse_once_differentiable",
    "student_pass",
]

Net = Callable[[Tensor], Tensor]
Output = Literal["full", "top", "label", "projected"]


def make_leaf(x: Tensor) -> Tensor:
    """The same images as a leaf of its own that requires a gradient; images of whole numbers are
    refused."""
    if not x.is_floating_point():
        raise UsageError(
            f"x holds {x.dtype}, which has no gradient; pass floating point images (x.float())"
        )
    return x.detach().requires_grad_()


def cotangents(
    output: Output,
    logits: Float[Tensor, "b k"],
    labels: Int[Tensor, " b"] | None = None,
    generator: torch.Generator | None = None,
    projections: int = 1,
) -> Float[Tensor, "r b k"]:
    """The u_r of the module's table, the same for every net they are used on.

    Args:
        logits: whose largest is the "top"; they also give the shape.
        labels: (B,) of 0..K-1, for "label".
        generator: of the coins of "projected", on the logits' device; None: torch's own.
        projections: R of "projected", at least 1.
    """
    check_choice("output", output, get_args(Output))
    logits = logits.detach()
    batch, classes = logits.shape
    if output == "full":
        return torch.eye(classes, dtype=logits.dtype, device=logits.device)[:, None].expand(
            -1, batch, -1
        )
    if output == "projected":
        check_draws("projections", projections)
        shape = (projections, batch, classes)
        coins = torch.randint(0, 2, shape, generator=generator, device=logits.device).to(
            logits.dtype
        )
        return (2 * coins - 1) / projections**0.5
    if output == "top":
        chosen = logits.argmax(1)
    elif labels is None:
        raise UsageError(
            'there are no labels, and each image\'s own class is wanted; pass labels (or "top")'
        )
    else:
        chosen = class_labels(labels, logits)
    return torch.zeros_like(logits).scatter_(1, chosen[:, None], 1.0)[None]


def input_jacobian(
    outputs: Float[Tensor, "b k"],
    x: Float[Tensor, "b ..."],
    rows: Float[Tensor, "r b k"],
    *,
    create_graph: bool,
    scale: Float[Tensor, "b k"] | None = None,
    whose: str = "student",
) -> Float[Tensor, "b r d"]:
    """u_r J of each sample, images flattened to D numbers.

    Args:
        outputs: f(x), with its graph, which is kept.
        x: what f was computed from; requires a gradient.
        rows: u, from `cotangents`.
        create_graph: whether the result can be differentiated in the net's weights; else it is
            detached.
        scale: factor on u, output by output; it is differentiated in too.

    Example:
        >>> x = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> input_jacobian(x.square(), x, cotangents("full", x), create_graph=False)
        tensor([[[2., 0.],
                 [0., 4.]]])
    """
    if outputs.dim() != 2 or len(outputs) != len(x):
        raise UsageError(
            f"the {whose}'s logits have shape {tuple(outputs.shape)} for {len(x)} images; give a "
            f"net, or a layer, whose output is ({len(x)}, classes)"
        )
    if not (outputs.requires_grad and x.requires_grad):
        raise _make_no_graph_error(whose)
    # A loop of K products. One batched product (is_grads_batched=True) was measured on a CPU,
    # double backward included: 20% faster on an MLP, but 1.5 times slower on a LeNet and 2.5 times
    # on a VGG.
    found = []
    for row in rows:
        u = row if scale is None else row * scale
        (gradient,) = torch.autograd.grad(
            outputs, x, u, create_graph=create_graph, retain_graph=True, allow_unused=True
        )
        if gradient is None:
            raise _make_no_graph_error(whose)
        found.append(gradient.flatten(1))
    return torch.stack(found, 1)


def _make_no_graph_error(whose: str) -> UsageError:
    return UsageError(
        f"the {whose}'s logits have no gradient to the images; compute them with gradients on (no "
        "torch.no_grad, no detach, no cache) from images that require one"
    )


def mixes_samples(net: object) -> bool:
    """Whether a sample's output depends on the other images: the net holds a BatchNorm layer that
    now normalizes with the batch's own statistics.
    """
    return isinstance(net, nn.Module) and any(
        (isinstance(m, _BatchNorm) and (m.training or m.running_mean is None))
        or (_is_scripted_norm(m) and m.training)
        for m in net.modules()
    )


def _is_scripted_norm(module: nn.Module) -> bool:
    return str(getattr(module, "original_name", "")).startswith(("BatchNorm", "SyncBatchNorm"))


@contextlib.contextmanager
def per_sample(net: object, whose: str = "student", *, evaluation: bool = False) -> Iterator[None]:
    """Let each sample's output depend on its own image alone: inside the block BatchNorm normalizes
    with its running statistics, which are not written. The pass can be differentiated twice. With
    `evaluation` the other layers go to evaluation mode too; what is no module is left as it is."""
    refuse_mixing(net, whose)
    if (
        not evaluation
        and isinstance(net, nn.Module)
        and any(_is_scripted_norm(m) for m in net.modules())
    ):
        raise UsageError(
            f"the {whose} has a BatchNorm layer in TorchScript, which cannot be told to normalize "
            "with its running statistics while the others train; pass the module that it "
            "was scripted from"
        )
    mode: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if isinstance(net, nn.Module):
        mode = NetMode(net, "frozen", training=not evaluation)
    with mode, TwiceDifferentiable():
        yield


def refuse_once_differentiable(
    loss: Tensor,
    net: object,
    images: Float[Tensor, "b ..."],
    labels: Int[Tensor, " b"] | None = None,
) -> None:
    """Refuse a loss () of input gradients that cannot be differentiated in a net's weights, naming
    the layer. A net that passed is not tested again; what is no module is left as it is."""
    if not (isinstance(net, nn.Module) and loss.requires_grad) or net in _PASSED:
        return
    weights = [p for p in net.parameters() if p.requires_grad]
    reason = find_refusal([loss], weights) if weights else None
    if reason is None:
        _PASSED.add(net)
        return
    if labels is None:
        labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    mode = NetMode(net, "frozen")
    named = name_missing(net, tensors, images, labels, F.cross_entropy, mode, reason)
    raise UsageError(
        f"the student cannot learn from input gradients: {named}; use another layer there, or "
        "leave out the losses of input gradients"
    )


_PASSED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def refuse_mixing(net: object, whose: str) -> None:
    """Refuse a net whose samples can never be told apart: a BatchNorm layer without running
    statistics, or a `Teacher` of such nets, or one that normalizes with the batch's.
    """
    nets = (net,) if isinstance(net, nn.Module) else getattr(net, "nets", ())
    if any(
        isinstance(m, _BatchNorm) and m.running_mean is None for one in nets for m in one.modules()
    ):
        raise UsageError(
            f"the {whose} has a BatchNorm layer without running statistics, so no sample has a "
            "Jacobian of its own; use track_running_stats=True, or another normalization"
        )
    if not isinstance(net, nn.Module) and getattr(net, "mode", None) == "batch_stats":
        raise UsageError(
            f"the {whose}'s mode is batch_stats, so no sample has a Jacobian of its own; "
            "take the mode eval"
        )


def student_pass(seen: Seen, layer: str | None = None) -> tuple[Tensor, Tensor]:
    """The student's logits, or the output of `layer`, (B,K), with their graph, and the images
    (B,C,H,W) they depend on. They come from the step's own pass, or from a second one by
    `per_sample` where that pass mixes samples."""
    student = seen.student
    assert student is not None, "a term of input gradients declares the student in its needs"
    if not mixes_samples(student):
        return seen.student_output(layer), seen.images
    x = make_leaf(seen.images)
    with per_sample(student):
        out = run(student, x, [] if layer is None else [layer], logits=layer is None)
    own = Seen(x, seen.labels, student_logits=out.logits, student_features=out.features)
    return own.student_output(layer), x
