"""A config says what is wrong with it before anything runs."""

import pytest

import datadistill as dd
from datadistill.config import RunOptions
from datadistill.errors import UsageError
from datadistill.recipes import RECIPES, recipe


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"theta_0": "rnadom"}, "theta_0 is 'rnadom'; did you mean random"),
        ({"labels": "Soft"}, "labels is 'Soft'; did you mean soft"),
        ({"schedule": "linaer"}, "did you mean linear"),
        ({"ipc": 0}, "ipc is 0, but it must be at least 1"),
        ({"ipc": 3, "steps": 2}, "does not divide into 2 steps"),
        ({"step_size": 0.0}, "step_size is 0.0, but it must be positive"),
        ({"step_size": -1.0}, "must be positive"),
        ({"beta2": 1.0}, "beta2 is 1.0"),
        ({"window": 3}, "a window goes with adjoint truncated"),
        ({"adjoint": "truncated", "window": 0}, "at least 1 step must be differentiated"),
        ({"dataset": "folder"}, "pass data=FOLDER"),
        ({"on_nan": "skip:x"}, "must be stop or skip:N"),
    ],
)
def test_refusals(changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        dd.DistillConfig(**changes)


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean lr_images"):
        dd.DistillConfig().with_changes(lr_image=0.1)


@pytest.mark.parametrize("text", ["0", "-5", "x", "0s", "nan"])
def test_checkpoint_every_refusals(text):
    with pytest.raises(UsageError, match="give iterations, such as 20, or seconds, such as 60s"):
        RunOptions(checkpoint_every=text)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_full_configs_of_their_own_name(name):
    config = recipe(name)
    assert config.recipe == name
    assert (
        RECIPES[name].summary.endswith(".")
        or ":" in RECIPES[name].summary
        or "FOLDER" in RECIPES[name].summary
    )
