"""RepDistiller's recipes: its settings, layers that fit, its table."""

import json

import pytest
import torch

from datadistill.nets import build
from datadistill.runs.jsonconfig import build_config, dump_config
from datadistill.training.fit_plan import FitPlan
from kd_baselines.config import KdConfig
from kd_baselines.features import Reading, run
from kd_baselines.losses.hints import Regressor
from kd_baselines.methods import stages_of
from kd_baselines.recipes import RECIPES, page, recipe
from kd_baselines.recipes.repdistiller import COLUMNS, HINTED, PUBLISHED

PAIRS = [pytest.param(*pair, id="-".join(pair)) for pair in PUBLISHED]
QUICK = [pair for pair in PUBLISHED if pair[0] != "resnet110"]  # it has resnet56's layers


def test_a_recipe_is_trained_as_published():
    config = recipe("repdistiller-resnet32x4-resnet8x4")
    assert (config.epochs, config.batch, config.lr, config.weight_decay) == (240, 64, 0.05, 5e-4)
    assert [FitPlan.of(config).factor(e) for e in (149, 150, 180, 210)] == pytest.approx(
        [1, 0.1, 0.01, 0.001]
    )
    for field in ("epochs", "batch", "lr", "weight_decay", "milestones", "augment", "init"):
        assert getattr(config, field) == getattr(config, f"teacher_{field}"), field
    assert recipe("repdistiller-vgg13-MobileNetV2").lr == 0.01


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_every_arm_has_its_number_and_survives_its_file(teacher, student):
    name = f"repdistiller-{teacher}-{student}"
    numbers = dict(zip(COLUMNS, PUBLISHED[teacher, student], strict=True))
    assert page(name).published.startswith(f"{numbers['kd']:.2f}, teacher {numbers['teacher']:.2f}")
    for arm in RECIPES[name].arms:
        assert page(name).published_of(arm) == f"{numbers[arm]:.2f} (Tian et al. 2020)"
        config = recipe(name, arm)
        assert (config.net, config.teacher_net) == (student, teacher)
        stored = json.loads(json.dumps(dump_config(config)))
        assert build_config(KdConfig, stored, "config.json") == config


@pytest.mark.parametrize(("teacher", "student"), QUICK)
def test_layers_exist_and_fit(teacher, student):
    name = f"repdistiller-{teacher}-{student}"
    configs = {arm: recipe(name, arm) for arm in RECIPES[name].arms}
    read = {"student": set(), "teacher": set()}
    for config in configs.values():
        (stage,) = stages_of(config.method, FitPlan(epochs=240), config.method_args)
        read["student"] |= stage.objective.needs.student_features
        found = stage.objective.needs.teacher_features
        read["teacher"] |= {one.layer if isinstance(one, Reading) else one for one in found}
    outputs = {}
    for side, net in (("student", student), ("teacher", teacher)):
        with torch.device("meta"):
            built = build(net, channels=3, size=32, classes=100).eval()
            outputs[side] = run(built, torch.empty(2, 3, 32, 32), sorted(read[side])).features
    hint = configs["attention"].method_args["layers"].split(",")[1].split(":")
    guided, hinted = outputs["student"][hint[0]], outputs["teacher"][hint[1]]
    assert hinted[0].numel() == HINTED[teacher]
    assert ("hint" in configs) == (guided.shape[2] >= hinted.shape[2])
    if "hint" in configs:
        Regressor(guided.shape[1:], hinted.shape[1:])
        assert configs["hint"].method_args["hint_weight"] * HINTED[teacher] / 2 == 100
