"""The Lipschitz-Hausdorff bound of the students of runs and comparisons, and whether it orders
source images as the accuracy of the students does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr
from torch import Tensor

from datadistill.config import RunOptions
from datadistill.data import RealData, Split
from datadistill.errors import DataError, UsageError
from datadistill.runs.folder import RunFolder
from datadistill.stats import Interval, mean, mean_interval
from datadistill.studies.study import read_run_config
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import score
from kd_baselines.features import run
from kd_baselines.hausdorff import nearest_distances
from kd_baselines.image_source import find_source
from kd_baselines.image_training import load_data
from kd_baselines.netfile import STUDENT, SavedNet
from kd_baselines.scores import Scores
from kd_baselines.source_bound import Bound, bound_by_layers, measure_bound
from kd_baselines.source_data import load_source, load_target
from kd_baselines.student_images import student_split
from kd_baselines.student_setup import has_two_heads
from kd_baselines.teacher_runs import teacher_config
from kd_baselines.teachers import Teacher

__all__ = ["BoundRow", "correlate", "find_students", "measure_student"]


@dataclass(frozen=True)
class BoundRow:
    """The bound of one student.

    Args:
        study: the folder of its comparison; of a single run its own.
        arm, seed: which student.
        part: of the source images, "all" or "1/5".
        accuracy: on the target's test images, in percent.
        bound: what was measured.
        source_accuracy: of the second head on the source's test images; None where there are none
            at hand.
        teacher_accuracy: of the teacher itself on the target's test images; None where it knows
            other classes.
    """

    study: Path
    arm: str
    seed: int
    part: str
    accuracy: float
    bound: Bound
    source_accuracy: float | None = None
    teacher_accuracy: float | None = None


def find_students(path: Path) -> list[Path]:
    """The run folders of the finished students with two heads in a run folder, or in that of a
    comparison; UsageError where there is none."""
    found = []
    for folder in [path, *sorted(p for p in path.glob("*-s*") if p.is_dir())]:
        if not (folder / STUDENT).exists() or not has_two_heads(read_run_config(folder, KdConfig)):
            continue
        if SavedNet.load(folder).source_classes is not None:
            found.append(folder)
    if not found:
        raise UsageError(
            f"{path} has no student with a second head, whose distance to its teacher is bounded; "
            "pass a run of the method lwf (kd-baselines train lwf-mnist5k), or a comparison of such"
        )
    return found


def measure_student(
    folder: Path, options: RunOptions, *, parts: int = 1, layer: str | None = None
) -> list[BoundRow]:
    """The bound of one student, from the images that its teacher was trained on to those that it
    was trained on itself.

    Args:
        folder: its run folder.
        options: where the data lie.
        parts: in how many the source images are split, by their distance to the target.
        layer: of the teacher, between whose outputs distances are measured; None: between images.
    """
    config = read_run_config(folder, KdConfig)
    saved, teacher = SavedNet.load(folder), _find_teacher(folder)
    data = load_data(config, options)
    coreset = find_source(config, data)
    target = (student_split(config, data) if coreset is None else coreset.split).images
    source = _source_images(config, data, options).images
    student = saved.net().to(data.device)
    teacher = teacher.to(data.device)

    def second_head(images: Tensor) -> Tensor:
        return run(student, images, ["source"]).features["source"]

    def between(images: Tensor) -> Tensor:
        if layer is None:
            return images
        return teacher.outputs(images, [layer], logits=False).features[layer]

    known = None
    if layer is None and len(teacher.nets) == 1:
        known = bound_by_layers(teacher.nets[0], student)
    known_of_teacher = None
    if load_source(config, data, options).classes == data.classes:
        known_of_teacher = score(teacher, data).accuracy
    order = nearest_distances(between(source), between(target)).sort(stable=True).indices
    if not 1 <= parts <= len(order):
        raise UsageError(f"parts is {parts} of {len(order)} source images; give 1 to {len(order)}")
    scores = Scores.from_dict(saved.scores or {})
    known_on_source = scores.second.get("source accuracy")
    single = folder.parent if (folder.parent / "config.json").exists() else folder
    rows = []
    for number, part in enumerate(order.tensor_split(parts)):
        bound = measure_bound(
            teacher,
            second_head,
            source[part],
            target,
            features=None if layer is None else between,
            by_layers=known,
        )
        name = "all" if parts == 1 else f"{number + 1}/{parts}"
        about = (single, config.arm, config.seed, name, scores.accuracy)
        rows.append(BoundRow(*about, bound, known_on_source, known_of_teacher))
    return rows


def _source_images(config: KdConfig, data: RealData, options: RunOptions) -> Split:
    """The images that the teacher was trained on."""
    if config.teacher_weights is not None:
        raise UsageError(
            f"the teacher has the weights {config.teacher_weights}, whose images are not known; "
            "measure with kd_baselines.source_bound.measure_bound in Python"
        )
    own = teacher_config(config)
    return student_split(own, load_source(config, data, options), load_target(own, options))


def _find_teacher(folder: Path) -> Teacher:
    """The teacher of a student: of its own run, or the one of its comparison with its
    fingerprint."""
    own = folder / "teacher.safetensors"
    if own.exists():
        return SavedNet.load(folder, which="teacher").to_teacher()
    wanted = RunFolder.open(folder).environment.get("teacher")
    for path in sorted(folder.parent.glob("teacher*.safetensors")):
        teacher = SavedNet.load(path).to_teacher()
        if teacher.hash == wanted:
            return teacher
    raise DataError(
        f"the teacher of {folder} is neither there nor in {folder.parent}; put its file there as "
        "teacher.safetensors"
    )


def correlate(
    rows: Sequence[BoundRow], by: str = "distance", which: str = "accuracy"
) -> Interval | None:
    """Spearman's rank correlation over the arms between minus a part of the bound and a score.

    The mean and its 95% interval are over comparisons, each with teachers of its own, whose
    students are averaged; of a single comparison over its students' seeds. It is 1 where a smaller
    value goes with a higher score throughout, and None for fewer than 3 arms and for a score that
    is not known.

    Args:
        rows: of students of several arms, each arm with the same seeds.
        by: "distance", "right" or "mean_source_gap", as `Bound` has them.
        which: "accuracy", "source_accuracy" or "teacher_accuracy".
    """
    if any(getattr(row, which) is None for row in rows):
        return None
    several = len({row.study for row in rows}) > 1
    groups: dict[Path | int, dict[str, list[BoundRow]]] = {}
    for row in rows:
        arms = groups.setdefault(row.study if several else row.seed, {})
        arms.setdefault(row.arm, []).append(row)
    found = []
    for arms in groups.values():
        pairs = [
            (-mean_of(own, by), mean([getattr(r, which) for r in own])) for own in arms.values()
        ]
        if len(pairs) < 3 or any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
            continue
        found.append(float(spearmanr(*zip(*pairs, strict=True)).statistic))
    return mean_interval(found) if found else None


def mean_of(rows: Sequence[BoundRow], name: str) -> float:
    """The mean of a part of the bound over rows."""
    return mean([float(getattr(row.bound, name)) for row in rows])
