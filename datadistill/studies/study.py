"""Studies: many runs below one folder, and one config that says what was asked of them all.

    OUT/                       a run folder of a kind of its own: config.json, environment.json
      ...                      a run folder for each `Job`, and whatever else the study measures and
                               keeps

Finished jobs are loaded, interrupted jobs are resumed, and a folder that holds a run of another
config is refused. After a signal the error names the command that resumes the whole study.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from datadistill.config import KINDS, complete_config, config_class
from datadistill.errors import Interrupted, UsageError
from datadistill.runs.atomic import wrap_oserror
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config, diff_configs, dump_config
from datadistill.runs.ranks import alone, current
from datadistill.runs.signals import StopFlag, interruptible

__all__ = ["Job", "Study", "config_changes", "has_run", "read_run_config"]

C = TypeVar("C", bound=Any)
T = TypeVar("T")
# of environment.json, what tables say of a machine
MACHINE = ("versions", "device", "device_name", "threads")


@dataclass(frozen=True)
class Job:
    """One run of a study.

    Args:
        path: its run folder.
        config: of a class in `datadistill.config.KINDS`.
        file: name of the file that a finished run leaves.
        run: does the work; takes whether an interrupted run is to be resumed.
        words: said before the work.
        ignored: fields in which the config of the run that is there may differ.
    """

    path: Path
    config: Any
    file: str
    run: Callable[[bool], object]
    words: str
    ignored: Collection[str] = ("device",)

    @property
    def kind(self) -> str:
        """The kind of the run, as its config.json names it."""
        return _kind_with(type(self.config))

    def find_differences(self, run: RunFolder) -> list[str]:
        """Differences between the config of a run and the job's, as `key old -> new`."""
        return config_changes(self.kind, run.config, dump_config(self.config), self.ignored)

    def is_finished(self) -> bool:
        """Whether the run is there and whole; UsageError where the folder holds a run of another
        config."""
        if not has_run(self.path):
            return (self.path / self.file).exists()
        if changed := self.find_differences(RunFolder.open(self.path, kind=self.kind)):
            raise UsageError(
                f"{self.path} holds a run of another config ({'; '.join(changed)}); remove it, or "
                "choose another --out"
            )
        return (self.path / self.file).exists()

    def finish(self, carry_out: Callable[[Callable[[], object]], object]) -> RunFolder:
        """The folder of the finished run: loaded where it is there, else resumed or begun, by way
        of `carry_out`, which calls the function that it is given."""
        if not self.is_finished():
            resume = has_run(self.path)
            carry_out(lambda: self.run(resume))
        folder = RunFolder.open(self.path)
        if current().writes:
            folder.sweep()
        return folder


