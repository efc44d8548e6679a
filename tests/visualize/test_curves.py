"""Curves show what metrics.jsonl holds, and refuse what it cannot hold."""

import math

import numpy as np
import pytest
import torch
from figure_sets import distilled_set, metrics

from datadistill.errors import DataError, UsageError
from datadistill.visualize import curves_figure, step_sizes_figure
from datadistill.visualize.canvas import png_bytes


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def data(line):
    return [float(x) for x in line.get_xdata()], [float(y) for y in line.get_ydata()]


def test_loss_accuracy_and_gradient_norm_over_iterations():
    figure = curves_figure(metrics())
    loss, accuracy, norm = (data(ax.lines[0]) for ax in figure.axes)
    assert loss[0] == accuracy[0] == norm[0] == [100, 200, 300, 400]
    assert loss[1][0] == 2.0 and math.isnan(loss[1][1])  # a gap, not a zero
    assert accuracy[1] == [60.0, 65.0, 70.0, 75.0]
    assert titles(figure) == [
        "Outer loss: last and lowest 0.5",
        "Validation accuracy: last and best 75.0 %; band: ± deviation over nets",
        "Norm of the outer gradient (running mean)",
    ]


def test_the_best_is_named_where_it_was():
    records = metrics()
    records[2]["accuracy"] = 90.0
    assert titles(curves_figure(records))[1].startswith(
        "Validation accuracy: last 75.0 %, best 90.0 % (iteration 300)"
    )


def test_the_band_is_the_deviation_cut_to_percent():
    records = metrics()
    records[-1] |= {"accuracy": 99.0, "accuracy_std": 5.0}
    (band,) = curves_figure(records).axes[1].collections
    corners = band.get_paths()[0].vertices
    assert {tuple(v) for v in corners} >= {
        (100.0, 58.0),
        (100.0, 62.0),
        (400.0, 94.0),
        (400.0, 100.0),
    }


def test_no_band_without_deviation_and_no_panel_without_norm():
    records = [r | {"accuracy_std": 0.0, "gradient_norm": None} for r in metrics()]
    figure = curves_figure(records)
    assert len(figure.axes) == 2 and not figure.axes[1].collections
    assert "band" not in titles(figure)[1]


def test_skipped_iterations_are_said():
    records = metrics()
    records[-1]["skipped"] = 3
    assert "3 iterations skipped as not finite" in titles(curves_figure(records))[0]


@pytest.mark.parametrize("count", [1, 2, 300])
def test_losses_that_are_all_none(count):
    figure = curves_figure([r | {"loss": None} for r in metrics(count)])
    assert [t.get_text() for t in figure.axes[0].texts] == ["no loss was recorded"]
    assert png_bytes(figure)


def test_one_record_is_a_visible_point():
    figure = curves_figure(metrics(1))
    assert all(ax.lines[0].get_marker() == "o" for ax in figure.axes)
    assert list(figure.axes[-1].get_xticks()) == [100]


@pytest.mark.parametrize(
    "change",
    [
        {"iteration": None},
        {"iteration": 1.5},
        {"loss": "0.5"},
        {"accuracy": [1]},
        {"loss": 10**350},
    ],
)
def test_records_of_another_kind_are_refused(change):
    with pytest.raises(DataError, match=f"record 1 of the metrics has {next(iter(change))}"):
        curves_figure([metrics()[0], metrics()[1] | change])


def test_no_record_is_refused():
    with pytest.raises(UsageError, match="no record"):
        curves_figure([])


# --- step sizes


def test_one_line_a_step_on_a_logarithmic_axis():
    lines, final = step_sizes_figure(metrics(T=3)).axes
    assert lines.get_yscale() == final.get_yscale() == "log"
    assert [line.get_label() for line in lines.lines] == ["step 1", "step 2", "step 3"]
    assert data(lines.lines[2])[1] == pytest.approx([0.06, 0.12, 0.18, 0.24])
    assert len({str(line.get_color()) for line in lines.lines}) == 3
    assert lines.get_legend() is not None
    assert np.allclose(final.collections[0].get_offsets(), [(1, 0.08), (2, 0.16), (3, 0.24)])


def test_many_steps_get_a_colour_bar_instead_of_a_legend():
    figure = step_sizes_figure(metrics(T=11))
    assert len(figure.axes) == 3
    assert figure.axes[0].get_legend() is None and len(figure.axes[0].lines) == 11


def test_equal_step_sizes_are_one_line():
    records = [r | {"step_sizes": [0.1 * (i + 1)] * 5} for i, r in enumerate(metrics())]
    lines = step_sizes_figure(records).axes[0].lines
    assert [line.get_label() for line in lines] == ["all 5 steps"]


def test_the_final_step_sizes_are_the_set_s():
    d = distilled_set(classes=2, ipc=2, steps=2, epochs=3)
    figure = step_sizes_figure([], d)
    (ax,) = figure.axes
    assert np.allclose(ax.collections[0].get_offsets()[:, 1], d.step_sizes)
    assert [t.get_text() for t in ax.texts] == ["epoch 1", "epoch 2", "epoch 3"]


def test_step_sizes_of_each_tensor_show_mean_and_range():
    d = distilled_set(classes=2, tensors=3)
    d.step_sizes = torch.tensor([[0.01, 0.1, 1.0]])
    (ax,) = step_sizes_figure([], d).axes
    ranges, points = ax.collections
    assert np.allclose(points.get_offsets(), [(1, 0.1)])
    assert np.allclose(ranges.get_segments()[0], [(1, 0.01), (1, 1.0)])
    assert ax.get_ylabel() == "η: geometric mean and range over 3 tensors"


def test_step_sizes_that_are_zero_leave_a_gap():
    records = [r | {"step_sizes": [0.0, 0.0]} for r in metrics()]
    assert png_bytes(step_sizes_figure(records))
    assert all(math.isnan(y) for y in data(step_sizes_figure(records).axes[0].lines[0])[1])


@pytest.mark.parametrize("wrong", [None, [], [0.1], [0.1, "a", 0.2], 3])
def test_step_sizes_that_do_not_fit_are_refused(wrong):
    records = metrics()
    records[2]["step_sizes"] = wrong
    with pytest.raises(
        DataError, match=r"record 2 of the metrics has step_sizes .*a list of 3 numbers"
    ):
        step_sizes_figure(records)


def test_nothing_to_show_is_refused():
    with pytest.raises(UsageError, match="neither metrics nor a distilled set"):
        step_sizes_figure([])
