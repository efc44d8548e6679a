"""Weights that were trained on nothing, for showing that a path works where no others are at
hand."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch

from datadistill.runs.atomic import write_bytes
from datadistill.streams import global_stream


def draw_weights(model: str, path: Path) -> None:
    """Write torchvision's own initialization of a classifier as a file of tensors by name; the same
    every time. An existing file is left alone."""
    if path.exists():
        return
    import torchvision

    with global_stream(0, "drawn_weights"):
        net = torchvision.models.get_model(model, weights=None)
    write_bytes(
        path, safetensors.torch.save({k: p.contiguous() for k, p in net.state_dict().items()})
    )
