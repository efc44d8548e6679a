"""The ablations of Wang et al. 2018, figures 4 and 5: how many steps, epochs, and images a step.

The paper's own form: plain gradient descent inside, hard labels, one step size for each step,
images from noise, random initializations.

Reference: https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from typing import Any

from datadistill.config import DistillConfig
from datadistill.errors import UsageError, suggest

_DATASETS: dict[str, dict[str, Any]] = {
    "mnist": {"net": "lenet", "batch": 256, "nets": 4},
    "cifar10": {
        "net": "alexcifarnet",
        "batch": 1024,
        "nets": 4,
        "augment": ("crop", "flip"),
        "step_size": 0.001,
    },
}


def _ablation(recipe: str, dataset: str, **changes: Any) -> DistillConfig:
    if dataset not in _DATASETS:
        raise UsageError(
            f"the ablations have no data set {dataset!r}; {suggest(dataset, _DATASETS)}"
        )
    settings: dict[str, Any] = {
        "init": "xavier",
        "theta_0": "random",
        "iterations": 4000,
        "lr_images": 0.01,
        "lr_step_sizes": 0.01,
        "validate_every": 200,
    }
    return DistillConfig(
        recipe=recipe, dataset=dataset, **{**settings, **_DATASETS[dataset], **changes}
    )


def figure4(steps: int = 10, epochs: int = 2, dataset: str = "mnist") -> DistillConfig:
    """Figure 4: `steps` gradient steps of one image per class each, `epochs` times.

    Figure 4a varies the steps at 2 epochs (1, 5, 10, 20, 30), figure 4b the epochs at 10 steps (1
    to 5).
    """
    name = f"{dataset}-steps-{steps}-epochs-{epochs}"
    return _ablation(name, dataset, ipc=steps, steps=steps, epochs=epochs)


def figure5(
    images_per_class: int = 10, in_one_step: bool = False, dataset: str = "mnist"
) -> DistillConfig:
    """Figure 5: N images per class, in N steps of one each or all in one step; 1 epoch."""
    steps = 1 if in_one_step else images_per_class
    name = f"{dataset}-images-{images_per_class}-steps-{steps}"
    return _ablation(name, dataset, ipc=images_per_class, steps=steps, epochs=1)
