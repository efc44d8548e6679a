"""Nets are checked before learning, where they train, and on the command line."""

import pytest
import torch
from checked_nets import (
    CONFIG,
    IMAGES,
    LABELS,
    Call,
    Recomputing,
    Untracked,
    bag,
    build,
    make,
    real,
    rounded,
)
from torch import nn

import datadistill as dd
from datadistill.cli.dispatch import main
from datadistill.errors import InexactGradients, UsageError


def learn(layer, **changes):
    config = dd.recipe("digits-random").with_changes(**CONFIG, **changes)
    return dd.distill(config, data=real(), net=lambda: build(layer))


@pytest.mark.parametrize("method", ["unrolled", "gradient-matching"])
def test_learning_with_an_approximate_layer_warns(method):
    with pytest.warns(
        InexactGradients, match=r"layer 2\.1 \(Call\): its gradient is not the derivative"
    ):
        learn(Call(rounded), method=method)


def test_learning_with_a_right_net_does_not(recwarn):
    learn(nn.ReLU())
    assert not [w for w in recwarn if issubclass(w.category, InexactGradients)]


def test_learning_without_a_second_derivative_is_refused():
    with pytest.raises(
        UsageError, match=r"layer 2\.1 \(Call\): embedding_bag: no second derivative"
    ):
        learn(Call(bag))


def test_doctor_checks_a_net(capsys):
    assert main(["doctor", "--net", "mlp", "--net-args", "width", "8", "--size", "8"]) == 0
    assert (
        "mlp: the hypergradient of two steps equals finite differences" in capsys.readouterr().out
    )


def test_doctor_fails_for_a_net_that_is_wrong(capsys, monkeypatch):
    from datadistill.nets import NETS

    monkeypatch.setitem(NETS, "mlp", lambda **_: make(Call(Untracked.apply)))
    assert main(["doctor", "--net", "mlp", "--size", "2", "--json"]) == 4
    found = capsys.readouterr().out
    assert '"path": "2.1"' in found and '"fault": "wrong"' in found


def test_doctor_wants_a_net_for_arguments(capsys):
    assert main(["doctor", "--net-args", "width", "8"]) == 2
    assert "name it with --net" in capsys.readouterr().err


def test_a_net_that_recomputes_is_refused_where_it_trains():
    net = make(Recomputing)
    theta_0 = {name: p.detach() for name, p in net.named_parameters()}
    pairs, sizes = [(IMAGES, LABELS)] * 2, torch.full((2,), 0.1)
    for start in (theta_0, {name: torch.stack([p, p]) for name, p in theta_0.items()}):
        with pytest.raises(UsageError, match=r"runs 2\.1\.body again in its backward pass"):
            dd.unroll(net, start, pairs, sizes)
    plain = make(nn.Tanh)
    theta_0 = {name: p.detach() for name, p in plain.named_parameters()}
    assert dd.unroll(plain, theta_0, pairs, sizes)
