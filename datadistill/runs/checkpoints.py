"""Checkpoints that are complete or not there.

    checkpoints/step-000120/tensors.safetensors     the tensors
                            state.json              everything else
                            manifest.json           sizes and SHA-256 of both, written last

A checkpoint is written into `step-000120.tmp/`, forced to disk, and renamed. Reading verifies the
manifest: a damaged checkpoint is passed over, with a warning, for the one before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import DataError, UsageError
from .atomic import fsync_folder, wrap_oserror, write_bytes
from .canonical import canonical_json, parse_json
from .regular import open_run_file, read_run_file
from .state import flatten_state, unflatten_state
from .tensors import pack, unpack

__all__ = ["Checkpoint", "CheckpointStore", "flatten_state", "unflatten_state"]

SCHEMA = 1
_STEP = re.compile(r"step-(\d{6,})")
_FILES = ("tensors.safetensors", "state.json")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: the iteration it was made after, CPU tensors, JSON state, its
    folder."""

    iteration: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    path: Path


class _Damaged(DataError):
    """This checkpoint cannot be used; an older one may."""


class CheckpointStore:
    """The checkpoints of one run.

    Hold the run's lock while saving, and while calling `load_latest` with `clean=True`.

    Args:
        folder: the `checkpoints` folder; made by the first save.
        keep_last: how many checkpoints to keep, from 1.

    Example:
        >>> import torch
        >>> store = CheckpointStore(getfixture("tmp_path") / "checkpoints")
        >>> store.save(10, {"images": torch.zeros(1)}, {"best": 0.5}).name
        'step-000010'
        >>> store.load_latest().state
        {'best': 0.5}
    """

    def __init__(self, folder: str | os.PathLike[str], keep_last: int = 3) -> None:
        if keep_last < 1:
            raise UsageError(f"keep_last is {keep_last}, wanted at least 1")
        self.folder = Path(folder)
        self.keep_last = keep_last

    def iterations(self) -> list[int]:
        """The iterations that have a checkpoint folder, whole or not, in order."""
        found = (_STEP.fullmatch(name) for name in self._names())
        return sorted(int(match[1]) for match in found if match)

    def save(self, iteration: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove the ones no longer wanted; former checkpoints stay where
        it fails.

        Checkpoints of later iterations are removed too: they are damaged ones that a resume passed
        over. One of the same iteration is replaced.

        Args:
            iteration: the last finished iteration, from 0.
            tensors: name -> tensor; see `datadistill.runs.tensors` for dtypes. Stored bit for bit.
            state: JSON-able; take optimizer states apart with `flatten_state`.
        """
        if iteration < 0:
            raise UsageError(f"iteration is {iteration}, wanted at least 0")
        contents = (
            pack(tensors, {"schema": SCHEMA}),
            canonical_json(dict(state), indent=2).encode() + b"\n",
        )
        final = self._path(iteration)
        temporary, old = final.with_name(final.name + ".tmp"), final.with_name(final.name + ".old")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _remove(temporary)
            temporary.mkdir()
            for name, data in zip(_FILES, contents, strict=True):
                write_bytes(temporary / name, data)
            write_bytes(temporary / "manifest.json", _manifest(iteration, contents))
            if os.path.lexists(final):
                _remove(old)
                os.rename(final, old)
            os.rename(temporary, final)
            fsync_folder(self.folder)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if os.path.lexists(old) and not os.path.lexists(final):
                with contextlib.suppress(OSError):  # `load_latest` tries again
                    os.rename(old, final)
            if isinstance(error, OSError):
                raise wrap_oserror(error, final, sum(map(len, contents))) from error
            raise
        self._prune(iteration)
        return final

    def load(self, iteration: int) -> Checkpoint:
        """Read and verify one checkpoint; DataError where it is missing, incomplete, damaged, or
        from a newer version."""
        return _read(self._path(iteration), iteration)

    def load_latest(self, *, clean: bool = True) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None. Damaged ones are passed over with a warning
        that names them and the one used; one of a newer version is a DataError. `clean` removes
        what an interrupted save left; a reader that does not hold the run's lock passes False."""
        if clean:
            self._clean()
        skipped = []
        for iteration in reversed(self.iterations()):
            try:
                checkpoint = self.load(iteration)
            except _Damaged as error:
                skipped.append(str(error))
                continue
            if skipped:
                warnings.warn(
                    f"passed over {'; '.join(skipped)}; using {checkpoint.path}", stacklevel=2
                )
            return checkpoint
        if skipped:
            warnings.warn(
                f"passed over {'; '.join(skipped)}; no complete checkpoint is left", stacklevel=2
            )
        return None

    def _path(self, iteration: int) -> Path:
        return self.folder / f"step-{iteration:06d}"

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"{self.folder} cannot be read: {error.strerror}") from error

    def _clean(self) -> None:
        for name in self._names():
            stem, _, ending = name.rpartition(".")
            if not _STEP.fullmatch(stem) or ending not in ("tmp", "old"):
                continue
            path = self.folder / name
            try:
                if ending == "old" and not os.path.lexists(self.folder / stem):
                    # stopped between the two renames of a replacement: the replaced one is whole
                    os.rename(path, self.folder / stem)
                else:
                    _remove(path)
            except OSError as error:
                raise wrap_oserror(error, path) from error
            if ending == "tmp":
                warnings.warn(f"removed {path}, left by an interrupted save", stacklevel=3)

    def _prune(self, iteration: int) -> None:
        steps = self.iterations()
        kept = [step for step in steps if step <= iteration][-self.keep_last :]
        replaced = self._path(iteration).with_suffix(".old")
        for path in [replaced, *(self._path(step) for step in steps if step not in kept)]:
            try:
                if path != replaced:
                    # renamed first: half-removed, it would look like a damaged checkpoint
                    _remove(path.with_suffix(".tmp"))
                    path = path.rename(path.with_suffix(".tmp"))
                _remove(path)
            except OSError as error:
                warnings.warn(
                    f"could not remove the old checkpoint {path}: {error.strerror}", stacklevel=3
                )


