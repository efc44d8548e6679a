"""Files of a trained net for other programs, by their suffix.

    .safetensors          parameters and buffers by the net's own names: safetensors.torch.load_file
    .pt, .pth             the same by torch.save: torch.load
    .pt2                  the net with its tensors, by torch.export: torch.export.load
    .torchscript          the same as TorchScript: torch.jit.load
    .onnx                 the same as ONNX

`load_state_dict(strict=True)` of such a net takes what the first three hold.
"""

from __future__ import annotations

import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datadistill.errors import Unavailable, UsageError
from datadistill.runs.artifact import Artifact, Content
from datadistill.runs.atomic import write_bytes
from datadistill.runs.canonical import canonical_json
from datadistill.runs.header import DTYPES

NET = Artifact("net", command="datadistill finetune, kd-baselines export")
OF_TORCH = (".pt", ".pth")
"""Suffixes of files of `torch.save`."""
OF_WEIGHTS = (".safetensors", *OF_TORCH, "")
META = "datadistill.json"
"""The name of what a file of a graph says beside it."""


def refuse_suffix(path: str | os.PathLike[str], graphs: bool = False) -> None:
    """Refuse a file name whose suffix says that something else is in it than a net; `graphs`:
    formats that hold the net itself are taken too."""
    suffix = Path(path).suffix.lower()
    if suffix in OF_WEIGHTS or (graphs and suffix in GRAPHS):
        return
    more = f", or with its graph as {', '.join(GRAPHS)}" if graphs else ""
    raise UsageError(
        f"{os.fspath(path)} ends in {suffix!r}, but a net is written as .safetensors, or as "
        f".pt or .pth (torch.save of the state dict){more}; choose one of these"
    )


def write_weights(
    tensors: Mapping[str, Any], path: str | os.PathLike[str], meta: Mapping[str, Any]
) -> None:
    """Write the tensors of a state dict by name, atomically: those that share memory each on their
    own, all on the CPU. `meta` goes into a safetensors file alone."""
    refuse_suffix(path)
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
        NET.save(Content(dict(tensors), meta), path)
        return
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    data = io.BytesIO()
    torch.save(plain, data)
    write_bytes(path, data.getvalue())


def write_graph(
    net: nn.Module,
    images: Float[Tensor, "b c h w"],
    path: str | os.PathLike[str],
    meta: Mapping[str, Any],
) -> None:
    """Write a net with its tensors for batches of any size, atomically.

    Args:
        net: in evaluation mode, on the CPU.
        images: a batch of two or more, of the size that the net takes.
        path: its suffix says the format, one of `GRAPHS`.
        meta: said in the file beside the net.

    Raises:
        UsageError: the net does not go into this format.
        Unavailable: a package that writes it is missing.
    """
    suffix = Path(path).suffix.lower()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # TorchScript is deprecated; what tracing may miss
            data = GRAPHS[suffix](net, images, canonical_json(dict(meta)))
    except Unavailable:
        raise
    except Exception as error:  # of many kinds, and of many lines
        first = (str(error).strip().splitlines() or [""])[0][:160]
        what = f"{type(net).__name__} cannot be written as {suffix}"
        raise UsageError(
            f"{what} ({type(error).__name__}: {first}); write its weights (.safetensors, .pt or "
            ".pth)"
        ) from error
    write_bytes(path, data)


def format_load(path: Path) -> str:
    """What to type in Python to use a file.

    >>> format_load(Path("net.pt"))
    'net.load_state_dict(torch.load("net.pt"))'
    """
    suffix = path.suffix.lower()
    if suffix in OF_WEIGHTS:
        read = "torch.load" if suffix in OF_TORCH else "safetensors.torch.load_file"
        return f'net.load_state_dict({read}("{path}"))'
    ways = {
        ".pt2": 'torch.export.load("{}").module()(images)',
        ".torchscript": 'torch.jit.load("{}")(images)',
        ".onnx": 'onnxruntime.InferenceSession("{}").run(None, {{"images": images.numpy()}})',
    }
    return ways[suffix].format(path)


def _export(net: nn.Module, images: Tensor, meta: str) -> bytes:
    found, data = torch.export.export(net, (images,), dynamic_shapes=_any_batch()), io.BytesIO()
    _compare(net, found.module(), images)
    torch.export.save(found, data, extra_files={META: meta})
    return data.getvalue()


def _script(net: nn.Module, images: Tensor, meta: str) -> bytes:
    found, data = torch.jit.trace(net, (images,)), io.BytesIO()
    _compare(net, found, images)
    torch.jit.save(found, data, _extra_files={META: meta})
    return data.getvalue()


def _onnx(net: nn.Module, images: Tensor, meta: str) -> bytes:
    missing = [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]
    if missing:
        raise Unavailable(
            f"ONNX files are written with {' and '.join(missing)}, not installed here; pip install "
            f"{' '.join(missing)}, or write .pt2, which torch writes by itself"
        )
    found = torch.onnx.export(
        net,
        (images,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=_any_batch(),
        dynamo=True,
        verbose=False,
    )
    assert found is not None
    model = found.model_proto
    model.metadata_props.add(key=META, value=meta)
    data: bytes = model.SerializeToString()
    return data


def _compare(net: nn.Module, found: nn.Module, images: Tensor) -> None:
    """Refuse a graph with other logits than the net's, for more images, and others."""
    more = torch.cat([images.flip(-1), images])[:3]
    a, b = net(more), found(more)
    if not torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max())):
        raise ValueError("the graph gives other logits than the net, which may branch on its input")


def _any_batch() -> Any:
    """The first dimension of the images may have any size."""
    return ({0: torch.export.Dim("batch", min=1)},)


GRAPHS: dict[str, Callable[[nn.Module, Tensor, str], bytes]] = {
    ".pt2": _export,
    ".torchscript": _script,
    ".onnx": _onnx,
}
"""Suffix -> the bytes of a net, of a batch of its images, with what is said beside it."""
