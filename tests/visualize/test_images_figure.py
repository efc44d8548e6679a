"""The images figure shows every image once, in its place, and says what it is and what it leaves
out."""

import io
import itertools

import figure_sets
import numpy as np
import pytest
import torch
from figure_sets import distilled_set, texts
from PIL import Image

from datadistill.errors import UsageError
from datadistill.objectives import Attack
from datadistill.starts import Start
from datadistill.visualize import images_figure
from datadistill.visualize.canvas import png_bytes
from datadistill.visualize.describe import net_line


def heading(figure):
    return " ".join(text.get_text() for text in figure.texts)


def step_titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def rendered(figure):
    return np.asarray(Image.open(io.BytesIO(png_bytes(figure))).convert("RGB"))


def test_one_row_a_step_and_one_image_a_class():
    d = distilled_set(classes=4, ipc=6, steps=3, epochs=2)
    figure = images_figure(d)
    assert [len(ax.images) for ax in figure.axes] == [8, 8, 8]  # 24 images over 3 steps
    shown = [np.asarray(image.get_array()) for ax in figure.axes for image in ax.images]
    for array, pixels in zip(shown, d.pixels()[:, 0].numpy(), strict=True):
        np.testing.assert_array_equal(array, pixels)


def test_columns_are_classes_whatever_the_order():
    d = distilled_set(classes=4)
    d.order = [torch.tensor([2, 0, 3, 1])]
    (ax,) = images_figure(d).axes
    left = {tuple(np.asarray(im.get_array()).ravel()): im.get_extent()[0] for im in ax.images}
    columns = [left[tuple(p.flatten().numpy())] for p in d.pixels()]
    assert columns == sorted(columns) and len(set(columns)) == 4
    names = [t.get_text() for t in ax.texts]
    assert names == ["class 0", "class 1", "class 2", "class 3"]


