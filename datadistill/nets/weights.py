"""Pretrained weights: torchvision's for ImageNet, or a file of your own, with a fresh last layer.

    weights = read_weights("squeezenet1_0.pt", net)
    theta, buffers, fresh = weights.fit(net)        # fresh: names of the last layer, for you to
                                                    draw

A file holds tensors by name, as `net.state_dict()` does: safetensors, or what `torch.save` wrote.
Nothing in it is run. Every tensor of the net must be in the file with its shape. The last layer is
the exception, as the file was usually trained for other classes: it is the last linear or
convolution layer in the order in which the net registers its modules, and it counts as fresh even
where its shape fits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from datadistill.errors import DataError, UsageError, list_some
from datadistill.nets.positional_embeddings import fit_positions
from datadistill.nets.weights_content import PREFIXES, check_tensors
from datadistill.nets.weights_file import imagenet, read_file
from datadistill.runs.tensors import checksum, is_finite

Theta = dict[str, Tensor]

SHOWN = 5  # names listed in an error


@dataclass(frozen=True)
class Weights:
    """Tensors by name, the file's path or torchvision's name that they came from, and the 'sha256:'
    digest of all tensors as they are there (`datadistill.runs.tensors.checksum`)."""

    source: str
    tensors: Mapping[str, Tensor] = field(repr=False)
    fingerprint: str

    def fit(self, net: nn.Module, fresh_last: bool = True) -> tuple[Theta, Theta, tuple[str, ...]]:
        """The tensors as parameters and buffers of `net`, which is not changed.

        Args:
            net: any module.
            fresh_last: leave the last layer out; False wants it in the file like all others.

        Returns:
            Parameters, in the net's order, without the fresh ones; buffers (statistics of
            BatchNorm); the names of the fresh parameters. Tensors are copies with the net's types
            and device.

        Example:
            >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
            >>> theta, buffers, fresh = Weights("a net", net.state_dict(), "").fit(net)
            >>> list(theta), fresh
            (['0.weight', '0.bias'], ('2.weight', '2.bias'))
        """
        parameters = dict(net.named_parameters())
        wanted = {name: t for name, t in net.state_dict().items() if isinstance(t, Tensor)}
        inside = f"{last_layer(net)}." if fresh_last else None
        if inside == ".":  # the net is a single layer
            inside = ""

        def is_fresh(name: str) -> bool:
            return inside is not None and name.startswith(inside)

        # files from before torch 0.4.1 have no counts of batches, which nothing here reads
        missing = [
            name
            for name in wanted
            if name not in self.tensors
            and not is_fresh(name)
            and not name.endswith("num_batches_tracked")
        ]
        unexpected = [name for name in self.tensors if name not in wanted and not is_fresh(name)]
        shared = [name for name in wanted if name in self.tensors and not is_fresh(name)]
        different = [
            f"{name} is {_kind(self.tensors[name])}, wanted {_kind(wanted[name])}"
            for name in shared
            if not _has_form_of(self.tensors[name], wanted[name])
        ]
        if missing or unexpected or different:
            fitting = len(shared) - len(different)
            parts = [
                f"{len(names):,} {what} ({list_some(names, SHOWN)})"
                for what, names in (
                    ("missing", missing),
                    ("unexpected", unexpected),
                    ("of another shape or kind", different),
                )
                if names
            ]
            raise DataError(
                f"{self.source} does not fit the net: of {len(wanted):,} tensors of the net and "
                f"{len(self.tensors):,} of the file, {fitting:,} fit; {'; '.join(parts)}: "
                f"{_remedy(net, missing, unexpected, different)}"
            )
        bad = [
            name
            for name in shared
            if not is_finite(self.tensors[name]) and not _is_own(self.tensors[name], wanted[name])
        ]
        if bad:
            raise DataError(
                f"{self.source} has a NaN or infinite value in {list_some(bad, SHOWN)}; "
                "get the file again"
            )

        def copy(name: str) -> Tensor:
            like = wanted[name]
            return self.tensors[name].detach().to(like.device, like.dtype, copy=True).contiguous()

        theta = {name: copy(name) for name in parameters if not is_fresh(name)}
        buffers = {name: copy(name) for name in shared if name in dict(net.named_buffers())}
        return theta, buffers, tuple(name for name in parameters if is_fresh(name))


def last_layer(net: nn.Module) -> str:
    """The name of the last linear or convolution layer with parameters, in the order of
    `net.named_modules()`."""
    names = _layers(net)
    if not names:
        raise UsageError(
            "the net has no linear or convolution layer, so it has no last layer; pass a net that "
            "ends in one, or weights that fit it as they are"
        )
    return names[-1]


def read_weights(
    source: str | os.PathLike[str],
    net: nn.Module,
    *,
    model: str | None = None,
    download: bool = True,
) -> Weights:
    """Read pretrained weights.

    Args:
        source: "imagenet" for the weights that torchvision publishes for a model, or the path of a
            file: `.safetensors`, or `.pt`, `.pth`, `.bin`, `.ckpt` from `torch.save` with tensors
            by name, alone or under "state_dict" (Lightning). Prefixes of wrappers (see
            `weights_content`) and DenseNet's older names are understood; a file of ours
            (`finetune`, `kd-baselines train`) must be of the checksum that it states.
        net: the net they are for; `Weights.fit` compares. Names go through its `to_own_name`, where
            it has one (a `kd_baselines.nets.WideResNet` has). Positional embeddings of a vision
            transformer are interpolated, with a warning, where its images have another size.
        model: with "imagenet", torchvision's name of the model; not needed for `AlexNet`.
        download: with "imagenet", whether they may be fetched where torch's cache does not have
            them.
    """
    if source == "imagenet":
        path, name, digest = imagenet(net, model, download)
    else:
        path, name, digest = Path(source).expanduser(), str(source), ""
    tensors = check_tensors(read_file(path, digest), name, net.state_dict())
    rename = getattr(net, "to_own_name", None)
    if callable(rename):  # of other code's checkpoints of the same architecture
        tensors = {rename(theirs): tensor for theirs, tensor in tensors.items()}
    return Weights(name, fit_positions(tensors, net, name), checksum(tensors))


def _remedy(net: nn.Module, missing: list[str], unexpected: list[str], different: list[str]) -> str:
    """What to do about weights that do not fit, by the names that are missing, unexpected, and of
    another shape (each of these with its shapes behind it)."""
    for prefix in PREFIXES:
        rest = {name.removeprefix(prefix) for name in unexpected if name.startswith(prefix)}
        if missing and rest >= set(missing):
            return f"save those tensors alone whose names begin with {prefix}, without the others"
    layers = _layers(net)
    if layers and not (missing or unexpected):
        last = f"{layers[-1]}." if layers[-1] else ""
        if all(name.startswith(last) for name in different):
            return (
                f"its last layer {layers[-1]} was trained for other classes; take weights for "
                "these classes, or a last layer that is drawn afresh"
            )
    return "give the weights of this architecture, or change --net"


def _layers(net: nn.Module) -> list[str]:
    """The names of the linear and convolution layers with parameters, in order."""
    kinds = (nn.Linear, _ConvNd)
    return [
        name
        for name, module in net.named_modules()
        if isinstance(module, kinds) and any(True for _ in module.parameters())
    ]


def _has_form_of(found: Tensor, wanted: Tensor) -> bool:
    return found.shape == wanted.shape and found.is_floating_point() == wanted.is_floating_point()


def _is_own(found: Tensor, own: Tensor) -> bool:
    """Whether a tensor is the net's own already, such as a mask with infinities."""
    return torch.equal(found.to(own), own)


def _kind(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f"{str(tensor.dtype).removeprefix('torch.')} "
    return f"{kind}{tuple(tensor.shape)}"
