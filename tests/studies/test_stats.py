"""Mean, deviation and intervals against numpy and scipy."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from datadistill.errors import UsageError
from datadistill.stats import deviation, mean, mean_interval, paired_difference

VALUES = np.random.default_rng(0).uniform(0, 100, (2, 10))


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_intervals_are_those_of_the_t_test(n, level):
    a, b = VALUES[:, :n]
    of_mean, of_difference = (
        mean_interval(a.tolist(), level),
        paired_difference(a.tolist(), b.tolist(), level),
    )
    for found, wanted in ((of_mean, ttest_1samp(a, 0)), (of_difference, ttest_rel(a, b))):
        bounds = wanted.confidence_interval(level)
        assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high), rel=1e-10)
    assert of_difference.mean == pytest.approx((a - b).mean(), rel=1e-12)
    back = paired_difference(b.tolist(), a.tolist(), level)
    assert (back.low, back.high) == pytest.approx((-of_difference.high, -of_difference.low))


@pytest.mark.parametrize("n", [1, 2, 10])
def test_mean_and_deviation_are_numpys(n):
    values = VALUES[0, :n]
    assert mean(values.tolist()) == pytest.approx(values.mean(), rel=1e-14)
    assert deviation(values.tolist()) == pytest.approx(values.std(), rel=1e-12)


def test_equal_differences_give_a_point_and_one_none():
    found = paired_difference([3.0, 4.0, 5.0], [1.0, 2.0, 3.0])
    assert (found.mean, found.low, found.high) == (2.0, 2.0, 2.0)
    one = paired_difference([3.0], [1.0])
    assert (one.mean, one.low, one.high) == (2.0, None, None) and str(one) == "+2.00"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: paired_difference([], []), "0 and 0 scores are no pairs"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "1 and 2 scores are no pairs"),
        (lambda: paired_difference([1.0, 2.0], [1.0, 2.0], 1.0), "level is 1.0"),
        (lambda: mean_interval([]), "no values"),
    ],
)
def test_refusals(call, said):
    with pytest.raises(UsageError, match=said):
        call()
