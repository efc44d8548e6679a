"""Storage of a net: float32; float16; or int8 with one scale a tensor.

code = round(w / scale)        scale = max |w| / 127, of tensors with two dimensions or more
w~   = code scale              the others (biases, what belongs to norms) stay float32
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.limits import MOST_TENSORS
from datadistill.nets.spec import NetSpec

NET_STORAGE = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}
_LEFT_OUT = "num_batches_tracked"  # says nothing about what the net answers


def net_tensors(spec: NetSpec, tensors: int = MOST_TENSORS) -> dict[str, Tensor]:
    """Name -> tensor without content, of all parameters and buffers that are sent: shared ones
    once, BatchNorm's count of batches left out. `tensors`: how many there are, where a file shows
    it."""
    net = spec.shapes(tensors)
    kept = net.state_dict().keys()
    every = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {
        name: t
        for name, t in every.items()
        if name in kept and name.rpartition(".")[2] != _LEFT_OUT
    }


def pack_weights(state: Mapping[str, Tensor], spec: NetSpec, storage: str) -> dict[str, Tensor]:
    """Weights as stored, under weight.NAME, and the scales of those that are int8."""
    wanted = net_tensors(spec)
    if missing := sorted(wanted.keys() - state.keys()):
        raise UsageError(
            f"the state dict lacks {', '.join(missing[:5])} of the net {spec.name}; pass "
            "net.state_dict()"
        )
    known = spec.shapes().state_dict().keys()
    if unknown := sorted(state.keys() - known):
        raise UsageError(
            f"the state dict has {', '.join(unknown[:5])}, which the net {spec.name} does not "
            "have; pass the spec of this net"
        )
    stored, scales = {}, []
    for name, like in wanted.items():
        w = state[name].detach().cpu()
        if w.shape != like.shape or w.is_floating_point() != like.is_floating_point():
            raise UsageError(
                f"{name} is {tuple(w.shape)} {w.dtype}, wanted {tuple(like.shape)} {like.dtype} of "
                f"the net {spec.name}; pass the spec of this net"
            )
        if not w.is_floating_point():
            stored[f"weight.{name}"] = w.clone()
            continue
        if not bool(torch.isfinite(w.float()).all()):
            raise UsageError(
                f"{name} has values that are not finite in float32; ship a net that trained well"
            )
        stored[f"weight.{name}"] = w.float().clone()
        if storage == "float16":
            stored[f"weight.{name}"] = w.half()
            if not bool(torch.isfinite(w.half()).all()):
                raise UsageError(
                    f"{name} reaches {float(w.abs().max()):.6g}, but float16 ends at "
                    "65504; store float32"
                )
        elif storage == "int8" and like.dim() >= 2:
            scale = w.abs().max().float() / 127 if w.numel() else torch.zeros(())
            scale = torch.where(scale > 0, scale, 1.0)
            stored[f"weight.{name}"] = (
                (w.double() / scale.double()).round().clamp(-127, 127).to(torch.int8)
            )
            scales.append(scale)
    return {**stored, "scales": torch.stack(scales)} if scales else stored


def unpack_weights(stored: Mapping[str, Tensor], spec: NetSpec) -> nn.Module:
    """The net with the weights as the receiver has them, float32, in evaluation mode."""
    net, state, scales = spec.build(), {}, iter(stored.get("scales", ()))
    for name in net_tensors(spec):
        w = stored[f"weight.{name}"]
        if w.dtype == torch.int8:
            state[name] = (w.double() * next(scales).double()).float()
        else:
            state[name] = w.float() if w.is_floating_point() else w
    net.load_state_dict(state, strict=False)  # BatchNorm's counts stay 0
    return net.eval()