def _manifest(iteration: int, contents: tuple[bytes, ...]) -> bytes:
    files = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in zip(_FILES, contents, strict=True)
    }
    manifest: dict[str, Any] = {"schema": SCHEMA, "iteration": iteration, "files": files}
    manifest["sha256"] = _digest(manifest)
    return canonical_json(manifest, indent=2).encode() + b"\n"


def _digest(manifest: dict[str, Any]) -> str:
    covered = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(canonical_json(covered).encode()).hexdigest()


def _read(path: Path, iteration: int) -> Checkpoint:
    try:
        manifest = parse_json(read_run_file(path / "manifest.json"))
        if not isinstance(manifest, dict) or manifest.get("sha256") != _digest(manifest):
            raise _Damaged(f"{path} (its manifest.json is damaged)")
        if manifest["schema"] > SCHEMA:
            found = f"{path} was written by schema {manifest['schema']}, this reads up to {SCHEMA}"
            raise DataError(f"{found}; install a newer version")
        if manifest["iteration"] != iteration:
            raise _Damaged(f"{path} (it is of iteration {manifest['iteration']})")
        contents = []
        for name in _FILES:
            stated = manifest["files"][name]
            with os.fdopen(open_run_file(path / name), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != stated["bytes"]:
                    raise _Damaged(f"{path} ({name} has {size} bytes, wanted {stated['bytes']})")
                contents.append(file.read(size))
            found = hashlib.sha256(contents[-1]).hexdigest()
            if found != stated["sha256"]:
                raise _Damaged(f"{path} ({name} has sha256 {found}, wanted {stated['sha256']})")
        # the manifest has just proved these bytes: no second checksum, and NaN is the run's own
        # business
        source = str(path / _FILES[0])
        tensors, _ = unpack(contents[0], schema=SCHEMA, verify=False, finite=False, source=source)
        return Checkpoint(iteration, tensors, parse_json(contents[1]), path)
    except FileNotFoundError as error:
        raise _Damaged(f"{path} ({Path(error.filename).name} is missing)") from None
    except PermissionError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}; restore the right to read it"
        ) from error
    except OSError as error:
        raise _Damaged(f"{path} (it cannot be read: {error.strerror})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise _Damaged(f"{path} (its manifest.json is damaged: {error})") from None


def _remove(path: Path) -> None:
    """Remove a folder or a file, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
