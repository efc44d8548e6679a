"""`kd-baselines train RECIPE`: train a teacher and its student, or a language model, and test it.

`kd-baselines train --resume DIR` resumes a run; the options then start from the run's own config.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from datadistill.cli.options import value_of, wants_help
from datadistill.cli.printing import Output, size_of
from datadistill.cli.run_command import RunCommand, RunFlags
from datadistill.runs.folder import RunFolder
from kd_baselines.cli.configs import ImageFlags, TextFlags
from kd_baselines.cli.published import find_published, say_published
from kd_baselines.cli.results import perplexity_table, score_table
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.recipes import OWN, RECIPES, recipe

if TYPE_CHECKING:
    from kd_baselines.language.netfile import SavedLanguageModel
    from kd_baselines.netfile import SavedNet

F = TypeVar("F", bound="TrainFlags")
C = TypeVar("C", KdConfig, LanguageConfig)


@dataclass(frozen=True)
class TrainFlags(RunFlags):
    """The options of `kd-baselines train`."""

    arm: str = OWN
    """Which of the recipe's nets; kd-baselines recipes RECIPE lists them."""
    teacher: Path | None = None
    """A teacher that is trained: its file, or a run folder with a teacher; default: trained here."""
    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED, or runs/RECIPE-ARM-sSEED."""


@dataclass(frozen=True)
class Train(TrainFlags):
    """Train a student and, where its method needs one, its teacher; test the student on the test part."""

    config: ImageFlags = field(default_factory=ImageFlags)


@dataclass(frozen=True)
class TrainLanguage(TrainFlags):
    """Train a language model, on words alone or on words and a teacher; test it on the test text."""

    teacher: Path | None = None
    """A language model that is trained: its file or run folder. The method born-again wants one."""
    resume: Path | None = None
    """Run folder to resume, in place of a recipe; pass its teacher again."""
    config: TextFlags = field(default_factory=TextFlags)


class TrainCommand(RunCommand[F, C]):
    """`kd-baselines train`, as it was typed."""

    prog, recipes = "kd-baselines train", RECIPES
    evaluate_options: ClassVar[str]
    """What to type after `kd-baselines evaluate RUN`."""

    def make(self, name: str, words: Sequence[str]) -> C:
        made = recipe(name, value_of(words, "--arm") or OWN)
        assert isinstance(made, self.config_class)  # is_of_text has said which
        return made

    def arm_of(self, config: C) -> str:
        return config.arm

    @abc.abstractmethod
    def train(self, output: Output) -> tuple[Any, float, bool]:
        """Train; returns the saved net, seconds, and whether a teacher from elsewhere took the place of the
        recipe's."""

    @abc.abstractmethod
    def say_scores(self, output: Output, saved: Any) -> dict[str, Any]:
        """Print the scores of the saved net; returns them and its name, for --json."""

    def run(self) -> int:
        """Train, and say what came out, where it is, and what to type next."""
        output = self.open_output()
        with output.redirect_prints(not self.args.options.quiet):
            saved, seconds, given_teacher = self.train(output)
        config, out = self.config, self.out
        scores = self.say_scores(output, saved)
        number, changed = find_published(config, given_teacher)
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
        return 0


class TrainImages(TrainCommand[Train, KdConfig]):
    """Of images: the net is an image classifier."""

    kind, evaluate_options = "kd", " --noise 0.3"
    config_class, flags = KdConfig, Train

    def train(self, output: Output) -> tuple[SavedNet, float, bool]:
        from kd_baselines.netfile import SavedNet
        from kd_baselines.training import train

        teacher, config = self.args.teacher, self.config
        seconds = self.carry_out(train, output, f"{config.net} by {config.method}", teacher=teacher)
        given_teacher = bool(teacher) or "teacher" in RunFolder.open(self.out).environment
        return SavedNet.load(self.out), seconds, given_teacher  # from disk: what is told of is what is kept

    def say_scores(self, output: Output, saved: SavedNet) -> dict[str, Any]:
        from kd_baselines.evaluation import Scores

        scores = Scores.from_dict(saved.scores or {})
        score_table(output, scores, saved.classes)
        return {"net": saved.spec.name, **scores.as_dict()}


class TrainText(TrainCommand[TrainLanguage, LanguageConfig]):
    """Of text: the net is a language model. Its recipes ask for a teacher from elsewhere."""

    kind, evaluate_options = LANGUAGE_KIND, ""
    config_class, flags = LanguageConfig, TrainLanguage

    def train(self, output: Output) -> tuple[SavedLanguageModel, float, bool]:
        from kd_baselines.language.netfile import SavedLanguageModel
        from kd_baselines.language.training import train_language

        teacher, config = self.args.teacher, self.config
        seconds = self.carry_out(train_language, output, f"{config.net} by {config.method}", teacher=teacher)
        return SavedLanguageModel.load(self.out), seconds, False

    def say_scores(self, output: Output, saved: SavedLanguageModel) -> dict[str, Any]:
        scores = saved.scores or {}
        test, validation = scores["perplexity"], scores["validation perplexity"]
        perplexity_table(output, {"validation": validation, "test": test})
        found = {"perplexity": test, "validation_perplexity": validation}
        return {"net": saved.name, "words": len(saved.words), **found}


def run(argv: Sequence[str]) -> int:
    """Parse, train, print."""
    return TrainText(argv).run() if is_of_text(argv) else TrainImages(argv).run()


def is_of_text(argv: Sequence[str]) -> bool:
    """Whether the recipe, or the run to resume, trains a language model."""
    resumed = value_of(argv, "--resume")
    if resumed is not None and not wants_help(argv):
        return RunFolder.open(Path(resumed)).kind == LANGUAGE_KIND
    return bool(argv) and argv[0] in RECIPES and isinstance(RECIPES[argv[0]].make(), LanguageConfig)
