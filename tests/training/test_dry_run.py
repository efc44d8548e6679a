"""A dry run: what a distillation would work with, found without writing anything."""

import json
import math

import pytest
from training_cases import CONVNET, config, loop

from datadistill import dry_run
from datadistill.cli import main
from datadistill.errors import NumericalError, UsageError

SMALL = ["digits-random", "--batch", "16", "--nets", "1", "--device", "cpu"]


@pytest.mark.parametrize(
    ("changes", "steps", "differentiated"),
    [
        ({"ipc": 2, "epochs": 3}, 3, 3),
        ({"ipc": 2, "minibatch": 8, "epochs": 4, "window": 2, "horizon": "random"}, 12, 2),
        ({"epochs": 3, "adjoint": "truncated", "window": 2}, 3, 2),
        ({**CONVNET, "method": "distribution-matching"}, 2, 0),
    ],
)
def test_it_finds_what_the_run_works_with(digits, changes, steps, differentiated):
    found, learning = dry_run(config(**changes), data=digits), loop(digits, **changes)
    assert found.loss == learning.advance() and math.isfinite(found.loss)
    d = learning.snapshot()
    assert (found.images, found.set_bytes) == (tuple(d.images.shape), d.bytes)
    assert (found.steps, found.differentiated_steps, found.iterations) == (steps, differentiated, 3)
    assert (found.real_images, found.validation_images) == (1294, 144)
    assert found.parameters == sum(p.numel() for p in learning.net.parameters())
    assert found.memory is None or found.memory > found.set_bytes


def test_it_refuses_what_the_run_would(digits):
    with pytest.raises(UsageError, match="is longer than the training"):
        dry_run(config(window=9, horizon="random"), data=digits)
    with pytest.raises(NumericalError, match="outer iteration 0: loss nan"):
        dry_run(config(step_size=1e30), data=digits)
    with pytest.raises(UsageError, match="wanted a DistillConfig"):
        dry_run(None)


def test_the_command_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", *SMALL, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "10 images 1x8x8" in said and "10 steps" in said and "the first of 400: loss" in said
    assert said.endswith(
        f"nothing of the run was written\nnext: datadistill distill {' '.join(SMALL)}\n"
    )
    assert main(["distill", *SMALL, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"] == "digits-random" and found["images"] == [10, 1, 8, 8]
    assert main(["distill", *SMALL, "--dry-run", "--step-size", "1e30"]) == 4
    passed_over = ["--dry_run", "--json", "--step-size", "1e30", "--on-nan", "skip:3"]
    capsys.readouterr()
    assert main(["distill", *SMALL, *passed_over]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] is None
    assert main(["distill", *SMALL, "--dry-run", "--net-args", "widht", "3"]) == 2
    assert not list(tmp_path.iterdir())


def test_a_run_that_has_begun_is_not_tried(tmp_path, capsys):
    few = ["--iterations", "1", "--epochs", "1", "--validate-nets", "1"]
    few += ["--no-evaluate", "--no-figures", "--quiet"]
    assert main(["distill", *SMALL, *few, "--out", str(tmp_path / "run")]) == 0
    assert main(["distill", "--resume", str(tmp_path / "run"), "--dry-run"]) == 2
    assert "leave --dry-run out to resume it" in capsys.readouterr().err
    assert main(["distill", *SMALL, "--out", str(tmp_path / "run"), "--dry-run"]) == 2
