"""A language model, from start to end: text, teacher, folder, checkpoints, signals, and the net that is left.

    train_language(config)                               in memory, nothing written
    train_language(config, out="runs/a")                 a run folder, with student.safetensors
    train_language(config, teacher="runs/a", out="runs/b")
    train_language(None, out="runs/a", resume=True)

The test text is read once, at the end, after the last epoch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from datadistill.config import RunOptions
from datadistill.errors import UsageError
from datadistill.nets.spec import CUSTOM
from datadistill.progress import Report, shows_progress
from datadistill.runs.folder import RunFolder
from datadistill.runs.signals import StopFlag, interruptible
from datadistill.training.resume import named_failures
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.language.corpus import Corpus
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.nets import LanguageModel
from kd_baselines.language.perplexity import perplexity
from kd_baselines.language.setup import Given, LanguageSetup
from kd_baselines.netfile import STUDENT
from kd_baselines.running import Run, carry_out, come_back, in_folder, not_begun

__all__ = ["TrainedLanguage", "train_language"]


@dataclass(frozen=True, eq=False, repr=False)
class TrainedLanguage:
    """What a training leaves.

    Args:
        net: in evaluation mode, on the run's device.
        perplexity: on the test text.
        validation_perplexity: on the validation text.
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


@shows_progress
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

    Returns:
        The net and its perplexities.

    Raises:
        UsageError, DataError, NumericalError, ResourceError, Unavailable: each says what to do.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written where there is a folder.

    Example:
        >>> from kd_baselines.language.corpus import corpus_of
        >>> text = corpus_of(*3 * ["the cat sat on the mat\\n" * 40])
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
    if config is not None and not isinstance(config, LanguageConfig):
        raise UsageError(f'config is {config!r:.60}, wanted a LanguageConfig; recipe("ban-ptb") returns one')
    if config is not None and corpus is not None:  # what came from Python is named so
        config = replace(config, text=CUSTOM)
    given = _teacher(teacher)
    if out is None:
        if resume or config is None:
            raise UsageError("a run in memory cannot be resumed; pass out=FOLDER, and a config to start one")
        _refuse_method(config, given, None)
        with named_failures(_needs(config)), StopFlag() as stop:
            return _train(LanguageSetup(config, corpus, given, options), None, options, stop)
    path = Path(out)
    folder = None
    if resume:
        folder, config = come_back(path, LANGUAGE_KIND, config, LanguageConfig, options)
    if config is None:
        raise UsageError("no config was given; pass a recipe's config, or resume a run folder")
    if folder is None:
        RunFolder.refuse_occupied(path)
    _refuse_method(config, given, path if resume else None)
    if config.text == CUSTOM and corpus is None:
        raise UsageError(
            f"{path} trains on a text of your own from Python; go on from Python with train_language(None, "
            f"out={str(path)!r}, resume=True, corpus=...)"
        )
    with named_failures(_needs(config)), StopFlag() as stop:
        with interruptible(not_begun(path, folder)):
            setup = LanguageSetup(config, corpus, given, options)
        return in_folder(
            path, folder, LANGUAGE_KIND, config, setup.device, setup.fingerprints(), options, stop,
            lambda own: _train(setup, own, options, stop),
        )  # fmt: skip


def _train(
    setup: LanguageSetup, folder: RunFolder | None, options: RunOptions, stop: StopFlag
) -> TrainedLanguage:
    """Train what is not yet trained, measure the net, and write it."""
    fit, config = setup.fit, setup.config
    run = _run(setup, folder)
    carry_out(fit, run, folder, options, stop)
    if setup.teacher is not None:
        setup.teacher.check()
    with interruptible(run.all_done):
        found = perplexity(setup.net, setup.corpus.test)
    assert fit.last is not None  # there is a validation text
    saved = setup.saved({"perplexity": found, "validation perplexity": fit.last})
    if folder is not None:
        saved.save(folder.path / STUDENT)
    return TrainedLanguage(setup.net, found, fit.last, config, saved)


def _run(setup: LanguageSetup, folder: RunFolder | None) -> Run:
    """What is told of the run."""
    config, path = setup.config, "" if folder is None else str(folder.path)
    typed = "" if setup.typed is None else f" --teacher {setup.typed}"
    again = f"kd-baselines train --resume {path}{typed}"
    if config.text == CUSTOM or (setup.teacher is not None and setup.typed is None):
        own = ", corpus=..." if config.text == CUSTOM else ""
        own += ", teacher=..." if setup.teacher is not None else ""
        again = f"train_language(None, out={path!r}, resume=True{own})"
    return Run(LANGUAGE_KIND, config, again, lambda: ("student", config.epochs))


def _teacher(teacher: LanguageModel | str | os.PathLike[str] | None) -> Given | None:
    if teacher is None or isinstance(teacher, LanguageModel):
        return None if teacher is None else (teacher, None)
    if not isinstance(teacher, str | os.PathLike):
        raise UsageError(f"teacher is a {type(teacher).__name__}; pass a language model or its file")
    return SavedLanguageModel.load(teacher).net(), str(teacher)


def _refuse_method(config: LanguageConfig, given: Given | None, resumed: Path | None) -> None:
    """Refuse a teacher that no one asks, and the lack of one."""
    if config.method == "plain" and given is not None:
        raise UsageError(
            "the method is plain, which learns from the words alone, but a teacher was given; leave it out, or "
            "take --method born-again"
        )
    if config.method == "born-again" and given is None:
        if resumed is not None:
            raise UsageError(f"{resumed} was started with a teacher; pass it again (--teacher FILE)")
        name = config.recipe if config.recipe != CUSTOM else "RECIPE"
        raise UsageError(
            f"the method is born-again, but there is no teacher; type kd-baselines born-again {name} to train "
            "generations, or pass --teacher FILE, or train the teacher itself with --arm teacher"
        )


def _needs(config: LanguageConfig) -> str:
    """What takes the memory, and what takes less."""
    return f"steps on {config.batch} columns of {config.unroll} words with {config.net}; try a smaller --batch"
