"""Which device a run computes on."""

from __future__ import annotations

import torch

from datadistill.errors import Unavailable, UsageError


def resolve(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes a GPU where there is one.

    Raises:
        Unavailable: it is not on this machine; the sentence lists what is.
        UsageError: no such name.

    Example:
        >>> resolve("cpu")
        device(type='cpu')
    """
    here = available()
    if name == "auto":
        return torch.device("cuda" if "cuda" in here else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is unknown; use auto, cpu or cuda") from None
    if device.type not in here or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise Unavailable(
            f"device {name} is not on this machine, which has {', '.join(here)}; use --device auto"
        )
    return device


def available() -> list[str]:
    """Device types of this machine that runs can use."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
