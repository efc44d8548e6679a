"""Transfer from a net for other classes: Srinivas and Fleuret 2018, section 5,
https://arxiv.org/abs/1803.00443.

The paper goes from an ImageNet ResNet-34 to a VGG-9 on MIT Scenes. Here a SqueezeNet teaches on a
small set of photographs (--dataset names another).
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.recipe_page import HARD, NOT_VERIFIED, Arm, Page

# at 64 px: the student's maps of 16, 8 and 4 px, the teacher's of 14, 7 and 3
LAYERS = "convs.1:features.4,convs.3:features.7,convs.5:features.12"


def _terms(
    activations: float, jacobian: float, attention: float, attention_jacobian: float
) -> dict[str, Any]:
    return {
        "activation_weight": activations,
        "jacobian_weight": jacobian,
        "attention_weight": attention,
        "attention_jacobian_weight": attention_jacobian,
        "layers": LAYERS,
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
        method_args=_terms(0.01, 0.0, 1.0, 0.1),
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


PAGES = {
    "jacobian-transfer": Page(
        jacobian_transfer,
        NOT_VERIFIED,
        {
            "ce": Arm(HARD, NOT_VERIFIED),
            "ce+act": Arm({"method_args": _terms(0.01, 0.0, 0.0, 0.0)}, NOT_VERIFIED),
            "ce+act+jac": Arm({"method_args": _terms(0.01, 0.01, 0.0, 0.0)}, NOT_VERIFIED),
            "ce+act+att": Arm({"method_args": _terms(0.01, 0.0, 1.0, 0.0)}, NOT_VERIFIED),
            "all": Arm({"method_args": _terms(0.01, 0.01, 1.0, 0.1)}, NOT_VERIFIED),
            "pretrained": Arm(
                {
                    "method": "plain",
                    "method_args": {},
                    "net": "torchvision",
                    "net_args": {"model": "squeezenet1_0"},
                    "init": "small",
                    "weights": "imagenet",
                    "lr": 1e-4,
                },
                NOT_VERIFIED,
            ),
        },
    )
}
