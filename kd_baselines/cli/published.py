"""The published number of a recipe's arm beside a run of it; see `datadistill.cli.published`."""

from __future__ import annotations

from collections.abc import Sequence

from datadistill.cli.printing import Output
from datadistill.cli.published import published_number
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig
from kd_baselines.recipes import OWN, RECIPES

SAME_NUMBER = ("seed", "teacher_seed", "images_seed", "device", "cache", "noise")
"""Fields that a published number does not depend on: seeds, and how a run is carried out and tested
besides."""


def find_published(
    config: KdConfig | LanguageConfig, given_teacher: bool = False
) -> tuple[str, list[str]]:
    """The published number of a config's arm, or a dash where there is none or the config is
    another one; and what is not the recipe's, as `field recipe -> run`. `given_teacher`: the
    teacher was trained elsewhere."""
    page = RECIPES.get(config.recipe)
    if page is None or config.arm not in (OWN, *page.arms) or page.published_of(config.arm) == "-":
        return "-", []
    known, made = page.published_of(config.arm), page.config(config.arm)
    number, changed = published_number(known, made, config, SAME_NUMBER)
    if given_teacher:
        return "-", [*changed, "teacher the recipe's -> given"]
    return number, changed


def say_published(output: Output, number: str, changed: Sequence[str]) -> None:
    """The published number beside a run of its recipe; beside another one a dash, and what is
    other."""
    if number != "-":
        output.say(f"published: {number}")
    elif changed:
        more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        output.say(f"published: - (not the recipe as it is: {', '.join(changed[:6])}{more})")
