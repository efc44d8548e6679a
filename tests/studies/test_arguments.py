"""What is asked of a study: refusals in one table."""

import pytest

from datadistill.config import PoolConfig
from datadistill.errors import UsageError
from datadistill.studies.arguments import dump_changes, list_seeds, select_arms

REFUSALS = [
    (lambda: list_seeds(0), "seeds is 0; give how many, 1 or more"),
    (lambda: list_seeds([]), r"seeds is \[\]"),
    (lambda: list_seeds((1, 1)), r"seeds is \(1, 1\)"),
    (
        lambda: select_arms(["hart"], ["own", "hard"], "tiny"),
        "tiny has no arm 'hart'; did you mean hard",
    ),
    (lambda: dump_changes({"epoch": 3}, PoolConfig), "no field 'epoch'; did you mean epochs"),
    (lambda: dump_changes({"epochs": 0}, PoolConfig), "epochs is 0"),
]


@pytest.mark.parametrize(("call", "said"), REFUSALS)
def test_refusals(call, said):
    with pytest.raises(UsageError, match=said):
        call()


def test_arms_keep_the_order_of_the_recipe():
    assert select_arms(["hard", "own"], ["own", "logits", "hard"], "tiny") == ["own", "hard"]
    assert select_arms(None, ["own", "hard"], "tiny") == ["own", "hard"]


def test_the_device_is_no_change():
    assert dump_changes({"epochs": 3, "device": "cpu"}, PoolConfig) == {"epochs": 3}
