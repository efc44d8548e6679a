"""Resuming a run: what must be as it was, what may differ, and how a checkpoint is written.

Each refusal comes before anything in the folder is changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from datadistill.config import HARMLESS, RunOptions, complete_config
from datadistill.errors import (
    DataError,
    OutOfMemory,
    ResourceError,
    Unavailable,
    UsageError,
    is_out_of_memory,
)
from datadistill.runs.checkpoints import CheckpointStore
from datadistill.runs.environment import environment, find_differences
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import diff_configs

STARTS = (
    "pool",
    "experts",
    "weights",
    "given",
    "factory",
    "teacher",
    "teacher_weights",
    "boost_from",
    "data_from",
)


class Fingerprinted(Protocol):
    """Data that say what they are: real images, a text."""

    @property
    def fingerprint(self) -> str:
        """Another one for other data."""


def fingerprints(
    data: Fingerprinted, net: nn.Module, others: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, str]:
    """Fingerprints that a resumed run must find again: of the data, of the names and shapes of the
    net's tensors and which of them are frozen, and, where `origin` names them, of the pool or the
    weights that nets start from, or of a teacher."""
    tensors: dict[str, Any] = {
        k: list(x.shape) for k, x in [*net.named_parameters(), *net.named_buffers()]
    }
    if frozen := [k for k, p in net.named_parameters() if not p.requires_grad]:
        tensors["frozen parameters"] = frozen
    found = {
        "data": data.fingerprint,
        "net": hashlib.sha256(json.dumps(tensors).encode()).hexdigest(),
    }
    return {**found, **{name: others[name] for name in STARTS if name in others}}


def refuse_others(
    folder: RunFolder, device: torch.device, found: Mapping[str, str], options: RunOptions
) -> None:
    """Refuse other data or another net (`fingerprints`) than the run was started on; warn of
    another environment, or refuse it with `options.require_exact`."""
    then = dict(folder.environment)
    if then.pop("data", None) != found["data"]:
        raise DataError(
            f"{folder.path} was started on other data (its fingerprint differs); restore the data"
        )
    if then.pop("net", None) != found["net"]:
        raise UsageError(
            f"{folder.path} was started with another net (its tensors differ); pass that one"
        )
    for name in STARTS:
        if then.pop(name, found.get(name)) != found.get(name):
            if name == "factory":
                raise UsageError(
                    f"{folder.path} was started with a factory whose first net has other values "
                    "(its fingerprint differs); pass net= a function that builds the same nets "
                    "from the same seed"
                )
            if name == "given":
                raise UsageError(
                    f"{folder.path} was started from a net of other values (their "
                    "fingerprint differs); pass that net, with the values it had then"
                )
            if name == "experts":
                raise UsageError(
                    f"{folder.path} was started from other experts (their fingerprint differs); "
                    "pass those with --experts"
                )
            if name == "boost_from":
                raise UsageError(
                    f"{folder.path} was grown from another set (its fingerprint differs); pass "
                    "that one with --boost-from"
                )
            if name == "data_from":
                raise UsageError(
                    f"{folder.path} was started on another set of images (its fingerprint "
                    "differs); restore its file, or pass data_from= that set"
                )
            raise UsageError(
                f"{folder.path} was started from another "
                f"{name.removesuffix('s').replace('_', ' ')} (its fingerprint differs); pass that "
                f"one with --{name.replace('_', '-')}"
            )
    if changes := find_differences(then, environment(device)):
        message = f"not bit-exact with the run so far: {', '.join(changes)}"
        if options.require_exact:
            raise Unavailable(
                f"{message}; use the same machine and versions, or drop --require-exact"
            )
        warnings.warn(message, stacklevel=4)


def check_changes(
    path: Path,
    kind: str,
    old: dict[str, Any],
    new: dict[str, Any],
    options: RunOptions,
    allowed: Collection[str] = (),
) -> bool:
    """Whether a config that is resumed differs from the run's; UsageError for a field other than
    `allowed` with `options.resume_with_changes`. `old` and `new` are from `dump_config`."""
    changed = _find_changes(kind, old, new)
    if changed and not (options.resume_with_changes and set(changed) <= set(allowed)):
        way = (
            f"--resume-with-changes allows only {', '.join(allowed)}"
            if allowed
            else "start a new run for that (--out)"
        )
        raise UsageError(
            f"{path} was started with another config: {'; '.join(changed.values())}; {way}"
        )
    return bool(changed)


def check_changes_since(
    folder: RunFolder,
    stored: dict[str, Any],
    new: dict[str, Any],
    options: RunOptions,
    allowed: Collection[str] = (),
) -> bool:
    """Whether a config that is resumed differs from `stored`, that of the checkpoint it is resumed
    from.

    The checkpoint's own config counts, for config.json may have been edited. Where config.json says
    that the run had that config before, the changes have been allowed: it was stopped before its
    next checkpoint.
    """
    if any(not _find_changes(folder.kind, former, stored) for former in folder.before):
        options = replace(options, resume_with_changes=True)
    return check_changes(folder.path, folder.kind, stored, new, options, allowed)


def _find_changes(kind: str, old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    """Field -> `field old -> new`, of the fields that a resumed run may not just change."""
    changed = {
        line.split()[0].split(".")[0]: line
        for line in diff_configs(complete_config(kind, old), complete_config(kind, new))
    }
    return {name: line for name, line in changed.items() if name not in HARMLESS}


def save_checkpoint(
    folder: RunFolder,
    iteration: int,
    tensors: Mapping[str, Tensor],
    record: Mapping[str, Any],
    options: RunOptions,
) -> None:
    """A checkpoint, in the rescue folder where the run's own disk is full; the ResourceError says
    where it is."""
    try:
        folder.checkpoints.save(iteration, tensors, record)
    except ResourceError as error:
        if options.rescue_dir is None:
            raise
        rescued = CheckpointStore(Path(options.rescue_dir) / "checkpoints").save(
            iteration, tensors, record
        )
        raise ResourceError(
            f"{error}; the state was saved to {rescued} instead: make room, move it into "
            f"{folder.path}/checkpoints, and resume"
        ) from error


@contextlib.contextmanager
def undo_create(folder: RunFolder, began: Callable[[], bool]) -> Iterator[None]:
    """Undo `create` where a new run is refused before it `began`, so that the command can be typed
    again, corrected. Holds the folder's lock. Runs below the folder stay."""
    try:
        yield
    except (UsageError, DataError):
        if not began() and not any(folder.path.glob("*/config.json")):
            with contextlib.suppress(OSError):
                for name in ("config.json", "environment.json", "metrics.jsonl", "lock"):
                    (folder.path / name).unlink(missing_ok=True)
                folder.path.rmdir()
        raise


@contextlib.contextmanager
def name_out_of_memory(explain: Callable[[], str]) -> Iterator[None]:
    """Turn running out of memory into an `OutOfMemory` whose sentence ends as `explain` says."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"out of memory: {explain()} ({str(error)[:120]})") from error
