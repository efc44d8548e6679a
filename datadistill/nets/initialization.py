"""Distributions from which the parameters theta_0 of any net are drawn.

A scheme speaks about weight tensors, those with two or more dimensions. The rest follows one rule for every
scheme but `default`:

    weights with >= 2 dimensions        the scheme, with torch's fan-in and fan-out
    norm layers                         weight 1, bias 0
    other one-dimensional parameters    0 for the biases of torch's linear, convolution, recurrent and
                                        attention layers; of any other module (a bare `nn.Parameter`, PReLU)
                                        the value the net has now

`default` is PyTorch's own: `reset_parameters` of every submodule. What no `reset_parameters` reaches keeps
the value the net has now.

References: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010
(xavier); He et al., Delving deep into rectifiers, 2015, https://arxiv.org/abs/1502.01852 (kaiming); Saxe et
al., Exact solutions to the nonlinear dynamics of learning, 2014, https://arxiv.org/abs/1312.6120 (orthogonal)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import init as torch_init
from torch.nn.modules.batchnorm import _NormBase  # BatchNorm, SyncBatchNorm and InstanceNorm
from torch.nn.modules.conv import _ConvNd

from datadistill.errors import UsageError, nearest
from datadistill.nets.copying import copy_net

Theta = dict[str, Tensor]
Scheme = Callable[[nn.Module, torch.Generator], Theta]

NORM_LAYERS: tuple[type, ...] = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
LAYERS_WITH_BIAS: tuple[type, ...] = (
    nn.Linear,
    nn.Bilinear,
    _ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)


def owners(net: nn.Module) -> dict[str, tuple[nn.Module, Tensor]]:
    """The module that holds each parameter, and the parameter, in the order of `net.named_parameters()`."""
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    seen: set[int] = set()  # a shared parameter counts once, under its first name
    for prefix, module in net.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                found[f"{prefix}.{name}" if prefix else name] = (module, parameter)
    return found


def by_weights(fill: Callable[[Tensor, torch.Generator], object]) -> Scheme:
    """The scheme that fills each weight tensor by `fill(weight, generator)`, in place, and the rest by rule.

    Numbers are drawn in float32 on the CPU, then moved and cast, so that a net on CUDA or in float64 starts
    from the same ones.
    """

    def scheme(net: nn.Module, generator: torch.Generator) -> Theta:
        theta: Theta = {}
        for name, (module, parameter) in owners(net).items():
            if isinstance(module, NORM_LAYERS):
                make = torch.zeros_like if name.endswith("bias") else torch.ones_like
                theta[name] = make(parameter, requires_grad=False)
            elif parameter.ndim >= 2:
                weight = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
                fill(weight, generator)
                theta[name] = weight.to(parameter.device, parameter.dtype)
            elif isinstance(module, LAYERS_WITH_BIAS):
                theta[name] = torch.zeros_like(parameter, requires_grad=False)
            else:
                theta[name] = parameter.detach().clone()
        return theta

    return scheme


def pytorch_default(net: nn.Module, generator: torch.Generator) -> Theta:
    """`reset_parameters` of every submodule, on a copy; the global generator is forked meanwhile."""
    replica = copy_net(net).cpu()

    def reset(module: nn.Module) -> None:
        # attention and transformers spell it with an underscore
        own = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(own):
            own()

    seed = int(torch.randint(2**62, (), generator=generator))
    # only the CPU generator is used: the copy is there; torch.manual_seed would seed the devices too
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        replica.apply(reset)  # children first, as constructors do, so that a parent has the last word
    drawn = owners(replica)
    return {name: drawn[name][1].detach().to(p.device, p.dtype) for name, (_, p) in owners(net).items()}


INITIALIZATIONS: dict[str, Scheme] = {
    "xavier": by_weights(lambda w, g: torch_init.xavier_normal_(w, generator=g)),
    "xavier-uniform": by_weights(lambda w, g: torch_init.xavier_uniform_(w, generator=g)),
    "kaiming": by_weights(
        lambda w, g: torch_init.kaiming_normal_(w, mode="fan_in", nonlinearity="relu", generator=g)
    ),
    "orthogonal": by_weights(lambda w, g: torch_init.orthogonal_(w, generator=g)),
    "normal": by_weights(lambda w, g: torch_init.normal_(w, std=0.02, generator=g)),
    "small": by_weights(lambda w, g: torch_init.normal_(w, std=0.001, generator=g)),
    "default": pytorch_default,
}


def draw(net: nn.Module, init: str, generator: torch.Generator) -> Theta:
    """One draw of theta_0 for `net`, which is not changed.

    Args:
        net: any module whose parameters have their shapes.
        init: a key of `INITIALIZATIONS`: `xavier` (normal, variance 2 / (fan_in + fan_out), the choice of
            Wang et al.), `xavier-uniform`, `kaiming` (normal, variance 2 / fan_in), `orthogonal`, `normal`
            (deviation 0.02), `small` (deviation 0.001: for the fresh last layer of a pretrained net whose
            features are large) or `default` (PyTorch's own).
        generator: a CPU generator; it is advanced. Equal states give equal draws, whatever the net's device.

    Returns:
        For each name of `net.named_parameters()`, in that order, a new tensor of the parameter's shape, type
        and device, without gradient.

    Raises:
        UsageError: an unknown `init`, a generator that is not on the CPU, or a lazy net that has not seen a
            batch.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> theta_0 = draw(net, "xavier", torch.Generator().manual_seed(0))
        >>> {name: tuple(value.shape) for name, value in theta_0.items()}
        {'weight': (1, 2), 'bias': (1,)}
    """
    if init not in INITIALIZATIONS:
        raise UsageError(f"there is no initialization called {init!r}; {nearest(str(init), INITIALIZATIONS)}")
    if generator.device.type != "cpu":
        raise UsageError(
            f"the generator is on {generator.device}; theta_0 is drawn on the CPU so that every device "
            "starts from the same numbers: pass torch.Generator()"
        )
    for name, parameter in net.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise UsageError(f"{name} has no shape yet; run one batch through the net first")
    return INITIALIZATIONS[init](net, generator)
