"""The run folder: everything a run leaves behind.

config.json           {"schema", "kind", "config"}: what was asked; its presence makes the folder a
                      run. After a change "before" as well: the former configs
environment.json      what the bytes depend on besides
metrics.jsonl         one line an event, no clock in it: the same run gives the same bytes
timing.jsonl          what the clock said
checkpoints/  distilled.safetensors  figures/  report.html
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ResourceError, UsageError, list_some
from .atomic import wrap_oserror, write_json
from .canonical import canonical_json, parse_json
from .checkpoint_state import newest_state
from .jsonlines import append_line, digest_of, durable_length, read_lines, refuse_edited, truncate
from .lock import RunLock
from .regular import read_run_file, refuse_irregular

if TYPE_CHECKING:
    from .checkpoints import CheckpointStore

SCHEMA = 1
SET_FILE, POOL_FILE = "distilled.safetensors", "pool.safetensors"
STUDENT_FILE = "student.safetensors"
RESULT_FILES = (SET_FILE, POOL_FILE, STUDENT_FILE)
"""Files of which a run writes one when it finishes."""
_TEMPORARY = ".*.tmp"


class RunFolder:
    """A folder that holds a run. Make one with `create`, open it again with `open`.

    Attributes:
        path: the folder.
        kind: what sort of run it is ("distill", "pool", ...).
        config: the run's config as stored.
        environment: the environment it was started in.
        before: the configs that the run had before it was resumed with changes.

    Example:
        >>> folder = RunFolder.create(getfixture("tmp_path") / "a", {"seed": 0}, {}, kind="distill")
        >>> folder.append_metrics({"iteration": 0, "loss": 2.5})
        >>> RunFolder.open(folder.path).read_metrics()
        [{'iteration': 0, 'loss': 2.5}]
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        config: dict[str, Any],
        environment: dict[str, Any],
        keep_last: int = 3,
    ) -> None:
        self.path = path
        self.kind = kind
        self.config = config
        self.environment = environment
        self.keep_last = keep_last
        self.before: list[dict[str, Any]] = []

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        kind: str,
        *,
        keep_last: int = 3,
    ) -> RunFolder:
        """Start a run folder.

        Args:
            path: a folder that does not exist yet or is empty; missing parents are made.
            config: JSON-able, without clock, host or path if the run is to be repeatable.
            environment: from `datadistill.runs.environment.environment`.
            kind: what sort of run it is.
            keep_last: how many checkpoints to keep.
        """
        with cls.create_locked(path, config, environment, kind, keep_last=keep_last) as folder:
            return folder

    @classmethod
    @contextlib.contextmanager
    def create_locked(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        kind: str,
        *,
        keep_last: int = 3,
    ) -> Iterator[RunFolder]:
        """`create` for whoever writes into the new folder: its lock is held from before config.json
        is there until the `with` block ends. Of two processes that begin together one is refused.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(
                f"{path} is not a folder and cannot become one; choose another --out"
            ) from None
        except OSError as error:
            raise wrap_oserror(error, path) from error
        with RunLock(path):
            cls.refuse_occupied(path)
            folder = cls(path, kind, dict(config), dict(environment), keep_last)
            folder.clean()
            write_json(path / "environment.json", folder.environment)
            folder._write_config()  # last: from here on the folder is a run
            yield folder

    @classmethod
    def refuse_occupied(cls, path: str | os.PathLike[str]) -> None:
        """Refuse a place that a new run cannot have; changes nothing."""
        path = Path(path)
        try:
            names = sorted(os.listdir(path))
        except FileNotFoundError:
            return
        except OSError as error:
            raise wrap_oserror(error, path) from error
        if "config.json" in names:
            try:
                held = f"a run of {cls.open(path).kind}"
            except UsageError:
                held = "a run that cannot be read"
            done = any(name in names for name in RESULT_FILES)
            advice = (
                "choose another --out"
                if done
                else f"resume it with --resume {path}, or choose another --out"
            )
            held += ", which has finished" if done else ""
            raise UsageError(f"{path} already holds {held}; {advice}")
        # without config.json these are what a killed `create` leaves
        ours = {"lock", "environment.json"}
        others = [
            name for name in names if name not in ours and not fnmatch.fnmatch(name, _TEMPORARY)
        ]
        if others:
            raise UsageError(
                f"{path} is not empty (it holds {list_some(others, 3)}); choose another --out"
            )

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, kind: str | None = None, keep_last: int = 3
    ) -> RunFolder:
        """Open a run folder, to resume it or to read it. Changes nothing.

        Args:
            path: the folder.
            kind: the sort of run wanted; None accepts any.
            keep_last: how many checkpoints to keep.

        Raises:
            UsageError: no run is there, its config.json or environment.json is not as written by
                `create`, it is of another kind, or a file of it is a link, a pipe or the like.
        """
        path = Path(path)
        refuse_irregular(path)
        stored = _load_object(path / "config.json", f"{path} holds no run")
        source = path / "config.json"
        found = stored.get("schema")
        if type(found) is not int or found < 1:
            raise UsageError(f"{source}: schema is {found!r}, wanted {SCHEMA}; restore the file")
        if found > SCHEMA:
            raise UsageError(
                f"{source} was written by schema {found}, this reads up to {SCHEMA}; update"
            )
        if stored.keys() - {"before"} != {"schema", "kind", "config"}:
            raise UsageError(
                f"{source} has the keys {sorted(stored)}, wanted schema, kind and config"
            )
        if not isinstance(stored["kind"], str) or not isinstance(stored["config"], dict):
            raise UsageError(
                f"{source}: kind must be a string and config an object; restore the file"
            )
        before = stored.get("before", [])
        if not isinstance(before, list) or not all(isinstance(former, dict) for former in before):
            raise UsageError(
                f"{source}: before is {repr(before)[:80]}, wanted configs; restore the file"
            )
        if kind is not None and stored["kind"] != kind:
            raise UsageError(f"{path} holds a run of {stored['kind'][:40]}, wanted one of {kind}")
        environment = _load_object(path / "environment.json", f"{path} is no complete run")
        folder = cls(path, stored["kind"], stored["config"], environment, keep_last)
        folder.before = before
        return folder

    @property
    def checkpoints(self) -> CheckpointStore:
        from .checkpoints import CheckpointStore

        return CheckpointStore(self.path / "checkpoints", self.keep_last)

    @property
    def distilled(self) -> Path:
        return self.path / SET_FILE

    @property
    def figures(self) -> Path:
        """The folder of figures; made by whoever draws the first."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def timing(self) -> Path:
        return self.path / "timing.jsonl"

    @property
    def config_hash(self) -> str:
        """SHA-256 of the kind and the config."""
        return (
            "sha256:"
            + hashlib.sha256(canonical_json([self.kind, self.config]).encode()).hexdigest()
        )

    def lock(self) -> RunLock:
        """The folder's lock, to be held (`with folder.lock():`) by whoever writes."""
        return RunLock(self.path)

    def resolve_inside(self, name: str) -> Path:
        """A path below this folder, for a name that came from a file; UsageError for one that leads
        out of it, also through a link."""
        target, root = os.path.realpath(self.path / name), os.path.realpath(self.path)
        if (
            target != root
            and os.path.commonpath([target, root]) == root
            and not os.path.isabs(name)
        ):
            return self.path / name
        raise UsageError(f"{name!r} leads out of the run folder {self.path}; give a name inside it")

    def replace_config(self, config: Mapping[str, Any]) -> None:
        """Store a changed config, and the former one beside it, which checkpoints are of until the
        next one."""
        if config != self.config and self.config not in self.before:
            self.before = [*self.before, self.config]
        self.config = dict(config)
        self._write_config()

    def clean(self) -> None:
        """Remove temporary files that a killed process left; call it holding the lock."""
        for path in [*self.path.glob(_TEMPORARY), *self.figures.glob(_TEMPORARY)]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise wrap_oserror(error, path) from error

    def sweep(self) -> None:
        """Remove the lock and the temporary files that a killed process left in a run that has
        finished, where nobody holds the folder."""
        if (self.path / "lock").exists() or any(self.path.glob(_TEMPORARY)):
            with contextlib.suppress(UsageError, ResourceError), self.lock():
                self.clean()

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl: JSON-able, without anything from a clock; None for a missing
        number."""
        append_line(self.metrics, record)

    def append_timing(self, record: Mapping[str, Any]) -> None:
        append_line(self.timing, record)

    def end_session(self, record: Mapping[str, Any]) -> None:
        """A last line of timing.jsonl before a signal ends the process; a disk that is full does
        not matter."""
        with contextlib.suppress(ResourceError):
            self.append_timing(record)

    def metrics_length(self) -> int:
        """Bytes of metrics.jsonl, forced to disk, for a checkpoint to remember."""
        return durable_length(self.metrics)

    def metrics_record(self) -> dict[str, Any]:
        """Length and SHA-256 of metrics.jsonl, forced to disk, as a checkpoint keeps them in its
        state."""
        length = self.metrics_length()
        return {"metrics_bytes": length, "metrics_sha256": digest_of(self.metrics, length)}

    def truncate_metrics(self, n_bytes: int, sha256: str | None = None) -> None:
        """Cut metrics.jsonl back to the length, in bytes, that a checkpoint remembers. DataError
        where the file is shorter, the lines up to there have another SHA-256 than `sha256` (None in
        checkpoints that do not remember it), or the cut would leave half a line."""
        if sha256 is not None and n_bytes <= self.metrics_length():
            refuse_edited(self.metrics, n_bytes, sha256)
        truncate(self.metrics, n_bytes)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; half a line at the end (a killed process) is left out."""
        state = newest_state(self.path / "checkpoints")
        if state is not None and isinstance(state.get("metrics_sha256"), str):
            refuse_edited(self.metrics, state["metrics_bytes"], state["metrics_sha256"])
        return read_lines(self.metrics)

    def read_timing(self) -> list[dict[str, Any]]:
        return read_lines(self.timing)

    def _write_config(self) -> None:
        document: dict[str, Any] = {"schema": SCHEMA, "kind": self.kind, "config": self.config}
        write_json(
            self.path / "config.json",
            {**document, "before": self.before} if self.before else document,
        )


def _load_object(path: Path, otherwise: str) -> dict[str, Any]:
    try:
        value = parse_json(read_run_file(path))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{otherwise}: {path.name} is missing; check the path") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}; restore the file") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object; restore the file")
    return value
