"""The file of an adapted net: its state dict, as safetensors or as `torch.save` writes it."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.runs.artifact import Artifact, Content
from datadistill.runs.atomic import write_bytes
from datadistill.runs.header import DTYPES

ADAPTED = Artifact("net", command="datadistill finetune")
OF_TORCH = (".pt", ".pth")
"""Suffixes of files of `torch.save`."""
SUFFIXES = (".safetensors", *OF_TORCH, "")


def refuse_suffix(path: str | os.PathLike[str]) -> None:
    """Refuse a file name whose suffix says that something else is in it."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(
            f"{os.fspath(path)} ends in {suffix!r}, but a net is written as .safetensors, or as "
            ".pt or .pth (torch.save of the state dict); choose one of these"
        )


def save_net(net: nn.Module, path: str | os.PathLike[str], meta: Mapping[str, Any]) -> None:
    """Write a net's parameters and buffers by their own names, atomically: tensors that share
    memory each on their own, all on the CPU. `load_state_dict(strict=True)` of such a net takes
    what `safetensors.torch.load_file`, or `torch.load(weights_only=True)` for `.pt` and `.pth`,
    reads. `meta` goes into a safetensors file alone."""
    refuse_suffix(path)
    tensors = net.state_dict()
    is_of_torch = Path(path).suffix.lower() in OF_TORCH
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise UsageError(
                f"{name} of the net's state dict is a {type(value).__name__}, and its file holds "
                "tensors alone; save the net yourself"
            )
        if value.dtype not in DTYPES and not is_of_torch:
            raise UsageError(
                f"{name} of the net is {value.dtype}, which a safetensors file of ours does not "
                f"hold; write {Path(path).with_suffix('.pt')}"
            )
    if not is_of_torch:
        ADAPTED.save(Content(tensors, meta), path)
        return
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    data = io.BytesIO()
    torch.save(plain, data)
    write_bytes(path, data.getvalue())
