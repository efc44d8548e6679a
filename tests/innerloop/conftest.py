"""Puts the independent witnesses (tests/oracles) within reach of this folder's tests."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
