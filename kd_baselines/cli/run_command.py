"""`kd-baselines train` of images and of text: where a config comes from, what is said of the trained net."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from datadistill.cli.options import value_of
from datadistill.cli.printing import Output, size_of
from datadistill.cli.published import published_number
from datadistill.cli.run_command import RunCommand, RunFlags, RunRequest
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig
from kd_baselines.recipes import OWN, RECIPES, recipe

SAME_NUMBER = ("seed", "teacher_seed", "images_seed", "device", "cache", "noise")
"""Fields that a published number does not depend on: seeds, and how a run is carried out and tested besides."""

F = TypeVar("F", bound=RunFlags)
C = TypeVar("C", KdConfig, LanguageConfig)


class TrainCommand(RunCommand[F, C]):
    """`kd-baselines train`."""

    prog, list_command = "kd-baselines train", "kd-baselines recipes"
    recipes = RECIPES
    evaluate_options: ClassVar[str] = ""
    """What to type after `kd-baselines evaluate RUN`."""

    def make(self, name: str, words: Sequence[str]) -> C:
        made = recipe(name, value_of(words, "--arm") or OWN)
        assert isinstance(made, self.config)  # of_text has said which
        return made

    def title(self, config: C) -> str:
        return config.recipe if config.arm == OWN else f"{config.recipe} ({config.arm})"

    def default_out(self, config: C) -> Path:
        arm = "" if config.arm == OWN else f"-{config.arm}"
        return Path("runs") / f"{config.recipe}{arm}-s{config.seed}"

    def other_recipe(self, base: C, name: str | None, words: Sequence[str]) -> str | None:
        arm = value_of(words, "--arm")
        if name in (None, base.recipe) and arm in (None, base.arm):
            return None
        return " ".join(filter(None, (name, arm and f"--arm {arm}")))

    @abc.abstractmethod
    def say_scores(self, output: Output, saved: Any) -> dict[str, Any]:
        """Print the scores of the trained net; return them and its name, for --json."""

    def say_result(
        self, output: Output, saved: Any, request: RunRequest[F, C], seconds: float, given_teacher: bool
    ) -> None:
        """What came out, where it is, what to type next.

        Args:
            output: where to.
            saved: the trained net, read from its file.
            request: what was typed.
            seconds: of the run.
            given_teacher: whether its teacher was trained elsewhere, though the recipe trains its own.
        """
        config, out = request.config, request.out
        scores = self.say_scores(output, saved)
        number, changed = published(config, given_teacher)
        say_published(output, number, changed)
        own_teacher = "teacher.safetensors, " if (out / "teacher.safetensors").exists() else ""
        output.say(
            f"trained in {seconds:.1f} s; wrote {out}: student.safetensors ({size_of(saved.bytes)}), "
            f"{own_teacher}metrics.jsonl, checkpoints/",
            f"next: kd-baselines evaluate {out}{self.evaluate_options}",
        )
        output.result({
            "run": str(out), "recipe": config.recipe, "arm": config.arm, "run_seed": config.seed,
            "method": config.method, "dataset": saved.dataset, "bytes": saved.bytes,
            "fingerprint": saved.fingerprint, "seconds": seconds, "published": number, "changed": changed,
            **scores,
        })  # fmt: skip


def published(config: KdConfig | LanguageConfig, given_teacher: bool = False) -> tuple[str, list[str]]:
    """The published number of a config's arm, or a dash where there is none or the config is another one.

    Args:
        config: as it was run.
        given_teacher: whether the teacher was trained elsewhere.

    Returns:
        The number, and what is not the recipe's, as `field recipe -> run`.

    >>> published(KdConfig(recipe="hinton-missing-digit", arm="x"))
    ('-', [])
    """
    page = RECIPES.get(config.recipe)
    if page is None or config.arm not in (OWN, *page.arms) or page.published_of(config.arm) == "-":
        return "-", []
    number, changed = published_number(
        page.published_of(config.arm), page.config(config.arm), config, SAME_NUMBER
    )
    if given_teacher:
        number, changed = "-", [*changed, "teacher the recipe's -> given"]
    return number, changed


def say_published(output: Output, number: str, changed: Sequence[str]) -> None:
    """The published number beside a run of its recipe; beside another one a dash, and what is other."""
    if number != "-":
        output.say(f"published: {number}")
    elif changed:
        more = f" and {len(changed) - 6} more" if len(changed) > 6 else ""
        output.say(f"published: - (not the recipe as it is: {', '.join(changed[:6])}{more})")


def perplexity_table(output: Output, found: Mapping[str, float]) -> None:
    """A table: text -> perplexity."""
    output.table(("text", "perplexity"), [(name, f"{v:.2f}") for name, v in found.items()], right=(1,))
