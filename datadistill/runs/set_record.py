"""The record in a distilled set's file: its origin, and the accuracies measured on it.

Both are objects that readers look things up in by name. The names that are looked up are checked;
others may be there, and say what they like.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .content import Check, check_number, check_object, check_text, check_whole, optional

_percent: Check = partial(check_number, least=0, most=100)
_ORIGIN: dict[str, Check] = {
    **dict.fromkeys(("recipe", "dataset", "split", "description", "sha256"), optional(check_text)),
    **dict.fromkeys(("seed", "iterations"), optional(check_whole)),
}
_MEASURED: dict[str, Check] = {
    **dict.fromkeys(
        ("net", "dataset", "split", "description", "source", "protocol", "training", "init"),
        optional(check_text),
    ),
    **dict.fromkeys(("accuracy_mean", "accuracy_std"), _percent),
    **dict.fromkeys(
        ("accuracy_before_mean", "accuracy_before_std", "accuracy_plain"), optional(_percent)
    ),
    **dict.fromkeys(("nets", "images", "bytes", "bytes_theta_0", "epochs"), check_whole),
}


def check_origin(field: str, origin: Any) -> dict[str, Any]:
    """The origin of a set, where the names that are printed hold what they should."""
    found = check_object(field, origin)
    for name, check in _ORIGIN.items():
        check(f"{field}.{name}", found.get(name))
    return found


def check_accuracies(field: str, found: Any) -> dict[str, Any]:
    """The accuracies measured on a set (`Evaluation.as_dict()`, or such an object, or a number, by
    split), where they are percentages and their counts whole numbers."""
    found = check_object(field, found)
    for name, value in found.items():
        place = f"{field}.{name[:80]}"
        if name in _MEASURED:
            _MEASURED[name](place, value)
        elif (
            isinstance(value, dict) and name not in ("attack", "net_args") and field == "accuracies"
        ):
            check_accuracies(place, value)
        elif type(value) in (int, float) and name != "seed":
            _percent(place, value)
    return found
