"""Files of `torch.save` from anyone, read without running anything in them.

Such a file is a pickle. torch's restricted reader (`weights_only=True`) makes tensors, numbers,
texts, lists, tuples and dicts of it and refuses all else; it runs no code, but it believes the
sizes that it reads. So the archive is looked at first (a few bytes may unfold to gigabytes), and
tensors are looked at before use (a view may repeat one number 10^12 times).

Reference: https://pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import DataError, OutOfMemory

HINT = (
    "nothing in it was run; if you trust who made it, open it in the program that wrote it and "
    "save plain tensors, numbers, lists and tuples with torch.save"
)


def read_torch_file(path: str | os.PathLike[str]) -> tuple[Any, str]:
    """The tensors, numbers and texts that `torch.save` wrote, nested, on the CPU, and the file's
    SHA-256. Any version of the format is read; a pickle of other objects is refused and not run.

    Example:
        >>> path = getfixture("tmp_path") / "two.pth"
        >>> torch.save([1, torch.ones(2)], path)
        >>> read_torch_file(path)[0]
        [1, tensor([1., 1.])]
    """
    data = read_bytes(path, "a file of torch.save")
    return load_torch(data, path), hashlib.sha256(data).hexdigest()


def load_torch(data: bytes, path: object) -> Any:
    """As `read_torch_file`, from the content of a file that messages call `path`."""
    if not data:
        raise DataError(f"{path} is empty, wanted a file of torch.save; get it again")
    _refuse_damaged_archive(path, data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols and sparse tensors
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise OutOfMemory(f"{path} needs more memory than there is") from None
    except pickle.UnpicklingError as error:
        # torch's own sentence, of many lines, would tell the reader to switch the restriction off
        name = re.search(r"unsupported global:?\s+(?:GLOBAL )?(\S+)", str(error), re.IGNORECASE)
        what = (
            f"wants the Python object {name[1][:80]}"
            if name
            else "the restricted reader does not take"
        )
        raise DataError(
            f"{path} is a pickle that {what}, or is damaged; wanted tensors, numbers, lists and "
            f"tuples alone; {HINT}"
        ) from None
    except Exception as error:  # EOFError, RuntimeError, KeyError, IndexError, ...
        what = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(
            f"{path} is truncated, damaged, or no file of torch.save ({what}); get it again"
        ) from None


def is_plain(x: Tensor) -> bool:
    """Whether a tensor from a file is an ordinary one: dense, in memory, each number stored once.

    Example:
        >>> is_plain(torch.ones(3)), is_plain(torch.ones(1).expand(10**6, 10**6))
        (True, False)
    """
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.layout == torch.strided
        and x.device.type == "cpu"
        and not x.is_quantized
        and x.numel() * x.element_size() <= x.untyped_storage().nbytes()
    )


def read_bytes(path: str | os.PathLike[str], wanted: str) -> bytes:
    """The content of a regular file, read once: what is checked is what is used. `wanted` is what
    it should be."""
    path = Path(path)
    try:
        # looked at before it is opened: opening a pipe would wait for a writer
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise DataError(f"{path} is {what}, wanted {wanted}")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _refuse_damaged_archive(path: object, data: bytes) -> None:
    """torch.save never compresses, so an archive whose parts are larger than itself is a trap; and
    torch does not compare the checksum that an archive has of each part, so that a flipped bit
    would pass for a weight."""
    try:
        if not zipfile.is_zipfile(io.BytesIO(data)):  # which fails of some archives
            return
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = archive.infolist()
            if any(part.filename.endswith("/constants.pkl") for part in parts):
                raise DataError(
                    f"{path} is TorchScript, as torch.jit.save writes it; wanted a file of "
                    "torch.save: load it with torch.jit.load, and save its state_dict()"
                )
            total = sum(part.file_size for part in parts)
            compressed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            if compressed or total > len(data):
                raise DataError(
                    f"{path} has {len(data):,} bytes and claims to unfold to {total:,}, wanted an "
                    "archive as torch.save writes it, which is not compressed; get it again"
                )
            # all 0: written with torch.serialization.set_crc32_options(False)
            damaged = archive.testzip() if any(part.CRC for part in parts) else None
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} is a damaged archive ({str(error)[:80]}); get it again") from None
    if damaged is not None:
        raise DataError(
            f"{path} is damaged: its part {damaged[:80]!r} is not of its checksum; get it again"
        )
