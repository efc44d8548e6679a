"""`kd-baselines train RECIPE`: train a teacher and its student, and test the student.

`kd-baselines train --resume DIR` goes on with a run; the options then start from the run's own config.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datadistill.cli.options import value_of, wants_help
from datadistill.cli.printing import Output
from datadistill.cli.run_command import RunFlags
from datadistill.runs.folder import RunFolder
from kd_baselines.cli import train_language
from kd_baselines.cli.configs import ImageFlags
from kd_baselines.cli.run_command import TrainCommand
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.recipes import OWN, RECIPES

if TYPE_CHECKING:
    from kd_baselines.netfile import SavedNet


@dataclass(frozen=True)
class Train(RunFlags):
    """Train a student and, where its method needs one, its teacher; test the student on the test part."""

    arm: str = OWN
    """Which of the recipe's students; kd-baselines recipes RECIPE lists them."""
    teacher: Path | None = None
    """A teacher that is trained: its file, or a run folder with a teacher; default: trained here."""
    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED, or runs/RECIPE-ARM-sSEED."""
    config: ImageFlags = field(default_factory=ImageFlags)


class TrainImages(TrainCommand[Train, KdConfig]):
    """`kd-baselines train` of images."""

    kind, config, flags, evaluate_options = "kd", KdConfig, Train, " --noise 0.3"

    def say_scores(self, output: Output, saved: SavedNet) -> dict[str, Any]:
        from kd_baselines.cli.results import score_table
        from kd_baselines.evaluation import Scores

        scores = Scores.from_dict(saved.scores or {})
        score_table(output, scores, saved.classes)
        return {"net": saved.spec.name, **scores.as_dict()}


def run(argv: Sequence[str]) -> int:
    """Parse, train, print; of text, `train_language` does."""
    if of_text(argv):
        return train_language.run(argv)
    command = TrainImages()
    request = command.read(argv)
    args, config = request.args, request.config
    output = request.open_output()
    from kd_baselines.netfile import SavedNet
    from kd_baselines.training import train

    with output.working(not args.options.quiet):
        work = f"{config.net} by {config.method}"
        seconds = request.carry_out(train, output, work, teacher=args.teacher)
        saved = SavedNet.load(request.out)  # from disk: what is told of is what is kept
    given_teacher = bool(args.teacher) or "teacher" in RunFolder.open(request.out).environment
    command.say_result(output, saved, request, seconds, given_teacher)
    return 0


def of_text(argv: Sequence[str]) -> bool:
    """Whether the recipe, or the run to go on with, trains a language model."""
    resumed = value_of(argv, "--resume")
    if resumed is not None and not wants_help(argv):
        return RunFolder.open(Path(resumed)).kind == LANGUAGE_KIND
    return bool(argv) and argv[0] in RECIPES and isinstance(RECIPES[argv[0]].make(), LanguageConfig)
