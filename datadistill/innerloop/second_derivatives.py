"""Second derivatives that torch lacks, or has wrong, for any net.

Differentiating through a training step differentiates the net twice. Of these functions torch 2.14
has a first derivative only, or a second one that is wrong; in the forward passes of the inner loop
each is computed from others of the same value that have both:

    hardsigmoid(x)            relu6(x + 3) / 6                             not implemented
    scaled_dot_product_...    softmax(q k' / sqrt(d)) v, matrix products   fused kernels have none
    multi_head_attention_...  the same inside
    _weight_norm(v, g)        v (g / ||v||)                                wrong for the dims 0, -1
    lstm, gru, rnn_*          torch's own kernels instead of cuDNN's       cuDNN has none
    multi_margin_loss         mean_k max(0, m - x_y + x_k)^p               not implemented

The functions are replaced where they are called, by modules or by the net's own code, and only
while the forward pass runs. No module is touched. What has no second derivative and no line here is
refused, by the name of the layer, before anything is learned.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.backends import cudnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


def hardsigmoid(input: Float[Tensor, "*shape"], inplace: bool = False) -> Float[Tensor, "*shape"]:
    """clip(x + 3, 0, 6) / 6, as `torch.nn.functional.hardsigmoid`."""
    values = F.relu6(input + 3) / 6
    return input.copy_(values) if inplace else values


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """v (g / ||v||), the norm over all axes but `dim`, over all for -1, as `torch._weight_norm`."""
    axes = None if dim == -1 else [axis for axis in range(v.dim()) if axis != dim]
    return v * (g / torch.linalg.vector_norm(v, 2, axes, keepdim=dim != -1))


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """(1/K) sum over k other than y of w_y max(0, margin - x_y + x_k)^p, as torch's function of
    this name."""
    if size_average is not None or reduce is not None:  # torch's older way of saying it
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
    x, y = (input[None], target.reshape(1)) if input.dim() == 1 else (input, target)
    terms = (margin - x.gather(1, y[:, None]) + x).clamp_min(0)
    terms = terms if p == 1 else terms.square()
    if weight is not None:
        terms = terms * weight[y][:, None]
    losses = terms.scatter(1, y[:, None], 0.0).mean(1)
    if reduction == "none":
        return losses if input.dim() > 1 else losses[0]
    return losses.sum() if reduction == "sum" else losses.mean()


def _use_matrix_products(function: Callable[..., Any]) -> Callable[..., Any]:
    def attend(*args: Any, **kwargs: Any) -> Any:
        with sdpa_kernel(SDPBackend.MATH):
            return function(*args, **kwargs)

    return attend


def _disable_cudnn(function: Callable[..., Any]) -> Callable[..., Any]:
    def recur(*args: Any, **kwargs: Any) -> Any:
        with cudnn.flags(enabled=False):
            return function(*args, **kwargs)

    return recur


REPLACED: dict[Any, Callable[..., Any]] = {
    F.hardsigmoid: hardsigmoid,
    torch._C._nn.hardsigmoid: hardsigmoid,
    torch._C._nn.hardsigmoid_: lambda input: hardsigmoid(input, inplace=True),
    torch._weight_norm: weight_norm,
    F.multi_margin_loss: multi_margin_loss,
    **{
        f: _use_matrix_products(f)
        for f in (F.scaled_dot_product_attention, F.multi_head_attention_forward)
    },
    **{f: _disable_cudnn(f) for f in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)},
}


class _Replacing(TorchFunctionMode):
    """Calls what `REPLACED` has in a function's place, and remembers whether it had to."""

    used = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        other = REPLACED.get(func)
        if other is None:
            return func(*args, **(kwargs or {}))
        self.used = True
        return other(*args, **(kwargs or {}))


class TwiceDifferentiable:
    """Forward passes whose gradient can be differentiated again:
    `with twice: logits = net(images)`.

    The first pass of a net finds out whether it calls a function of the module's table. One that
    does not pays nothing from then on.

    Args:
        net: the net of these passes; its layers that are known to need it are recognized without a
            pass.

    Example:
        >>> net, x = nn.Hardsigmoid(), torch.ones(3, requires_grad=True)
        >>> with TwiceDifferentiable(net):
        ...     y = net(x)
        >>> (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        >>> torch.autograd.grad(first.sum(), x)[0]  # 2 / 36
        tensor([0.0556, 0.0556, 0.0556])
    """

    def __init__(self, net: object = None) -> None:
        self.needed: bool | None = None
        self.net, self.layers = net, 0
        if isinstance(net, nn.Module):
            modules = list(net.modules())
            known = any(
                isinstance(m, nn.Hardsigmoid | nn.MultiheadAttention | nn.RNNBase) for m in modules
            )
            self.layers = len(modules)
            self.needed = True if known else _PLAIN.get(net, {}).get((net.training, self.layers))
        self._active: list[_Replacing | None] = []

    def __enter__(self) -> None:
        mode = None if self.needed is False else _Replacing()
        if mode is not None:
            mode.__enter__()
        self._active.append(mode)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        mode = self._active.pop()
        if mode is None:
            return
        mode.__exit__(kind, error, trace)
        if self.needed is None and error is None:
            self.needed = mode.used
            if not mode.used and isinstance(self.net, nn.Module):
                _PLAIN.setdefault(self.net, {})[self.net.training, self.layers] = False


# nets that were found to need nothing, by their mode and number of layers
_PLAIN: weakref.WeakKeyDictionary[nn.Module, dict[tuple[bool, int], bool]] = (
    weakref.WeakKeyDictionary()
)
