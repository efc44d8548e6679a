"""The chains of generations of a study: each net loaded, resumed or trained, and then measured.

teacher-sSEED/           generation 0; teacher-ARM-sSEED where arms have several
ARM-G-sSEED/             generation G of an arm
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from datadistill.errors import DataError
from datadistill.runs.folder import RunFolder
from datadistill.streams import derive
from datadistill.studies.study import Job, Study
from kd_baselines.lineage import Lineage
from kd_baselines.methods import has_teacher
from kd_baselines.netfile import STUDENT
from kd_baselines.studies.generations_plot import Descent

__all__ = ["Chains", "MeasuredNet", "refuse_other_teacher", "seed_of"]

Scored = dict[str, tuple[float, ...]]
"""Column -> the score of each seed."""


def seed_of(seed: int, generation: int) -> int:
    """The seed that a generation of a chain is drawn and trained with; another one for every
    pair."""
    return derive(seed, "generation", generation)


@dataclass
class MeasuredNet:
    """The scores of an arm: of generation 0 to G, of generations 1 to k, and of all with the
    teacher."""

    nets: list[Scored] = field(default_factory=list)
    ensembles: dict[int, Scored] = field(default_factory=dict)
    with_teacher: Scored = field(default_factory=dict)

    def descent(self, arm: str, column: str) -> Descent:
        ensembles = {k: scores[column] for k, scores in self.ensembles.items()}
        return Descent(
            arm, [scores[column] for scores in self.nets], ensembles, self.with_teacher[column]
        )


class Chains:
    """The nets of all arms and seeds: loaded, resumed or trained."""

    def __init__(
        self,
        lineage: Lineage[Any, Any, Any],
        study: Study,
        configs: Mapping[str, Any],
        average: str,
    ) -> None:
        self.lineage, self.study, self.configs, self.average = lineage, study, configs, average

    def teacher_of(self, arm: str) -> str:
        """The name of an arm's generation 0: after the first of all arms that has it."""
        firsts = {
            a: self.lineage.build_first(c, 0)
            for a, c in self.configs.items()
            if has_teacher(c.method)
        }
        first = next(a for a, config in firsts.items() if config == firsts[arm])
        return "teacher" if first == next(iter(firsts)) else f"teacher-{first}"

    def grow(self, arm: str, seed: int, generations: int) -> list[Path]:
        """The files of one chain, generation 0 first; what is not there is trained."""
        config = self.configs[arm]
        nets = [
            self._net(
                f"{self.teacher_of(arm)}-s{seed}",
                self.lineage.build_first(config, seed_of(seed, 0)),
                None,
            )
        ]
        for g in range(1, generations + 1):
            later = self.lineage.build_later(config, seed_of(seed, g))
            nets.append(self._net(f"{arm}-{g}-s{seed}", later, nets[-1]))
        return nets

    def _net(self, name: str, config: Any, teacher: Path | None) -> Path:
        path = self.study.path / name

        def train(resume: bool) -> None:
            self.lineage.train(config, teacher, path, resume)

        words = name if teacher is None else f"{name}, taught by {teacher.parent.name}"
        net = self.study.run(Job(path, config, STUDENT, train, words))
        if teacher is not None:
            _refuse_other_data(path, teacher.parent)
            refuse_other_teacher(path, teacher, self.lineage.fingerprint(teacher))
        return net

    def measure(self, arm: str, chains: Sequence[Sequence[Path]]) -> MeasuredNet:
        """Scores of an arm's nets and ensembles over its chains, one a seed."""
        found, generations = MeasuredNet(), len(chains[0]) - 1
        found.nets = [
            self._scores(arm, [[nets[g]] for nets in chains]) for g in range(generations + 1)
        ]
        for k in range(2, generations + 1):
            found.ensembles[k] = self._scores(arm, [nets[1 : k + 1] for nets in chains])
        found.with_teacher = self._scores(arm, chains)
        return found

    def _scores(self, arm: str, groups: Sequence[Sequence[Path]]) -> Scored:
        each = []
        for nets in groups:
            measure = partial(self.lineage.scores, nets, self.configs[arm], self.average)
            each.append(self.study.carry_out(None, measure))
        return {column: tuple(scores[column] for scores in each) for column in each[0]}


def refuse_other_teacher(run: Path, teacher: Path, fingerprint: str) -> None:
    """Refuse a run, by its folder, whose teacher had another fingerprint than the net in the file
    `teacher`."""
    if RunFolder.open(run).environment.get("teacher") != fingerprint:
        raise DataError(
            f"{run} was taught by another net than {teacher} holds (its fingerprint differs); "
            f"restore that file, or remove {run.name} and the generations after it"
        )


def _refuse_other_data(run: Path, before: Path) -> None:
    a, b = (RunFolder.open(path).environment.get("data") for path in (run, before))
    if a != b:
        raise DataError(
            f"{run} was trained on other data than {before.name} (their fingerprints differ); "
            f"restore the data and remove {run.name} and the generations after it"
        )
