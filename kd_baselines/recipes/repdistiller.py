"""RepDistiller's tables of CIFAR-100 (Tian et al. 2020, https://arxiv.org/abs/1910.10699): a recipe
a pair of nets, an arm a method.

The numbers are those of the tables in its README (https://github.com/HobbitLong/RepDistiller), of
the last epoch. Its checkpoints of teachers load with `--teacher-weights FILE`. None of these
recipes was measured here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import HARD, Arm, Page

SOURCE = "Tian et al. 2020"
SLOW = ("MobileNetV2", "ShuffleV1", "ShuffleV2")
"""Students with a fifth of the learning rate."""
LAYERS = {  # name before the depth -> layers that the feature methods compare, last linear layer
    "resnet": (("layer1", "layer2", "layer3"), "fc"),
    "vgg": (("relu1", "relu2", "relu3", "relu4"), "classifier"),
    "wrn": (("group1", "group2", "group3"), "classifier"),
    "MobileNetV2": (("blocks.1", "blocks.2", "blocks.4", "blocks.6"), "classifier.0"),
    "ShuffleV": (("layer1", "layer2", "layer3"), "linear"),
}
HINTED = {  # teacher -> numbers of its second layer for an image of 32 px
    "wrn_40_2": 64 * 16 * 16,
    "resnet56": 32 * 16 * 16,
    "resnet110": 32 * 16 * 16,
    "resnet32x4": 128 * 16 * 16,
    "vgg13": 256 * 8 * 8,
}
COLUMNS = ("teacher", "hard", "kd", "hint", "attention", "similarity", "rkd", "crd")
PUBLISHED = {  # (teacher, student) -> accuracies in the order of the columns
    ("wrn_40_2", "wrn_16_2"): (75.61, 73.26, 74.92, 73.58, 74.08, 73.83, 73.35, 75.48),
    ("wrn_40_2", "wrn_40_1"): (75.61, 71.98, 73.54, 72.24, 72.77, 72.43, 72.22, 74.14),
    ("resnet56", "resnet20"): (72.34, 69.06, 70.66, 69.21, 70.55, 69.67, 69.61, 71.16),
    ("resnet110", "resnet20"): (74.31, 69.06, 70.67, 68.99, 70.22, 70.04, 69.25, 71.46),
    ("resnet110", "resnet32"): (74.31, 71.14, 73.08, 71.06, 72.31, 72.69, 71.82, 73.48),
    ("resnet32x4", "resnet8x4"): (79.42, 72.50, 73.33, 73.50, 73.44, 72.94, 71.90, 75.51),
    ("vgg13", "vgg8"): (74.64, 70.36, 72.98, 71.02, 71.43, 72.68, 71.48, 73.94),
    ("vgg13", "MobileNetV2"): (74.64, 64.60, 67.37, 64.14, 59.40, 66.30, 64.52, 69.73),
    ("resnet32x4", "ShuffleV1"): (79.42, 70.50, 74.07, 73.59, 71.73, 73.48, 72.28, 75.11),
    ("resnet32x4", "ShuffleV2"): (79.42, 71.82, 74.45, 73.54, 72.73, 74.56, 73.21, 75.65),
    ("wrn_40_2", "ShuffleV1"): (75.61, 70.50, 74.83, 73.73, 73.32, 74.52, 72.21, 76.05),
}  # fmt: skip


def repdistiller(teacher: str, student: str) -> KdConfig:
    """A pair of nets of RepDistiller's tables of CIFAR-100; the student learns soft targets, and
    its arms learn by the other methods.

    RepDistiller's: nets, normalization, augmentation, 240 epochs of 64 images, SGD with learning
    rate 0.05 (0.01 for MobileNetV2 and ShuffleNet), a tenth of it from epochs 150, 180 and 210 on,
    weight decay 0.0005; weights and layers of the methods. Ours: first weights, and the regressor
    of hints, which the paper that has them defines (there is no such arm where the student's map is
    smaller than the teacher's).
    """
    return KdConfig(
        recipe=f"repdistiller-{teacher}-{student}",
        dataset="cifar100",
        normalization="0.5071,0.4867,0.4408/0.2675,0.2565,0.2761",
        augment=("crop", "flip"),
        method="soft-targets",
        method_args={"temperature": 4.0, "soft_weight": 0.9, "label_weight": 0.1},
        net=student,
        init="kaiming",
        epochs=240,
        batch=64,
        optimizer="sgd",
        lr=0.01 if student in SLOW else 0.05,
        momentum=0.9,
        weight_decay=5e-4,
        milestones=(150, 180, 210),
        decay_factor=0.1,
        teacher_net=teacher,
        teacher_init="kaiming",
        teacher_epochs=240,
        teacher_batch=64,
        teacher_optimizer="sgd",
        teacher_lr=0.05,
        teacher_weight_decay=5e-4,
        teacher_milestones=(150, 180, 210),
        teacher_augment=("crop", "flip"),
    )


def _layers(net: str) -> tuple[tuple[str, ...], str]:
    """The layers of a net that are compared, and its last linear layer."""
    return LAYERS[max((kind for kind in LAYERS if net.startswith(kind)), key=len)]


def _methods(teacher: str, student: str) -> dict[str, dict[str, Any]]:
    """What the arms of a pair change."""
    mine, my_last = _layers(student)
    theirs, their_last = _layers(teacher)
    pairs = ",".join(f"{m}:{t}" for m, t in zip(mine, theirs, strict=True))
    embedding = f"{my_last}:in={their_last}:in"
    # its weight is 100 of a mean over numbers, the term's is of half their sum
    hint = {"guided": mine[1], "hint": theirs[1], "hint_weight": 200 / HINTED[teacher]}
    # features are averaged down where maps differ
    pool = "features" if student in SLOW else "map"
    attention = {"layers": pairs, "form": "at_code", "beta": 1000.0, "pool": pool}
    found: dict[str, dict[str, Any]] = {
        "hard": HARD,
        "hint": {"method": "fitnets-one-stage", "method_args": hint},
        "attention": {"method": "attention", "method_args": attention},
        "similarity": {
            "method": "similarity-preserving",
            "method_args": {"layers": f"{mine[-1]}:{theirs[-1]}", "weight": 3000.0},
        },
        "rkd": {"method": "rkd", "method_args": {"layers": embedding}},
        "crd": {
            "method": "crd",
            "method_args": {"layers": embedding, "temperature": 0.07, "weight": 0.8},
        },
    }
    if student.startswith("Shuffle"):  # maps of 8 px for a hint of 16
        del found["hint"]
    return found


def _page(teacher: str, student: str) -> Page:
    numbers = dict(zip(COLUMNS, PUBLISHED[teacher, student], strict=True))
    arms = {
        name: Arm(changes, f"{numbers[name]:.2f} ({SOURCE})")
        for name, changes in _methods(teacher, student).items()
    }
    own = f"{numbers['kd']:.2f}, teacher {numbers['teacher']:.2f} ({SOURCE})"
    return Page(partial(repdistiller, teacher, student), own, arms)


PAGES = {
    f"repdistiller-{teacher}-{student}": _page(teacher, student) for teacher, student in PUBLISHED
}
