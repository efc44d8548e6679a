"""The device that a run computes on."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from datadistill.errors import OutOfMemory, Unavailable, UsageError


def resolve(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" takes a GPU where there is one."""
    here = list_devices()
    if name == "auto":
        return torch.device("cuda" if "cuda" in here else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is unknown; use auto, cpu or cuda") from None
    if device.type not in here or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise Unavailable(
            f"device {name} is not on this machine, which has {', '.join(here)}; use --device auto"
        )
    return device


def memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes of memory of a device in all, where the system tells."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def peak_memory(device: torch.device | str = "cpu") -> int | None:
    """The most bytes of a GPU that this process has used so far; for the CPU its largest resident
    size, where the system tells."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")), None)


def refuse_too_large(needed: int, what: str, device: torch.device) -> None:
    """Refuse, before it is begun, work that needs more bytes than the device has in all. `what`
    says what takes them and what to lower: the rest of a sentence that begins with their size."""
    has = memory(device)
    if has is not None and needed > has:
        size = f"{needed / 1e12:.1f} TB" if needed >= 1e12 else f"{needed / 1e9:.1f} GB"
        raise OutOfMemory(f"out of memory: {size} {what} (this machine has {has / 1e9:.1f} GB)")


def list_devices() -> list[str]:
    """Device types of this machine that runs can use."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
