"""A recipe's page: its config, its other students, and the published numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from datadistill.errors import UsageError, suggest
from datadistill.recipes.summary import summary_of
from datadistill.studies.published import published_number
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig

__all__ = ["HARD", "NOT_VERIFIED", "OWN", "Arm", "Config", "Grid", "Page"]

Config = KdConfig | LanguageConfig
"""What a recipe is of: images, or text."""

OWN = "own"
"""The arm that is the recipe itself."""
NOT_VERIFIED = "- (not verified)"
"""In the place of a number that a paper prints and that nobody here has seen in it."""


HARD: dict[str, Any] = {"method": "plain", "method_args": {}}
"""Changes that make an arm of labels alone."""


@dataclass(frozen=True)
class Arm:
    """A student of a recipe: a row of the paper's table.

    Args:
        changes: fields of the recipe's config, with their values here.
        published: published accuracy in percent, of text the perplexity, with its source, or a
            dash.
        rows: published values of its chain of generations, as `Page.published_in` gives them.
    """

    changes: Mapping[str, Any]
    published: str = "-"
    rows: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """The arms of a recipe as the cells of a table, which `kd-baselines compare` prints.

    Args:
        rows: heading of the first column, such as "images a class".
        base: the column that the other cells of a row are compared with.
        cells: arm -> its row and its column; both stand in the order in which they come up.

    Example:
        >>> grid = Grid("images", "ce", {"own": ("1", "kd"), "1-ce": ("1", "ce")})
        >>> grid.bases(["own", "1-ce"])
        {'own': '1-ce', '1-ce': '1-ce'}
    """

    rows: str
    base: str
    cells: Mapping[str, tuple[str, str]]

    def bases(self, arms: Collection[str]) -> dict[str, str]:
        """Of some arms, each that has the base of its row among them -> that base."""
        found = {
            row: arm
            for arm, (row, column) in self.cells.items()
            if column == self.base and arm in arms
        }
        rows = {arm: self.cells[arm][0] for arm in arms}
        return {arm: found[row] for arm, row in rows.items() if row in found}


@dataclass(frozen=True)
class Page:
    """A recipe, the number it is compared with, and its arms.

    Args:
        make: returns the config of the recipe's own student.
        published: published accuracy in percent, of text the perplexity, with its source, or a
            dash.
        arms: the paper's other rows by name.
        rows: published values of the recipe's own chain of generations, as `published_in` gives
            them.
        grid: the arms, the recipe itself among them, as the cells of a table; None: a list.
    """

    make: Callable[[], Config]
    published: str
    arms: Mapping[str, Arm] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)
    grid: Grid | None = None

    @property
    def measure(self) -> str:
        """The unit of the published numbers: "accuracy (%)", or of text "perplexity"."""
        return "perplexity" if isinstance(self.make(), LanguageConfig) else "accuracy (%)"

    @property
    def summary(self) -> str:
        """The first paragraph of the recipe's docstring."""
        return summary_of(self.make)

    def arm(self, name: str = OWN) -> Arm:
        """An arm; the recipe itself is one without changes. An unknown name is refused."""
        if name == OWN:
            return Arm({}, self.published, self.rows)
        if name not in self.arms:
            raise UsageError(
                f"the recipe {self.make().recipe} has no arm {name!r}; "
                f"{suggest(str(name), [OWN, *self.arms])}"
            )
        return self.arms[name]

    def config(self, arm: str = OWN) -> Config:
        """The config of an arm."""
        return self.make().with_changes(**{**self.arm(arm).changes, "arm": arm})

    def images(self, arm: str = OWN) -> KdConfig:
        """The config of an arm; a recipe of text is refused."""
        config = self.config(arm)
        if not isinstance(config, KdConfig):
            name = config.recipe
            raise UsageError(
                f"{name} trains language models, which are compared by generations; type "
                f"kd-baselines born-again {name}, or kd-baselines train {name} for a single one"
            )
        return config

    def published_of(self, arm: str = OWN) -> str:
        """The published number of an arm."""
        return self.arm(arm).published

    def published_beside(self, config: Config, row: str | None = None) -> tuple[str, list[str]]:
        """The published number of the arm that a config says it is, or that of a `row` of its
        generations; a dash, and what is not the recipe's, where the config is another one. See
        `datadistill.studies.published.published_number`."""
        arm = config.arm
        known = self.published_of(arm) if row is None else self.published_in(row, arm)
        return published_number(known, self.config(arm), config)

    def published_in(self, row: str, arm: str = OWN) -> str:
        """The published error in percent, of text the test perplexity, with its source or a dash,
        of a row of an arm's generations: "teacher", a generation as "1", "BANE(2)" (generations 1
        and 2), or "BANE(2)+teacher"."""
        return self.arm(arm).rows.get(row, "-")
