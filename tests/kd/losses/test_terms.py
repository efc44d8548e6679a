"""Sums of terms by name, and arguments by the field's names and by older ones."""

import inspect

import pytest
import torch
from loss_cases import close, labels, logits, seen

import kd_baselines as kd
from kd_baselines import losses
from kd_baselines.losses import CE

TERMS = [
    t
    for t in vars(losses).values()
    if isinstance(t, type)
    and issubclass(t, losses.Term)
    and t is not losses.Term
    and t is not losses.GradientLog  # which trains nothing, and is named after its quantity
]


@pytest.mark.parametrize("term", TERMS)
def test_every_term_has_a_weight_and_a_name(term):
    assert {"weight", "name"} <= inspect.signature(term).parameters.keys()


SAME = [
    (kd.KD(temperature=2.0, weight=0.5), kd.KD(T=2.0, alpha=0.5), kd.KD(2.0, 0.5)),
    (
        kd.FitNetsKD(temperature=2.0, lam=0.5, student_temperature=1.0),
        kd.FitNetsKD(T=2.0, weight=0.5, student_T=1.0),
        kd.FitNetsKD(2.0, 0.5, 1.0),
    ),
    (kd.InputNoise(0.1, temperature=2.0), kd.InputNoise(0.1, T=2.0), kd.InputNoise(0.1, "kd", 2.0)),
]


@pytest.mark.parametrize("first, second, third", SAME)
def test_two_names_are_one_argument(first, second, third):
    def given(term):
        return {k: v for k, v in vars(term).items() if k in ("T", "student_T", "weight", "sigma")}

    assert given(first) == given(second) == given(third) and given(first)["T"] == 2.0


def test_the_sum_has_every_term_whatever_their_names():
    objective = CE(name="kd-2", weight=2.0) + CE(name="kd") + CE(name="kd", weight=3.0)
    assert list(objective.named_terms) == ["kd-2", "kd", "kd-3"]
    out = objective(seen(*logits()))
    close(out["loss"], 6 * out["kd"])


def test_values_are_reported_before_their_weights():
    z, v = logits()
    out = (CE(weight=0.1) + kd.KD(T=4.0, weight=0.9))(seen(z, v))
    close(out["kd"], losses.soft_target_loss(z, v, 4.0))
    close(out["loss"], 0.1 * torch.nn.functional.cross_entropy(z, labels()) + 0.9 * out["kd"])
