"""Real data that all tests of this folder share."""

import pytest

from datadistill.data import load


@pytest.fixture
def digits():
    return load("digits")