class Study:
    """A folder of many runs, held by this process between `open` and the end of the `with` block.

    Signals are caught from the start of the block, so that what precedes `open` (reading data) is
    interrupted with the same sentence.

    Args:
        path: the folder.
        kind: of the folder, as its config.json names it.
        asked: the config that is kept there: what was asked, JSON-able.
        again: what to type to resume the study.
        say: takes a line before each piece of work.
        may_change: fields of `asked` in which an earlier call may have differed.
        timed: whether each piece of work leaves a line in timing.jsonl.

    Attributes:
        environments: the machines that the jobs ran on, each once.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        asked: Mapping[str, Any],
        *,
        again: str,
        say: Callable[[str], None] = lambda line: None,
        may_change: Collection[str] = (),
        timed: bool = False,
    ) -> None:
        self.path, self.kind, self.asked, self.say = path, kind, dict(asked), say
        self.may_change, self.timed = may_change, timed
        self.stopped = f"stopped; what was done is kept in {path}; go on with: {again}"
        self.environments: list[Mapping[str, Any]] = []
        self.stop = StopFlag()
        self._folder: RunFolder | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Study:
        with self._stack:
            self._stack.enter_context(self.stop)
            self._stack.enter_context(interruptible(self.stopped))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, value, trace)

    def refuse_other(self) -> RunFolder | None:
        """Refuse a folder that holds something else; changes nothing. Returns the folder, where an
        earlier call has made it."""
        if not has_run(self.path):
            RunFolder.refuse_occupied(self.path)
            return None
        folder = RunFolder.open(self.path, kind=self.kind)
        if changed := config_changes(self.kind, folder.config, self.asked, self.may_change):
            raise UsageError(
                f"{self.path} holds another study ({'; '.join(changed)}); choose another --out"
            )
        return folder

    def open(self) -> RunFolder:
        """Create the folder or open it, lock it, and remove what a killed process left. Of several
        ranks the first does so, before the others open it."""
        ranks = current()
        with ranks.together():
            if ranks.writes:
                return self._open()
        return RunFolder.open(self.path, kind=self.kind)

    def _open(self) -> RunFolder:
        folder = self.refuse_other()
        if folder is None:
            made = RunFolder.create_locked(self.path, self.asked, environment(), self.kind)
            folder = self._stack.enter_context(made)
        else:
            self._stack.enter_context(folder.lock())
        if folder.config != self.asked:
            folder.replace_config(self.asked)
        folder.clean()
        for left in self.path.glob("*/.*.tmp"):
            if not has_run(left.parent):  # a run folder removes its own
                left.unlink(missing_ok=True)
        self._folder = folder
        return folder

    def subfolder(self, name: str) -> Path:
        """A folder below the study's, made where it is not there."""
        path = self.path / name
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise wrap_oserror(error, path) from error
        return path

    def poll(self) -> None:
        self.stop.raise_if_requested(self.stopped)

    def carry_out(self, words: str | None, work: Callable[[], T]) -> T:
        """Do a piece of the work, with the line `words` before it. `Interrupted` says how to resume
        the study."""
        self.poll()
        if words is not None:
            self.say(words)
        began = time.monotonic()
        try:
            done = work()
        except Interrupted as stopped:  # a run's own sentence would resume that run only
            raise Interrupted(self.stopped, stopped.exit_code - 128) from stopped
        if self.timed and self._folder is not None:
            seconds = round(time.monotonic() - began, 1)
            at = datetime.now(UTC).isoformat(timespec="seconds")
            self._folder.append_timing({"step": words, "seconds": seconds, "finished": at})
        return done

    def share_out(self, first: Callable[[], object], jobs: Sequence[Callable[[], object]]) -> None:
        """Let ranks do the jobs, each its part, once rank 0 has done what comes before them. One
        process leaves it all for later: a job that is done is loaded then."""
        ranks = current()
        if ranks.size == 1:
            return
        with ranks.together(), alone():
            if ranks.writes:
                first()
        for turn in range(0, len(jobs), ranks.size):  # one for each rank
            with ranks.together(), alone():
                if turn + ranks.rank < len(jobs):
                    jobs[turn + ranks.rank]()

    def run(self, job: Job) -> Path:
        """The file that a job leaves: of a finished run, of one that is resumed, or of a new
        one."""
        folder = job.finish(partial(self.carry_out, job.words))
        self.add_environment(folder.environment)
        return job.path / job.file

    def add_environment(self, found: Mapping[str, Any]) -> None:
        """Note the machine of an environment.json, once for each that differs."""
        machine = {name: found[name] for name in MACHINE if name in found}
        if machine not in self.environments:
            self.environments.append(machine)


def has_run(path: Path) -> bool:
    """Whether a run was started in a folder, finished or not."""
    return (path / "config.json").exists()


def _kind_with(cls: type[Any]) -> str:
    """The kind of run whose config is of a class."""
    return next(kind for kind in KINDS if config_class(kind) is cls)


def read_run_config(path: Path, cls: type[C]) -> C:
    """The config, of class `cls`, of a run folder."""
    return build_config(
        cls, RunFolder.open(path, kind=_kind_with(cls)).config, str(path / "config.json")
    )


def config_changes(
    kind: str, stored: Mapping[str, Any], wanted: Mapping[str, Any], ignored: Collection[str]
) -> list[str]:
    """Differences between two configs of a kind, as `key old -> new`."""
    both = (complete_config(kind, stored), wanted)
    return diff_configs(*({k: v for k, v in config.items() if k not in ignored} for config in both))
