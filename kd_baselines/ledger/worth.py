"""Numbers of images that cost as many bytes as something else."""

from __future__ import annotations

import math

from datadistill.errors import UsageError
from kd_baselines.ledger.image_storage import IMAGE_STORAGE, width

__all__ = ["images_a_class_worth"]


def images_a_class_worth(
    bytes: int,
    image_shape: tuple[int, ...],
    storage: str = "uint8",
    *,
    classes: int,
    labels: str | None = None,
) -> int:
    """The number of images a class from which on it is not cheaper to send images: the smallest m
    with

        m K (pixels + label) + range >= bytes

    Args:
        bytes: of the other thing (a net's weights, say), 0 or more.
        image_shape: (C,H,W).
        storage: "uint8", with the 8 bytes of its range, or "float32".
        classes: K.
        labels: None counts none; "hard" 1 or 2 bytes an image; "soft" 4 K.

    Example:
        >>> # ConvNet-D3-128, CIFAR-10
        >>> images_a_class_worth(1_280_040, (3, 32, 32), "uint8", classes=10)
        42
    """
    if storage not in IMAGE_STORAGE or labels not in (None, "hard", "soft"):
        raise UsageError(
            f"storage is {storage!r} and labels {labels!r}; wanted uint8 or float32, and "
            "None, hard or soft"
        )
    if bytes < 0 or classes < 1 or len(image_shape) != 3 or min(image_shape) < 1:
        raise UsageError(
            f"{bytes} bytes against images {image_shape} of {classes} classes; wanted 0 or more, "
            "three sizes (C, H, W), and 1 or more"
        )
    label = {None: 0, "hard": width(classes), "soft": 4 * classes}[labels]
    a_class = classes * (math.prod(image_shape) * IMAGE_STORAGE[storage].itemsize + label)
    return max(0, -(-(bytes - (8 if storage == "uint8" else 0)) // a_class))
