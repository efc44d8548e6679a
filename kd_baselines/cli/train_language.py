"""`kd-baselines train RECIPE` for a recipe of text: train a language model, and test it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datadistill.cli.printing import Output
from datadistill.cli.run_command import RunFlags
from kd_baselines.cli.configs import TextFlags
from kd_baselines.cli.run_command import TrainCommand, perplexity_table
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.recipes import OWN

if TYPE_CHECKING:
    from kd_baselines.language.netfile import SavedLanguageModel


@dataclass(frozen=True)
class TrainLanguage(RunFlags):
    """Train a language model, on words alone or on words and a teacher; test it on the test text."""

    arm: str = OWN
    """Which of the recipe's nets; kd-baselines recipes RECIPE lists them."""
    teacher: Path | None = None
    """A language model that is trained: its file or run folder. The method born-again wants one."""
    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED, or runs/RECIPE-ARM-sSEED."""
    resume: Path | None = None
    """Run folder to go on with, in place of a recipe; pass its teacher again."""
    config: TextFlags = field(default_factory=TextFlags)


class TrainText(TrainCommand[TrainLanguage, LanguageConfig]):
    """`kd-baselines train` of text."""

    kind, config, flags = LANGUAGE_KIND, LanguageConfig, TrainLanguage

    def say_scores(self, output: Output, saved: SavedLanguageModel) -> dict[str, Any]:
        scores = saved.scores or {}
        test, validation = scores["perplexity"], scores["validation perplexity"]
        perplexity_table(output, {"validation": validation, "test": test})
        return {
            "net": saved.name, "words": len(saved.words), "perplexity": test,
            "validation_perplexity": validation,
        }  # fmt: skip


def run(argv: Sequence[str]) -> int:
    """Parse, train, print."""
    command = TrainText()
    request = command.read(argv)
    config = request.config
    output = request.open_output()
    from kd_baselines.language.netfile import SavedLanguageModel
    from kd_baselines.language.training import train_language

    with output.working(not request.args.options.quiet):
        work = f"{config.net} by {config.method}"
        seconds = request.carry_out(train_language, output, work, teacher=request.args.teacher)
        saved = SavedLanguageModel.load(request.out)  # from disk: what is told of is what is kept
    # the recipe itself asks for a teacher from elsewhere
    command.say_result(output, saved, request, seconds, given_teacher=False)
    return 0
