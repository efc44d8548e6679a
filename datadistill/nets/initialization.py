"""Distributions from which the parameters theta_0 of any net are drawn.

A scheme speaks about weight tensors, those with two or more dimensions. The rest follows one rule
for every scheme but `default`:

    weights with >= 2 dimensions        the scheme, with torch's fan-in and fan-out
    norm layers                         weight 1, bias 0
    other one-dimensional parameters    0 for the biases of torch's linear, convolution, recurrent
                                        and attention layers; of any other module (a bare
                                        `nn.Parameter`, PReLU) the value the net has now

`default` is PyTorch's own: `reset_parameters` of every submodule. What no `reset_parameters`
reaches keeps the value the net has now. `find_undrawn` names what would be the same in every draw.

A weight that is computed from other tensors (parametrizations, weight norm, pruning:
nets/computed.py) is drawn as the plain layer's would be, and written through the parametrization.
Complex weights have the scheme's variance in all, half of it in each part.

References: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural
networks, 2010 (xavier); He et al., Delving deep into rectifiers, 2015,
https://arxiv.org/abs/1502.01852 (kaiming); Saxe et al., Exact solutions to the nonlinear dynamics
of learning, 2014, https://arxiv.org/abs/1312.6120 (orthogonal)
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import init as torch_init
from torch.nn.modules.batchnorm import _NormBase  # BatchNorm, SyncBatchNorm and InstanceNorm
from torch.nn.modules.conv import _ConvNd

from datadistill.errors import UsageError, suggest
from datadistill.nets.computed import Computed, computed_weights, make_plain
from datadistill.nets.copying import copy_net
from datadistill.streams import get_other_generators, set_other_generators

Theta = dict[str, Tensor]
Scheme = Callable[[nn.Module, torch.Generator], tuple[Theta, Theta]]
Fill = Callable[[Tensor, torch.Generator], object]

NORM_LAYERS: tuple[type, ...] = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
LAYERS_WITH_BIAS: tuple[type, ...] = (
    nn.Linear,
    nn.Bilinear,
    _ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)


def find_owners(net: nn.Module) -> dict[str, tuple[nn.Module, Tensor]]:
    """The module that holds each parameter, and the parameter, in the order of
    `net.named_parameters()`."""
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    seen: set[int] = set()  # a shared parameter counts once, under its first name
    for prefix, module in net.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                found[f"{prefix}.{name}" if prefix else name] = (module, parameter)
    return found


def scheme_of_fill(fill: Fill, complex_fill: bool = True) -> Scheme:
    """The scheme that fills each weight tensor by `fill(weight, generator)`, in place, and the rest
    by rule. With `complex_fill` it knows complex tensors; without, both parts of one are filled.

    Numbers are drawn in float32 on the CPU, then moved and cast, so that a net on CUDA or in
    float64 starts from the same ones.
    """

    def fill_like(like: Tensor, generator: torch.Generator) -> Tensor:
        kind = torch.complex64 if like.is_complex() and complex_fill else torch.float32
        parts = []
        for _ in range(2 if like.is_complex() and not complex_fill else 1):
            weight = torch.empty(like.shape, dtype=kind, device="cpu")
            fill(weight, generator)
            parts.append(weight)
        weight = parts[0] if len(parts) == 1 else torch.complex(*parts) / 2**0.5
        return weight.to(like.device, like.dtype)

    def one(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
        if isinstance(module, NORM_LAYERS):
            make = torch.zeros_like if name.endswith("bias") else torch.ones_like
            return make(parameter, requires_grad=False)
        if parameter.ndim >= 2:
            return fill_like(parameter, generator)
        if isinstance(module, LAYERS_WITH_BIAS):
            return torch.zeros_like(parameter, requires_grad=False)
        return parameter.detach().clone()

    def scheme(net: nn.Module, generator: torch.Generator) -> tuple[Theta, Theta]:
        weights = _find_drawn(net)
        parts = {name for c in weights for name in c.parameters}
        theta = {
            name: parameter.detach().clone()
            if name in parts
            else one(module, name, parameter, generator)
            for name, (module, parameter) in find_owners(net).items()
        }
        if not weights:
            return theta, {}
        values = {c.full_name: one(c.module, c.name, c.value(), generator) for c in weights}
        return _write_originals(net, theta, values, generator)

    return scheme


def _find_drawn(net: nn.Module) -> list[Computed]:
    """The computed weights that are drawn: some parameter of theirs is trained."""
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    return [c for c in computed_weights(net) if trained.intersection(c.parameters)]


def _write_originals(
    net: nn.Module, theta: Theta, values: Theta, generator: torch.Generator
) -> tuple[Theta, Theta]:
    """theta with the originals that give the computed weights their values, and the buffers that
    changed."""
    replica = copy_net(net).cpu()
    with seed_globals(generator):
        for c in computed_weights(replica):
            if c.full_name in values:
                c.write(values[c.full_name].cpu())
    names = {name for c in computed_weights(net) if c.full_name in values for name in c.parameters}
    drawn, before = find_owners(replica), dict(net.named_buffers())
    theta = {
        k: drawn[k][1].detach().to(p.device, p.dtype) if k in names else p for k, p in theta.items()
    }
    after = {k: b.detach().to(before[k].device) for k, b in replica.named_buffers()}
    return theta, {k: b for k, b in after.items() if not torch.equal(b, before[k])}


@contextlib.contextmanager
def seed_globals(generator: torch.Generator) -> Iterator[None]:
    """The global generators seeded by one draw from `generator`, and put back afterwards."""
    seed, others = int(torch.randint(2**62, (), generator=generator)), get_other_generators()
    # only the CPU generator is used: copies are there; torch.manual_seed would seed the devices too
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            set_other_generators(others)


def orthogonal(weight: Tensor, generator: torch.Generator) -> None:
    """Orthonormal rows or columns; of a complex weight unitary ones, which torch's own does not
    fill."""
    if not weight.is_complex():
        torch_init.orthogonal_(weight, generator=generator)
        return
    rows, columns = len(weight), weight[0].numel()
    normal = torch.empty(max(rows, columns), min(rows, columns), dtype=weight.dtype).normal_(
        generator=generator
    )
    q, r = torch.linalg.qr(normal)
    q = q * r.diagonal().sgn()  # uniform, https://arxiv.org/abs/math-ph/0609050
    weight.copy_((q if rows >= columns else q.T).reshape(weight.shape))


def pytorch_default(net: nn.Module, generator: torch.Generator) -> tuple[Theta, Theta]:
    """`reset_parameters` of every submodule, on a copy; the global generators are forked
    meanwhile."""
    replica = copy_net(net).cpu()
    weights = _find_drawn(net)
    if weights:
        make_plain(replica)

    def reset(module: nn.Module) -> None:
        # attention and transformers spell it with an underscore
        own = getattr(module, "reset_parameters", None) or getattr(
            module, "_reset_parameters", None
        )
        if callable(own):
            own()

    with seed_globals(generator):
        # children first, as constructors do, so that a parent has the last word
        replica.apply(reset)
    drawn = {name: p.detach() for name, (_, p) in find_owners(replica).items()}
    theta = {
        name: drawn[name].to(p.device, p.dtype) if name in drawn else p.detach().clone()
        for name, (_, p) in find_owners(net).items()
    }
    if not weights:
        return theta, {}
    return _write_originals(
        net, theta, {c.full_name: drawn[c.full_name] for c in weights}, generator
    )


INITIALIZATIONS: dict[str, Scheme] = {
    "xavier": scheme_of_fill(lambda w, g: torch_init.xavier_normal_(w, generator=g)),
    "xavier-uniform": scheme_of_fill(
        lambda w, g: torch_init.xavier_uniform_(w, generator=g), complex_fill=False
    ),
    "kaiming": scheme_of_fill(
        lambda w, g: torch_init.kaiming_normal_(w, mode="fan_in", nonlinearity="relu", generator=g)
    ),
    "orthogonal": scheme_of_fill(orthogonal),
    "normal": scheme_of_fill(lambda w, g: torch_init.normal_(w, std=0.02, generator=g)),
    "small": scheme_of_fill(lambda w, g: torch_init.normal_(w, std=0.001, generator=g)),
    "default": pytorch_default,
}


def draw(net: nn.Module, init: str, generator: torch.Generator) -> Theta:
    """One draw of theta_0 for `net`, which is not changed; `draw_whole` without the buffers.

    Args:
        net: any module whose parameters have their shapes.
        init: a key of `INITIALIZATIONS`: `xavier` (normal, variance 2 / (fan_in + fan_out), the
            choice of Wang et al.), `xavier-uniform`, `kaiming` (normal, variance 2 / fan_in),
            `orthogonal`, `normal` (deviation 0.02), `small` (deviation 0.001: for the fresh last
            layer of a pretrained net whose features are large) or `default` (PyTorch's own).
        generator: a CPU generator; it is advanced. Equal states give equal draws, whatever the
            net's device.

    Returns:
        For each name of `net.named_parameters()`, in that order, a new tensor of the parameter's
        shape, type and device, without gradient.

    Example:
        >>> theta_0 = draw(nn.Linear(2, 1), "xavier", torch.Generator().manual_seed(0))
        >>> {name: tuple(value.shape) for name, value in theta_0.items()}
        {'weight': (1, 2), 'bias': (1,)}
    """
    theta, buffers = draw_whole(net, init, generator)
    for c in computed_weights(net):
        if not c.is_estimated and any(name in buffers for name in c.buffers):
            raise UsageError(
                f"a draw of {c.full_name} is in buffers too (an orthogonal parametrization keeps "
                "it in its base); use datadistill.nets.initialization.draw_whole, "
                "which returns both"
            )
    return theta


def draw_whole(net: nn.Module, init: str, generator: torch.Generator) -> tuple[Theta, Theta]:
    """`draw`, and the buffers that are drawn with it: an orthogonal base, the vectors of spectral
    norm."""
    if init not in INITIALIZATIONS:
        raise UsageError(
            f"there is no initialization called {init!r}; {suggest(str(init), INITIALIZATIONS)}"
        )
    if generator.device.type != "cpu":
        raise UsageError(
            f"the generator is on {generator.device}; theta_0 is drawn on the CPU so that every "
            "device starts from the same numbers: pass torch.Generator()"
        )
    for name, parameter in net.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise UsageError(f"{name} has no shape yet; run one batch through the net first")
    return INITIALIZATIONS[init](net, generator)


def find_undrawn(net: nn.Module, init: str) -> list[str]:
    """Names of trained tensors that are the same in every draw of `init` although their values
    differ among themselves: a bare `nn.Parameter` that only the net's constructor draws. A constant
    (zeros of a bias, ones of a norm, a gate) is rightly the same.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> net.bare, net.gate = nn.Parameter(torch.randn(3)), nn.Parameter(torch.zeros(3))
        >>> find_undrawn(net, "default")
        ['bare']
    """
    (a, buffers_a), (b, buffers_b) = (
        draw_whole(net, init, torch.Generator().manual_seed(n)) for n in (0, 1)
    )
    first, second = {**a, **buffers_a}, {**b, **buffers_b}
    same = {k for k, x in first.items() if k in second and torch.equal(x, second[k])}
    found, parts = [], set()
    replica = copy_net(net)
    named = {**dict(replica.named_parameters()), **dict(replica.named_buffers())}
    with torch.no_grad():
        for name, value in first.items():
            named[name].copy_(value)
    for c in _find_drawn(replica):
        parts |= set(c.parameters)
        differing = [
            k for k in (*c.parameters, *c.buffers) if k in {**first, **second} and k not in same
        ]
        if not differing and _is_varied(c.value()):
            found.append(c.full_name)
    trained = [name for name, p in net.named_parameters() if p.requires_grad and name not in parts]
    return found + [name for name in trained if name in same and _is_varied(first[name])]


def _is_varied(values: Tensor) -> bool:
    flat = values.flatten()
    return bool((flat != flat[:1]).any())
