"""Generations of image classifiers; an ensemble of them is a `Teacher` of several nets.

error = 100 - accuracy, in % of the test images, as Furlanello et al. 2018 print it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datadistill.data import RealData
from datadistill.errors import UsageError
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores, score
from kd_baselines.image_training import ImageTraining
from kd_baselines.lineage import Lineage
from kd_baselines.netfile import SavedNet
from kd_baselines.teacher_runs import teacher_fields
from kd_baselines.teachers import Teacher

__all__ = ["ImageLineage"]


class ImageLineage(Lineage[KdConfig, RealData, SavedNet]):
    """The lineage of `KdConfig`; a score is an error in percent."""

    unit = "%"
    data_fields = (
        "dataset",
        "data",
        "size",
        "channels",
        "validation",
        "normalization",
        "teacher_seed",
        "device",
    )
    kind, file = ImageTraining, SavedNet

    def build_first(self, config: KdConfig, seed: int) -> KdConfig:
        """Generation 0: the teacher's net and schedule, on labels alone. With `per_class` all
        generations of all chains see the same images (`images_seed`); of classes that the others go
        without, it sees all."""
        alone = {"method_args": {}, "shared": (), "without": (), **teacher_fields(config)}
        return self.build_later(config, seed).with_changes(arm="teacher", **alone)

    def build_later(self, config: KdConfig, seed: int) -> KdConfig:
        """A generation from 1 on: the arm as it is, from the seed's draw."""
        if config.per_class is not None and config.images_seed is None:
            config = config.with_changes(images_seed=config.seed)
        return config.with_changes(seed=seed)

    def refuse(self, config: KdConfig) -> None:
        """Refuse an arm whose chain cannot be trained: its nets are built and tried on two
        images."""
        for name in ("weights", "teacher_weights"):
            if getattr(config, name) is not None:
                way = name.replace("_", "-")
                raise UsageError(
                    f"{name} is {getattr(config, name)!r}, but every generation starts from a "
                    f"fresh draw; leave --{way} out"
                )
        # a teacher on as many images sees the same ones
        others = ["data_from", "source"]
        others += ["teacher_images"] if config.teacher_images != config.per_class else []
        for name in others:
            if (value := getattr(config, name)) is not None:
                raise UsageError(
                    f"{name} is {value!r}, but all generations see the same real images; leave "
                    f"--{name.replace('_', '-')} out (--per-class takes fewer)"
                )
        if config.teachers != 1:
            raise UsageError(
                f"teachers is {config.teachers}, but generation 0 is one net; leave --teachers out "
                "(ensembles of generations are in the table)"
            )
        super().refuse(config)

    def name_scores(self, scores: Mapping[str, Any]) -> dict[str, float]:
        return _errors(Scores.from_dict(scores))

    def measure(
        self, nets: Sequence[SavedNet], config: KdConfig, average: str, data: RealData
    ) -> dict[str, float]:
        together = Teacher(*(saved.net() for saved in nets), average=average).to(data.device)
        return _errors(
            score(together, data, noise=config.noise, missing=config.without, seed=config.seed)
        )


def _errors(scores: Scores) -> dict[str, float]:
    """100 minus each accuracy, the plain one first."""
    accuracies = scores.columns()
    return {"error" if k == "accuracy" else f"error {k}": 100.0 - v for k, v in accuracies.items()}
