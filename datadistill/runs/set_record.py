"""What a distilled set's file records besides the set: where it came from, and what was measured on it.

Both are objects that readers look things up in by name. The names that are looked up are checked; others may be
there, and say what they like.
"""

from __future__ import annotations

from typing import Any

from ..errors import DataError
from .content import check_number, check_text, check_whole, shown

_ORIGIN_TEXTS = ("recipe", "dataset", "split", "description", "source", "pool", "weights", "sha256")
_TEXTS = ("net", "dataset", "split", "description", "source")
_PERCENT = ("accuracy_mean", "accuracy_std", "accuracy_before_mean", "accuracy_before_std", "accuracy_plain")
_COUNTS = ("nets", "images", "bytes", "bytes_theta_0")


def check_origin(origin: Any, classes: int) -> None:
    """Refuse an origin that cannot be told.

    Args:
        origin: recipe, seed, data set and so on, by name.
        classes: of the set.

    Raises:
        DataError: with the name.
    """
    if not isinstance(origin, dict) or not all(isinstance(name, str) for name in origin):
        raise DataError(f"origin is {shown(origin)}, wanted an object: what the set came from, by name")
    for name in _ORIGIN_TEXTS:
        check_text(f"origin.{name}", origin.get(name), optional=True)
    for name in ("seed", "iterations"):
        if origin.get(name) is not None:
            check_whole(f"origin.{name}", origin[name])
    for name in ("validation", "holdout"):
        check_number(f"origin.{name}", origin.get(name), 0, optional=True)
    if type(origin.get("skip_bad", False)) is not bool:
        raise DataError(f"origin.skip_bad is {shown(origin['skip_bad'])}, wanted true or false")
    pair = origin.get("attack")
    if pair is not None and not _is_pair(pair, classes):
        raise DataError(f"origin.attack is {shown(pair)}, wanted two different classes within 0..{classes - 1}")


def check_accuracies(found: Any, where: str = "accuracies") -> None:
    """Refuse accuracies that are none.

    Args:
        found: `Evaluation.as_dict()`, or such an object, or a number, by split.
        where: its name.

    Raises:
        DataError: with the name.
    """
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise DataError(f"{where} is {shown(found)}, wanted an object: what was measured, by name")
    for name, value in found.items():
        place = f"{where}.{name[:80]}"
        if name in _PERCENT:
            check_number(place, value, 0, 100, optional=name == "accuracy_plain")
        elif name in _COUNTS:
            check_whole(place, value)
        elif name in _TEXTS:
            check_text(place, value, optional=True)
        elif isinstance(value, dict) and name != "attack" and where == "accuracies":
            check_accuracies(value, place)
        elif type(value) in (int, float) and name != "seed":
            check_number(place, value, 0, 100)


def _is_pair(pair: Any, classes: int) -> bool:
    return (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(type(k) is int and 0 <= k < classes for k in pair)
        and pair[0] != pair[1]
    )
