"""The step size to begin with, where a run does not say one."""

import pytest
import torch
from training_cases import config

import datadistill as dd
from datadistill.config import RunOptions
from datadistill.errors import NumericalError
from datadistill.training.first_step_size import BATCHES, TRIED, find_first_step_size
from datadistill.training.learning_from_config import learning_of


def loop(digits, **changes):
    changes = {"images_from": "mean", **changes}
    return learning_of(config(**changes), RunOptions(), digits, None).loop


def test_it_is_the_best_of_the_grid(digits):
    losses = {}
    for eta in TRIED:
        studied = loop(digits, step_size=eta)
        found = [float(studied.method.loss(studied.synthetic, i)) for i in range(BATCHES)]
        losses[eta] = sum(found)
    chosen = loop(digits, step_size=None).synthetic.step_sizes()
    best = min(losses, key=losses.get)
    assert torch.allclose(chosen, torch.full_like(chosen, best))
    assert losses[best] < losses[TRIED[0]]


def test_it_is_the_same_again_after_a_stop(digits, tmp_path):
    straight = dd.distill(config(step_size=None), data=digits)
    dd.distill(config(step_size=None), data=digits, out=tmp_path / "run")
    (tmp_path / "run/distilled.safetensors").unlink()
    again = dd.distill(None, data=digits, out=tmp_path / "run", resume=True)
    assert torch.equal(again.images, straight.images)


def test_without_a_finite_loss_it_is_refused(digits):
    studied = loop(digits)
    studied.method.loss = lambda synthetic, iteration: torch.tensor(torch.inf)
    with pytest.raises(NumericalError, match="no step size from 3e-05 to 1 gives a finite loss"):
        find_first_step_size(lambda eta: studied.synthetic, studied.method)
