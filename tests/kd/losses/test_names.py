"""Arguments of terms by the field's names, and by older ones."""

import inspect

import pytest

import kd_baselines as kd
from datadistill.errors import UsageError
from kd_baselines import losses

TERMS = [
    t
    for t in vars(losses).values()
    if isinstance(t, type) and issubclass(t, losses.Term) and t is not losses.Term
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


@pytest.mark.parametrize(
    "call",
    [
        lambda: kd.KD(3.0, T=4.0),
        lambda: kd.KD(weight=0.5, alpha=0.9),
        lambda: kd.FitNetsKD(lam=2.0, weight=3.0),
    ],
)
def test_two_values_of_one_argument_are_refused(call):
    with pytest.raises(UsageError, match="two names of one number"):
        call()
