"""The sender's side: real data, trained nets, a distilled set, and the seconds that each took once.

    OUT/nets/WHICH-sSEED/    runs of `kd-baselines train`: full, teacher, student, born-again
    OUT/distilled/           a run of `datadistill distill`

Interrupted runs are resumed. Soft labels come from the teacher of seed 0, whatever the seeds are.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datadistill.config import RunOptions
from datadistill.config.plans import DataPlan, SgdPlan
from datadistill.data import RealData
from datadistill.distilled import DistilledDataset
from datadistill.nets.spec import CUSTOM, NetSpec
from datadistill.runs.folder import SET_FILE
from datadistill.runs.timing import read_seconds
from datadistill.studies.study import Job, Study
from datadistill.training import distill
from kd_baselines.config import KdConfig
from kd_baselines.image_training import load_data
from kd_baselines.ledger.config import LedgerConfig, distill_config
from kd_baselines.ledger.existing import Given
from kd_baselines.netfile import STUDENT
from kd_baselines.student_images import student_split
from kd_baselines.student_setup import spec_for
from kd_baselines.studies.chains import seed_of
from kd_baselines.training import train

__all__ = [
    "LABELS_SEED",
    "Senders",
    "net_config",
    "net_spec",
    "real_data",
    "refuse_nets",
]

LABELS_SEED = 0
"""The seed of the teacher that soft labels come from, and of one teacher for all."""

SIZES = ("channels", "size", "classes")


def net_config(config: LedgerConfig, which: str, seed: int) -> KdConfig:
    """The config of a net that learns from all real data: "full" (the students' architecture,
    labels alone), "teacher", "student" or "born-again". The Born-Again student starts from another
    draw than its teacher: that of `kd_baselines.studies.chains.seed_of(seed, 1)`."""
    method: dict[str, Any] = {"method": "born-again" if which == "born-again" else "plain"}
    if which == "student":
        method = {"method": "soft-targets", "method_args": {"temperature": config.temperature}}
    net = (config.teacher_net, config.teacher_args, config.teacher_init)
    if which in ("full", "student"):
        net = (config.student_net, config.student_args, config.student_init)
    return KdConfig(
        **asdict(DataPlan.of(config)),
        **asdict(SgdPlan.of(config, "net_")),
        arm=which,
        seed=seed_of(seed, 1) if which == "born-again" else seed,
        teacher_net=config.teacher_net,
        teacher_args=config.teacher_args,
        teacher_init=config.teacher_init,
        device=config.device,
        net=net[0],
        net_args=net[1],
        init=net[2],
        **method,
    )


def real_data(config: LedgerConfig, options: RunOptions, data: RealData | None) -> RealData:
    """The real data on the run's device; with `real_per_class` only so many of each class, drawn
    once."""
    whole = load_data(net_config(config, "full", 0), options, data)
    if config.real_per_class is not None:
        split = student_split(KdConfig(per_class=config.real_per_class), whole)
        whole = replace(whole, train=split, _kept={})
    return whole


def net_spec(config: LedgerConfig, data: RealData, which: str) -> NetSpec:
    """The net of "student" or "teacher" for these images."""
    if which == "student":
        return spec_for(data, config.student_net, config.student_args, config.student_init)
    return spec_for(data, config.teacher_net, config.teacher_args, config.teacher_init)


def refuse_nets(config: LedgerConfig, data: RealData) -> None:
    """Refuse nets that cannot be built, and more images a class than there are, before anything is
    written."""
    for which in ("student", "teacher"):
        net_spec(config, data, which).shapes()
    student_split(KdConfig(per_class=config.per_class), data)


class Senders:
    """Nets and the distilled set: loaded, resumed or trained.

    Args:
        study: the ledger's folder.
        data: as `real_data` gives it.
        named: whether `data` are those that the config names, so that a run loads them itself.
        given: a distilled set and a teacher that exist already.
    """

    def __init__(
        self,
        config: LedgerConfig,
        study: Study,
        data: RealData,
        named: bool,
        given: Given,
        options: RunOptions,
    ) -> None:
        self.config, self.study, self.data, self.given = config, study, data, given
        self.options, self.passed = options, None if named else data
        self.path = study.path
        self.student_spec = net_spec(config, data, "student")
        self._files: dict[Path, Path] = {}  # of runs that were looked at
        self._distilled = given.distilled

    @property
    def has_one_teacher(self) -> bool:
        """Whether all seeds share a teacher, so that its row has one net."""
        return self.given.teacher is not None or self.config.teachers == "one"

    def run_of(self, which: str, seed: int) -> Path:
        """The run folder of a net that is trained here."""
        seed = LABELS_SEED if which == "teacher" and self.has_one_teacher else seed
        return self.path / "nets" / f"{which}-s{seed}"

    def net_file(self, which: str, seed: int) -> Path:
        """The file of a trained net; trained where it is not there."""
        if which == "teacher" and self.given.teacher_file is not None:
            return self.given.teacher_file
        path = self.run_of(which, seed)
        if path in self._files:
            return self._files[path]
        config = self._config(
            which, LABELS_SEED if which == "teacher" and self.has_one_teacher else seed
        )
        taught = which in ("student", "born-again") and not (path / STUDENT).exists()
        # a run of its own, with its own line
        teacher = self.net_file("teacher", seed) if taught else None

        def work(resume: bool) -> None:
            train(
                config,
                data=self.passed,
                teacher=teacher,
                out=path,
                resume=resume,
                options=self.options,
            )

        words = f"{path.name}: {config.net} by {config.method}"
        self._files[path] = self.study.run(Job(path, config, STUDENT, work, words))
        return self._files[path]

    def _config(self, which: str, seed: int) -> KdConfig:
        config = net_config(self.config, which, seed)
        teacher = self.given.teacher
        if which == "born-again" and teacher is not None:  # the architecture is the teacher's
            args = {name: value for name, value in teacher.spec.args.items() if name not in SIZES}
            config = replace(config, net=teacher.spec.name, net_args=args, init=teacher.spec.init)
        return config if self.passed is None else replace(config, dataset=CUSTOM)

    def load_distilled(self) -> DistilledDataset:
        """The distilled set; learned where it is not there."""
        if self._distilled is not None:
            return self._distilled
        path = self.path / "distilled"
        config = distill_config(self.config)
        config = config if self.passed is None else replace(config, dataset=CUSTOM)

        def work(resume: bool) -> None:
            distill(config, data=self.passed, out=path, resume=resume, options=self.options)

        words = f"distilled: {config.recipe}, {config.iterations} iterations"
        self._distilled = DistilledDataset.load(
            self.study.run(Job(path, config, SET_FILE, work, words))
        )
        return self._distilled

    def net_seconds(self, which: str, seed: int) -> float | None:
        """Training of one net, without its teacher's; None where it is not known."""
        if which == "teacher" and self.given.teacher is not None:
            return self.given.teacher_seconds
        return read_seconds(self.run_of(which, seed))

    def distilled_seconds(self) -> float | None:
        """The distillation; None where it is not known."""
        return (
            read_seconds(self.path / "distilled")
            if self.given.distilled is None
            else self.given.distilled_seconds
        )
