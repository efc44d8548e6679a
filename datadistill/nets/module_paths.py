"""Paths of a net's modules and parameters without the names that wrappers put in.

`torch.compile` puts `_orig_mod` into the names of what it wraps, `DataParallel` and
`DistributedDataParallel` put `module`. Here `_orig_mod.layer3.0` is `layer3.0`, wherever in a net
the wrapper stands.
"""

from __future__ import annotations

from torch import nn

__all__ = ["find_path", "modules_by_path", "parameters_by_path", "plain_paths"]


def plain_paths(net: nn.Module) -> dict[str, str]:
    """The path of each module in `net.named_modules()`, in that order -> the path without the names
    of wrappers; a wrapper has that of what it wraps."""
    found, replicated = {}, set()
    for path, module in net.named_modules():
        parts = path.split(".")
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            replicated.add(path)
        inside = [
            part
            for n, part in enumerate(parts)
            if part != "_orig_mod" and not (part == "module" and ".".join(parts[:n]) in replicated)
        ]
        found[path] = ".".join(inside)
    return found


def modules_by_path(net: nn.Module) -> dict[str, nn.Module]:
    """Plain path -> module; of a wrapper and what it holds, the latter.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> list(modules_by_path(nn.DataParallel(net)))
        ['', '0', '1']
    """
    plain = plain_paths(net)
    return {plain[path]: module for path, module in net.named_modules()}


def parameters_by_path(net: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of `net.named_parameters()` by their names without those of wrappers."""
    plain = plain_paths(net)
    found = {}
    for name, parameter in net.named_parameters():
        owner, _, own = name.rpartition(".")
        found[f"{plain[owner]}.{own}" if plain[owner] else own] = parameter
    return found


def find_path(net: nn.Module, path: str) -> str | None:
    """The plain path of a module that is named with or without the names of wrappers; None where
    the net has no such module."""
    plain = plain_paths(net)
    return path if path in plain.values() else plain.get(path)
