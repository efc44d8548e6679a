"""What a file of weights holds: tensors by name, under a key or not, with a prefix or without.

Training scripts wrap the net (DataParallel, `torch.compile`, a Lightning module), and the names of
its tensors begin with the wrapper's: `module.`, `_orig_mod.`, `model.`, or several of them. Such a
prefix is taken away where every tensor has it and the names fit the net better without.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.errors import DataError

# keys under which training scripts put the tensors
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "model.", "_orig_mod.")


def check_tensors(content: Any, source: str, wanted: Collection[str]) -> dict[str, Tensor]:
    """Tensors by name, checked, with the names that nets of today have; `wanted` are the names of
    the net's own tensors."""
    content = _unwrap(content, source)
    if not isinstance(content, Mapping) or not content:
        raise DataError(
            f"{source} holds {type(content).__name__} {str(content)[:40]!r}, wanted tensors by "
            "name: save net.state_dict()"
        )
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():
        if type(value) not in (Tensor, nn.Parameter) or not isinstance(name, str):
            raise DataError(
                f"{source} has a {type(value).__name__} under {str(name)[:80]!r}, wanted tensors "
                "by name alone: save net.state_dict()"
            )
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise DataError(
                f"{source} has a sparse, quantized or empty tensor {name[:80]!r}, wanted dense "
                "ones: convert it"
            )
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise DataError(
                f"{source} has fewer numbers than {name[:80]!r} claims; get the file again"
            )
        # DenseNet's layers were called norm.1 and conv.2 before they were norm1 and conv2
        now = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=\d)", r"\1", name)
        tensors[now] = value.detach()
    prefix = find_prefix(tensors, wanted, source)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def find_prefix(names: Collection[str], wanted: Collection[str], source: str) -> str:
    """The prefix of all `names` without which most of them are among the `wanted`; the longest
    where none of them is.

    >>> find_prefix(["model.module.0.bias", "model.module.0.weight"], ["0.weight"], "w.pt")
    'model.module.'
    >>> find_prefix(["model.0.weight", "0.weight"], ["0.weight"], "w.pt")
    ''
    """
    found = {prefix: 0 for prefix in _shared_prefixes(names)}
    known = set(wanted)
    for prefix in found:
        found[prefix] = sum(name.removeprefix(prefix) in known for name in names)
    most = max(found.values())
    best = [prefix for prefix, count in found.items() if count == most]
    if most and len(best) > 1:
        ways = " and ".join(f"without {prefix}" if prefix else "as they are" for prefix in best)
        raise DataError(
            f"the names of {source} fit the net in more than one way ({ways}: {most:,} of "
            f"{len(names):,} tensors each); save net.state_dict() under the net's own names"
        )
    return best[-1]


def _shared_prefixes(names: Collection[str]) -> list[str]:
    """What could be taken away of all names, from nothing to all of `PREFIXES`."""
    prefixes = [""]
    while True:
        longer = [
            prefixes[-1] + prefix
            for prefix in PREFIXES
            if all(name.startswith(prefixes[-1] + prefix) for name in names)
        ]
        if not longer:
            return prefixes
        prefixes += longer  # one at most, as no prefix begins with another


def _unwrap(content: Any, source: str) -> Any:
    """The tensors by name that are in a file alone, or under one of the `WRAPPERS`."""
    while isinstance(content, Mapping):
        keys = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not keys:
            return content
        if len(keys) > 1:
            raise DataError(
                f"{source} has tensors under {' and under '.join(keys)}, and it is not clear which "
                "are the net's; save one of them alone"
            )
        content = content[keys[0]]
    return content
