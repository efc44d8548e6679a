"""Weights that a module computes from other tensors: parametrizations, weight norm, spectral norm,
pruning.

    parametrization   module.weight = f(original), or f(original0, original1, ...)
    weight norm       module.weight = g v / |v|             (torch.nn.utils.weight_norm, the older
                                                            one)
    spectral norm     module.weight = orig / sigma(orig)    (torch.nn.utils.spectral_norm, the older
                                                            one)
    pruning           module.weight = orig * mask

An initialization speaks of the weight in use. `Computed.write` finds originals that give it,
exactly as torch does when a parametrization is registered on a layer that has been initialized: by
`right_inverse`, or, where there is none, the weight itself is the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from datadistill.errors import UsageError

POWER_ITERATIONS = 15  # as torch's own constructor of spectral norm


@dataclass(frozen=True)
class Computed:
    """A weight that a module computes.

    Args:
        layer, module: the module's name in the net, and the module.
        name: the weight's name in the module.
        parameters, buffers: names, in the net, of the parameters that it is computed from and of
            the buffers that go with them.
        how: a `ParametrizationList`, or the hook that computes it.
    """

    layer: str
    module: nn.Module
    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    how: Any

    @property
    def full_name(self) -> str:
        """Its name in the net."""
        return _join(self.layer, self.name)

    @torch.no_grad()
    def value(self) -> Tensor:
        """The weight in use, computed now."""
        if isinstance(self.how, WeightNorm):
            return torch.as_tensor(self.how.compute_weight(self.module)).detach().clone()
        if isinstance(self.how, SpectralNorm):
            return self.how.compute_weight(self.module, do_power_iteration=False).detach().clone()
        if isinstance(self.how, BasePruningMethod):
            return torch.as_tensor(self.how.apply_mask(self.module)).detach().clone()
        training = [
            (m, m.training) for m in (self.how.modules() if isinstance(self.how, nn.Module) else ())
        ]
        try:
            for m, _ in training:
                m.training = False  # spectral norm writes its vectors where it is in training
            value: Tensor = getattr(self.module, self.name)
        finally:
            for m, flag in training:
                m.training = flag
        return value.detach().clone()

    @torch.no_grad()
    def write(self, value: Tensor) -> None:
        """Change the originals so that they give `value`, or what the parametrization makes of it.
        Vectors of spectral norm and the rest of an orthogonal base are drawn from torch's global
        generator."""
        own = self.module
        if isinstance(self.how, parametrize.ParametrizationList):
            self._write_parametrized(self.how, value)
        elif isinstance(self.how, WeightNorm):
            own.get_parameter(f"{self.name}_v").copy_(value)
            own.get_parameter(f"{self.name}_g").copy_(torch.norm_except_dim(value, 2, self.how.dim))
        else:
            own.get_parameter(f"{self.name}_orig").copy_(value)
            if isinstance(self.how, SpectralNorm):
                for vector in ("u", "v"):
                    own.get_buffer(f"{self.name}_{vector}").normal_()
                own.train()
                for _ in range(POWER_ITERATIONS):
                    self.how(own, None)

    def _write_parametrized(self, how: parametrize.ParametrizationList, value: Tensor) -> None:
        originals: Any = value
        for one in reversed(list(how)):
            if hasattr(one, "right_inverse"):
                try:
                    inverse: Any = one.right_inverse
                    originals = inverse(originals)
                except NotImplementedError:  # as torch has it: then it counts as the identity
                    pass
                except (RuntimeError, ValueError) as error:
                    raise self._refusal(one, str(error)) from error
        found = [originals] if isinstance(originals, Tensor) else originals
        own = [p for name, p in _originals(how)]
        if not isinstance(found, Sequence) or [x.shape for x in found] != [p.shape for p in own]:
            raise self._refusal(how[0], "its right_inverse does not make the originals")
        for p, x in zip(own, found, strict=True):
            p.copy_(x)
        spectral = [m for m in how if isinstance(m, parametrizations._SpectralNorm)]
        for m in spectral:
            for vector in m.buffers():
                vector.normal_()
        if spectral:
            how.train()
            for _ in range(POWER_ITERATIONS):
                how()

    @property
    def is_estimated(self) -> bool:
        """Whether its buffers are estimates that follow the originals: the vectors of spectral
        norm."""
        if isinstance(self.how, parametrize.ParametrizationList):
            return any(isinstance(m, parametrizations._SpectralNorm) for m in self.how)
        return isinstance(self.how, SpectralNorm)

    def _refusal(self, one: nn.Module, why: str) -> UsageError:
        return UsageError(
            f"{self.full_name} is computed by {type(one).__name__}, and a drawn weight cannot be "
            f"written through it ({why[:120]}); pass a function that builds the net: "
            "net=lambda: MyNet(...)"
        )


def computed_weights(net: nn.Module) -> list[Computed]:
    """The weights of a net that are computed from parameters, in the order of its modules."""
    found = []
    for layer, module in net.named_modules():
        if parametrize.is_parametrized(module):
            lists: Any = module.parametrizations
            for name, how in lists.items():
                inside = _join(layer, f"parametrizations.{name}")
                names = [f"{inside}.{n}" for n, p in _originals(how) if isinstance(p, nn.Parameter)]
                buffers = [f"{inside}.{n}" for n, _ in how.named_buffers()]
                found.append(Computed(layer, module, name, tuple(names), tuple(buffers), how))
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                names, buffers = [f"{hook.name}_g", f"{hook.name}_v"], []
                name = hook.name
            elif isinstance(hook, SpectralNorm):
                names, buffers = [f"{hook.name}_orig"], [f"{hook.name}_u", f"{hook.name}_v"]
                name = hook.name
            elif isinstance(hook, BasePruningMethod):
                name = hook._tensor_name
                names, buffers = [f"{name}_orig"], [f"{name}_mask"]
            else:
                continue
            if all(isinstance(module._parameters.get(n), nn.Parameter) for n in names):
                own = tuple(_join(layer, n) for n in names)
                found.append(
                    Computed(
                        layer, module, name, own, tuple(_join(layer, n) for n in buffers), hook
                    )
                )
    return [c for c in found if c.parameters]


@torch.no_grad()
def make_plain(net: nn.Module) -> None:
    """Turn every computed weight into an ordinary parameter with the value in use, so that
    `reset_parameters` reaches it. For copies: the net has other names afterwards."""
    values = [(c, c.value()) for c in computed_weights(net)]
    for c, _ in values:
        module = c.module
        if isinstance(c.how, parametrize.ParametrizationList):
            if parametrize.is_parametrized(module):
                # torch's remove_parametrizations changes the class, which copies share with the
                # caller's net
                module.__class__ = module.__class__.__bases__[0]
                del module._modules["parametrizations"]
            continue
        for key in [k for k, hook in module._forward_pre_hooks.items() if hook is c.how]:
            del module._forward_pre_hooks[key]
        for full in (*c.parameters, *c.buffers):
            own = full.rpartition(".")[2]
            module._parameters.pop(own, None)
            module._buffers.pop(own, None)
        module.__dict__.pop(c.name, None)
    for c, value in values:
        c.module.register_parameter(c.name, nn.Parameter(value))


def _originals(how: parametrize.ParametrizationList) -> list[tuple[str, Tensor]]:
    if how.is_tensor:
        return [("original", how.original)]
    return [(f"original{i}", getattr(how, f"original{i}")) for i in range(how.ntensors)]


def _join(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name
