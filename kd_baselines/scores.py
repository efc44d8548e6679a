"""Scores of a trained net, as its file holds them and commands print them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from datadistill.errors import DataError
from datadistill.runs.content import check_number, check_text, check_whole

__all__ = ["LeftOut", "Scores"]


@dataclass(frozen=True)
class LeftOut:
    """Accuracies in percent on a class that was left out of a net's training.

    Args:
        images: tested images of the class.
        accuracy, errors: on them, with the net as it is.
        shift: added to the class's logit; chosen on the validation images.
        accuracy_after, errors_after: on them, after the shift.
        overall_after, overall_errors_after: on all tested images, after the shift.
    """

    images: int
    accuracy: float
    errors: int
    shift: float
    accuracy_after: float
    errors_after: int
    overall_after: float
    overall_errors_after: int


@dataclass(frozen=True)
class Scores:
    """The result of `score` for one net; accuracies in percent.

    Args:
        accuracy, images, errors: of all images of the split.
        per_class: accuracy on each class, in the data's order; None for a class without an image.
        noise: deviation of the noise -> accuracy.
        missing: name of a class that was left out of the training -> what the net makes of it.
        split: which images: "test", "validation" or "train".
        second: of the second head of a student with two: "source agreement" with the teacher, and
            "source accuracy" where the teacher's data are at hand (`score_second_head`).
    """

    accuracy: float
    images: int
    errors: int
    per_class: tuple[float | None, ...] = ()
    noise: Mapping[float, float] = field(default_factory=dict)
    missing: Mapping[str, LeftOut] = field(default_factory=dict)
    split: str = "test"
    second: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; deviations become texts."""
        noise = {f"{deviation:g}": value for deviation, value in self.noise.items()}
        found = {**asdict(self), "per_class": list(self.per_class), "noise": noise}
        if not self.second:  # the bytes of the files of other nets stay as they were
            del found["second"]
        return found

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Scores:
        """The inverse of `as_dict`; DataError for what it does not give."""
        try:
            noise = {float(deviation): value for deviation, value in stored["noise"].items()}
            missing = {name: LeftOut(**value) for name, value in stored["missing"].items()}
            rest = {
                **stored,
                "per_class": tuple(stored["per_class"]),
                "noise": noise,
                "missing": missing,
            }
            found = cls(**rest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"these are no scores ({error!r:.100}); evaluate the net again"
            ) from None
        _check(found)
        return found

    def columns(self) -> dict[str, float]:
        """The accuracies in percent by the words over their columns."""
        found = {"accuracy": self.accuracy, **self.second}
        found |= {f"with noise {deviation:g}": value for deviation, value in self.noise.items()}
        for name, one in self.missing.items():
            found[f"of class {name}"] = one.accuracy
            found[f"of class {name}, shifted"] = one.accuracy_after
            found[f"all, {name} shifted"] = one.overall_after
        return found


def _check(scores: Scores) -> None:
    """DataError unless all are numbers, and the accuracies percentages."""
    accuracies = {
        "accuracy": scores.accuracy,
        **{f"noise.{k:g}": v for k, v in scores.noise.items()},
    }
    accuracies |= {f"per_class[{k}]": v for k, v in enumerate(scores.per_class) if v is not None}
    accuracies |= {f"second.{name[:80]}": value for name, value in scores.second.items()}
    counts = {"images": scores.images, "errors": scores.errors}
    for name, one in scores.missing.items():
        place = f"missing.{name[:80]}"
        accuracies |= {
            f"{place}.{k}": getattr(one, k) for k in ("accuracy", "accuracy_after", "overall_after")
        }
        whole = ("images", "errors", "errors_after", "overall_errors_after")
        counts |= {f"{place}.{k}": getattr(one, k) for k in whole}
        check_number(f"scores.{place}.shift", one.shift)
    for name, accuracy in accuracies.items():
        check_number(f"scores.{name}", accuracy, 0, 100)
    for name, count in counts.items():
        check_whole(f"scores.{name}", count)
    check_text("scores.split", scores.split)