def test_images_are_drawn_pixel_by_pixel_where_the_layout_says():
    d = distilled_set(classes=2, size=8)
    figure = images_figure(d)
    picture = rendered(figure)
    (ax,) = figure.axes
    for image, pixels in zip(ax.images, d.pixels()[:, 0].numpy(), strict=True):
        x_left, x_right, y_low, y_high = image.get_extent()
        x0, y0 = ax.transData.transform((x_left, y_low))
        x1, y1 = ax.transData.transform((x_right, y_high))
        left, top = round(x0), round(picture.shape[0] - max(y0, y1))
        width, height = round(abs(x1 - x0)), round(abs(y1 - y0))
        assert width % 8 == 0 and height % 8 == 0  # whole factors: no pixel wider than another
        cell = picture[top : top + height, left : left + width, 0]
        expected = np.kron(np.round(pixels * 255), np.ones((height // 8, width // 8)))
        assert np.abs(cell.astype(float) - expected).max() <= 2


def test_step_sizes_of_every_epoch_stand_above_the_row():
    d = distilled_set(classes=2, ipc=2, steps=2, epochs=3)
    d.step_sizes = torch.tensor([1.70, 0.5, 0.011, 0.25, 0.114, 0.125])
    assert step_titles(images_figure(d)) == [
        "step 1: η = 1.7, 0.011, 0.114 (epochs 1-3)",
        "step 2: η = 0.5, 0.25, 0.125 (epochs 1-3)",
    ]


def test_many_epochs_are_abbreviated():
    d = distilled_set(classes=2, epochs=50)
    d.step_sizes = torch.arange(1, 51).float()
    assert step_titles(images_figure(d)) == ["step 1: η = 1, 2, 3, …, 50 (epochs 1-50)"]


def test_step_sizes_of_tensors_are_shown_as_geometric_means():
    d = distilled_set(classes=2, tensors=2)
    d.step_sizes = torch.tensor([[0.01, 1.0]])
    assert step_titles(images_figure(d)) == ["step 1: η = 0.1 (geometric mean of 2 tensors)"]


def test_the_longest_line_above_a_step_is_not_cut():
    d = distilled_set(classes=2, ipc=10, steps=10, epochs=50, tensors=10)
    d.step_sizes = torch.full((500, 10), 1.2345e-05)
    assert step_titles(images_figure(d))[-1] == (
        "step 10: η = 1.23e-05, 1.23e-05, 1.23e-05, …, 1.23e-05 (epochs 1-50; geometric "
        "mean of 10 tensors)"
    )


def test_heading_says_what_it_is():
    measured = {
        "accuracy_mean": 94.12,
        "accuracy_std": 0.0,
        "nets": 1,
        "dataset": "mnist5k",
        "split": "test",
        "accuracy_before_mean": 11.3,
    }
    said = heading(images_figure(distilled_set(fixed=True, epochs=3, accuracies=measured)))
    assert "mnist5k-fixed: 4 images in 4 classes, 1 step × 3 epochs" in said
    assert "one fixed initialization (xavier) of mlp" in said
    assert figure_sets.ORIGIN["description"] in said
    assert "94.1 % on the test split of mnist5k (1 net, 11.3 % before training)" in said
    assert "Not all" not in said


def test_a_deviation_is_shown_where_one_was_measured():
    measured = {"test": {"accuracy_mean": 79.5, "accuracy_std": 8.1, "nets": 200}}
    said = heading(images_figure(distilled_set(accuracies=measured)))
    assert "random initializations" in said
    assert "79.5 ± 8.1 % on the test split of mnist5k (mean ± deviation over 200 nets)" in said
    assert "Accuracy" not in heading(images_figure(distilled_set()))


def test_soft_labels_show_class_and_probability():
    soft = torch.full((4, 4), 0.05) + 0.8 * torch.eye(4)
    figure = images_figure(distilled_set(soft=soft))
    assert [f"class {c}: 85 %" in texts(figure) for c in range(4)] == [True] * 4
    assert "class 0" in texts(figure)  # balanced: columns stay classes


def test_soft_labels_that_leave_a_class_out_are_shown_in_order():
    soft = torch.tensor([[0.1, 0.9], [0.2, 0.8]])
    d = distilled_set(classes=2, soft=soft)
    figure = images_figure(d)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), d.pixels()[0, 0].numpy())
    assert texts(figure).count("class 1: 90 %") == texts(figure).count("class 1: 80 %") == 1
    assert "class 0" not in texts(figure)


@pytest.mark.parametrize(
    ("channels", "size"), [(1, 8), (3, 8), (1, 28), (3, 32), (3, 96), (2, 16), (3, 130)]
)
def test_every_shape_fits(channels, size):
    figure = images_figure(distilled_set(classes=10, channels=channels, size=size))
    picture = rendered(figure)
    assert 900 <= picture.shape[1] <= 1600
    assert len(figure.axes[0].images) == 10
    assert ("mean of its channels" in heading(figure)) == (channels == 2)


@pytest.mark.parametrize(
    ("sizes", "shown", "words"),
    [
        ({"classes": 100}, 100, None),
        (
            {"classes": 100, "ipc": 20, "steps": 20},
            400,
            "the first 10 of 20 steps, the first 40 of 100 classes",
        ),
        ({"classes": 3, "ipc": 50}, 30, "up to 10 of the 50 images of a class"),
    ],
)
def test_large_sets_are_cut_and_it_is_said(sizes, shown, words):
    figure = images_figure(distilled_set(**sizes))
    assert sum(len(ax.images) for ax in figure.axes) == shown
    width, height = figure.get_size_inches() * figure.dpi
    assert width <= 1600 and height <= 3000
    if words is None:
        assert "Not all" not in heading(figure)
    else:
        total = sizes["classes"] * sizes["ipc"]
        assert words in heading(figure) and f"{shown} of {total:,} images in all" in heading(figure)


def test_limits_are_kept():
    d = distilled_set(classes=4, ipc=4, steps=4)
    figure = images_figure(d, max_steps=2, max_classes=3)
    assert [len(ax.images) for ax in figure.axes] == [3, 3]
    assert "the first 2 of 4 steps, the first 3 of 4 classes, 6 of 16 images in all" in heading(
        figure
    )
    with pytest.raises(UsageError, match="max_classes is 0"):
        images_figure(d, max_classes=0)


def test_no_text_leaves_the_figure_or_runs_into_its_neighbour():
    names = [f"{c:03d}.A_bird_with_a_very_long_name" for c in range(10)]
    d = distilled_set(
        classes=10,
        size=28,
        names=names,
        epochs=60,
        origin={"recipe": "r" * 300, "description": "d " * 900},
    )
    figure = images_figure(d)
    png_bytes(figure)
    renderer = figure.canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    (ax,) = figure.axes
    for text in [*figure.texts, *ax.texts, ax._left_title]:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text
    boxes = [text.get_window_extent(renderer) for text in ax.texts]
    assert len(boxes) == 10
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
    title = ax._left_title.get_window_extent(renderer)
    assert title.y0 >= max(box.y1 for box in boxes)
    assert title.y1 <= min(text.get_window_extent(renderer).y0 for text in figure.texts[:-1])


HOSTILE = [
    "$x^2",
    "$\\frac{",
    "<script>alert(1)</script>",
    "two\nlines",
    "n" * 300,
    "\x00",
    "a\u202eb",
    "100 %",
]


def test_hostile_names_are_shown_as_they_stand():
    origin = {"recipe": "$\\bad{", "description": "a $ and\nb", "dataset": "$3"}
    figure = images_figure(distilled_set(classes=8, names=HOSTILE, origin=origin))
    assert png_bytes(figure)[:8] == b"\x89PNG\r\n\x1a\n"
    found = texts(figure)
    assert {"$x^2", "$\\frac{", "two lines", "a b", "100 %"} <= set(found)
    assert any(text.startswith("nnn") and text.endswith("…") for text in found)
    assert "Data: a $ and b" in found
    assert all(text.isprintable() for text in found)


@pytest.mark.parametrize(
    "found", [{"test": 97.5}, {"test": {}, "x": None}, {"accuracy_mean": True}, {"a": 10**350}]
)
def test_accuracies_of_any_form_do_not_break_it(found):
    said = heading(images_figure(distilled_set(classes=2, accuracies=found)))
    assert ("97.5 % on the test split of mnist5k" in said) == (found == {"test": 97.5})
    assert said.count("Accuracy") == (found == {"test": 97.5})


@pytest.mark.parametrize(
    ("start", "objective", "words"),
    [
        (Start("pool", source="usps"), None, "Learned for any mlp pretrained on usps"),
        (Start("weights"), None, "mlp from its given values with a fresh last layer"),
        (
            Start("pool", source="mnist"),
            Attack(0, 1, 4),
            "Learned to make any mlp pretrained on mnist take class ",
        ),
    ],
)
def test_heading_says_what_nets_it_is_for(start, objective, words):
    d = distilled_set()
    d.start, d.objective = start, objective or d.objective
    assert words in net_line(d)
