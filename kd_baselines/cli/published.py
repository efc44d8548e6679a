"""The published number beside a run of a recipe's arm; see `datadistill.studies.published`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datadistill.cli.printing import Output
from datadistill.runs.folder import RunFolder
from datadistill.studies.study import read_run_config
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig
from kd_baselines.recipes import OWN, RECIPES


def find_published(
    config: KdConfig | LanguageConfig, given_teacher: bool = False
) -> tuple[str, list[str]]:
    """The published number of a config's arm, or a dash where there is none or the config is
    another one; and what is not the recipe's, as `field recipe -> run`. `given_teacher`: an image
    classifier's teacher was trained elsewhere."""
    page = RECIPES.get(config.recipe)
    if page is None or config.arm not in (OWN, *page.arms) or page.published_of(config.arm) == "-":
        return "-", []
    number, changed = page.published_beside(config)
    # recipes of text have no teacher of their own
    if given_teacher and isinstance(config, KdConfig):
        return "-", [*changed, "teacher the recipe's -> given"]
    return number, changed


def published_of_run(
    path: Path, config_class: type[KdConfig] | type[LanguageConfig]
) -> tuple[str, list[str]]:
    """`find_published` of a run folder, which says whether its teacher was given."""
    given = "teacher" in RunFolder.open(path).environment
    return find_published(read_run_config(path, config_class), given)


def say_published(output: Output, number: str, changed: Sequence[str]) -> None:
    """The published number beside a run of its recipe; beside another one a dash, and what is
    other."""
    if number != "-":
        output.say(f"published: {number}")
    elif changed:
        more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        output.say(f"published: - (not the recipe as it is: {', '.join(changed[:6])}{more})")
