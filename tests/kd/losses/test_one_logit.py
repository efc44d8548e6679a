"""Losses of probabilities refuse one logit a sample, whose softmax is always 1."""

import pytest
import torch
from torch import nn

import datadistill as dd
import kd_baselines as kd
from datadistill.data import Split
from datadistill.errors import UsageError
from kd_baselines import losses

Z, V, Y = torch.randn(4, 1), torch.randn(4, 1), torch.tensor([0, 1, 0, 1])
SPLIT = Split(torch.rand(4, 1, 2, 2), Y)


def one(width=1):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, width))


def step(objective, labels=Y):
    return kd.Distiller(one(), objective, kd.Teacher(one())).step((SPLIT.images, labels))


def unroll(net):
    return dd.unroll(net, dict(net.named_parameters()), [(SPLIT.images, Y)], torch.ones(1))


REFUSED = {
    "soft targets": lambda: losses.soft_target_loss(Z, V, 4.0),
    "fitnets": lambda: losses.fitnets_kd_loss(Z, V, Y, 3.0, 1.0),
    "born again": lambda: losses.born_again_loss(Z, V),
    "gradient parts": lambda: losses.gradient_parts(Z, V, Y),
    "cwtm": lambda: losses.cwtm_loss(Z, V, Y),
    "cwtm weights": lambda: losses.cwtm_weights(V),
    "input noise": lambda: losses.input_noise_loss(one(), one(), SPLIT.images, 0.1),
    "jacobian": lambda: losses.jacobian_matching_loss(one(), one(), SPLIT.images, form="cross-entropy"),
    "jacobian norm": lambda: losses.jacobian_norm_penalty(one(), SPLIT.images, form="fisher"),
    "CE": lambda: step(kd.CE()),
    "CE, float labels": lambda: step(kd.CE(), Y[:, None].float()),
    "KD": lambda: step(kd.KD()),
    "FitNetsKD": lambda: step(kd.FitNetsKD()),
    "BornAgain": lambda: step(kd.BornAgain()),
    "CWTM": lambda: step(kd.CWTM()),
    "DKPP": lambda: step(kd.DKPP()),
    "InputNoise": lambda: step(kd.InputNoise(0.1)),
    "JacobianMatching": lambda: step(kd.JacobianMatching(form="cross-entropy")),
    "JacobianNorm": lambda: step(kd.JacobianNorm(form="cross-entropy")),
    "LogitRegression": lambda: step(kd.LogitRegression(standardize=True)),
    "kd.fit": lambda: kd.fit(one(), SPLIT, kd.Stage("s", kd.CE(), dd.FitPlan(epochs=1))),
    "dd.fit": lambda: dd.fit(one(), SPLIT, dd.FitPlan(epochs=1)),
    "dd.unroll": lambda: unroll(one()),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_one_logit_is_refused(call):
    with pytest.raises(UsageError, match=r"makes one logit an image, .* two"):
        call()


def test_a_logit_is_regressed_without_a_softmax():
    loss = losses.logit_regression_loss(Z, V)
    torch.testing.assert_close(loss, (Z - V).square().mean() / 2)


def test_the_pair_of_the_sentence_is_the_sigmoid():
    net = one()
    two = nn.Sequential(net, nn.ConstantPad1d((1, 0), 0.0))
    wanted = nn.functional.binary_cross_entropy_with_logits(net(SPLIT.images)[:, 0], Y.float())
    torch.testing.assert_close(nn.functional.cross_entropy(two(SPLIT.images), Y), wanted)
