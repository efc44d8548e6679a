"""The study of one plan: pools, sets, measurements.

    OUT/                     a run folder of kind "reproduce": config, environment, timing
      pools/NAME/            run folders of pools
      sets/NAME/             run folders of distillations
      measured/NAME.json     rows, with what they were measured on and how
      weights/NAME           weights drawn where a part needs some and none were given
      table.md  table.csv  figure.png

Finished runs are loaded, from OUT or from elsewhere (reuse.py), and interrupted ones are resumed. A
measurement is loaded where the set, the pool, its arguments and the library's version are those in
its file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from datadistill import distilled_file
from datadistill.config import DistillConfig, RunOptions
from datadistill.device import resolve
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.nets.weights import read_weights
from datadistill.pool import Pool
from datadistill.reproduce import reuse as elsewhere
from datadistill.reproduce.measure import KINDS, Tools
from datadistill.reproduce.measured_rows import MeasuredRow, Result, combine_runs
from datadistill.reproduce.plan import WEIGHTS, Measurement, Part, Plan
from datadistill.reproduce.random_weights import draw_weights
from datadistill.runs.atomic import write_json
from datadistill.runs.canonical import canonical_json, parse_json
from datadistill.runs.environment import environment
from datadistill.runs.folder import POOL_FILE, SET_FILE, RunFolder
from datadistill.runs.regular import read_run_file
from datadistill.runs.timing import read_seconds
from datadistill.studies.study import Job, Study, has_run
from datadistill.training import distill
from datadistill.training.pretrain import pretrain


class Missing(Exception):
    """Something is not there, and the engine only looks."""


class Engine:
    """One plan in one folder, that of `study`. Finished runs are looked for in `reuse`; `weights`
    is the file for sets that ask for one."""

    def __init__(
        self,
        plan: Plan,
        study: Study,
        *,
        reuse: Sequence[Path],
        weights: str | None,
        options: RunOptions,
        device: str,
    ) -> None:
        self.plan, self.study, self.reuse, self.weights = plan, study, reuse, weights
        self.options, self.device = options, device
        self.looking = False
        self.pools: dict[str, tuple[Path, Pool]] = {}
        self.sets: dict[str, tuple[Path, DistilledDataset]] = {}
        self.fingerprints: dict[str, str] = {}

    def run(self, only: Sequence[str] = ()) -> Result:
        """Do the parts called `only`, or all; of the others take what is whole."""
        done: list[tuple[Part, Sequence[MeasuredRow | None]]] = []
        missing = []
        for part in self.plan.parts:
            self.looking = bool(only) and part.name not in only
            before = list(self.study.environments)
            try:
                done.append((part, self._part(part)))
            except Missing:
                missing.append(part.name)
                self.study.environments = before
        return Result(done, missing, self.study.environments)

    def _part(self, part: Part) -> list[MeasuredRow | None]:
        found: dict[tuple[str, str], MeasuredRow] = {}
        for m in part.measurements:
            rows = combine_runs([self._measure(part, m, name) for name in m.sets])
            found |= {(m.name, row.name): row for row in rows}
        wanted = [(row.measurement or "", row.name) for row in part.rows]
        lacking = [key for key in wanted if key[0] and key not in found]
        if lacking:
            names = ", ".join(name for kind, name in found if kind == lacking[0][0])
            raise UsageError(
                f"{part.name}: {lacking[0][0]} has no row {lacking[0][1]!r}, it has {names}"
            )
        return [found.get(key) for key in wanted]

    # --- measurements

    def _measure(self, part: Part, m: Measurement, name: str) -> list[MeasuredRow]:
        """The rows of one measurement on one set."""
        config = part.sets[name]
        run, d = self._set(part, name)
        pool = self._pool(part, config.pool)[1] if config.pool is not None else None
        arguments = dict(m.arguments)
        if len(m.sets) > 1:  # several runs: each with draws of its own
            arguments["seed"] = arguments.get("seed", 0) + config.seed
        key = {
            "kind": m.kind,
            "arguments": arguments,
            "set": distilled_file.identity(d),
            "pool": None if pool is None else pool.fingerprint,
            "version": environment()["versions"]["datadistill"],
        }
        path = self.study.subfolder("measured") / f"{part.name}-{m.name}-{name}.json"
        if (stored := load_rows(path, key)) is not None:
            rows, measured_in = stored
            self.study.add_environment(measured_in)
            return rows
        self._refuse_to_look()
        tools = Tools(
            pool,
            self.options.data_root,
            self.options.download,
            self.device,
            self.study.poll,
            read_seconds(run, "cpu_seconds"),
        )
        measure = partial(KINDS[m.kind], d, tools, **arguments)
        found = self.study.carry_out(f"{part.name}: {m.name} on {name}", measure)
        here = environment(resolve(self.device))
        write_json(
            path, {"key": key, "rows": [row.as_dict() for row in found], "environment": here}
        )
        self.study.add_environment(here)
        return found

    # --- sets and pools

    def _set(self, part: Part, name: str) -> tuple[Path, DistilledDataset]:
        if name not in self.sets:
            config = self._fill_in(part, part.sets[name])
            fits = self._fits(part, name, config)
            path = self.study.path / "sets" / name

            def learn(resume: bool) -> None:
                distill(config, out=path, resume=resume, options=self.options)

            words = f"learn {name}: {config.iterations} iterations"
            found = self._run(Job(path, config, SET_FILE, learn, words, elsewhere.IGNORED), fits)
            d = DistilledDataset.load(found)
            if not fits(found):
                raise UsageError(
                    f"{found} was learned with another pool or other weights; remove it, or choose "
                    "another --out"
                )
            if config.weights is not None:
                d = d.with_weights(config.weights, download=self.options.download)
            self.sets[name] = found, d
        path, d = self.sets[name]
        self.study.add_environment(RunFolder.open(path).environment)
        return path, d

    def _fill_in(self, part: Part, config: DistillConfig) -> DistillConfig:
        """The config with the paths of its pools and its weights in it."""
        config = config.with_changes(device=self.device)
        for field, name in (("pool", config.pool), ("experts", config.experts)):
            if name is not None:
                config = config.with_changes(**{field: str(self._pool(part, name)[0])})
        if config.weights == WEIGHTS:
            config = config.with_changes(weights=self._weights(part))
        return config

    def _fits(self, part: Part, name: str, config: DistillConfig) -> Callable[[Path], bool]:
        """Whether the set of a run was learned with the pools and the weights that are wanted, or
        with none."""
        pool, experts = part.sets[name].pool, part.sets[name].experts
        wanted = {
            "pool": None if pool is None else self._pool(part, pool)[1].fingerprint,
            "experts": None if experts is None else self._pool(part, experts)[1].fingerprint,
            "weights": None if config.weights is None else self._fingerprint(config),
        }

        def fits(path: Path) -> bool:
            d = DistilledDataset.load(path)
            found = {d.start.kind: d.start.fingerprint, "experts": d.origin.get("experts")}
            if not d.is_complete and config.weights is not None:
                try:
                    d.with_weights(config.weights, download=self.options.download)
                except DataError:
                    return False
                found["weights"] = wanted["weights"]
            return all(found.get(kind) == fingerprint for kind, fingerprint in wanted.items())

        return fits

    def _pool(self, part: Part, name: str) -> tuple[Path, Pool]:
        if name not in self.pools:
            config = part.pools[name].with_changes(device=self.device)
            path = self.study.path / "pools" / name

            def train(resume: bool) -> None:
                pretrain(config, out=path, resume=resume, options=self.options)

            words = f"pretrain {name}: {config.total} nets on {config.dataset}"
            job = Job(path, config, POOL_FILE, train, words, elsewhere.IGNORED)
            found = self._run(job, lambda path: True)
            self.pools[name] = found, Pool.load(found)
        path, pool = self.pools[name]
        self.study.add_environment(RunFolder.open(path).environment)
        return path, pool

    def _run(self, job: Job, fits: Callable[[Path], bool]) -> Path:
        """The folder of a finished run: one that lies elsewhere, or OUT's own, which is made where
        needed."""
        if not has_run(job.path):
            for run in elsewhere.candidates(self.reuse, job.kind, job.file):
                if not job.find_differences(run) and fits(run.path):
                    self.study.say(f"{job.path.name}: the run in {run.path} is used")
                    return run.path
        if not job.is_finished():
            self._refuse_to_look()
        self.study.run(job)
        return job.path

    def _refuse_to_look(self) -> None:
        """Leave a part that is only looked for, where something would have to be made."""
        if self.looking:
            raise Missing

    def _weights(self, part: Part) -> str:
        if self.weights is not None:
            return self.weights
        if part.drawn_weights is None:
            raise UsageError(
                f"{part.name} starts from pretrained weights, and none were given; pass --weights "
                "FILE (a state dict of the net), or --weights imagenet for those of torchvision"
            )
        path = self.study.subfolder("weights") / f"{part.drawn_weights}-drawn.safetensors"
        draw_weights(part.drawn_weights, path)
        return str(path)

    def _fingerprint(self, config: DistillConfig) -> str:
        """The fingerprint of the weights that a config names."""
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


def load_rows(
    path: Path, key: Mapping[str, Any]
) -> tuple[list[MeasuredRow], dict[str, Any]] | None:
    """Rows and environment of a measurement that was made with this very key; None where it must be
    made."""
    try:
        stored = parse_json(read_run_file(path))
        if canonical_json(stored["key"]) != canonical_json(key):
            return None
        return [MeasuredRow.from_dict(row) for row in stored["rows"]], stored["environment"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # damaged: measured again
        return None
