"""Canonical JSON: equal values have equal texts, and only plain JSON is read."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datadistill.runs.canonical import canonical_json, parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read_back_exactly(value):
    text = canonical_json(value)
    assert text.isascii()
    assert repr(parse_json(text)) == repr(json.loads(text))
    assert parse_json(text.encode()) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_show(value):
    backwards = dict(reversed(value.items()))
    assert canonical_json(value) == canonical_json(backwards)
    assert canonical_json(value, indent=2) == canonical_json(backwards, indent=2)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_are_refused_by_place(number):
    with pytest.raises(ValueError, match=r"^a\.b\[1\] is "):
        canonical_json({"a": {"b": [0.0, number]}})


def test_keys_that_json_would_change_are_refused():
    with pytest.raises(TypeError, match="the key 1 of a is no string"):
        canonical_json({"a": {1: 2}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "'a' appears twice"),
        ('[{"b": {"c": 1, "c": 1}}]', "'c' appears twice"),
        ("NaN", "NaN is not a finite number"),
        ("[-Infinity]", "-Infinity is not a finite number"),
        ("1e999", "1e999 is not a finite number"),
        ("9" * 5000, "5000 digits"),
        ("[" * 200_000, "nested too deeply"),
        ("[" * 102 + "]" * 102, "nested too deeply"),
        ("{'a': 1}", "not valid JSON"),
        ("", "not valid JSON"),
        ("{} {}", "not valid JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
    ],
)
def test_anything_but_plain_json_is_refused_in_one_sentence(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(text)
    assert "\n" not in str(caught.value)
