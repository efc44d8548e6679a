"""Few images, real or distilled, crossed with kinds of knowledge: what does a student learn from
each?

    OUT/                               a run folder of kind "kd-bridge": config.json
      set-METHOD-IPC/                  runs of distilled sets, one for all students
      IMAGES-IPC-KNOWLEDGE-sSEED/      run folders of students
      teacher/  teacher.safetensors    the teacher that all students share
      table.md  table.csv

Finished runs are loaded and interrupted ones are resumed, so the same command continues a bridge.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.errors import UsageError, suggest
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, show_progress
from datadistill.stats import paired_difference
from datadistill.studies.arguments import change_arms, dump_changes, format_command, list_seeds
from datadistill.studies.study import Study
from kd_baselines.config import KdConfig
from kd_baselines.recipes import OWN, page
from kd_baselines.splits import check_real_data
from kd_baselines.studies.bridge_cells import Cells
from kd_baselines.studies.bridge_plans import BRIDGE_KIND, BridgePlan, bridge_plan
from kd_baselines.studies.bridge_table import LABELS, Bridge, Cell, write_bridge

__all__ = ["make_bridge"]

SET_BY_STUDY = ("epochs", "data_from")


@show_progress
def make_bridge(
    plan: str | BridgePlan,
    *,
    seeds: int | Sequence[int] = 5,
    ipc: Sequence[int] | None = None,
    images: Sequence[str] | None = None,
    knowledge: Sequence[str] | None = None,
    steps: int | None = None,
    distill_changes: Mapping[str, Any] | None = None,
    out: str | os.PathLike[str],
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    changes: Mapping[str, Any] | None = None,
    data: RealData | None = None,
    say: Callable[[str], None] = lambda line: None,
    again: str | None = None,
    progress: bool | Report = False,
) -> Bridge:
    """Train the students of every kind of images with every kind of knowledge, and write the table.

    Args:
        plan: name of a bridge, or a plan of your own.
        ipc, images, knowledge: some of the plan's; default: all. Knowledge is "labels" and the arms
            of the recipe.
        steps: gradient steps of every student; default: the plan's.
        distill_changes: fields of every distilled set's config that are changed.
        seeds, out, options, changes, data, say, again, progress: as in `kd_baselines.compare`.

    Raises:
        UsageError: an unknown name or field, no seed or one given twice, or `out` holds something
            else.
        DataError: fewer images than are wanted, or a damaged file.
        Interrupted: a signal came; what was done is kept.

    Example:
        `make_bridge("bridge-mnist5k", out="runs/bridge").cell("dm", 10, "soft").difference`
    """
    check_real_data(data)
    found = bridge_plan(plan) if isinstance(plan, str) else plan
    found = found if steps is None else replace(found, steps=steps)
    numbers, changed = list_seeds(seeds), dict(changes or {})
    for name in SET_BY_STUDY:
        if name in changed:
            raise UsageError(
                f"{name} is changed, but the study sets it for every student; take it out "
                "(steps and images say what is trained)"
            )
    known = page(found.name)
    arms = {LABELS: known.images(OWN), **{arm: known.images(arm) for arm in known.arms}}
    asked = (
        _select("images", images, found.images),
        _sizes(ipc or found.ipc),
        _select("knowledge", knowledge, tuple(arms)),
    )
    arms = change_arms(arms, LABELS, changed, asked[2])
    if data is not None:
        arms = {arm: replace(config, dataset=CUSTOM) for arm, config in arms.items()}
    flags = {
        "ipc": ipc,
        "images": images,
        "knowledge": knowledge,
        "steps": steps,
        "distill_changes": distill_changes or None,
    }
    command = format_command("kd-baselines bridge", found.name, numbers, flags, changed)
    own = {
        "bridge": found.name,
        "steps": found.steps,
        "distill_changes": dict(distill_changes or {}),
        "changes": dump_changes(changed, KdConfig),
    }
    again = again or (command if data is None else f"make_bridge(..., out={str(out)!r}, data=...)")
    with Study(Path(out), BRIDGE_KIND, own, again=again, say=say) as study:
        study.refuse_other()  # before the data are read
        cells = Cells(study, found, arms, asked, distill_changes or {}, options, data)
        cells.refuse()
        study.open()
        made = _compare([cells.cell(name, numbers) for name in cells.places])
        result = Bridge(found.name, numbers, made, cells.notes(), tuple(study.environments))
        return replace(result, files=write_bridge(result, study.path, command))


def _select(what: str, asked: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Those that were asked for, in the order of the known ones; None or none: all."""
    for name in asked or ():
        if name not in known:
            raise UsageError(f"a bridge has no {what} {name!r}; {suggest(str(name), known)}")
    return [name for name in known if not asked or name in asked]


def _sizes(asked: Sequence[int]) -> list[int]:
    for count in asked:
        if type(count) is not int or count < 1:
            raise UsageError(f"ipc is {count!r}; give numbers of images a class, 1 or more")
    return list(dict.fromkeys(asked))


def _compare(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """The cells with their differences to labels alone on the same images."""
    bases = {(c.images, c.ipc): c for c in cells if c.knowledge == LABELS}
    found = []
    for cell in cells:
        base = bases.get((cell.images, cell.ipc))
        if base is not None and base is not cell:
            cell = replace(cell, difference=paired_difference(cell.values, base.values))
        found.append(cell)
    return tuple(found)
