"""Methods by the seconds they learn."""

import pytest

from datadistill.errors import UsageError
from datadistill.visualize.tables import Number, PointPanel, points_figure

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


def test_nothing_learned_is_nothing_to_draw():
    with pytest.raises(UsageError, match="no row to draw"):
        points_figure("Methods", [PointPanel("MNIST", {}, {"real": Number(70.0)})])
