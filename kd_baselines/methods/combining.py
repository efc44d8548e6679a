"""Helpers of the methods: sums of terms, and pairs of layers as texts."""

from __future__ import annotations

from datadistill.errors import UsageError
from kd_baselines.losses.schedules import Linear
from kd_baselines.losses.term import Objective, Term

__all__ = ["layer_lists", "layer_pairs", "require_layer", "sum_terms"]


def sum_terms(*terms: Term) -> Objective:
    """The sum of the terms whose weight is not 0, so that nothing is computed for the others."""
    kept = [term for term in terms if _is_ever_weighted(term)]
    if not kept:
        names = ", ".join(term.name for term in terms)
        raise UsageError(
            f"every weight ({names}) is 0, so there is nothing to minimize; give one above 0"
        )
    return Objective(*kept)


def _is_ever_weighted(term: Term) -> bool:
    weight = term.weight
    return any((weight.start, weight.end)) if isinstance(weight, Linear) else weight != 0


def layer_pairs(text: str) -> dict[str, str]:
    """Layers of the student and of the teacher, from the text "student:teacher,student:teacher".

    A name alone means the same name in both. With "=" between the two, a name may hold a colon:
    "fc:in" is the input of a layer (`kd_baselines.features`).

    Example:
        >>> layer_pairs("group1:group1, group2:group4,group3")
        {'group1': 'group1', 'group2': 'group4', 'group3': 'group3'}
        >>> layer_pairs("classifier:in=fc:in")
        {'classifier:in': 'fc:in'}
    """
    found: dict[str, str] = {}
    for pair in str(text).split(","):
        sides = [side.strip() for side in pair.split("=" if "=" in pair else ":")]
        student, teacher = sides if len(sides) == 2 else (sides[0], sides[0])
        if len(sides) > 2 or not student or not teacher:
            raise UsageError(
                f"layers is {text!r}; wanted pairs student:teacher with commas between, "
                "such as group1:group1,group2:group2"
            )
        if student in found:
            raise UsageError(
                f"layers is {text!r} and names the student's {student} twice; name it once"
            )
        found[student] = teacher
    return found


def require_layer(argument: str, name: str, of: str) -> str:
    """The name of a layer, where a method cannot do without one."""
    if not name:
        raise UsageError(
            f"{argument} is empty; give the name of a layer of the {of}, such as convs.3"
        )
    return name


def layer_lists(guided: str, hint: str) -> list[tuple[str, str]]:
    """Pairs of a guided layer and its hint, from two texts with as many names, commas between.

    Example:
        >>> layer_lists("convs.2,convs.5", "convs.0,convs.1")
        [('convs.2', 'convs.0'), ('convs.5', 'convs.1')]
    """
    mine = [name.strip() for name in require_layer("guided", guided, "student").split(",")]
    theirs = [name.strip() for name in require_layer("hint", hint, "teacher").split(",")]
    if len(mine) != len(theirs) or "" in (*mine, *theirs):
        raise UsageError(
            f"guided is {guided!r} and hint {hint!r}; give as many layers of the student as of "
            "the teacher, with commas between"
        )
    return list(zip(mine, theirs, strict=True))
