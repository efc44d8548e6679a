"""The examples in the docstrings of both packages run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ("datadistill", "kd_baselines")


def modules():
    for package in map(importlib.import_module, PACKAGES):
        yield package.__name__
        for found in pkgutil.walk_packages(
            package.__path__, package.__name__ + ".", onerror=lambda name: None
        ):
            if not found.name.endswith("__main__"):
                yield found.name


@pytest.mark.parametrize("name", sorted(modules()))
def test_examples_run(name, request, tmp_path, monkeypatch):
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    failed, attempted = doctest.testmod(
        module,
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
        extraglobs={"getfixture": request.getfixturevalue},
        verbose=False,
    )
    assert failed == 0, f"{failed} of {attempted} examples of {name} fail; their output is above"


def test_there_are_examples():
    core = importlib.import_module("datadistill.innerloop.unroll")
    assert any(test.examples for test in doctest.DocTestFinder().find(core))
