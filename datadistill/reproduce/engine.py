"""Run what a plan names and is missing, use again what is there.

    OUT/                     a run folder of kind "reproduce": config.json, environment.json, timing.jsonl
      pools/NAME/            run folders of pools             sets/NAME/   run folders of distillations
      measured/NAME.json     rows, with what they were measured on and how
      weights/NAME           weights drawn where a part needs some and none were given
      table.md  table.csv  figure.png

Every step is either there, looked for elsewhere (reuse.py), or done now; pools and distillations go on from
their checkpoints. A measurement is used again where the set, the pool, its arguments and the library's version
are those in its file. So the same command typed again goes on where it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from datadistill import distilled_file
from datadistill.config import DistillConfig, PoolConfig, RunOptions
from datadistill.device import resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import Interrupted, UsageError
from datadistill.nets.weights import read_weights
from datadistill.pool import FILE_NAME as POOL_FILE
from datadistill.pool import Pool
from datadistill.reproduce import reuse as elsewhere
from datadistill.reproduce.drawn import draw_weights
from datadistill.reproduce.kept import begun, kept, stored_rows
from datadistill.reproduce.measure import KINDS, Tools
from datadistill.reproduce.plan import WEIGHTS, Measurement, Part, Plan
from datadistill.reproduce.results import Measured, Result, over_runs
from datadistill.runs.atomic import named, write_json
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import dump_config
from datadistill.runs.signals import StopFlag
from datadistill.training import distill
from datadistill.training.pretrain import pretrain

Say = Callable[[str], None]
Config = DistillConfig | PoolConfig


class Missing(Exception):
    """Something is not there, and the engine only looks."""


class Engine:
    """One plan in one folder.

    Args:
        plan: what to do.
        folder: OUT, held by this process.
        reuse: folders in which finished runs are looked for.
        weights: the weights file for sets that ask for one.
        options: how runs are carried out.
        device: auto, cpu or cuda.
        say: takes a line of progress.
        stop: a signal that came.
        again: what to type to go on.
    """

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        *,
        reuse: Sequence[Path],
        weights: str | None,
        options: RunOptions,
        device: str,
        say: Say,
        stop: StopFlag,
        again: str,
    ) -> None:
        self.plan, self.folder, self.reuse, self.weights = plan, folder, reuse, weights
        self.options, self.device, self.say, self.stop, self.again = options, device, say, stop, again
        self.looking = False
        self.pools: dict[str, tuple[Path, Pool]] = {}
        self.sets: dict[str, tuple[Path, DistilledDataset]] = {}
        self.fingerprints: dict[str, str] = {}
        self.environments: list[Mapping[str, Any]] = []

    def run(self, only: Sequence[str] = ()) -> Result:
        """Do the parts called `only`, or all; of the others take what is whole.

        Raises:
            Interrupted: a signal came; what was done is kept.
        """
        done: list[tuple[Part, Sequence[Measured | None]]] = []
        missing = []
        for part in self.plan.parts:
            self.looking = bool(only) and part.name not in only
            before = list(self.environments)
            try:
                done.append((part, self._part(part)))
            except Missing:
                missing.append(part.name)
                self.environments = before
        return Result(done, missing, self.environments)

    def _part(self, part: Part) -> list[Measured | None]:
        found: dict[tuple[str, str], Measured] = {}
        for m in part.measurements:
            rows = over_runs([self._measured(part, m, name) for name in m.sets])
            found |= {(m.name, row.name): row for row in rows}
        wanted = [(row.measurement or "", row.name) for row in part.rows]
        lacking = [key for key in wanted if key[0] and key not in found]
        if lacking:
            names = ", ".join(name for kind, name in found if kind == lacking[0][0])
            raise UsageError(f"{part.name}: {lacking[0][0]} has no row {lacking[0][1]!r}, it has {names}")
        return [found.get(key) for key in wanted]

    # --- measurements

    def _measured(self, part: Part, m: Measurement, name: str) -> list[Measured]:
        """The rows of one measurement on one set."""
        config = part.sets[name]
        _, d = self._set(part, name)
        pool = self._pool(part, config.pool)[1] if config.pool is not None else None
        arguments = dict(m.arguments)
        if len(m.sets) > 1:  # several runs: each with draws of its own
            arguments["seed"] = arguments.get("seed", 0) + config.seed
        key = {
            "kind": m.kind, "arguments": arguments, "set": distilled_file.identity(d),
            "pool": None if pool is None else pool.fingerprint,
            "version": environment()["versions"]["datadistill"],
        }  # fmt: skip
        path = self._folder("measured") / f"{part.name}-{m.name}-{name}.json"
        if (stored := stored_rows(path, key)) is not None:
            rows, measured_in = stored
            self._remember(measured_in)
            return rows
        with self._step(f"{part.name}: {m.name} on {name}"):
            tools = Tools(pool, self.options.data_root, self.options.download, self.device, self._poll)
            rows = KINDS[m.kind](d, tools, **arguments)
        here = environment(resolve(self.device))
        write_json(path, {"key": key, "rows": [row.as_dict() for row in rows], "environment": here})
        self._remember(here)
        return rows

    # --- sets and pools

    def _set(self, part: Part, name: str) -> tuple[Path, DistilledDataset]:
        if name not in self.sets:
            config = self._placed(part, part.sets[name])
            fits = self._fits(part, name, config)
            found = self._there("distill", name, config, distilled_file.FILE_NAME, fits)
            if found is None:
                found = self.folder.path / "sets" / name
                with self._step(f"learn {name}: {config.iterations} iterations"):
                    distill(config, out=found, resume=begun(found), options=self.options)
            d = DistilledDataset.load(found)
            if not fits(found):
                raise UsageError(
                    f"{found} was learned with another pool or other weights; remove it, or choose "
                    "another --out"
                )
            self.sets[name] = found, d
        path, d = self.sets[name]
        self._remember(RunFolder.open(path).environment)
        return path, d

    def _placed(self, part: Part, config: DistillConfig) -> DistillConfig:
        """The config with the paths of its pool and its weights in it."""
        config = config.with_changes(device=self.device)
        if config.pool is not None:
            config = config.with_changes(pool=str(self._pool(part, config.pool)[0]))
        if config.weights == WEIGHTS:
            config = config.with_changes(weights=self._weights(part))
        return config

    def _fits(self, part: Part, name: str, config: DistillConfig) -> Callable[[Path], bool]:
        """Whether the set of a run was learned with the pool and the weights that are wanted, or with none."""
        pool = part.sets[name].pool
        wanted = {
            "pool": None if pool is None else self._pool(part, pool)[1].fingerprint,
            "weights": None if config.weights is None else self._fingerprint(config),
        }

        def fits(path: Path) -> bool:
            origin = DistilledDataset.load(path).origin
            return all(origin.get(what) == fingerprint for what, fingerprint in wanted.items())

        return fits

    def _pool(self, part: Part, name: str) -> tuple[Path, Pool]:
        if name not in self.pools:
            config = part.pools[name].with_changes(device=self.device)
            found = self._there("pool", name, config, POOL_FILE, lambda path: True)
            if found is None:
                found = self.folder.path / "pools" / name
                with self._step(f"pretrain {name}: {config.total} nets on {config.dataset}"):
                    pretrain(config, out=found, resume=begun(found), options=self.options)
            self.pools[name] = found, Pool.load(found)
        path, pool = self.pools[name]
        self._remember(RunFolder.open(path).environment)
        return path, pool

    def _there(
        self, kind: str, name: str, config: Config, result: str, fits: Callable[[Path], bool]
    ) -> Path | None:
        """A finished run of this config: OUT's own, or one that lies elsewhere; None where one must be made."""
        own = self.folder.path / f"{'pool' if kind == 'pool' else 'set'}s" / name
        wanted = dump_config(config)
        if begun(own):
            there = RunFolder.open(own, kind=kind)
            changed = elsewhere.differences(kind, there.config, wanted)
            if changed:
                raise UsageError(
                    f"{own} holds a run of another config ({'; '.join(changed)}); remove it, or choose "
                    "another --out"
                )
            if (own / result).exists():
                there.sweep()
                return own
        else:
            for run in elsewhere.candidates(self.reuse, kind, result):
                if not elsewhere.differences(kind, run.config, wanted) and fits(run.path):
                    self.say(f"{name}: the run in {run.path} is used")
                    return run.path
        if self.looking:
            raise Missing
        return None

    def _weights(self, part: Part) -> str:
        if self.weights is not None:
            return self.weights
        if part.drawn_weights is None:
            raise UsageError(
                f"{part.name} starts from pretrained weights, and none were given; pass --weights FILE (a "
                "state dict of the net), or --weights imagenet for those of torchvision"
            )
        path = self._folder("weights") / f"{part.drawn_weights}-drawn.safetensors"
        draw_weights(part.drawn_weights, path)
        return str(path)

    def _fingerprint(self, config: DistillConfig) -> str:
        """That of the weights that a config names."""
        weights, model = str(config.weights), config.net_args.get("model")
        if weights not in self.fingerprints:
            found = read_weights(
                weights,
                nn.Identity(),
                model=None if model is None else str(model),
                download=self.options.download,
            )
            self.fingerprints[weights] = found.fingerprint
        return self.fingerprints[weights]

    # --- what all steps share

    def _folder(self, name: str) -> Path:
        path = self.folder.path / name
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise named(error, path) from error
        return path

    def _remember(self, env: Mapping[str, Any]) -> None:
        fingerprints = ("data", "net", "pool", "weights")
        known = {k: v for k, v in env.items() if k not in fingerprints}
        if known not in self.environments:
            self.environments.append(known)

    def _poll(self) -> None:
        self.stop.raise_if_requested(self._kept())

    def _kept(self) -> str:
        return kept(self.folder.path, self.again)

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        """One step that takes time; refused where the engine only looks."""
        if self.looking:
            raise Missing
        self._poll()
        self.say(what)
        began = time.monotonic()
        try:
            yield
        except Interrupted as stopped:  # a run's own sentence would go on with that run only
            raise Interrupted(self._kept(), stopped.exit_code - 128) from stopped
        seconds = round(time.monotonic() - began, 1)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self.folder.append_timing({"step": what, "seconds": seconds, "finished": at})
