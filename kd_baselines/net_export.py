"""A trained net as a file for other programs: its weights, or its graph.

A run keeps its nets with what they were trained on, in `student.safetensors`. An exported file is
the net alone. It takes images that are normalized already, as `SavedNet.normalization` does it; the
net has no layer for that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.errors import UsageError
from datadistill.nets.export import OF_WEIGHTS, refuse_suffix, write_graph, write_weights
from kd_baselines.heads import take_target
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.netfile import SavedNet

__all__ = ["export"]


def export(
    saved: SavedNet | SavedLanguageModel | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    number: int | None = None,
    net: nn.Module | None = None,
) -> None:
    """Write a trained net for other programs, in the format that the suffix of `path` says:
    `.safetensors`, `.pt` or `.pth` for its state dict, `.pt2` (torch.export), `.torchscript` or
    `.onnx` for the net with its graph; see `datadistill.nets.export`.

    Of a student with two heads it is the classifier of the target classes, without the second head.
    All files but those of torch.save say the net, classes and normalization.

    Args:
        saved: a trained net, or its file or run folder.
        path: the file to write.
        number: which net of an ensemble, from 0.
        net: a module of your own that was trained, where its graph is wanted.

    Raises:
        UsageError: another suffix, an ensemble without a number, or a net that the format does not
            hold.
        Unavailable: a package that writes the format is missing.

    Example:
        >>> from safetensors.torch import load_file
        >>> from datadistill.nets import build
        >>> from kd_baselines import KdConfig, train
        >>> config = KdConfig(dataset="digits", net_args={"width": 8}, epochs=1, per_class=2)
        >>> file = getfixture("tmp_path") / "net.safetensors"
        >>> export(train(config).saved, file)
        >>> net = build("mlp", channels=1, size=8, classes=10, width=8)
        >>> net.load_state_dict(load_file(file))
        <All keys matched successfully>
    """
    refuse_suffix(path, graphs=True)
    if isinstance(saved, str | os.PathLike):
        saved = SavedNet.load(saved)
    of_weights = Path(path).suffix.lower() in OF_WEIGHTS
    if isinstance(saved, SavedLanguageModel):
        if not of_weights:
            raise UsageError(
                f"{os.fspath(path)} would hold the graph of a language model, whose state goes "
                "from call to call; write its weights (.safetensors, .pt or .pth)"
            )
        _choose_number(1, number)
        write_weights(saved.state, path, describe(saved))
        return
    number = _choose_number(len(saved.states), number)
    if of_weights:
        write_weights(_get_weights(saved, number, net), path, describe(saved))
        return
    made = saved.net(number, net)
    made = made if saved.source_classes is None else take_target(made)
    channels, size = saved.spec.args["channels"], saved.spec.args["size"]
    images = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    write_graph(made.eval(), images, path, describe(saved))


def describe(saved: SavedNet | SavedLanguageModel) -> dict[str, Any]:
    """What a file says beside the net, as plain values."""
    if isinstance(saved, SavedLanguageModel):
        net = {"name": saved.name, "args": dict(saved.args)}
        return {"net": net, "dataset": saved.dataset, "words": list(saved.words)}
    return {
        "net": saved.spec.as_dict(),
        "dataset": saved.dataset,
        "classes": list(saved.classes),
        "normalization": saved.normalization.as_dict(),
    }


def _choose_number(nets: int, number: int | None) -> int:
    """The number of the net, which an ensemble cannot do without."""
    if number is None and nets > 1:
        raise UsageError(
            f"there are {nets} nets, and a file holds one; pass number, from 0 to {nets - 1}"
        )
    if number is not None and not 0 <= number < nets:
        raise UsageError(f"number is {number}, but the nets have the numbers 0 to {nets - 1}")
    return number or 0


def _get_weights(saved: SavedNet, number: int, net: nn.Module | None) -> Mapping[str, Tensor]:
    """The state dict of the net, without that of a second head."""
    if saved.source_classes is None:
        return saved.states[number]
    return take_target(saved.net(number, net)).state_dict()
