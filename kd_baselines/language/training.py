"""Training of a language model as a kind of run. The test text is read once, after the last epoch."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from datadistill.config import RunOptions
from datadistill.errors import UsageError
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, show_progress
from datadistill.runs.driver import run
from datadistill.runs.folder import RunFolder
from datadistill.runs.kinds import Kind, Work
from datadistill.runs.signals import interruptible
from kd_baselines.epoch_work import EpochWork
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.language.corpus import Corpus
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.nets import LanguageModel
from kd_baselines.language.perplexity import perplexity
from kd_baselines.language.setup import Given, LanguageSetup
from kd_baselines.netfile import STUDENT

__all__ = ["TrainedLanguage", "train_language"]


@dataclass(frozen=True, eq=False, repr=False)
class TrainedLanguage:
    """The result of a training.

    Args:
        net: in evaluation mode, on the run's device.
        perplexity, validation_perplexity: on the test text and on the validation text.
        config: as it was run.
        saved: the net as `student.safetensors` holds it.
    """

    net: LanguageModel
    perplexity: float
    validation_perplexity: float
    config: LanguageConfig
    saved: SavedLanguageModel

    def __repr__(self) -> str:
        config = self.config
        return f"TrainedLanguage({config.net}, {config.method} on {config.text}: {self.perplexity:.2f})"


@show_progress
def train_language(
    config: LanguageConfig | None,
    *,
    teacher: LanguageModel | str | os.PathLike[str] | None = None,
    corpus: Corpus | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    options: RunOptions = RunOptions(quiet=True),  # noqa: B008  (frozen)
    progress: bool | Report = False,
) -> TrainedLanguage:
    """Train a language model, on words alone or on words and a teacher.

    Args:
        config: what to train; `recipe("ban-ptb")` returns one. None with `resume` takes the run folder's own.
        teacher: where the method is born-again: a language model of the same words, its file or run folder.
            It is used as it is, in evaluation mode, and never changed.
        corpus: a text of your own; default: the one that the config names.
        out: a run folder to write: config, metrics (a line an epoch), checkpoints, the net. None writes
            nothing.
        resume: go on with the run in `out` in the middle of the epoch where it stopped, to the same bytes as
            without a stop on the same machine, torch version and thread count.
        options: how to carry the run out; "iterations" between checkpoints are gradient steps here.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it goes on.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.

    Example:
        >>> from kd_baselines.language.corpus import make_corpus
        >>> text = make_corpus(*3 * ["the cat sat on the mat\\n" * 40])
        >>> config = LanguageConfig(
        ...     net_args={"width": 16, "dropout": 0.1}, epochs=16, batch=4, unroll=10, lr=4.0
        ... )
        >>> first = train_language(config, corpus=text)
        >>> config = config.with_changes(method="born-again", seed=1)
        >>> again = train_language(config, corpus=text, teacher=first.net)
        >>> first.perplexity < 2, again.perplexity < 2  # of 6 words
        (True, True)

    References:
        Furlanello et al. 2018, Born-Again Neural Networks, https://arxiv.org/abs/1805.04770, section 4
    """
    return run(LanguageTraining(corpus, teacher), config, out, resume=resume, options=options)


class LanguageTraining(Kind[LanguageConfig, TrainedLanguage]):
    """The kind of run that trains a language model."""

    name, config, wanted = LANGUAGE_KIND, LanguageConfig, 'recipe("ban-ptb")'

    def __init__(
        self, corpus: Corpus | None = None, teacher: LanguageModel | str | os.PathLike[str] | None = None
    ) -> None:
        self.corpus, self.given = corpus, _load_teacher(teacher)

    def prepare(self, config: LanguageConfig) -> LanguageConfig:
        return config if self.corpus is None else replace(config, text=CUSTOM)

    def check(self, config: LanguageConfig, path: Path | None, options: RunOptions, resumed: bool) -> None:
        if config.method == "plain" and self.given is not None:
            raise UsageError(
                "the method is plain, which learns from the words alone, but a teacher was given; leave it "
                "out, or take --method born-again"
            )
        if config.method == "born-again" and self.given is None:
            if resumed:
                raise UsageError(f"{path} was started with a teacher; pass it again (--teacher FILE)")
            name = config.recipe if config.recipe != CUSTOM else "RECIPE"
            raise UsageError(
                f"the method is born-again, but there is no teacher; type kd-baselines born-again {name} to "
                "train generations, or pass --teacher FILE, or train the teacher itself with --arm teacher"
            )
        if path is not None and config.text == CUSTOM and self.corpus is None:
            raise UsageError(
                f"{path} trains on a text of your own from Python; go on from Python with "
                f"{self.command(config, path)}"
            )

    def build(self, config: LanguageConfig, options: RunOptions) -> Work[TrainedLanguage]:
        return _Training(LanguageSetup(config, self.corpus, self.given, options))

    def command(self, config: LanguageConfig, path: Path) -> str:
        typed = None if self.given is None else self.given[1]
        if config.text == CUSTOM or (self.given is not None and typed is None):
            own = ", corpus=..." if config.text == CUSTOM else ""
            own += ", teacher=..." if self.given is not None else ""
            return f"train_language(None, out={str(path)!r}, resume=True{own})"
        return f"kd-baselines train --resume {path}" + ("" if typed is None else f" --teacher {typed}")

    def explain_memory(self, config: LanguageConfig) -> str:
        return (
            f"steps on {config.batch} columns of {config.unroll} words with {config.net}; try a smaller --batch"
        )

    def describe_end(self, config: LanguageConfig, path: Path) -> str:
        return f"the student was trained and is saved in {path}"


class _Training(EpochWork[TrainedLanguage]):
    """The epochs of one net."""

    def __init__(self, setup: LanguageSetup) -> None:
        self.setup, self.device, self.fingerprints = setup, setup.device, setup.fingerprints()
        self.loop = setup.fit

    def stage(self) -> tuple[str, int]:
        return "student", self.setup.config.epochs

    def finish(self, folder: RunFolder | None, broken_off: str) -> TrainedLanguage:
        setup, validation = self.setup, self.setup.fit.last
        if setup.teacher is not None:
            setup.teacher.check()
        with interruptible(broken_off):
            found = perplexity(setup.net, setup.corpus.test)
        assert validation is not None  # there is a validation text
        saved = setup.to_saved({"perplexity": found, "validation perplexity": validation})
        if folder is not None:
            saved.save(folder.path / STUDENT)
        return TrainedLanguage(setup.net, found, validation, setup.config, saved)


def _load_teacher(teacher: LanguageModel | str | os.PathLike[str] | None) -> Given | None:
    if teacher is None or isinstance(teacher, LanguageModel):
        return None if teacher is None else (teacher, None)
    if not isinstance(teacher, str | os.PathLike):
        raise UsageError(f"teacher is a {type(teacher).__name__}; pass a language model or its file")
    return SavedLanguageModel.load(teacher).net(), str(teacher)
