"""`kd-baselines train RECIPE`: train a teacher and its student, or a language model, and test it.

`kd-baselines train --resume DIR` resumes a run; the options then start from the run's own config.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from datadistill.cli.options import value_of, wants_help
from datadistill.cli.printing import size_of
from datadistill.cli.run_command import RunCommand, RunFlags
from kd_baselines.cli.configs import ImageFlags, TextFlags, is_net_of_text
from kd_baselines.cli.published import published_of_run, say_published
from kd_baselines.cli.score_tables import say_accuracies, say_perplexities
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.recipes import OWN, RECIPES, recipe

if TYPE_CHECKING:
    from kd_baselines.saved_model import SavedModel

F = TypeVar("F", bound="TrainFlags")
C = TypeVar("C", KdConfig, LanguageConfig)


@dataclass(frozen=True)
class TrainFlags(RunFlags):
    """The options of `kd-baselines train`."""

    arm: str = OWN
    """Which of the recipe's nets; kd-baselines recipes RECIPE lists them."""
    teacher: Path | None = None
    """A teacher that is trained: its file, or a run folder with a teacher; or weights by name (.pt,
    .pth, .safetensors) of the net --teacher-net. Default: trained here."""
    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED, or runs/RECIPE-ARM-sSEED."""


@dataclass(frozen=True)
class Train(TrainFlags):
    """Train a student and, where its method needs one, its teacher; test the student on the test
    part."""

    config: ImageFlags = field(default_factory=ImageFlags)


@dataclass(frozen=True)
class TrainLanguage(TrainFlags):
    """Train a language model, on words alone or on words and a teacher; test it on the test
    text."""

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
    say_scores: ClassVar[Callable[..., dict[str, Any]]]
    """See `kd_baselines.cli.score_tables`."""

    def make(self, name: str, words: Sequence[str]) -> C:
        made = recipe(name, value_of(words, "--arm") or OWN)
        assert isinstance(made, self.config_class)  # `run` has found out which
        return made

    def arm_of(self, config: C) -> str:
        return config.arm

    @abc.abstractmethod
    def import_training(self) -> tuple[Callable[..., object], type[SavedModel]]:
        """What trains such a net, and the class of its file."""

    def run(self) -> int:
        """Train, and say what came out, where it is, and what to type next."""
        from kd_baselines.netfile import STUDENT, TEACHER

        config, out, teacher = self.config, self.out, self.args.teacher
        output = self.open_output()
        with output.redirect_prints(not self.args.options.quiet):
            train, file = self.import_training()
            seconds = self.carry_out(
                train, output, f"{config.net} by {config.method}", teacher=teacher
            )
            saved = file.load(out)  # from disk: what is told of is what is kept
        scores = self.say_scores(output, saved, saved.scores)
        images = {k: v for k, v in (saved.record or {}).items() if k.startswith("data_")}
        if images:
            output.say(
                f"learned from the {images['data_from_images']} images of {images['data_from']} "
                f"({images['data_from_bytes']:,} bytes, {images['data_from_fingerprint'][:19]})"
            )
        number, changed = published_of_run(out, self.config_class)
        say_published(output, number, changed)
        own_teacher = f"{TEACHER}, " if (out / TEACHER).exists() else ""
        output.say(
            f"trained in {seconds:.1f} s; wrote {out}: {STUDENT} "
            f"({size_of(saved.bytes)}), {own_teacher}metrics.jsonl, checkpoints/",
            f"next: kd-baselines evaluate {out}{self.evaluate_options}",
        )
        output.result(
            {
                "run": str(out),
                "recipe": config.recipe,
                "arm": config.arm,
                "run_seed": config.seed,
                "method": config.method,
                "dataset": saved.dataset,
                "bytes": saved.bytes,
                "fingerprint": saved.fingerprint,
                "seconds": seconds,
                "published": number,
                "changed": changed,
                **images,
                **scores,
            }
        )
        return 0


class TrainImages(TrainCommand[Train, KdConfig]):
    """Of images: the net is an image classifier."""

    kind, evaluate_options, say_scores = "kd", " --noise 0.3", staticmethod(say_accuracies)
    config_class, flags = KdConfig, Train

    def import_training(self) -> tuple[Callable[..., object], type[SavedModel]]:
        from kd_baselines.netfile import SavedNet
        from kd_baselines.training import train

        return train, SavedNet


class TrainText(TrainCommand[TrainLanguage, LanguageConfig]):
    """Of text: the net is a language model."""

    kind, evaluate_options, say_scores = LANGUAGE_KIND, "", staticmethod(say_perplexities)
    config_class, flags = LanguageConfig, TrainLanguage

    def import_training(self) -> tuple[Callable[..., object], type[SavedModel]]:
        from kd_baselines.language.netfile import SavedLanguageModel
        from kd_baselines.language.training import train_language

        return train_language, SavedLanguageModel


def run(argv: Sequence[str]) -> int:
    """Parse, train, print."""
    resumed = value_of(argv, "--resume")
    if resumed is not None and not wants_help(argv):
        of_text = is_net_of_text(resumed)
    else:
        of_text = (
            bool(argv)
            and argv[0] in RECIPES
            and isinstance(RECIPES[argv[0]].make(), LanguageConfig)
        )
    return TrainText(argv).run() if of_text else TrainImages(argv).run()
