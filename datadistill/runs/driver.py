"""The one driver of runs: folder, checkpoints, signals, metrics, progress and resume.

    run(kind, config)                        in memory, nothing written
    run(kind, config, out="runs/a")          in a run folder
    run(kind, None, out="runs/a", resume=True)

What is trained is described by `kinds.Kind` and `kinds.Work`. Several ranks (`runs.ranks`) carry
out one run: all take its steps, and rank 0 alone has the folder.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..config import RunOptions
from ..errors import Interrupted, UsageError
from .environment import environment
from .folder import RunFolder
from .jsonconfig import build_config, dump_config
from .kinds import Kind, Work
from .ranks import current
from .resume import check_changes, name_out_of_memory, refuse_others, undo_create
from .session import Session
from .signals import StopFlag, interruptible

__all__ = ["run"]

C = TypeVar("C")
R = TypeVar("R")


def run(
    kind: Kind[C, R],
    config: C | None,
    out: str | os.PathLike[str] | None = None,
    *,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
) -> R:
    """Carry out a run from its config to its result.

    Args:
        kind: with the Python objects it was given.
        config: of the run; None with `resume` takes the run folder's own.
        out: the run folder; None writes nothing.
        resume: continue the run in `out` from its latest checkpoint, to the same bytes as without
            interruption on the same machine, torch version and thread count.
        options: how to carry it out.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.
    """
    if current().size > 1 and not kind.takes_ranks:
        raise UsageError(
            f"a run of the kind {kind.name} is one process, and these are {current().size} ranks; "
            "start it without torchrun"
        )
    if config is not None:
        kind.refuse_config(config)
        config = kind.prepare(config)
    if out is None:
        return _run_in_memory(kind, config, resume, options)
    path = Path(out)
    folder, ranks = None, current()
    with ranks.together():  # nothing is made before all have looked
        if resume:
            folder, stored = _open_run(kind, path, config, options)
            if (result := kind.load_finished(folder, stored, options)) is not None:
                return result
            config = stored
        if config is None:
            raise UsageError(f"no config was given; pass {kind.wanted}, or resume a run folder")
        if folder is None:
            RunFolder.refuse_occupied(path)  # before the data are read, which may take minutes
        kind.check(config, path, options, resume)
    explained = name_out_of_memory(partial(kind.explain_memory, config))
    with explained, StopFlag(deferred=ranks.size > 1) as stop:
        work = _build(kind, config, options, folder)
        fresh = folder is None
        with contextlib.ExitStack() as held:
            with ranks.together():
                stop.raise_if_requested(_describe_not_begun(kind, config, folder))
                if not ranks.writes:
                    folder = None
                elif folder is None:
                    found = {**environment(work.device), **work.fingerprints}
                    made = RunFolder.create_locked(path, dump_config(config), found, kind.name)
                    folder = held.enter_context(made)
                else:
                    held.enter_context(folder.lock())
            session = Session(kind, config, work, folder, options, stop, path)
            if folder is not None:
                held.enter_context(undo_create(folder, lambda: not fresh or session.stepped))
            with ranks.together():
                if folder is not None:
                    folder.clean()
                    refuse_others(folder, work.device, work.fingerprints, options)
                    _run_inputs(work, folder, options, f"go on with: {kind.command(config, path)}")
            session.restore()
            session.take_steps()
            with ranks.together():
                result = work.finish(
                    folder,
                    f"all {kind.unit}s were done, and the result was not tested to the end; go on "
                    f"with: {kind.command(config, path)}",
                )
        ranks.heed_signals()
        stop.raise_if_requested(kind.describe_end(config, path))
    return result


def _build(kind: Kind[C, R], config: C, options: RunOptions, folder: RunFolder | None) -> Work[R]:
    with current().together(), interruptible(_describe_not_begun(kind, config, folder)):
        return kind.build(config, options)


def _run_in_memory(kind: Kind[C, R], config: C | None, resume: bool, options: RunOptions) -> R:
    if resume or config is None:
        raise UsageError(
            "a run in memory cannot be resumed; pass out=FOLDER, and a config to start one"
        )
    ranks = current()
    with ranks.together():
        kind.check(config, None, options, False)
    explained = name_out_of_memory(partial(kind.explain_memory, config))
    with explained, StopFlag(deferred=ranks.size > 1) as stop:
        work = _build(kind, config, options, None)
        _run_inputs(work, None, options, "nothing was saved (no folder)")
        session = Session(kind, config, work, None, options, stop)
        session.restore()
        session.take_steps()
        return work.finish(None, f"all {kind.unit}s were done, but nothing was saved (no folder)")


def _run_inputs(work: Work[R], folder: RunFolder | None, options: RunOptions, way: str) -> None:
    """Carry out the runs that this one needs; after a signal the sentence is this run's, and not
    theirs."""
    try:
        with interruptible():
            work.run_inputs(folder, options)
    except Interrupted as stopped:
        kept = "stopped before the first step of this session; the runs that it needs are kept"
        raise Interrupted(
            f"{kept if folder else 'stopped'}; {way}", stopped.exit_code - 128
        ) from stopped


def _open_run(
    kind: Kind[C, R], path: Path, config: C | None, options: RunOptions
) -> tuple[RunFolder, C]:
    """The folder to resume, and its config, with changes where they are allowed."""
    folder = RunFolder.open(path, kind=kind.name)
    stored = build_config(kind.config, folder.config, str(path / "config.json"))
    config = stored if config is None else config
    check_changes(path, kind.name, folder.config, dump_config(config), options, kind.resumable)
    kind.reopen(folder)
    return folder, config


def _describe_not_begun(kind: Kind[C, R], config: C, folder: RunFolder | None) -> str:
    if folder is None:
        return "stopped before the run began; nothing was written"
    return f"nothing was changed; go on with: {kind.command(config, folder.path)}"
