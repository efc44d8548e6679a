"""`compare`: every arm of a recipe with every seed, one teacher for all of them, and the table.

    OUT/                       a run folder of kind "kd-compare": config.json, environment.json
      ARM-sSEED/               run folders of students
      teacher.safetensors      the teacher that arms share; teacher-ARM.safetensors where they have several
      table.md  table.csv

A student that is finished is read, one that was stopped goes on, so the same command typed again goes on where
it was. The teacher is trained by the first run that needs it; the others are given its file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.errors import UsageError, nearest
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, shows_progress
from datadistill.runs.signals import StopFlag, interruptible
from kd_baselines.compare_runs import Runs, taught
from kd_baselines.comparison import Comparison, Row, against, write
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores
from kd_baselines.many_runs import ManyRuns, chosen, kept, numbers_of, opened, stored, typed
from kd_baselines.recipes import OWN, Page, page

__all__ = ["compare"]

COMPARE_KIND = "kd-compare"


@shows_progress
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
    """Train every arm of a recipe with every seed on the teacher they share, and hold the arms against one.

    Args:
        recipe: its name, or a page of your own.
        seeds: of the students: how many, from 0, or which.
        arms: some of the recipe's; default: all.
        base: the arm that the others are held against, paired by seed; default: the first without a teacher,
            else the first.
        out: the folder for everything; one that was begun is gone on with.
        options: how the runs are carried out.
        changes: fields of every config, and their values.
        data: your own real data; default: what the configs name.
        say: takes a line for every step.
        again: what to type to go on after a signal.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it goes on.

    Returns:
        A row for each teacher and arm; also in OUT/table.md and OUT/table.csv.

    Raises:
        UsageError: an unknown arm or field, no seed or one given twice, or `out` holds something else.
        Interrupted: a signal came; what was done is kept.

    Example:
        `compare("hinton-missing-digit", seeds=3, out="runs/missing").row("own").mean("of class 3, shifted")`
    """
    found = page(recipe) if isinstance(recipe, str) else recipe
    name = found.make().recipe
    numbers = numbers_of(seeds)
    changed = dict(changes or {})
    configs = {arm: found.images(arm).with_changes(**changed) for arm in (OWN, *found.arms)}
    if data is not None:
        configs = {arm: replace(config, dataset=CUSTOM) for arm, config in configs.items()}
    chosen_arms = chosen(arms, list(configs), name)
    held = _base(base, {arm: configs[arm] for arm in chosen_arms})
    some = chosen_arms if len(chosen_arms) < len(configs) else None
    command = typed("kd-baselines compare", name, numbers, {"arms": some, "base": base}, changed)
    way = again or (command if data is None else f"compare(..., out={str(out)!r}, data=...)")
    with StopFlag() as stop, interruptible(kept(Path(out), way)):
        asked = {"recipe": name, "changes": stored(changed, KdConfig)}
        folder = opened(Path(out), asked, COMPARE_KIND, "compares")
        with folder.lock():
            folder.clean()
            many = ManyRuns(folder, say, stop, way)
            runs = Runs(many, configs, options, data)
            scores = {arm: [runs.scores(arm, seed) for seed in numbers] for arm in chosen_arms}
            teachers = runs.teacher_rows(chosen_arms)
            rows = {arm: _row(arm, configs[arm], s, found.published_of(arm)) for arm, s in scores.items()}
            result = Comparison(
                name, held, numbers, (*teachers, *(against(row, rows[held]) for row in rows.values())),
                changed, tuple(many.environments),
            )  # fmt: skip
            return replace(result, files=write(result, folder.path, command))


def _row(arm: str, config: KdConfig, scores: Sequence[Scores], published: str) -> Row:
    columns = [one.columns() for one in scores]
    values = {name: tuple(one[name] for one in columns) for name in columns[0]}
    return Row(arm, config.method, values, published=published)


def _base(asked: str | None, configs: Mapping[str, KdConfig]) -> str:
    if asked is None:
        return next((arm for arm, c in configs.items() if not taught(c)), next(iter(configs)))
    if asked not in configs:
        raise UsageError(f"the base {asked!r} is not among the arms; {nearest(asked, configs)}")
    return asked
