"""Methods by the seconds they learn."""

from itertools import pairwise

import pytest
from matplotlib.text import Text

from datadistill.errors import UsageError
from datadistill.visualize.points import PointPanel, points_figure
from datadistill.visualize.tables import Number

PANEL = PointPanel(
    "MNIST",
    {"DM": (120.0, Number(94.0, 0.3)), "DC": (3000.0, Number(91.0))},
    {"real": Number(70.0)},
)


def test_labels_stay_inside_the_figure_and_ticks_are_numbers():
    figure = points_figure("Methods", [PANEL, PANEL])
    figure.draw_without_rendering()
    inside = figure.bbox
    for ax in figure.axes:
        texts = [t.get_window_extent() for t in ax.texts]
        assert len(texts) == 3
        assert all(inside.x0 <= t.x0 and t.x1 <= inside.x1 for t in texts)
        assert not any("$" in tick.get_text() for tick in ax.get_xticklabels())


def test_labels_of_equal_methods_lie_apart():
    points = {f"method {n}": (100.0 + n, Number(87.0 + n / 10, 0.5)) for n in range(6)}
    figure = points_figure("Methods", [PointPanel("MNIST", points, {"real": Number(87.2)})])
    figure.draw_without_rendering()
    words = figure.axes[0].texts  # without their lines
    boxes = sorted((Text.get_window_extent(t) for t in words), key=lambda t: t.y0)
    assert len(boxes) == 7
    assert all(above.y0 >= below.y1 for below, above in pairwise(boxes))


def test_nothing_learned_is_nothing_to_draw():
    with pytest.raises(UsageError, match="no row to draw"):
        points_figure("Methods", [PointPanel("MNIST", {}, {"real": Number(70.0)})])
