"""Born-Again generations: chains of nets, each from a fresh draw, each taught by the one before.

Notation: theta_g the net of generation g, f(x, theta) its prediction, y the labels, L the loss of
the arm's method, (s, g) the seed of a chain and the generation.

    theta_0 = argmin L(y, f(x, theta))                       the teacher, on labels alone
    theta_g = argmin L(f(x, theta_{g-1}), f(x, theta))       from the draw of `chains.seed_of(s, g)`
    BANE(k) = (1/k) sum over g = 1..k of f(x, theta_g)       mean of probabilities, or of logits

    OUT/                       a run folder of kind "kd-generations": config.json, environment.json
      teacher-sSEED/           generation 0; teacher-ARM-sSEED where arms have several
      ARM-G-sSEED/             generation G, a run folder as `kd-baselines train` makes it
      table.md  table.csv  generations.png

Reference: Furlanello et al., Born-Again Neural Networks, 2018, equations 3 and 4,
https://arxiv.org/abs/1805.04770
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.errors import UsageError, suggest
from datadistill.nets.layers import check_whole
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, show_progress
from datadistill.studies.arguments import (
    change_arms,
    dump_changes,
    format_changes,
    format_command,
    list_seeds,
    select_arms,
)
from datadistill.studies.study import Study
from datadistill.visualize.canvas import save
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig
from kd_baselines.lineage import Lineage
from kd_baselines.methods import has_teacher
from kd_baselines.recipes import OWN, Page, page
from kd_baselines.studies.chains import Chains, MeasuredNet
from kd_baselines.studies.comparison_table import (
    ArmRow,
    Comparison,
    add_differences,
    write_comparison,
)
from kd_baselines.studies.generations_plot import generations_figure
from kd_baselines.teachers import AVERAGES

__all__ = ["LINEAGES", "born_again_generations"]

GENERATIONS_KIND = "kd-generations"
FIGURE = "generations.png"
LINEAGES: dict[type, str] = {
    KdConfig: "kd_baselines.image_lineage:ImageLineage",
    LanguageConfig: "kd_baselines.language.lineage:LanguageLineage",
}
"""Class of config -> its lineage as MODULE:CLASS, imported when it is first used."""
ABOUT = (
    "The test part, where a column does not name another; chains with the seeds {{seeds}}, "
    "generations 1 to {generations}, each from a fresh draw and taught by the one before. BANE(k): "
    "generations 1 to k together, the mean of their {of}. Population deviations; every row is held "
    "against generation 0 of its own chains, and lower is better."
)


@show_progress
def born_again_generations(
    recipe: str | Page,
    *,
    generations: int = 3,
    seeds: int | Sequence[int] = 5,
    arms: Sequence[str] | None = None,
    average: str = "arithmetic",
    out: str | os.PathLike[str],
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    changes: Mapping[str, Any] | None = None,
    data: RealData | None = None,
    say: Callable[[str], None] = lambda line: None,
    again: str | None = None,
    progress: bool | Report = False,
) -> Comparison:
    """Train chains of generations for every arm and seed, and compare nets and ensembles with
    generation 0.

    Finished nets are loaded and interrupted ones are resumed; more generations or seeds add to a
    study.

    Args:
        recipe: its name, or a page of your own. Its teacher is generation 0, trained for every
            seed.
        generations: after the teacher, 1 or more.
        arms: some of the recipe's; default: all that learn from a teacher.
        average: of an ensemble: "arithmetic", of the probabilities, or "geometric", of the logits.
        seeds, out, options, changes, data, say, again, progress: as in `kd_baselines.compare`.

    Returns:
        Rows "teacher", "ARM-g", "ARM-BANE(k)" and "ARM-BANE(G)+teacher", each with a score a seed
        and its paired difference to the teacher; lower is better. Also in OUT/table.md,
        OUT/table.csv and OUT/generations.png.

    Raises:
        UsageError: generations not a whole number of at least 1, an unknown arm, field or average,
            an arm without a teacher, no seed or one given twice, or `out` holds something else.
        DataError: nets of a chain that were trained on other data or classes, or taught by another
            net.
        Interrupted: a signal came; what was done is kept.

    Example:
        `born_again_generations("ban-mnist", out="runs/ban").row("own-BANE(3)").mean("error")`
    """
    check_whole("generations", generations)
    if average not in AVERAGES:
        raise UsageError(f"average is {average!r}; {suggest(str(average), AVERAGES)}")
    found = page(recipe) if isinstance(recipe, str) else recipe
    name = found.make().recipe
    numbers = list_seeds(seeds)
    changed = dict(changes or {})
    selected = select_arms(arms, [OWN, *found.arms], name)
    # of any class in LINEAGES
    configs: dict[str, Any] = {arm: found.config(arm) for arm in (OWN, *found.arms)}
    configs = change_arms(configs, OWN, changed, selected)
    if data is not None:
        configs = {arm: _use_own_images(config) for arm, config in configs.items()}
    names, left_out = _split_arms(selected, configs, asked=arms is not None)
    kind = type(configs[names[0]])
    lineage = _lineage(kind, options, data)
    for arm in names:
        lineage.refuse(configs[arm])
    some = names if arms is not None and len(names) < len(configs) else None
    flags: dict[str, Any] = {"arms": some, "average": None if average == AVERAGES[0] else average}
    flags = {"generations": generations, **flags}
    command = format_command("kd-baselines born-again", name, numbers, flags, changed)
    again = again or (
        command if data is None else f"born_again_generations(..., out={str(out)!r}, data=...)"
    )
    asked: dict[str, Any] = {"recipe": name, "changes": dump_changes(changed, kind)}
    asked |= {"generations": generations, "average": average}
    more = ("generations", "average")  # may be asked of the same nets
    with Study(Path(out), GENERATIONS_KIND, asked, again=again, say=say, may_change=more) as study:
        study.open()
        for arm in left_out:
            say(f"{arm} is left out: {configs[arm].method} has no teacher")
        chains = Chains(lineage, study, configs, average)
        nets = {arm: [chains.grow(arm, seed, generations) for seed in numbers] for arm in names}
        measured = {arm: chains.measure(arm, paths) for arm, paths in nets.items()}
        rows = _rows(measured, configs, chains, found, average)
        unit, column = lineage.unit, next(iter(rows[0].values))
        of = "probabilities" if average == AVERAGES[0] else "logits"
        result = Comparison(
            name,
            rows[0].arm,
            numbers,
            rows,
            format_changes(changed),
            tuple(study.environments),
            unit=unit,
            measure=column,
            about=ABOUT.format(generations=generations, of=of),
        )
        files = write_comparison(result, study.path, command)
        drawn = [found.descent(arm, column) for arm, found in measured.items()]
        title = (
            f"{name}: mean over {len(numbers)} seed{'s' * (len(numbers) > 1)}, bars: ± deviation"
        )
        save(generations_figure(title, drawn, result.title(column)), study.path / FIGURE)
        return replace(result, files=(*files, study.path / FIGURE))


def _rows(
    measured: Mapping[str, MeasuredNet],
    configs: Mapping[str, Any],
    chains: Chains,
    found: Page,
    average: str,
) -> tuple[ArmRow, ...]:
    """Teachers first, then each arm's nets and ensembles with their differences to its own teacher.

    A teacher of several arms has the published value of the first of them that knows one.
    """
    teachers: dict[str, ArmRow] = {}
    rows: list[ArmRow] = []
    for arm, scores in measured.items():
        config, name = configs[arm], chains.teacher_of(arm)
        teacher = teachers.setdefault(name, ArmRow(name, "labels alone", scores.nets[0]))
        if teacher.published == "-":
            known, changed = found.published_beside(config, "teacher")
            teachers[name] = replace(teacher, published=known, changed=tuple(changed))
        last = len(scores.nets) - 1
        own = {str(g): (config.method, values) for g, values in enumerate(scores.nets[1:], start=1)}
        own |= {
            f"BANE({k})": (f"{k} nets, {average}", values) for k, values in scores.ensembles.items()
        }
        own[f"BANE({last})+teacher"] = (f"{last + 1} nets, {average}", scores.with_teacher)
        for row, (by, values) in own.items():
            known, changed = found.published_beside(config, row)
            net = ArmRow(f"{arm}-{row}", by, values, published=known, changed=tuple(changed))
            rows.append(add_differences(net, teacher))
    return (*teachers.values(), *rows)


def _lineage(kind: type, options: RunOptions, data: RealData | None) -> Lineage[Any, Any, Any]:
    if kind not in LINEAGES:
        known = ", ".join(cls.__name__ for cls in LINEAGES)
        raise UsageError(
            f"the recipe's config is a {kind.__name__}; there are generations of {known}"
        )
    module, _, name = LINEAGES[kind].partition(":")
    made: type[Lineage[Any, Any, Any]] = getattr(importlib.import_module(module), name)
    return made(options, data)


def _use_own_images(config: Any) -> Any:
    if not isinstance(config, KdConfig):
        raise UsageError("data are images, but the recipe's nets read text; leave data out")
    return replace(config, dataset=CUSTOM)


def _split_arms(
    names: Sequence[str], configs: Mapping[str, Any], asked: bool
) -> tuple[list[str], list[str]]:
    """The arms whose nets learn from a teacher, and the others; UsageError where such a one was
    asked for."""
    kept = [arm for arm in names if has_teacher(configs[arm].method)]
    others = [arm for arm in names if arm not in kept]
    if others and (asked or not kept):
        raise UsageError(
            f"the arm {others[0]} learns by {configs[others[0]].method}, without a teacher, so "
            "that no generation follows from another; "
            f"{'leave it out' if kept else 'take an arm with a teacher'}"
        )
    return kept, others
