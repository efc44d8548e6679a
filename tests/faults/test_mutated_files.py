"""Mutated files of every kind: none loads with other values, ends in a foreign exception or takes a
gigabyte.

DATADISTILL_MUTATIONS says how many files a loader; `python tests/faults/mutated_files.py 1000`
prints a table.
"""

import os

import pytest
from file_loaders import LOADERS, values
from mutated_files import peak, run

COUNT = int(os.environ.get("DATADISTILL_MUTATIONS", "24"))


@pytest.mark.parametrize("name", LOADERS)
def test_a_mutated_file_is_refused_or_equal(name):
    before = peak()
    figures = run(LOADERS[name], COUNT)
    assert figures.wrong == []
    assert figures.mutations == COUNT and figures.refused > COUNT // 3
    assert peak() - before < 500


@pytest.mark.parametrize("name", LOADERS)
def test_what_a_loader_gives_is_compared_by_value(name, tmp_path):
    LOADERS[name].make(tmp_path)
    once, again = (values(LOADERS[name].load(tmp_path)) for _ in range(2))
    assert once == again
    assert len(repr(once)) > 100  # it is no address and no name that is compared
