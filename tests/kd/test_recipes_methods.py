"""The table of all methods: one student, its images and its teacher, and every method an arm."""

import pytest
import torch

from datadistill.nets import build
from kd_baselines.methods import METHODS, has_teacher
from kd_baselines.nets import multiplications
from kd_baselines.recipes import page

METHODS_PAGE = page("methods-mnist5k")


def test_every_method_of_one_head_is_an_arm():
    used = {METHODS_PAGE.config(arm).method for arm in ("own", *METHODS_PAGE.arms)}
    assert used == {name for name, method in METHODS.items() if not method.two_headed}


@pytest.mark.parametrize("arm", METHODS_PAGE.arms)
def test_an_arm_differs_in_its_method_alone(arm):
    config, own = METHODS_PAGE.images(arm), METHODS_PAGE.images()
    same = {"arm": "own", "method": "plain", "method_args": {}}
    assert config.with_changes(**same) == own or arm == "labels-200"
    assert has_teacher(config.method) or arm in ("labels-200", "jacobian-norm", "mutual")


DEPTH = page("fitnets-depth-mnist5k")


def test_nets_of_the_small_study_of_depth_cost_the_same():
    counts = {}
    for arm in DEPTH.arms:
        args = DEPTH.config(arm).net_args
        with torch.device("meta"):
            net = build("thin-cnn", channels=1, size=14, classes=10, **args)
        counts[args["depth"]] = multiplications(net, (1, 14, 14))
    assert len(counts) == 4 and max(counts.values()) < 1.1 * min(counts.values())


def test_arms_of_the_small_study_have_as_many_epochs():
    for arm in ("own", *DEPTH.arms):
        config = DEPTH.images(arm)
        stages = str(config.method_args.get("guided", "")).count(",") + 1
        assert config.epochs + stages * config.method_args.get("hint_epochs", 0) == 42
