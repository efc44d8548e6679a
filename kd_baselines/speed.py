"""What a net costs: parameters, multiplications and seconds an image, beside those of its teacher.

    compression   parameters of the first net / parameters
    speed-up      seconds of the first net / seconds

Reference: Romero et al., FitNets, 2015, https://arxiv.org/abs/1412.6550, table 5
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from datadistill.errors import UsageError
from datadistill.innerloop.net_mode import NetMode
from kd_baselines.nets.counting import multiplications, parameters

__all__ = ["NetCost", "measure_cost", "seconds_per_image"]


@dataclass(frozen=True)
class NetCost:
    """What one net costs, or the nets of an ensemble together.

    Args:
        parameters: with biases and scales of norms.
        multiplications: of one image, in convolutions and matrix products.
        seconds: of one image in a batch.
        accuracy: in percent on test images; None where it was not measured.
    """

    parameters: int
    multiplications: int
    seconds: float
    accuracy: float | None = None

    def compression(self, of: NetCost) -> float:
        """How many times fewer parameters than `of`.

        >>> NetCost(10, 10, 0.5).compression(NetCost(40, 10, 1.0))
        4.0
        """
        return of.parameters / self.parameters

    def speed_up(self, of: NetCost) -> float:
        """How many times faster than `of`."""
        return of.seconds / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def measure_cost(
    nets: nn.Module | Sequence[nn.Module],
    shape: Sequence[int],
    *,
    batch: int = 100,
    passes: int = 10,
    accuracy: float | None = None,
) -> NetCost:
    """Count and time a net, or the nets of an ensemble one after another, on their device.

    Args:
        nets: images (B,C,H,W) to logits; at least one.
        shape: (C,H,W) of one image.
        batch, passes: see `seconds_per_image`.
        accuracy: kept with the result.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
        >>> cost = measure_cost([net, net], (1, 4, 4), batch=2, passes=1)
        >>> cost.parameters, cost.multiplications, cost.seconds > 0
        (340, 320, True)
    """
    members = [nets] if isinstance(nets, nn.Module) else list(nets)
    if not members:
        raise UsageError("there is no net to measure; pass at least one")
    return NetCost(
        sum(map(parameters, members)),
        sum(multiplications(net, shape) for net in members),
        sum(seconds_per_image(net, shape, batch=batch, passes=passes) for net in members),
        accuracy,
    )


def seconds_per_image(
    net: nn.Module, shape: Sequence[int], *, batch: int = 100, passes: int = 10
) -> float:
    """Seconds that a net takes for one image of a batch, without gradients and in evaluation mode:
    those of the fastest pass, which other programs on the machine disturb least.

    Args:
        net: images (B,C,H,W) to anything; not changed. It is timed on the device of its parameters
            and with as many threads as torch has.
        shape: (C,H,W) of one image.
        batch: B, at least 1; 1 is the time until a single image is answered.
        passes: at least 1, after one that is not timed.
    """
    for name, value in (("batch", batch), ("passes", passes)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} is {value!r}; give a whole number of at least 1")
    first = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    images = torch.zeros(batch, *shape, dtype=first.dtype, device=first.device)
    times = []
    with torch.no_grad(), NetMode(net, "frozen", training=False):
        for _ in range(passes + 1):
            _wait(images.device)
            began = time.perf_counter()
            net(images)
            _wait(images.device)
            times.append(time.perf_counter() - began)
    return min(times[1:]) / batch


def _wait(device: torch.device) -> None:
    """Until an accelerator has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
