"""The runs of a comparison: finished ones are read, stopped ones go on, and one teacher serves all that can
share it.

The teacher is trained by the first run that needs it; its file is then put beside the runs, with its own
scores, and the others are given that file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.device import resolve
from datadistill.errors import UsageError, nearest
from kd_baselines.comparison import Row
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores, score
from kd_baselines.many_runs import ManyRuns, begun, config_of, refuse_other
from kd_baselines.methods import METHODS
from kd_baselines.netfile import STUDENT, TEACHER, SavedNet
from kd_baselines.teachers import Teacher
from kd_baselines.training import load_data, train

__all__ = ["Runs", "taught"]


class Runs:
    """The runs of one comparison: read, gone on with, or started."""

    def __init__(
        self, runs: ManyRuns, configs: Mapping[str, KdConfig], options: RunOptions, data: RealData | None
    ) -> None:
        self.runs, self.configs, self.options, self.data = runs, configs, options, data
        self.path = runs.folder.path

    def scores(self, arm: str, seed: int) -> Scores:
        """Of the student of an arm; trained where it is not there."""
        path = self._path(arm, seed)
        config = self.configs[arm].with_changes(seed=seed)
        if begun(path):
            refuse_other(path, config)
        if not (path / STUDENT).exists():
            self._train(path, config)
        self.runs.remember(path)
        return Scores.from_dict(SavedNet.load(path).scores or {})

    def _train(self, path: Path, config: KdConfig) -> None:
        if not taught(config):
            self._run(path, config, None)
            return
        shared = self._shared(config)
        if not shared.exists():
            owner = self._owner(config) or path
            if not (owner / STUDENT).exists():
                self._run(owner, config if owner == path else None, None)
            self._keep_teacher(owner, shared)
        if not (path / STUDENT).exists():
            own = (path / TEACHER).exists()  # it trained one, and goes on with that
            self._run(path, config, shared if shared.exists() and not own else None)

    def _run(self, path: Path, config: KdConfig | None, teacher: Path | None) -> None:
        work = partial(
            train, config, data=self.data, teacher=teacher, out=path, resume=begun(path), options=self.options
        )
        self.runs.carry_out(f"{path.name}{'' if teacher is None else f', taught by {teacher.name}'}", work)

    def _owner(self, config: KdConfig) -> Path | None:
        """The run that has trained a config's teacher, or was to and has been stopped."""
        runs = sorted(path.parent for path in self.path.glob("*/config.json"))
        same = [run for run in runs if taught(_config(run)) and _same_teacher(_config(run), config)]
        done = [run for run in same if (run / TEACHER).exists()]
        return next(iter([*done, *(run for run in same if not (run / STUDENT).exists())]), None)

    def _path(self, arm: str, seed: int) -> Path:
        return self.path / f"{arm}-s{seed}"

    def _shared(self, config: KdConfig) -> Path:
        """Where the teacher of a config lies: named after the first of all arms that has it."""
        students = [c for c in self.configs.values() if taught(c)]
        first = next(c for c in students if _same_teacher(c, config))
        name = TEACHER if first is students[0] else f"teacher-{first.arm}.safetensors"
        return self.path / name

    def _keep_teacher(self, run: Path, shared: Path) -> None:
        """Put the teacher of a run where all find it, with its own scores."""
        if not (run / TEACHER).exists():
            return
        saved, config = SavedNet.load(run, which="teacher"), _config(run)
        nets = [saved.net(number) for number in range(len(saved.states))]
        data = self.data or load_data(config, self.options)
        device = resolve(config.device)
        teacher, data = Teacher(*nets, average=config.average).to(device), data.to(device)
        found = None  # for a teacher of other classes (ImageNet's)
        if teacher(data.train.images[:1]).shape[1] == len(data.classes):
            found = score(teacher, data, noise=config.noise, seed=config.teacher_seed).as_dict()
        replace(saved, scores=found).save(shared)

    def teacher_rows(self, arms: Sequence[str]) -> list[Row]:
        """A row for each teacher that is there, with the scores that its arms are compared by."""
        rows = {}
        for arm in arms:
            config = self.configs[arm]
            path = self._shared(config) if taught(config) else None
            if path is None or path in rows or not path.exists():
                continue
            saved = SavedNet.load(path)
            if saved.scores is None:
                continue
            found = Scores.from_dict(saved.scores)
            columns = found.columns()
            for name in config.without:
                accuracy = found.per_class[saved.classes.index(name)]
                columns |= {} if accuracy is None else {f"of class {name}": accuracy}
            words = config.teacher_net if config.teachers == 1 else f"{config.teachers} x {config.teacher_net}"
            rows[path] = Row(path.stem, words, {column: (value,) for column, value in columns.items()})
        return list(rows.values())


def taught(config: KdConfig) -> bool:
    if config.method not in METHODS:
        raise UsageError(
            f"there is no method {config.method!r}; {nearest(config.method, METHODS, 'kd-baselines methods')}"
        )
    return METHODS[config.method].teacher


def _same_teacher(a: KdConfig, b: KdConfig) -> bool:
    """Whether two configs train the same teacher on the same images."""
    common = ("dataset", "size", "channels", "validation", "momentum", "decay_factor", "average")
    names = [name for name in vars(a) if name.startswith("teacher")]
    return all(getattr(a, name) == getattr(b, name) for name in (*names, *common))


def _config(path: Path) -> KdConfig:
    return config_of(path, KdConfig)
