"""Choices that a method or an optimizer does not read are said."""

import pytest

from datadistill.config import DistillConfig
from datadistill.recipes import RECIPES, recipe
from datadistill.training.before_learning import describe_unused

UNREAD = {
    "decays of sgd": (
        {"optimizer": "sgd", "beta1": 0.5, "beta2": 0.9},
        "the optimizer sgd has no decays, so beta1 0.5 and beta2 0.9 do nothing",
    ),
    "momentum of lamb": (
        {"optimizer": "lamb", "momentum": 0.9},
        "the optimizer lamb has no momentum, so momentum 0.9 does nothing",
    ),
    "nets of a linear method": (
        {"method": "ridge-regression", "nets": 2},
        "the method ridge-regression draws no nets, so nets 2 does nothing",
    ),
    "a window is read by an adjoint": (
        {
            "method": "trajectory-matching",
            "theta_0": "random",
            "adjoint": "truncated",
            "window": 5,
        },
        None,
    ),
    "what is read": (
        {"optimizer": "sgd", "momentum": 0.9, "nets": 2, "adjoint": "step-replay"},
        None,
    ),
}


@pytest.mark.parametrize(("changes", "said"), UNREAD.values(), ids=UNREAD.keys())
def test_what_is_not_read_is_said(changes, said):
    assert describe_unused(DistillConfig(**changes)) == said


def test_no_recipe_has_a_choice_that_does_nothing():
    configs = [recipe(name) for name in RECIPES]
    assert not [c.recipe for c in configs if describe_unused(c)]
