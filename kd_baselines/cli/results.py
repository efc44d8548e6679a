"""The scores of a net on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from datadistill.cli.printing import Output, percent

if TYPE_CHECKING:
    from kd_baselines.evaluation import Scores

MOST_CLASSES = 10


def score_table(output: Output, scores: Scores, classes: Sequence[str]) -> None:
    """Accuracy, under noise, of each class of a few, and of classes that were left out."""
    rows = [("accuracy", percent(scores.accuracy), _errors(scores.errors, scores.images))]
    rows += [(f"with noise {d:g}", percent(value), "") for d, value in scores.noise.items()]
    if len(classes) <= MOST_CLASSES and not scores.missing:
        named = zip(classes, scores.per_class, strict=False)
        rows += [(f"of class {name}", percent(value), "") for name, value in named if value is not None]
    for name, one in scores.missing.items():
        rows += [
            (f"of class {name}", percent(one.accuracy), _errors(one.errors, one.images)),
            (f"of class {name}, shifted", percent(one.accuracy_after), _errors(one.errors_after, one.images)),
            (
                f"all, {name} shifted",
                percent(one.overall_after),
                f"{_errors(one.overall_errors_after, scores.images)}; logit of {name} {one.shift:+.3g}, chosen "
                "on the validation images",
            ),
        ]
    output.table((f"{scores.split} images", "(%)", ""), rows, right=(1,))


def perplexity_table(output: Output, found: Mapping[str, float]) -> None:
    """A table: text -> perplexity."""
    output.table(("text", "perplexity"), [(name, f"{v:.2f}") for name, v in found.items()], right=(1,))


def _errors(errors: int, images: int) -> str:
    """
    >>> _errors(1, 359)
    '1 error of 359'
    """
    return f"{errors} error{'' if errors == 1 else 's'} of {images}"
