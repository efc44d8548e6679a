"""A small recipe and small images, for the tests of generations."""

import torch

from datadistill.data import RealData
from kd_baselines import born_again_generations
from kd_baselines.config import KdConfig
from kd_baselines.recipes import Arm, Page

TINY = KdConfig(
    recipe="tiny",
    dataset="digits",
    method="soft-targets",
    net_args={"width": 6},
    epochs=2,
    batch=16,
    lr=0.02,
    teacher_args={"width": 10},
    teacher_epochs=3,
    teacher_batch=20,
    teacher_lr=0.03,
)


def own():
    """A small chain, of the images below."""
    return TINY.with_changes(dataset="custom")


PAGE = Page(
    own,
    "7 (a paper)",
    {
        "hard": Arm({"method": "plain"}),
        "logits": Arm({"method": "logits", "epochs": 1}),
        "wide": Arm({"teacher_args": {"width": 12}, "epochs": 1}),
    },
)
G = torch.Generator().manual_seed(0)
LABELS = torch.arange(60) % 3
IMAGES, TESTED = (
    0.7 * torch.rand(n, 1, 4, 4, generator=G) + 0.1 * LABELS[:n].view(-1, 1, 1, 1) for n in (60, 45)
)
DATA = RealData.from_tensors(
    IMAGES, LABELS, test_images=TESTED, test_labels=LABELS[:45], classes=("a", "b", "c")
)


def born_again(out, page=PAGE, **options):
    return born_again_generations(page, out=out, **{"data": DATA, "arms": ("own",), **options})
