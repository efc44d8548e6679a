"""The scores of a net on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from datadistill.cli.printing import Output, percent

if TYPE_CHECKING:
    from kd_baselines.language.netfile import SavedLanguageModel
    from kd_baselines.netfile import SavedNet

MOST_CLASSES = 10


def say_accuracies(output: Output, saved: SavedNet, found: Mapping[str, Any]) -> dict[str, Any]:
    """A table of what `Scores.as_dict` gave: accuracy, under noise, of each class of a few, and of
    classes that were left out. Returns the scores and the net's name, for --json."""
    from kd_baselines.scores import Scores

    scores = Scores.from_dict(found)
    rows = [("accuracy", percent(scores.accuracy), _errors(scores.errors, scores.images))]
    rows += [(name, percent(value), "second head") for name, value in scores.second.items()]
    rows += [(f"with noise {d:g}", percent(value), "") for d, value in scores.noise.items()]
    if len(saved.classes) <= MOST_CLASSES and not scores.missing:
        named = zip(saved.classes, scores.per_class, strict=False)
        rows += [
            (f"of class {name}", percent(value), "") for name, value in named if value is not None
        ]
    for name, one in scores.missing.items():
        rows += [
            (f"of class {name}", percent(one.accuracy), _errors(one.errors, one.images)),
            (
                f"of class {name}, shifted",
                percent(one.accuracy_after),
                _errors(one.errors_after, one.images),
            ),
            (
                f"all, {name} shifted",
                percent(one.overall_after),
                f"{_errors(one.overall_errors_after, scores.images)}; logit of {name} "
                f"{one.shift:+.3g}, chosen on the validation images",
            ),
        ]
    output.table((f"{scores.split} images", "(%)", ""), rows, right=(1,))
    return {"net": saved.spec.name, **found}


def say_perplexities(
    output: Output, saved: SavedLanguageModel, found: Mapping[str, float]
) -> dict[str, Any]:
    """A table of perplexities. Returns them and the net's name, for --json."""
    validation, test = found["validation perplexity"], found["perplexity"]
    rows = [("validation", f"{validation:.2f}"), ("test", f"{test:.2f}")]
    output.table(("text", "perplexity"), rows, right=(1,))
    words = len(saved.words)
    return {
        "net": saved.name,
        "words": words,
        "perplexity": test,
        "validation_perplexity": validation,
    }


def _errors(errors: int, images: int) -> str:
    """
    >>> _errors(1, 359)
    '1 error of 359'
    """
    return f"{errors} error{'' if errors == 1 else 's'} of {images}"
