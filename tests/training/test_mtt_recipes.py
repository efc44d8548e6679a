"""The recipes of trajectory matching and of their experts: they fit each other, and run."""

import json
from dataclasses import replace

import pytest
import torch

import datadistill as dd
from datadistill.cli import main
from datadistill.innerloop import step_sizes
from datadistill.recipes import RECIPES, recipe
from datadistill.recipes.field import DATA
from datadistill.recipes.mtt import rate_of_rho
from datadistill.recipes.pools import POOLS, pool_recipe

FOLLOWERS = {name: page.experts for name, page in RECIPES.items() if page.experts}
FULL = [f"{data}-experts" for data in DATA]


def test_there_is_one_for_each_data_set_and_size():
    wanted = {f"{data}-mtt-ipc{ipc}" for data in DATA for ipc in (1, 10, 50)}
    assert wanted | {"mnist5k-mtt", "mnist-mtt-cpu", "cifar10-tesla-ipc1"} == set(FOLLOWERS)
    assert {name for name in POOLS if "experts" in name} == set(FOLLOWERS.values())


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_recipe_fits_its_experts(name):
    config, experts = recipe(name), pool_recipe(FOLLOWERS[name])
    for field in ("dataset", "size", "channels", "validation", "normalization", "net", "net_args"):
        assert getattr(config, field) == getattr(experts, field), field
    assert (config.init, config.seed) == (experts.init, experts.seed)
    arguments = config.method_args
    assert arguments["max_start"] - 1 + arguments["expert_epochs"] <= experts.epochs
    assert config.step_sizes == "shared"
    assert experts.keep == "every-epoch" and experts.momentum == 0 and experts.optimizer == "sgd"
    if FOLLOWERS[name] in FULL:
        assert config.augment_synthetic == experts.augment


def test_the_settings_are_those_of_the_command_lines():
    found = {ipc: recipe(f"cifar10-mtt-ipc{ipc}") for ipc in (1, 10, 50)}
    assert [(c.method_args["steps"], c.method_args["max_start"]) for c in found.values()] == [
        (50, 2),
        (30, 20),
        (30, 40),
    ]
    assert [(c.lr_images, c.step_size) for c in found.values()] == [
        (100.0, 0.01),
        (100.0, 0.001),
        (1000.0, 0.01),
    ]
    for config in found.values():
        assert (config.optimizer, config.momentum, config.clip) == ("sgd", 0.5, 0)
        assert (config.schedule, config.iterations, config.adjoint) == ("constant", 5000, "full")
    full = [pool_recipe(name) for name in FULL]
    assert all((c.nets, c.epochs, c.lr, c.batch) == (100, 50, 0.01, 256) for c in full)


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.5])
def test_a_step_on_rho_moves_alpha_as_one_on_alpha_would(alpha):
    rate, slope = 1e-7, 3.0  # dL/dalpha
    rho = step_sizes.init("shared", alpha, 1, 1).double().requires_grad_()
    (slope * torch.nn.functional.softplus(rho)).backward()
    moved = torch.nn.functional.softplus(rho - rate_of_rho(rate, alpha) * rho.grad).item()
    start = torch.nn.functional.softplus(rho).item()
    assert moved - start == pytest.approx(-rate * slope, rel=1e-2)


# --- in miniature

SMALL = {"dataset": "digits", "net_args": {"depth": 2, "width": 4}, "device": "cpu"}


@pytest.mark.filterwarnings("ignore:.*hardly better than chance", "ignore:.*flips digits")
@pytest.mark.parametrize("name", [n for n in FOLLOWERS if "ipc" not in n or "cifar10" in n])
def test_in_miniature(name, digits):
    experts = pool_recipe(FOLLOWERS[name]).with_changes(**SMALL, nets=1, epochs=2, batch=500)
    kind = experts.normalization
    data = digits if kind == "auto" else dd.load("digits", normalization=kind)
    pool = dd.pretrain(experts, data=data)
    ipc = recipe(name).ipc + 1
    config = recipe(name).with_changes(**SMALL, ipc=ipc, iterations=1, epochs=2, validate_nets=1)
    arguments = {"steps": 2, "expert_epochs": 1, "max_start": 2}
    d = dd.distill(replace(config, method_args=arguments), data=data, experts=pool)
    assert len(d.images) == d.schedule.minibatch == 10 * ipc
    assert d.origin["experts"] == pool.fingerprint


TINY = ["--net-args", "width", "4", "--size", "8", "--validation", "3000"]


@pytest.mark.filterwarnings("ignore:.*hardly better than chance")
def test_by_command_line(tmp_path, capsys):
    experts, out = str(tmp_path / "experts"), str(tmp_path / "run")
    sizes = ["--nets", "1", "--epochs", "4", "--batch", "250"]
    assert main(["pretrain", "mnist5k-experts", *TINY, *sizes, "--out", experts]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"--experts {experts} (RECIPE: mnist5k-mtt)" in said
    learn = ["distill", "mnist5k-mtt", *TINY, "--experts", experts, "--iterations", "2"]
    test = ["--nets-tested", "1", "--plain-nets", "0", "--epochs", "2", "--no-figures", "--json"]
    unused = ["--batch", "64", "--augment", "crop"]
    assert main([*learn, *test, *unused, "--out", out]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["recipe"] == "mnist5k-mtt" and found["images"] == 10
    said = " ".join(shown.err.split())
    assert "takes no batches of real images, so batch 64 and augment crop do nothing" in said


# --- what is said


def test_recipes_show_the_commands(capsys):
    assert main(["recipes", "cifar10-mtt-ipc1"]) == 0
    said = capsys.readouterr().out
    assert "first: datadistill pretrain cifar10-experts\n" in said
    assert "datadistill distill cifar10-mtt-ipc1 --experts runs/cifar10-experts-s0" in said
    assert "lead a ConvNet" in said and "46.2 ± 0.8" in said and "partial" not in said
    assert main(["recipes", "cifar10-experts"]) == 0
    assert "next: datadistill pretrain cifar10-experts\n" in capsys.readouterr().out


def test_missing_experts_are_named(capsys):
    assert main(["distill", "mnist5k-mtt"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "type datadistill pretrain mnist5k-experts first, and pass --experts" in said
