"""The paper's figure: one row of class images a step, with the learned step sizes above it.

Rows are the steps of an epoch, columns the classes; several images of a class in one step go below
each other. Images are shown through `DistilledDataset.pixels()`, each scaled to its own range,
because learned pixels are not bounded. All geometry is in pixels, and small images are enlarged by
whole factors.

Reference: Wang et al., Dataset Distillation, 2018, Figures 2 and 3,
https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.features import FeatureNormalization
from datadistill.visualize import describe
from datadistill.visualize.canvas import (
    GREY,
    MAX_WIDTH,
    MIN_WIDTH,
    ORANGE,
    clean,
    new_figure,
    own_style,
    shorten,
    wrap,
)

MAX_STEPS, MAX_ROWS, MAX_DEPTH, MAX_COLUMNS = 10, 20, 10, 20
MARGIN, GAP, NAME_SIZE = 20, 6, 9.0
TITLE_HEIGHT, NAME_HEIGHT, LABEL_HEIGHT, STEP_GAP = 24, 18, 18, 14  # pixels
SMALLEST, LARGEST = 64, 96  # width of an image


@dataclass(frozen=True)
class Layout:
    """The images shown and their places, in pixels."""

    steps: int  # shown
    classes: int  # shown; columns stand for classes where by_class
    columns: int
    blocks: int  # of columns, below each other, where the classes do not fit side by side
    depth: int  # images of a class (rows of images, where not by_class) in a step
    by_class: bool
    width: int  # of an image
    height: int
    label_height: int  # below each image

    @property
    def grid_width(self) -> int:
        return self.columns * (self.width + GAP) - GAP

    @property
    def row_height(self) -> int:
        return self.height + self.label_height + GAP

    def block_height(self, named: bool) -> int:
        return self.depth * self.row_height + (NAME_HEIGHT if named else 0)

    def has_names(self, step: int) -> bool:
        """Whether class names stand above the columns of a step."""
        return self.by_class and (step == 0 or self.blocks > 1)


@own_style()
def images_figure(
    distilled: DistilledDataset, *, max_steps: int | None = None, max_classes: int | None = None
) -> Figure:
    """Show the images of a distilled set, step by step, with class names and step sizes.

    Soft labels stand below their images: the most probable class and its probability. Where those
    do not give every class equally many images in a step, images are shown in their order instead
    of by class. What is left out to keep the figure readable is said in its heading.

    Args:
        distilled: the set, any number of channels (other than 3 are shown as their mean).
        max_steps: how many steps to show; 10 by default.
        max_classes: how many classes to show, by class; as many as fit 20 rows of images by
            default.

    Example:
        `images_figure(DistilledDataset.load("runs/mnist5k-fixed-s0"))` in a notebook shows it.
    """
    if isinstance(distilled.normalization, FeatureNormalization):
        raise UsageError(
            f"the set's images are {distilled.normalization}, of which no picture can be drawn"
        )
    for name, value in (("max_steps", max_steps), ("max_classes", max_classes)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}, but at least 1 must be shown")
    steps = describe.steps_an_epoch(distilled)
    top, probability = describe.top_classes(distilled)
    order = [index.tolist() for index in distilled.schedule.batches]
    layout = _layout(distilled, order, top, probability is not None, max_steps, max_classes)
    placed = [_place_blocks(layout, index, top) for index in order[: layout.steps]]
    shown = len({image for one in placed for image, *_ in one})

    width = max(MIN_WIDTH, layout.grid_width + 2 * MARGIN)
    heading = _heading(distilled, layout, order, shown, top, width - 2 * MARGIN)
    heights = [
        layout.blocks * layout.block_height(layout.has_names(s)) - GAP for s in range(layout.steps)
    ]
    y = MARGIN + sum(line_height for *_, line_height in heading) + 6
    caption = 30
    total = y + sum(height + TITLE_HEIGHT + STEP_GAP for height in heights) + caption
    figure = new_figure(width, total)
    _write_heading(figure, heading, width, total)

    pixels = _for_display(distilled)
    sizes = describe.mean_step_sizes(distilled)
    for s, height in enumerate(heights):
        y += TITLE_HEIGHT
        box = (MARGIN / width, 1 - (y + height) / total, layout.grid_width / width, height / total)
        ax = figure.add_axes(box)
        ax.set_axis_off()
        _draw(ax, layout, s, placed[s], pixels, distilled.classes, top, probability)
        ax.set(xlim=(0, layout.grid_width), ylim=(height, 0))
        line = describe.step_line(distilled, s, steps, sizes)
        ax.set_title(shorten(line, width - 2 * MARGIN, 10.5), loc="left", fontsize=10.5, pad=4)
        y += height + STEP_GAP
    grey = "" if distilled.images.shape[1] in (1, 3) else ", the mean of its channels"
    note = f"Each image is scaled to its own range{grey}: learned pixel values are not bounded."
    figure.text(MARGIN / width, (MARGIN - 4) / total, note, fontsize=8.5, color=GREY, va="bottom")
    return figure


def _layout(
    d: DistilledDataset,
    order: list[list[int]],
    top: list[int],
    has_probabilities: bool,
    max_steps: int | None,
    max_classes: int | None,
) -> Layout:
    _, _, h, w = d.images.shape
    k, shown_steps = len(d.classes), min(len(order), max_steps or MAX_STEPS)
    counts = [Counter(top[i] for i in index) for index in order]
    equal = all(len(c) == k and len(set(c.values())) == 1 for c in counts)
    by_class = equal or not d.labels.is_floating_point()
    room = MAX_WIDTH - 2 * MARGIN + GAP
    fit = min(MAX_COLUMNS, room // (min(max(w, SMALLEST), LARGEST) + GAP))
    cap = max(1, min(MAX_DEPTH, MAX_ROWS // shown_steps))
    if by_class:
        depth = min(max(max(c.values()) for c in counts), cap)
        most = max(1, MAX_ROWS // (shown_steps * depth)) * fit
        classes = min(k, max_classes or most)
        blocks = -(-classes // fit)
        columns = -(-classes // blocks)
    else:
        longest = max(len(index) for index in order)
        classes, blocks, columns = k, 1, min(longest, 10, fit)
        depth = min(-(-longest // columns), cap)
    target = min(room // columns - GAP, LARGEST)
    width = target // w * w if w <= target else target
    label = LABEL_HEIGHT if has_probabilities else 0
    return Layout(
        shown_steps, classes, columns, blocks, depth, by_class, width, round(width * h / w), label
    )


def _place_blocks(
    layout: Layout, index: list[int], top: list[int]
) -> list[tuple[int, int, int, int]]:
    """(image, block, row in the block, column) of every image of a step that is shown."""
    if not layout.by_class:
        room = layout.columns * layout.depth
        return [(i, 0, *divmod(n, layout.columns)) for n, i in enumerate(index[:room])]
    seen: Counter[int] = Counter()
    found = []
    for i in index:
        block, column = divmod(top[i], layout.columns)
        if top[i] < layout.classes and seen[top[i]] < layout.depth:
            found.append((i, block, seen[top[i]], column))
        seen[top[i]] += 1
    return found


def _draw(
    ax: Axes,
    layout: Layout,
    step: int,
    placed: list[tuple[int, int, int, int]],
    pixels: np.ndarray,
    classes: tuple[str, ...],
    top: list[int],
    probability: list[float] | None,
) -> None:
    named = layout.has_names(step)
    pitch, block_height = layout.width + GAP, layout.block_height(named)
    for image, block, row, column in placed:
        x = column * pitch
        y = block * block_height + (NAME_HEIGHT if named else 0) + row * layout.row_height
        shrunk = pixels.shape[2] > layout.width
        ax.imshow(
            pixels[image],
            cmap="gray",
            vmin=0,
            vmax=1,
            aspect="auto",
            interpolation="antialiased" if shrunk else "nearest",
            extent=(x, x + layout.width, y + layout.height, y),
        )
        if probability is not None:
            share = f": {100 * probability[image]:.0f} %"
            name = shorten(clean(classes[top[image]], 60) + share, pitch, NAME_SIZE - 1)
            if not name.endswith("%"):  # the probability is what must not be cut off
                name = shorten(clean(classes[top[image]], 60), pitch - 34, NAME_SIZE - 1) + share
            middle = (x + layout.width / 2, y + layout.height + 3)
            ax.text(*middle, name, ha="center", va="top", fontsize=NAME_SIZE - 1, color=GREY)
    for c in range(layout.classes if named else 0):
        block, column = divmod(c, layout.columns)
        at = (column * pitch + layout.width / 2, block * block_height + NAME_HEIGHT - 4)
        name = shorten(clean(classes[c], 60) or "?", pitch, NAME_SIZE)
        ax.text(*at, name, ha="center", va="baseline", fontsize=NAME_SIZE)


def _heading(
    d: DistilledDataset,
    layout: Layout,
    order: list[list[int]],
    shown: int,
    top: list[int],
    width: int,
) -> list[tuple[str, float, str, str, int]]:
    """Lines of (text, points, weight, colour, height in pixels)."""
    lines = [
        (line, 12.0, "bold", "black", 24)
        for line in wrap(describe.title(d, len(order)), width, 12, 2, "bold")
    ]
    normal = [describe.net_line(d), describe.data_line(d), describe.accuracy_line(d)]
    for text in normal:
        lines += (
            [(line, 9.5, "normal", "black", 18) for line in wrap(text, width, 9.5, 3)]
            if text
            else []
        )
    used = len({i for index in order[: layout.steps] for i in index})
    left_out = []
    if layout.steps < len(order):
        left_out.append(f"the first {layout.steps} of {len(order):,} steps")
    if layout.by_class and layout.classes < len(d.classes):
        left_out.append(f"the first {layout.classes} of {len(d.classes)} classes")
    most = max(max(Counter(top[i] for i in index).values()) for index in order)
    if layout.by_class and layout.depth < most:
        left_out.append(f"up to {layout.depth} of the {most} images of a class in a step")
    if left_out or shown < used:
        text = (
            "Not all is shown: "
            f"{', '.join([*left_out, f'{shown:,} of {len(d.images):,} images in all'])}"
        )
        lines += [(line, 9.5, "normal", ORANGE, 18) for line in wrap(text, width, 9.5, 2)]
    return lines


def _write_heading(
    figure: Figure, lines: list[tuple[str, float, str, str, int]], width: int, total: int
) -> None:
    y = MARGIN
    for text, size, weight, colour, height in lines:
        figure.text(
            MARGIN / width,
            1 - y / total,
            text,
            fontsize=size,
            weight=weight,
            color=colour,
            va="top",
        )
        y += height


def _for_display(d: DistilledDataset) -> np.ndarray:
    """(N, H, W) or (N, H, W, 3) in 0..1."""
    pixels = d.pixels().detach().float().cpu()
    if pixels.shape[1] == 3:
        return pixels.permute(0, 2, 3, 1).numpy()
    return pixels.mean(dim=1).numpy()
