"""Whether a module of the user's own takes the images and makes one logit a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.copying import bare_net, copy_net, refuse_original_layers
from datadistill.streams import global_stream


@torch.no_grad()
def check_fits(net: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """Refuse a user's module that does not take float32 images of `shape` (C,H,W) to one logit a
    class, in evaluation mode and in the modes that its layers have now."""
    if not isinstance(net, nn.Module):
        raise UsageError(
            f"net is {net!r:.80}, wanted a torch module, or a function that builds one"
        )
    refuse_foreign(bare_net(net))
    for name, p in net.named_parameters():
        if p.requires_grad and p.is_floating_point() and p.dtype is not torch.float32:
            raise UsageError(
                f"{name} of the net is {p.dtype}, but images are float32; pass net.float()"
            )
    try:
        # on a copy, whose buffers may be written
        with global_stream(0, "fits", everything=True), refuse_original_layers(net):
            trial = copy_net(net).cpu()
            modes = [m.training for m in trial.modules()]
            found = [trial.eval()(torch.zeros(2, *shape, dtype=torch.float32))]
            for m, training in zip(trial.modules(), modes, strict=True):
                m.training = training
            found.append(trial(torch.zeros(2, *shape, dtype=torch.float32)))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise UsageError(
            f"the net does not take images {'x'.join(map(str, shape))} ({str(error)[:200]}); "
            "pass one that does"
        ) from error
    for logits in found:
        if not isinstance(logits, Tensor) or logits.shape != (2, classes):
            what = (
                tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            )
            mode = " in training mode" if logits is not found[0] and net.training else ""
            way = (
                f"put a last layer of {classes} outputs in the place of its own first (of any "
                "values, where the head is drawn afresh: --head fresh)"
                if isinstance(logits, Tensor) and logits.dim() == 2
                else "for a net with auxiliary outputs pass a wrapper that returns its logits alone"
            )
            raise UsageError(
                f"the net makes {what} of 2 images{mode}, wanted (2, {classes}), one logit a class "
                f"and nothing else; {way}"
            )


def refuse_foreign(net: nn.Module) -> None:
    """UsageError for what the inner loop cannot put other parameters into, or would run otherwise
    than a `backward()` does: TorchScript, replicas, hooks on the gradient of a parameter."""
    refuse_script(net)
    if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise UsageError(
            f"the net is wrapped in {type(net).__name__}, whose replicas have parameters of their "
            "own; pass the module inside (net.module), with its names"
        )
    for name, p in net.named_parameters():
        if p._backward_hooks:
            raise UsageError(
                f"the parameter {name} has a hook on its gradient, which does not run in "
                "differentiable steps; take the hook away (requires_grad_(False) freezes a "
                "parameter, a mask can stand in the forward pass)"
            )


def refuse_script(net: nn.Module) -> None:
    """UsageError for a TorchScript module: other parameters cannot be put in its place."""
    if any(isinstance(m, torch.jit.ScriptModule) for m in net.modules()):
        raise UsageError(
            "the net is a TorchScript module, which runs with its own parameters only; pass the "
            "module that it was made from"
        )
