"""Training of a language model as a kind of run. The test text is read once, after the last
epoch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from datadistill.config import RunOptions
from datadistill.device import resolve
from datadistill.errors import DataError, UsageError
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, show_progress
from datadistill.runs.driver import run
from datadistill.runs.kinds import Work
from datadistill.runs.resume import fingerprints
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.language.corpus import Corpus, read_corpus, refuse_other_words
from kd_baselines.language.loop import LanguageFit
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.nets import LanguageModel, build_language, language_arguments
from kd_baselines.language.perplexity import COLUMNS, perplexity
from kd_baselines.netfile import is_plain_weights
from kd_baselines.saved_model import copy_state, to_record
from kd_baselines.student_runs import StudentKind, StudentWork
from kd_baselines.teachers import Teacher

__all__ = ["LanguageTraining", "TrainedLanguage", "load_corpus", "train_language"]


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
        return (
            f"TrainedLanguage({config.net}, {config.method} on {config.text}: "
            f"{self.perplexity:.2f})"
        )


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
        config: what to train; `recipe("ban-ptb")` returns one. None with `resume` takes the run
            folder's own.
        teacher: where the method is born-again: a language model of the same words, its file or run
            folder. It is used as it is, in evaluation mode, and never changed.
        corpus: a text of your own; default: the one that the config names.
        out: a run folder to write: config, metrics (a line an epoch), checkpoints, the net. None
            writes nothing.
        resume: continue the run in `out` in the middle of the epoch where it stopped, to the same
            bytes as without a stop on the same machine, torch version and thread count.
        options: how to carry the run out; "iterations" between checkpoints are gradient steps here.
        progress: True shows progress on stderr; or a function of (what, done, total), called as it
            goes on.

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
        Furlanello et al. 2018, Born-Again Neural Networks, https://arxiv.org/abs/1805.04770,
            section 4
    """
    return run(LanguageTraining(corpus, teacher), config, out, resume=resume, options=options)


class LanguageTraining(StudentKind[LanguageConfig, TrainedLanguage, Corpus, LanguageModel]):
    """The kind of run that trains a language model; see `train_language` for what it is given."""

    name, config, wanted = LANGUAGE_KIND, LanguageConfig, 'recipe("ban-ptb")'
    function, data_field, data_argument = "train_language", "text", "corpus"
    teacher_class = LanguageModel

    def load_teacher(self, path: str | os.PathLike[str]) -> LanguageModel:
        if is_plain_weights(path):
            raise UsageError(
                f"{os.fspath(path)} holds weights by name, and no net or vocabulary; load them "
                "into a language model of these words (build_language) and pass teacher=model"
            )
        return SavedLanguageModel.load(path).net()

    def check(
        self, config: LanguageConfig, path: Path | None, options: RunOptions, resumed: bool
    ) -> None:
        if config.method == "plain" and self.teacher is not None:
            raise UsageError(
                "the method is plain, which learns from the words alone, but a teacher was given; "
                "leave it out, or take --method born-again"
            )
        if config.method == "born-again" and self.teacher is None:
            name = config.recipe if config.recipe != CUSTOM else "RECIPE"
            raise UsageError(
                "the method is born-again, but there is no teacher; type kd-baselines born-again "
                f"{name} to train generations, or pass --teacher FILE, or train the teacher itself "
                "with --arm teacher"
            )
        super().check(config, path, options, resumed)

    def load_data(self, config: LanguageConfig, options: RunOptions) -> Corpus:
        return self.data if self.data is not None else load_corpus(config, options)

    def build(self, config: LanguageConfig, options: RunOptions) -> Work[TrainedLanguage]:
        language_arguments(config.net)  # refused before the text is read
        return _Training(config, self.load_data(config, options), self.teacher)

    def explain_memory(self, config: LanguageConfig) -> str:
        return (
            f"steps on {config.batch} columns of {config.unroll} words with {config.net}; try "
            "a smaller --batch"
        )


class _Training(StudentWork[TrainedLanguage]):
    """The epochs of one net."""

    loop: LanguageFit

    def __init__(
        self, config: LanguageConfig, corpus: Corpus, teacher: LanguageModel | None
    ) -> None:
        self.config, self.corpus = config, corpus
        self.device = device = resolve(config.device)
        if teacher is not None:
            refuse_other_words("the teacher", teacher.words, corpus)
            self.teacher = Teacher(teacher).to(device)
        for name in ("validation", "test"):
            if len(getattr(corpus, name)) < 2 * COLUMNS:
                raise DataError(
                    f"the {name} text of {corpus.name} has {len(getattr(corpus, name))} words, "
                    f"wanted at least {2 * COLUMNS}, 2 in each of {COLUMNS} columns; "
                    "give a longer one"
                )
        self.net = build_language(config.net, corpus.words, seed=config.seed, **config.net_args).to(
            device
        )
        self.loop = LanguageFit(
            self.net,
            corpus.train.to(device),
            config,
            validation=corpus.validation.to(device),
            teacher=None if self.teacher is None else cast(LanguageModel, self.teacher.nets[0]),
            label_weight=config.label_weight,
            seed=config.seed,
        )
        found = {} if self.teacher is None else {"teacher": self.teacher.hash}
        self.fingerprints = fingerprints(corpus, self.net, found)

    def stage(self) -> tuple[str, int]:
        return "student", self.config.epochs

    def test(self) -> TrainedLanguage:
        config, words, name = self.config, self.corpus.words, self.corpus.name
        found, validation = perplexity(self.net, self.corpus.test), self.loop.last
        assert validation is not None  # there is a validation text
        scores = {"perplexity": found, "validation perplexity": validation}
        args = {**language_arguments(config.net), **config.net_args}
        saved = SavedLanguageModel(
            copy_state(self.net), config.net, args, words, name, scores, to_record(config)
        )
        return TrainedLanguage(self.net, found, validation, config, saved)


def load_corpus(config: LanguageConfig, options: RunOptions) -> Corpus:
    """The text that a config names."""
    return read_corpus(
        config.text, tokens=config.tokens, vocabulary=config.vocabulary, root=options.data_root
    )
