"""Generations of image classifiers: how one net of a chain is configured, trained and tested.

    error = 100 - accuracy, in % of the test images, as Furlanello et al. 2018 tell it

An ensemble of generations is a `Teacher` of several nets: the mean of their probabilities (arithmetic), or of
their logits (geometric).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.device import resolve
from datadistill.errors import DataError, UsageError
from datadistill.runs.folder import RunFolder
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores, score
from kd_baselines.netfile import SavedNet
from kd_baselines.setup import Setup
from kd_baselines.teacher_runs import teacher_fields, untrained_teacher
from kd_baselines.teachers import Teacher
from kd_baselines.training import KIND, load_data, refuse_other_classes, train

__all__ = ["ImageLineage", "ensemble"]

FIRST = "teacher"
"""The arm that generation 0 calls itself."""


def ensemble(nets: Sequence[Path], average: str) -> Teacher:
    """Saved nets as one ensemble; of a single net, that net.

    Args:
        nets: files of `kd-baselines train`, at least one.
        average: "arithmetic", of the probabilities, or "geometric", of the logits.

    Raises:
        UsageError: no net, or an unknown average.
        DataError: a file is missing or damaged.
    """
    return Teacher(*(SavedNet.load(path).net() for path in nets), average=average)


class ImageLineage:
    """A `Lineage` of `KdConfig`: runs of `kd-baselines train`, one a net."""

    unit = "%"

    def __init__(self) -> None:
        self._loaded: tuple[tuple[Any, ...], RealData] | None = None

    def build_first(self, config: KdConfig, seed: int) -> KdConfig:
        """Generation 0: the teacher's net and schedule, on labels alone.

        With `per_class` all generations of all chains see the same images (`images_seed`), this one too; of
        classes that the others go without, it sees all.

        Example:
            >>> config = KdConfig(method="soft-targets", teacher_net="lenet", teacher_epochs=3)
            >>> first = ImageLineage().build_first(config, seed=7)
            >>> first.method, first.net, first.epochs, first.seed
            ('plain', 'lenet', 3, 7)
        """
        alone = {"method_args": {}, "shared": (), "without": (), **teacher_fields(config)}
        return self.build_later(config, seed).with_changes(arm=FIRST, **alone)

    def build_later(self, config: KdConfig, seed: int) -> KdConfig:
        """A generation from 1 on: the arm as it is, from the seed's draw."""
        if config.per_class is not None and config.images_seed is None:
            config = config.with_changes(images_seed=config.seed)
        return config.with_changes(seed=seed)

    def refuse(self, config: KdConfig, options: RunOptions, data: RealData | None = None) -> None:
        """Refuse an arm whose chain cannot be trained: its nets are built and tried on two images.

        Raises:
            UsageError, DataError: nets that start from a file, an ensemble as the teacher, or what `train`
                refuses.
        """
        for name in ("weights", "teacher_weights"):
            if getattr(config, name) is not None:
                way = name.replace("_", "-")
                raise UsageError(
                    f"{name} is {getattr(config, name)!r}, but every generation starts from a fresh draw; "
                    f"leave --{way} out"
                )
        if config.teachers != 1:
            raise UsageError(
                f"teachers is {config.teachers}, but generation 0 is one net; leave --teachers out (ensembles "
                "of generations are in the table)"
            )
        real = self._data(config, options, data)
        Setup(config, real, untrained_teacher(config, real, options), options)

    def train(
        self, config: KdConfig | None, teacher: Path | None, out: Path, resume: bool, options: RunOptions,
        data: RealData | None = None,
    ) -> None:  # fmt: skip
        """One run of `kd_baselines.train`, which see.

        Raises:
            DataError: the data are no longer those that the teacher was trained on.
        """
        if teacher is not None and config is not None:
            _refuse_other_data(teacher.parent, self._data(config, options, data))
        train(config, data=data, teacher=teacher, out=out, resume=resume, options=options)

    def fingerprint(self, net: Path) -> str:
        """Of the net in a file, as a run that it teaches keeps it."""
        return ensemble([net], "arithmetic").hash

    def scores(
        self, nets: Sequence[Path], config: KdConfig, average: str, options: RunOptions,
        data: RealData | None = None,
    ) -> dict[str, float]:  # fmt: skip
        """Errors in percent of one net, as its training measured them, or of an ensemble, measured here.

        Raises:
            DataError: a net of other classes than the data's, or of other images.
        """
        saved = [SavedNet.load(path) for path in nets]
        if len(saved) == 1 and saved[0].scores is not None:
            return _errors(Scores.from_dict(saved[0].scores))
        real = self._data(config, options, data)
        for path, net in zip(nets, saved, strict=True):
            refuse_other_classes(str(path), net, real)
            _refuse_other_data(path.parent, real)
        together = ensemble(nets, average).to(real.train.images.device)
        return _errors(score(together, real, noise=config.noise, missing=config.without, seed=config.seed))

    def _data(self, config: KdConfig, options: RunOptions, data: RealData | None) -> RealData:
        """On the device of the config; loaded once for all of a chain."""
        fields = ("dataset", "size", "channels", "validation", "teacher_seed", "device")
        key = tuple(getattr(config, name) for name in fields)
        if self._loaded is None or self._loaded[0] != key:
            real = data if data is not None else load_data(config, options)
            self._loaded = (key, real.to(resolve(config.device)))
        return self._loaded[1]


def _refuse_other_data(run: Path, real: RealData) -> None:
    if RunFolder.open(run, kind=KIND).environment.get("data") != real.fingerprint:
        raise DataError(
            f"{run} was trained on other data (its fingerprint differs); restore the data, or choose another "
            "--out"
        )


def _errors(scores: Scores) -> dict[str, float]:
    """100 minus each accuracy, the plain one first.

    >>> _errors(Scores(98.0, 50, 1, noise={0.3: 80.0}))
    {'error': 2.0, 'error with noise 0.3': 20.0}
    """
    accuracies = scores.columns()
    return {"error" if k == "accuracy" else f"error {k}": 100.0 - v for k, v in accuracies.items()}
