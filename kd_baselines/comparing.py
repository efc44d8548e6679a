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
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import differing, dump_config
from datadistill.runs.signals import StopFlag
from kd_baselines.compare_runs import Runs, begun, taught
from kd_baselines.comparison import Comparison, Row, paired_difference, write
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores
from kd_baselines.recipes import OWN, Page, page

__all__ = ["compare"]

COMPARE_KIND = "kd-compare"


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
    numbers = _seeds(seeds)
    changed = dict(changes or {})
    configs = {arm: found.config(arm).with_changes(**changed) for arm in (OWN, *found.arms)}
    if data is not None:
        configs = {arm: replace(config, dataset=CUSTOM) for arm, config in configs.items()}
    chosen = _arms(arms, list(configs), name)
    held = _base(base, {arm: configs[arm] for arm in chosen})
    counted = numbers == tuple(range(len(numbers)))
    command = f"kd-baselines compare {name} --seeds {len(numbers) if counted else ' '.join(map(str, numbers))}"
    command += f" --arms {' '.join(chosen)}" if len(chosen) < len(configs) else ""
    command += f" --base {base}" if base is not None else ""
    command += "".join(f" {_typed(field, value)}" for field, value in changed.items())
    with StopFlag() as stop:
        folder = _open(Path(out), {"recipe": name, "changes": _plain(changed)})
        with folder.lock():
            way = command if data is None else f"compare(..., out={str(out)!r}, data=...)"
            runs = Runs(folder, configs, options, data, say, stop, again or way)
            scores = {arm: [runs.scores(arm, seed) for seed in numbers] for arm in chosen}
            teachers = runs.teacher_rows(chosen)
            rows = {arm: _row(arm, configs[arm], s, found.published_of(arm)) for arm, s in scores.items()}
            result = Comparison(
                name, held, numbers, (*teachers, *(_against(row, rows[held]) for row in rows.values())),
                changed, tuple(runs.environments),
            )  # fmt: skip
            return replace(result, files=write(result, folder.path, command))


def _typed(field: str, value: Any) -> str:
    """A change as it is typed.

    >>> _typed("net_args", {"width": 8}), _typed("cache", False), _typed("augment", ("crop", "flip"))
    ('--net-args width 8', '--no-cache', '--augment crop flip')
    """
    name = field.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    if isinstance(value, dict):
        value = [word for pair in value.items() for word in pair]
    many = isinstance(value, list | tuple)
    return f"--{name} {' '.join(map(str, value)) if many else value}"


def _open(path: Path, config: dict[str, Any]) -> RunFolder:
    if not begun(path):
        return RunFolder.create(path, config, environment(), COMPARE_KIND)
    folder = RunFolder.open(path, kind=COMPARE_KIND)
    if changed := differing(folder.config, config):
        raise UsageError(f"{path} compares something else ({'; '.join(changed)}); choose another --out")
    return folder


def _row(arm: str, config: KdConfig, scores: Sequence[Scores], published: str) -> Row:
    columns = [one.columns() for one in scores]
    values = {name: tuple(one[name] for one in columns) for name in columns[0]}
    return Row(arm, config.method, values, published=published)


def _against(row: Row, base: Row) -> Row:
    if row is base:
        return row
    shared = [column for column in row.values if column in base.values]
    found = {column: paired_difference(row.values[column], base.values[column]) for column in shared}
    return replace(row, differences=found)


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"seeds is {seeds!r}; give how many, 1 or more, or different ones")
    return numbers


def _arms(asked: Sequence[str] | None, known: list[str], name: str) -> list[str]:
    for arm in asked or ():
        if arm not in known:
            raise UsageError(f"{name} has no arm {arm!r}; {nearest(arm, known)}")
    return [arm for arm in known if asked is None or arm in asked]


def _base(asked: str | None, configs: Mapping[str, KdConfig]) -> str:
    if asked is None:
        return next((arm for arm, c in configs.items() if not taught(c)), next(iter(configs)))
    if asked not in configs:
        raise UsageError(f"the base {asked!r} is not among the arms; {nearest(asked, configs)}")
    return asked


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changed fields as config.json keeps them; UsageError for one that no config has."""
    stored = dump_config(KdConfig().with_changes(**changes))
    return {name: stored[name] for name in changes if name != "device"}
