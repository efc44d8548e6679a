"""The environment that a run's bytes depend on: versions, device, threads, flags.

Holds no host or user name, path or date: the same machine and settings give the same dict.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import Unavailable
from .ranks import current

if TYPE_CHECKING:
    import torch

_PACKAGES = ("datadistill", "torch", "torchvision", "numpy")


def environment(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The environment of this process as stored in `environment.json`; `find_differences` compares
    two."""
    import torch

    device = torch.device(device)
    return {
        "versions": {
            **{name: _version(name) for name in _PACKAGES},
            "python": platform.python_version(),
        },
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device.type,
        "device_name": _device_name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        **({"ranks": current().size} if current().size > 1 else {}),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def find_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Differences between two environments, for the "not bit-exact" message; empty if results are
    expected to be the same bytes.

    >>> find_differences({"threads": 2, "device": "cpu"}, {"threads": 1, "device": "cpu"})
    ['threads 2 -> 1']
    """
    a, b = _flat(old), _flat(new)
    if "ranks" in {**a, **b}:  # one process says nothing of them
        a, b = {"ranks": 1, **a}, {"ranks": 1, **b}
    return [
        f"{key} {a.get(key, 'unknown')} -> {b.get(key, 'unknown')}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key, "unknown") != b.get(key, "unknown")
    ]


def _flat(env: Mapping[str, Any]) -> dict[str, Any]:
    """Versions one level up, under the packages' own names."""
    versions = env.get("versions")
    rest = {key: value for key, value in env.items() if key != "versions"}
    return {**rest, **versions} if isinstance(versions, Mapping) else {**rest}


def _version(package: str) -> str:
    if package == "torch":
        import torch

        return str(torch.__version__)  # with the build's suffix, +cpu or +cu126
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _device_name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise Unavailable(
                f"device {device} is not here ({count} CUDA devices); use --device cpu"
            )
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        try:
            lines = Path("/proc/cpuinfo").read_text().splitlines()
        except OSError:
            lines = []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    return device.type
