"""The CIFAR-10 recipes of every method, in miniature: images in colour of 16 px, whitened where a
recipe says so, by short runs of narrow nets."""

import math

import pytest
import torch

import datadistill as dd
from datadistill.config import RunOptions
from datadistill.data import RealData
from datadistill.recipes import RECIPES, recipe
from datadistill.recipes.pools import pool_recipe
from datadistill.training.learning_from_config import learning_of

NAMES = [f"cifar10-{method}-ipc10" for method in ("rat", "dc", "dsa", "dm", "mtt", "frepo")]
NAMES.append("cifar10-tesla-ipc1")
SHORT = {
    "rat": {"epochs": 3, "window": 2, "batch": 40, "validate_every": 1},
    "mtt": {"method_args": {"steps": 2, "expert_epochs": 1, "max_start": 1}},
    "frepo": {"method_args": {"pool_size": 2, "max_age": 4}, "batch": 40},
}
SHORT["tesla"] = SHORT["mtt"]


def pictures(normalization):
    """Ten classes of 100 pictures in colour: a grating of its own direction, and noise."""
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(1000) % 10
    angle = math.pi * labels / 10
    along = torch.linspace(0, 6, 16)
    phase = angle.cos()[:, None, None] * along[:, None] + angle.sin()[:, None, None] * along
    noise = torch.rand(1000, 3, 16, 16, generator=draws)
    images = (0.25 + 0.25 * phase.sin())[:, None] + 0.5 * noise
    chosen = None if normalization == "auto" else normalization
    return RealData.from_tensors(
        images, labels, test_images=images[:40], test_labels=labels[:40], normalization=chosen
    )


@pytest.mark.filterwarnings(
    "ignore:.*hardly better than chance", "ignore:.*fewer images", "ignore:.*ZCA"
)
@pytest.mark.parametrize("name", NAMES)
def test_in_miniature(name):
    method = name.split("-")[1]
    config = recipe(name)
    narrow = {"net_args": {**config.net_args, "width": 4}, "device": "cpu"}
    changes = {"epochs": 2, "batch": 8, **SHORT.get(method, {})}
    short = config.with_changes(**narrow, **changes, iterations=1, validate_nets=1)
    data = pictures(config.normalization)
    experts = None
    if (page := RECIPES[name].experts) is not None:
        experts = dd.pretrain(pool_recipe(page).with_changes(**narrow, nets=1, epochs=2), data=data)
    studied = learning_of(short, RunOptions(), data, None, None, experts)
    before = studied.loop.synthetic.images().detach().clone()
    studied.advance()
    d = studied.snapshot()
    assert d.images.shape == (10 * config.ipc, 3, 16, 16) and d.normalization == data.normalization
    assert d.images.isfinite().all() and not torch.equal(d.images, before)
    net = d.train(seed=0)
    assert net(data.test.images).isfinite().all()
