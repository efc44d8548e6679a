"""Scores of a trained net, as they are kept in its file and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from datadistill.errors import DataError

__all__ = ["LeftOut", "Scores"]


@dataclass(frozen=True)
class LeftOut:
    """What a net makes of a class that was left out of its training; accuracies in percent.

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
    """What `score` measured of one net; accuracies in percent.

    Args:
        accuracy, images, errors: of all images of the split.
        per_class: accuracy on each class, in the data's order; None for a class without an image.
        noise: deviation of the noise -> accuracy.
        missing: name of a class that was left out of the training -> what the net makes of it.
        split: which images: "test", "validation" or "train".
    """

    accuracy: float
    images: int
    errors: int
    per_class: tuple[float | None, ...] = ()
    noise: Mapping[float, float] = field(default_factory=dict)
    missing: Mapping[str, LeftOut] = field(default_factory=dict)
    split: str = "test"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; deviations become texts."""
        noise = {f"{deviation:g}": value for deviation, value in self.noise.items()}
        return {**asdict(self), "per_class": list(self.per_class), "noise": noise}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Scores:
        """The inverse of `as_dict`.

        Raises:
            DataError: it is not what `as_dict` gives.

        Example:
            >>> scores = Scores(98.0, 50, 1, (96.0, None), noise={0.3: 80.0})
            >>> Scores.from_dict(scores.as_dict()) == scores
            True
        """
        try:
            noise = {float(deviation): value for deviation, value in stored["noise"].items()}
            missing = {name: LeftOut(**value) for name, value in stored["missing"].items()}
            rest = {**stored, "per_class": tuple(stored["per_class"]), "noise": noise, "missing": missing}
            return cls(**rest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"these are no scores ({error!r:.100}); evaluate the net again") from None

    def columns(self) -> dict[str, float]:
        """The numbers that are compared, by the words over them, in percent.

        Example:
            >>> list(Scores(98.0, 50, 1, noise={0.3: 80.0}).columns())
            ['accuracy', 'with noise 0.3']
        """
        found = {"accuracy": self.accuracy}
        found |= {f"with noise {deviation:g}": value for deviation, value in self.noise.items()}
        for name, one in self.missing.items():
            found[f"of class {name}"] = one.accuracy
            found[f"of class {name}, shifted"] = one.accuracy_after
            found[f"all, {name} shifted"] = one.overall_after
        return found
