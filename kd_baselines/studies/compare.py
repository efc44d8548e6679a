"""Comparison of the arms of a recipe over seeds, all on the teacher they share.

    OUT/                       a run folder of kind "kd-compare": config.json, environment.json
      ARM-sSEED/               run folders of students
      teacher/                 the run of the teacher that arms share; teacher-ARM/ where they have
                               several
      teacher.safetensors      its nets, with the scores of all of them together
      table.md  table.csv

Finished students are loaded and interrupted ones are resumed, so the same command continues a
comparison.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError, suggest
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, show_progress
from datadistill.runs.ranks import current
from datadistill.studies.arguments import (
    change_arms,
    dump_changes,
    format_changes,
    format_command,
    list_seeds,
    select_arms,
)
from datadistill.studies.study import Job, Study
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores, score
from kd_baselines.image_lineage import ImageLineage
from kd_baselines.methods import has_teacher
from kd_baselines.netfile import STUDENT, SavedNet
from kd_baselines.recipes import OWN, Page, page
from kd_baselines.source_data import load_source
from kd_baselines.student_setup import Setup, wants_teacher
from kd_baselines.studies.comparison_table import (
    ArmRow,
    Comparison,
    add_differences,
    write_comparison,
)
from kd_baselines.teacher_runs import (
    build_untrained,
    is_same_teacher,
    load_pretrained,
    train_nets,
)
from kd_baselines.training import train

__all__ = ["compare"]

COMPARE_KIND = "kd-compare"


@show_progress
def compare(
    recipe: str | Page,
    *,
    seeds: int | Sequence[int] = 3,
    arms: Sequence[str] | None = None,
    base: str | None = None,
    out: str | os.PathLike[str],
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    changes: Mapping[str, Any] | None = None,
    data: RealData | None = None,
    say: Callable[[str], None] = lambda line: None,
    again: str | None = None,
    progress: bool | Report = False,
) -> Comparison:
    """Train every arm of a recipe with every seed on the teacher they share, and compare the arms
    with one.

    Args:
        recipe: its name, or a page of your own.
        seeds: of the students: how many, from 0, or which.
        arms: some of the recipe's; default: all.
        base: the arm that the others are compared with, paired by seed; default: of a recipe with a
            grid the base of the arm's row, else the first without a teacher, else the first.
        out: the study's folder; an interrupted study is resumed.
        options: of the runs.
        changes: fields of every config, and their values.
        data: your own real data; default: what the configs name.
        say: takes a line for every step.
        again: the command that resumes the study, named after a signal.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

    Raises:
        UsageError: an unknown arm or field, no seed or one given twice, or `out` holds something
            else.
        Interrupted: a signal came; what was done is kept.

    Example:
        `compare("hinton-missing-digit", seeds=3, out="runs/missing").row("own").mean("accuracy")`
    """
    found = page(recipe) if isinstance(recipe, str) else recipe
    name = found.make().recipe
    numbers = list_seeds(seeds)
    changed = dict(changes or {})
    selected = select_arms(arms, [OWN, *found.arms], name)
    configs = {arm: found.images(arm) for arm in (OWN, *found.arms)}
    configs = change_arms(configs, OWN, changed, selected)
    if data is not None:
        configs = {arm: replace(config, dataset=CUSTOM) for arm, config in configs.items()}
    compared_with = _base(base, {arm: configs[arm] for arm in selected})
    bases = dict.fromkeys(selected, compared_with)
    if found.grid is not None and base is None:
        bases, compared_with = found.grid.bases(selected), found.grid.base
    some = selected if len(selected) < len(configs) else None
    command = format_command(
        "kd-baselines compare", name, numbers, {"arms": some, "base": base}, changed
    )
    again = again or (command if data is None else f"compare(..., out={str(out)!r}, data=...)")
    asked = {"recipe": name, "changes": dump_changes(changed, KdConfig)}
    with Study(Path(out), COMPARE_KIND, asked, again=again, say=say) as study:
        runs = Runs(study, configs, options, data)
        runs.check(selected)
        study.open()
        students = [partial(runs.student, arm, seed) for arm in selected for seed in numbers]
        study.share_out(partial(runs.teach, selected), students)
        scores = {arm: [runs.scores(arm, seed) for seed in numbers] for arm in selected}
        rows = {arm: _row(configs[arm], s, found) for arm, s in scores.items()}
        arms_rows = [
            add_differences(row, rows[bases[arm]]) if arm in bases else row
            for arm, row in rows.items()
        ]
        result = Comparison(
            name,
            compared_with,
            numbers,
            (*runs.teacher_rows(selected), *arms_rows),
            format_changes(changed),
            tuple(study.environments),
            grid=found.grid,
        )
        if not current().writes:
            return result
        return replace(result, files=write_comparison(result, study.path, command))


def _row(config: KdConfig, scores: Sequence[Scores], found: Page) -> ArmRow:
    columns = [one.columns() for one in scores]
    values = {name: tuple(one[name] for one in columns) for name in columns[0]}
    known, changed = found.published_beside(config)
    return ArmRow(config.arm, config.method, values, published=known, changed=tuple(changed))


def _base(asked: str | None, configs: Mapping[str, KdConfig]) -> str:
    if asked is None:
        return next(
            (arm for arm, c in configs.items() if not has_teacher(c.method)), next(iter(configs))
        )
    if asked not in configs:
        raise UsageError(f"the base {asked!r} is not among the arms; {suggest(asked, configs)}")
    return asked


class Runs:
    """The students of one comparison and the teachers they share, each a run of its own."""

    def __init__(
        self,
        study: Study,
        configs: Mapping[str, KdConfig],
        options: RunOptions,
        data: RealData | None,
    ) -> None:
        self.study, self.configs, self.options, self.data = study, configs, options, data
        self.lineage = ImageLineage(options, data)  # which loads the data once

    def check(self, arms: Sequence[str]) -> None:
        """Refuse students that do not fit a teacher that is still to be trained."""
        for config in (self.configs[arm] for arm in arms):
            if wants_teacher(config) and not self._teacher_file(config).exists():
                real = self.lineage.load_data(config)
                Setup(config, real, build_untrained(config, real, self.options), self.options)

    def teach(self, arms: Sequence[str]) -> None:
        """Train the teachers of arms."""
        for config in (self.configs[arm] for arm in arms):
            if wants_teacher(config):
                self._teacher(config)

    def scores(self, arm: str, seed: int) -> Scores:
        """Scores of an arm's student, which is trained if it does not exist yet."""
        return Scores.from_dict(self.student(arm, seed).scores or {})

    def student(self, arm: str, seed: int) -> SavedNet:
        """An arm's student, which is trained if it does not exist yet."""
        name, config = f"{arm}-s{seed}", self.configs[arm].with_changes(seed=seed)
        teacher, images = None, None
        if not self._job(name, config).is_finished():
            teacher = self._teacher(config) if wants_teacher(config) else None
            images = self.images(arm)
        return SavedNet.load(self.study.run(self._job(name, config, teacher, images)))

    def images(self, arm: str) -> DistilledDataset | None:
        """The distilled set that an arm's student sees; None: what its config says."""
        return None

    def _job(
        self,
        name: str,
        config: KdConfig,
        teacher: Path | None = None,
        images: DistilledDataset | None = None,
    ) -> Job:
        path = self.study.path / name

        def run(resume: bool) -> None:
            train(
                config,
                data=self.data if config.dataset == CUSTOM else None,
                teacher=teacher,
                data_from=images,
                out=path,
                resume=resume,
                options=self.options,
            )

        words = name if teacher is None else f"{name}, taught by {teacher.name}"
        return Job(path, config, STUDENT, run, words)

    def _teacher(self, config: KdConfig) -> Path:
        """The file of the teacher of a config, with its scores; trained if it does not exist
        yet."""
        file = self._teacher_file(config)
        if file.exists():
            return file
        real = self.lineage.load_data(config)
        if config.teacher_weights is not None:
            saved, _ = load_pretrained(config, real, self.options)
        else:
            saved = train_nets(
                file.stem, config, lambda *net: SavedNet.load(self.study.run(self._job(*net)))
            )
        # none for a teacher of other classes (ImageNet's)
        if saved.scores is None and saved.classes:
            teacher = saved.to_teacher().to(real.device)
            real = load_source(config, real, self.options)
            found = score(teacher, real, noise=config.noise, seed=config.teacher_seed)
            saved = replace(saved, scores=found.as_dict())
        saved.save(file)
        return file

    def _teacher_file(self, config: KdConfig) -> Path:
        """The file of the teacher of a config, named after the first of all arms that has it."""
        students = [c for c in self.configs.values() if wants_teacher(c)]
        first = next(c for c in students if is_same_teacher(c, config))
        name = "teacher" if first is students[0] else f"teacher-{first.arm}"
        return self.study.path / f"{name}.safetensors"

    def teacher_rows(self, arms: Sequence[str]) -> list[ArmRow]:
        """A row for each teacher that is there, with the scores that its arms are compared by."""
        rows = {}
        for arm in arms:
            config = self.configs[arm]
            path = self._teacher_file(config) if wants_teacher(config) else None
            if path is None or path in rows or not path.exists():
                continue
            saved = SavedNet.load(path)
            if saved.scores is None:
                continue
            found = Scores.from_dict(saved.scores)
            columns = found.columns()
            if config.source is not None:  # of other images and classes than the students'
                columns = {"source accuracy": columns["accuracy"]}
            for name in config.without:
                accuracy = found.per_class[saved.classes.index(name)]
                columns |= {} if accuracy is None else {f"of class {name}": accuracy}
            words = (
                config.teacher_net
                if config.teachers == 1
                else f"{config.teachers} x {config.teacher_net}"
            )
            rows[path] = ArmRow(
                path.stem, words, {column: (value,) for column, value in columns.items()}
            )
        return list(rows.values())
