"""Students of a function's values and derivatives at few points."""

import pytest
import torch

from datadistill.errors import UsageError
from kd_baselines.studies.derivatives_plot import derivatives_figure, fit_curves, teach


def test_errors_are_the_distances_on_the_grid():
    found = fit_curves(points=3, seeds=2, steps=1)
    gaps = found.curves["values"] - teach(found.grid).T
    assert found.curves["values"].shape == (2, len(found.grid))
    assert found.errors("values") == pytest.approx(gaps.square().mean(1).sqrt().tolist())
    again = fit_curves(points=3, seeds=2, steps=1)
    assert all(torch.equal(found.curves[way], again.curves[way]) for way in found.curves)


def test_derivatives_of_few_points_are_learned():
    found = fit_curves(points=5, seeds=1, steps=150)
    (values,), (both,) = found.errors("values"), found.errors("values and derivatives")
    assert both < values


def test_the_figure_has_a_panel_for_each_way():
    figure = derivatives_figure(fit_curves(points=3, seeds=2, steps=1))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [title.split(":")[0] for title in titles] == [
        "values",
        "noise on inputs",
        "values and derivatives",
    ]
    assert all("±" in title for title in titles)


@pytest.mark.parametrize("bad", [{"points": 1}, {"seeds": 0}, {"steps": 0}])
def test_fewer_than_enough_are_refused(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        fit_curves(**bad)
