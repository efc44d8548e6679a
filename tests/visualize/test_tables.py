"""Figures of a reproduced table: what is measured and what is published is where it belongs."""

import pytest

from datadistill.errors import UsageError
from datadistill.visualize.canvas import png_bytes
from datadistill.visualize.tables import (
    Bar,
    BarPanel,
    Curve,
    CurvePanel,
    Number,
    Point,
    bars_figure,
    lines_figure,
)

BARS = [
    Bar("ours", Number(89.7, 1.4), Number(79.5, 8.1), ours=True),
    Bar("k-means", Number(78.0, 3.0), Number(76.4, 9.5)),
    Bar("by another paper", None, Number(96.7, 0.5)),
    Bar("read off", Number(60.0), Number(70.0, read_off=True)),
]
POINTS = [
    Point(1, Number(30.0, 5.0), Number(31.0, read_off=True)),
    Point(5, Number(60.0, 4.0)),
    Point(9, None),
]


def bars_of(ax):
    return [
        (round(patch.get_width(), 6), patch.get_y() + patch.get_height() / 2)
        for patch in ax.patches
    ]


def diamonds_of(ax):
    return [(float(line.get_xdata()[0]), line.get_markerfacecolor()) for line in ax.lines]


def test_bars_have_the_measured_lengths_from_zero():
    (ax,) = bars_figure("a", [BarPanel("MNIST", BARS)]).axes
    assert bars_of(ax) == [(89.7, 0.0), (78.0, 1.0), (60.0, 3.0)]
    assert {patch.get_x() for patch in ax.patches} == {0}
    assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()
    assert [t.get_text() for t in ax.get_yticklabels()] == [bar.label for bar in BARS]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top


def test_published_numbers_are_marked_and_hollow_if_read_off():
    (ax,) = bars_figure("a", [BarPanel("MNIST", BARS)]).axes
    found = diamonds_of(ax)
    assert [x for x, _ in found] == [79.5, 76.4, 96.7, 70.0]
    assert [face == "white" for _, face in found] == [False, False, False, True]


def test_numbers_stand_beside_the_bars():
    (ax,) = bars_figure("a", [BarPanel("MNIST", BARS)]).axes
    assert [t.get_text() for t in ax.texts] == [
        "89.7 ± 1.4  (published 79.5 ± 8.1)",
        "78.0 ± 3.0  (published 76.4 ± 9.5)",
        "not measured  (published 96.7 ± 0.5)",
        "60.0  (published ~70.0)",
    ]


def test_the_legend_says_what_is_there_and_nothing_else():
    def words(bars):
        figure = bars_figure("a", [BarPanel("x", bars)])
        return [t.get_text() for legend in figure.legends for t in legend.get_texts()]

    assert words(BARS) == ["ours", "others", "published", "published, read off a plot (± 2)"]
    assert words([Bar("ours", Number(1.0), ours=True)]) == ["ours"]
    assert words([Bar("k-means", Number(1.0), Number(2.0))]) == ["others", "published"]


def test_points_lie_where_they_were_measured():
    (ax,) = lines_figure("a", [CurvePanel("MNIST", "steps", [Curve("ours", POINTS)])]).axes
    line, diamond = ax.lines
    assert list(line.get_xdata()) == [1, 5] and list(line.get_ydata()) == [30.0, 60.0]
    assert (diamond.get_xdata()[0], diamond.get_ydata()[0]) == (1, 31.0)
    assert diamond.get_markerfacecolor() == "white"
    (band,) = ax.collections
    assert (
        band.get_paths()[0].get_extents().ymin == 25.0
        and band.get_paths()[0].get_extents().ymax == 64.0
    )


def test_panels_that_do_not_fill_a_row_leave_no_empty_axes():
    panel = CurvePanel("MNIST", "steps", [Curve("ours", POINTS)])
    axes = lines_figure("a", [panel] * 3).axes
    assert [ax.axison for ax in axes] == [True, True, True, False]


def test_the_same_numbers_give_the_same_bytes():
    panel = CurvePanel("MNIST", "steps", [Curve("ours", POINTS)])
    for draw in (
        lambda: bars_figure("a", [BarPanel("x", BARS)]),
        lambda: lines_figure("a", [panel]),
    ):
        assert png_bytes(draw()) == png_bytes(draw())


def test_more_rows_make_a_taller_figure_with_bars_as_thick():
    few, many = (bars_figure("a", [BarPanel("x", BARS[:1] * n)]) for n in (2, 12))
    few_high, many_high = (f.get_size_inches()[1] * 100 for f in (few, many))
    assert many_high - few_high == pytest.approx(10 * 30)


@pytest.mark.parametrize("draw", [bars_figure, lines_figure])
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(UsageError, match="measure one of its parts first"):
        draw("a", [])
