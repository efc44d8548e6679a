"""Transfer from a net for other images: Srinivas and Fleuret 2018, section 5,
https://arxiv.org/abs/1803.00443.

The paper goes from an ImageNet ResNet-34 to a VGG-9 on MIT Scenes. Here a SqueezeNet teaches on a
small set of photographs (--dataset names another), and in small a teacher of one set of digits
teaches on another (--source). The terms are balanced: see `kd_baselines.heads.lwf_objective`.
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import HARD, NOT_VERIFIED, Arm, Page

# at 64 px: the student's maps of 16, 8 and 4 px, the teacher's of 14, 7 and 3
LAYERS = "convs.1:features.4,convs.3:features.7,convs.5:features.12"
# at 16 px: maps of 8 and 4 px in both
SMALL_LAYERS = "convs.1:convs.0,convs.3:convs.1"
STUDENT: dict[str, Any] = {"width": 12, "depth": 4, "pools": 2}


def _terms(
    layers: str,
    activations: float = 1.0,
    jacobian: float = 0.0,
    attention: float = 0.0,
    attention_jacobian: float = 0.0,
) -> dict[str, Any]:
    return {
        "activation_weight": activations,
        "jacobian_weight": jacobian,
        "attention_weight": attention,
        "attention_jacobian_weight": attention_jacobian,
        "layers": layers,
    }


def jacobian_transfer() -> KdConfig:
    """A VGG-9 learns 20 species of birds with a second head that follows an ImageNet SqueezeNet.

    What follows it: logits on the second head, attention maps, and the Jacobian of the largest
    pixel of these. The weights of the terms, the size of the images and the training are ours.
    """
    return KdConfig(
        recipe="jacobian-transfer",
        dataset="cub-20",
        size=64,
        augment=("flip",),
        method="lwf",
        method_args=_terms(LAYERS, 1.0, 0.0, 1.0, 0.3),
        net="vgg9",
        net_args={"width": 32, "norm": "none"},
        init="kaiming",
        epochs=60,
        batch=32,
        lr=5e-4,
        decay_epochs=25,
        decay_factor=0.2,
        teacher_net="torchvision",
        teacher_args={"model": "squeezenet1_0", "classes": 1000},
        teacher_weights="imagenet",
    )


def lwf_mnist5k() -> KdConfig:
    """A small net learns 10 MNIST digits a class, with a second head that follows a teacher of
    other digits; offline.

    The source is the 8-pixel set of scikit-learn, both sets at 16 px. The arm `finetuned` is a net
    of the student's kind, trained on the source and then on the digits. Nets, weights and epochs
    are ours; 120 steps at 5 and 50 images a class are --data-from random:5 --epochs 120 and
    --data-from random:50 --epochs 12.
    """
    return KdConfig(
        recipe="lwf-mnist5k",
        dataset="mnist5k",
        size=16,
        normalization="0.5/0.5",
        source="digits",
        data_from="random:10",
        method="lwf",
        method_args=_terms(SMALL_LAYERS, 1.0, 1.0, 1.0, 1.0),
        net="thin-cnn",
        net_args=STUDENT,
        init="kaiming",
        epochs=60,
        batch=50,
        lr=3e-3,
        teacher_net="wide-cnn",
        teacher_args={"width": 16},
        teacher_init="kaiming",
        teacher_epochs=15,
        teacher_batch=64,
        teacher_lr=2e-3,
    )


def lwf_source_parts() -> KdConfig:
    """The choice of source images: teachers see a sixth of USPS each, from the images nearest to
    MNIST's to the farthest, and each teaches a student on 10 MNIST digits a class.

    `kd-baselines bound` on the comparison of its arms tells whether the Lipschitz-Hausdorff bound
    orders them as the accuracy of the students does. Nets, weights and epochs are ours.
    """
    return lwf_mnist5k().with_changes(
        recipe="lwf-source-parts",
        source="usps",
        source_part=_part(0),
        method_args=_terms(SMALL_LAYERS, 1.0),
        teacher_epochs=8,
    )


PARTS = 6


def _part(number: int) -> tuple[float, float]:
    """The shares of a part of the source, from the nearest."""
    return (number / PARTS, (number + 1) / PARTS)


def _small(*weights: float) -> Arm:
    return Arm({"method_args": _terms(SMALL_LAYERS, *weights)})


PAGES = {
    "jacobian-transfer": Page(
        jacobian_transfer,
        NOT_VERIFIED,
        {
            "ce": Arm(HARD, NOT_VERIFIED),
            "ce+act": Arm({"method_args": _terms(LAYERS)}, NOT_VERIFIED),
            "ce+act+jac": Arm({"method_args": _terms(LAYERS, 1.0, 1.0)}, NOT_VERIFIED),
            "ce+act+att": Arm({"method_args": _terms(LAYERS, 1.0, 0.0, 1.0)}, NOT_VERIFIED),
            "all": Arm({"method_args": _terms(LAYERS, 1.0, 1.0, 1.0, 0.3)}, NOT_VERIFIED),
            "pretrained": Arm(
                {
                    **HARD,
                    "net": "torchvision",
                    "net_args": {"model": "squeezenet1_0"},
                    "init": "small",
                    "weights": "teacher",
                    "lr": 1e-4,
                },
                NOT_VERIFIED,
            ),
        },
    ),
    "lwf-mnist5k": Page(
        lwf_mnist5k,
        "-",
        {
            "ce": Arm(HARD),
            "ce+act": _small(1.0),
            "ce+act+jac": _small(1.0, 1.0),
            "ce+act+att": _small(1.0, 0.0, 1.0),
            "ce+act+att+attjac": _small(1.0, 0.0, 1.0, 1.0),
            "unbalanced": Arm(
                {"method_args": {**_terms(SMALL_LAYERS, 1.0, 1.0, 1.0, 1.0), "balanced": False}}
            ),
            "attention-jacobian": Arm(
                {
                    "method": "attention-jacobian",
                    "method_args": {"layers": SMALL_LAYERS, "attention_weight": 1.0},
                }
            ),
            "finetuned": Arm(
                {
                    **HARD,
                    "weights": "teacher",
                    "teacher_net": "thin-cnn",
                    "teacher_args": STUDENT,
                }
            ),
        },
    ),
    "lwf-source-parts": Page(
        lwf_source_parts,
        "-",
        {
            "ce": Arm({**HARD, "source_part": (0.0, 1.0)}),
            **{f"part-{n + 1}": Arm({"source_part": _part(n)}) for n in range(1, PARTS)},
        },
    ),
}
