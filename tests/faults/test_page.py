"""docs/faults.md names tests that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"


@pytest.mark.skipif(not PAGE.exists(), reason="the tests are elsewhere than the page")
def test_every_test_that_the_page_names_is_there():
    page = PAGE.read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) >= len(re.findall(r"^\| \d", page, re.M)) > 40
    assert [n for file, n in named if f"\ndef {n}(" not in (ROOT / file).read_text()] == []
