"""What is asked of a study: refusals in one table."""

import pytest

from datadistill.config import PoolConfig
from datadistill.config.choices import Arguments
from datadistill.errors import UsageError
from datadistill.studies.arguments import change_arms, dump_changes, list_seeds, select_arms

OWN = PoolConfig(net="mlp", net_args={"width": 8, "depth": 2})
ARMS = {
    "own": OWN,
    "wide": OWN.with_changes(net_args={"width": 32, "depth": 2}),
    "convnet": OWN.with_changes(net="convnet", net_args={"norm": "none"}),
}


def net_args(selected=("own",), **changes):
    found = change_arms(ARMS, "own", changes, selected)
    return {arm: config.net_args for arm, config in found.items()}


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
    (
        lambda: net_args(("wide", "convnet"), net_args=Arguments({"width": 4})),
        "net_args width changes no arm that is compared",
    ),
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


WIDE, CONVNET = ARMS["wide"].net_args, ARMS["convnet"].net_args


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"net_args": Arguments({"width": 4})}, ({"width": 4, "depth": 2}, WIDE, CONVNET)),
        ({"net_args": Arguments({}, ["depth"])}, ({"width": 8}, {"width": 32}, CONVNET)),
        ({"net_args": Arguments({})}, ({}, {}, CONVNET)),
        ({"net": "mlp"}, (OWN.net_args, WIDE, OWN.net_args)),
        ({"net": "lenet"}, ({}, {}, {})),
        ({"net": "convnet"}, ({}, {}, CONVNET)),
        ({"net": "lenet", "net_args": Arguments({"a": 1})}, ({"a": 1},) * 3),
        ({"net_args": {"width": 1}}, ({"width": 1},) * 3),
        ({"epochs": 2}, (OWN.net_args, WIDE, CONVNET)),
    ],
)
def test_arguments_go_to_arms_of_the_recipes_net_alone(changes, found):
    assert tuple(net_args(**changes).values()) == found


def test_arguments_that_were_taken_out_are_kept_as_typed():
    changes = {"net_args": Arguments({"width": 4}, ["depth"])}
    assert dump_changes(changes, PoolConfig) == {"net_args": {"width": 4, "depth": "-"}}
