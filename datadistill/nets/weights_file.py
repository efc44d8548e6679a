"""Files of weights: finding torchvision's, and reading any without running what is in it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.data.torchvision_sources import timeout
from datadistill.errors import DataError, OutOfMemory, Unavailable, UsageError, is_out_of_memory
from datadistill.nets.alexnet import AlexNet
from datadistill.runs.file_kinds import kind_of, mismatch
from datadistill.runs.header import LARGEST_HEADER
from datadistill.runs.tensors import read_metadata, unpack
from datadistill.runs.torchfile import load_torch, read_bytes

_ANY_SCHEMA = 10**6
_NETS = {"net": "", "kd-net": "0.", "kd-language-net": ""}
"""Kind of one of our files that holds a net -> what stands before its tensors' names."""
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")


def statistics_of(model: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the images that torchvision's best weights of a model are for, by the
    weights' own transforms.

    >>> statistics_of("efficientnet_v2_l")
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    """
    transforms = _best_weights(model).transforms()
    return tuple(map(float, transforms.mean)), tuple(map(float, transforms.std))


def _best_weights(model: str) -> Any:
    """torchvision's entry of a model's best weights."""
    from torchvision.models import get_model_weights

    try:
        return get_model_weights(model).DEFAULT
    except ValueError as error:
        raise UsageError(
            f"torchvision has no ImageNet weights for {model!r}; pass a file"
        ) from error


def imagenet(net: nn.Module, model: str | None, download: bool) -> tuple[Path, str, str]:
    """The file of torchvision's best weights for a model, their name, and what the file's SHA-256
    begins with; fetched where needed."""
    if isinstance(net, AlexNet):
        model = "alexnet"
        shapes = {name: p.shape for name, p in net.named_parameters()}
        if (
            shapes["features.0.weight"][1:] != (3, 11, 11)
            or shapes["classifier.1.weight"][-1] != 256 * 6 * 6
        ):
            raise UsageError(
                "alexnet has ImageNet weights for 224 px and 3 channels only; take --size 224, or "
                "--net torchvision with model=alexnet, which takes any size from 64 px on"
            )
    if model is None:
        raise UsageError(
            "the weights 'imagenet' are torchvision's, and the net is none of its models; take "
            "--net torchvision or alexnet, or pass a file"
        )
    weights = _best_weights(model)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / weights.url.rsplit("/", 1)[-1]
    # torchvision names files by their SHA-256
    found = re.search(r"-([0-9a-f]{8,})\.\w+$", path.name)
    digest = found.group(1) if found else ""
    if not path.exists():
        reason = "fetching them was not allowed"
        try:
            if download:
                folder.mkdir(parents=True, exist_ok=True)
                with timeout(30):
                    torch.hub.download_url_to_file(
                        weights.url, str(path), digest or None, progress=False
                    )
        except Exception as error:
            # no network, a server that is down, a wrong checksum, a full disk
            reason = f"they could not be fetched ({type(error).__name__}: {error})"
        if not path.exists():
            raise Unavailable(
                f"torchvision's ImageNet weights for {model} are not on this machine, and "
                f"{reason}; put the file {path.name} into {folder}, or pass the path "
                "of a weights file"
            )
    return path, f"torchvision {model} {weights.name}", digest


def read_file(path: Path, digest: str = "") -> Any:
    """The content of a file whose SHA-256 begins with `digest`; neither format can run code as it
    is read here. The file is read once: the bytes that are checked are those that are used."""
    kind = path.suffix.lower()
    if path.is_file() and kind not in SUFFIXES:
        raise DataError(f"{path} ends in {path.suffix!r}; wanted {', '.join(SUFFIXES)}")
    try:
        data = read_bytes(path, "a file of weights (.safetensors, .pt, .pth)")
        if not hashlib.sha256(data).hexdigest().startswith(digest):
            raise DataError(
                f"{path} is damaged: its SHA-256 does not begin with {digest}; delete it"
            )
        return _safetensors(data, path) if kind == ".safetensors" else _of_torch(data, path)
    except MemoryError:
        raise OutOfMemory(f"{path} needs more memory than there is") from None


def _of_torch(data: bytes, path: Path) -> Any:
    """The content of a file of `torch.save`; of a checkpoint with other objects than tensors, how
    to get the tensors out."""
    try:
        return load_torch(data, path)
    except DataError as error:
        if path.suffix.lower() != ".ckpt" or "Python object" not in str(error):
            raise
        found = str(error).split("; wanted")[0]
        raise DataError(
            f"{found}, beside the tensors; nothing in it was run. If you trust who made it, save "
            'the tensors alone: torch.save(torch.load(FILE, weights_only=False)["state_dict"], '
            '"weights.pt"), and pass that file'
        ) from None


def _safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors of anyone's safetensors file; of one of ours only where its checksum holds."""
    from safetensors.torch import load

    header = data[8 : 8 + min(int.from_bytes(data[:8], "little"), LARGEST_HEADER)]
    if b'"datadistill":' in header or rb"checksum\":\"sha256:" in header:
        return _read_own(data, str(path))
    try:
        return load(data)
    except Exception as error:  # SafetensorError, MemoryError, ...
        if is_out_of_memory(error):
            raise OutOfMemory(f"{path} needs more memory than there is") from error
        first = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{path} is no whole safetensors file ({type(error).__name__}: "
            f"{first[:160]}); get it again"
        ) from error


def _read_own(data: bytes, source: str) -> dict[str, Tensor]:
    """The net in one of our own files: that of `finetune`, or of `kd-baselines train`."""
    stored = read_metadata(data, source)
    kind = kind_of(stored)
    if kind not in _NETS:
        raise DataError(f"{source} holds {mismatch(stored, source, 'the weights of one net')}")
    if stored.get("nets", 1) != 1:
        raise DataError(
            f"{source} holds {str(stored['nets'])[:40]} nets, wanted the weights of one net"
        )
    tensors, _ = unpack(data, schema=_ANY_SCHEMA, source=source)
    # later ones have the names of the state dict
    before = "" if stored["schema"] > 1 else _NETS[kind]
    return {name.removeprefix(before): tensor for name, tensor in tensors.items()}
