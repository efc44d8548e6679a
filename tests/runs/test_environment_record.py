"""The environment record: what bytes depend on, and nothing that identifies the user."""

import getpass
import json
import os
import socket

import pytest
import torch

from datadistill.errors import Unavailable
from datadistill.runs.canonical import canonical_json
from datadistill.runs.environment import environment, find_differences


def test_it_is_json_and_repeats():
    first = environment("cpu")
    assert json.loads(canonical_json(first)) == first == environment(torch.device("cpu"))
    assert first["versions"]["torch"] == torch.__version__
    assert first["threads"] == torch.get_num_threads()


def test_it_says_nothing_about_the_user():
    text = canonical_json(environment("cpu"))
    names = [socket.gethostname(), os.getcwd(), os.path.expanduser("~"), getpass.getuser()]
    assert not any(name in text for name in names if len(name) > 4)


def test_threads_and_flags_show_up_as_differences():
    before = environment("cpu")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        torch.backends.cudnn.benchmark = True
        after = environment("cpu")
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = False
    expected = ["cudnn_benchmark False -> True", f"threads {threads} -> {threads + 1}"]
    assert find_differences(before, after) == expected
    assert find_differences(before, environment("cpu")) == []


def test_versions_and_absent_entries_are_named():
    old = {"versions": {"torch": "2.14.0", "numpy": "2.4"}, "device": "cpu"}
    new = {"versions": {"torch": "2.15.0", "numpy": "2.4"}, "device": "cpu", "threads": 2}
    assert find_differences(old, new) == ["threads unknown -> 2", "torch 2.14.0 -> 2.15.0"]
    assert find_differences({}, {}) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_an_absent_device_is_named():
    with pytest.raises(Unavailable, match=r"device cuda:3 is not here \(0 CUDA devices\)"):
        environment("cuda:3")
