"""`kd-baselines evaluate RUN_OR_FILE`: test a trained net, an image classifier or a language
model."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from datadistill.cli.options import MachineOptions, NetPath, open_output, parse, wants_help
from datadistill.config import RunOptions
from datadistill.errors import UsageError
from kd_baselines.cli.configs import is_net_of_text
from kd_baselines.cli.published import published_of_run, say_published
from kd_baselines.cli.score_tables import say_accuracies, say_perplexities
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig

if TYPE_CHECKING:
    from datadistill.data import RealData
    from kd_baselines.language.netfile import SavedLanguageModel
    from kd_baselines.netfile import SavedNet
    from kd_baselines.saved_model import SavedModel

F = TypeVar("F", bound="EvaluateFlags")


@dataclass(frozen=True)
class EvaluateFlags:
    """The options of `kd-baselines evaluate`."""

    run: NetPath
    """A run folder, or the file of a net."""
    options: MachineOptions = field(default_factory=MachineOptions)


@dataclass(frozen=True)
class Evaluate(EvaluateFlags):
    """Test a trained student or teacher, also under noise and on classes that it never saw."""

    which: Literal["student", "teacher"] = "student"
    """Which net of a run folder."""
    split: Literal["test", "validation", "train"] = "test"
    """Which images to test on."""
    noise: tuple[float, ...] = ()
    """Deviations of Gaussian noise on pixels in the range 0 to 1."""
    missing: tuple[str, ...] | None = None
    """Classes, by name, whose logit is shifted; default: those that the student did not see."""
    seed: int = 0
    """Seed of the noise."""


@dataclass(frozen=True)
class EvaluateLanguage(EvaluateFlags):
    """Test a trained language model on the validation and the test text."""

    text: str | None = None
    """ptb, or a folder with train.txt, valid.txt and test.txt; default: the text that it was
    trained on."""


class Measured(NamedTuple):
    """A net, its scores, a line about both, and what --json has besides the scores."""

    saved: SavedModel
    scores: Mapping[str, Any]
    about: str
    facts: dict[str, Any]


class EvaluateCommand(abc.ABC, Generic[F]):
    """`kd-baselines evaluate`, as it was typed."""

    flags: type[F]
    study: ClassVar[str]
    """The command that trains more of such nets."""
    say_scores: ClassVar[Callable[..., dict[str, Any]]]
    """See `kd_baselines.cli.score_tables`."""
    config_class: ClassVar[type[KdConfig] | type[LanguageConfig]]
    """Of the runs of such nets."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.args = parse(self.flags, argv, "kd-baselines evaluate")

    @abc.abstractmethod
    def measure(self) -> Measured:
        """Load the net and its data, and test it."""

    def is_as_published(self) -> bool:
        """Whether what was tested is what published numbers are of: the student, on the test part
        of its own data."""
        return True

    def run(self) -> int:
        """Test, and say what came out and what to type next."""
        output = open_output(self.args.options)
        with output.redirect_prints():
            saved, scores, about, facts = self.measure()
        found = self.say_scores(output, saved, scores)
        recipe = (saved.record or {}).get("recipe")
        known: dict[str, Any] = {}
        # a file alone does not say which teacher it had
        if self.args.run.is_dir() and self.is_as_published():
            number, changed = published_of_run(self.args.run, self.config_class)
            say_published(output, number, changed)
            known = {"published": number, "changed": changed}
        output.say(
            about,
            f"next: kd-baselines {self.study} "
            f"{recipe if recipe not in (None, 'custom') else 'RECIPE'}",
        )
        named = {"bytes": saved.bytes, "fingerprint": saved.fingerprint}
        output.result({**named, **facts, **found, **known})
        return 0


class EvaluateImages(EvaluateCommand[Evaluate]):
    """Of an image classifier."""

    flags, study, say_scores = Evaluate, "compare", staticmethod(say_accuracies)
    config_class = KdConfig

    def is_as_published(self) -> bool:
        return (self.args.which, self.args.split) == ("student", "test")

    def measure(self) -> Measured:
        from datadistill.device import resolve
        from kd_baselines.evaluation import score
        from kd_baselines.netfile import SavedNet

        args = self.args
        saved = SavedNet.load(args.run, which=args.which)
        device = resolve(args.options.device)
        data = load_data_of(saved, args).to(device)
        # those of a student's own scores, none of a teacher's
        missing = (
            args.missing
            if args.missing is not None
            else tuple((saved.scores or {}).get("missing", ()))
        )
        net = saved.net().to(device) if len(saved.states) == 1 else saved.to_teacher().to(device)
        found = score(
            net, data, noise=args.noise, missing=missing, seed=args.seed, split=args.split
        )
        facts = {"nets": len(saved.states), "dataset": data.name, "description": data.description}
        about = f"{saved.spec.name}; {data.description}"
        return Measured(saved, found.as_dict(), about, {**facts, "seed": args.seed})


class EvaluateText(EvaluateCommand[EvaluateLanguage]):
    """Of a language model."""

    flags, study, say_scores = EvaluateLanguage, "born-again", staticmethod(say_perplexities)
    config_class = LanguageConfig

    def is_as_published(self) -> bool:
        return self.args.text is None

    def measure(self) -> Measured:
        from datadistill.device import resolve
        from kd_baselines.language.netfile import SavedLanguageModel
        from kd_baselines.language.perplexity import perplexity
        from kd_baselines.language.training import load_corpus

        args = self.args
        saved = SavedLanguageModel.load(args.run)
        options = RunOptions(data_root=args.options.data_root, download=args.options.download)
        corpus = load_corpus(find_config(saved, args), options)
        saved.refuse_other(str(args.run), corpus)
        net = saved.net().to(resolve(args.options.device))
        texts = {"validation perplexity": corpus.validation, "perplexity": corpus.test}
        found = {name: perplexity(net, text) for name, text in texts.items()}
        about = f"{saved.name}; {corpus.name}, {len(corpus.words):,} words; lower is better"
        return Measured(saved, found, about, {"dataset": corpus.name})


def run(argv: Sequence[str]) -> int:
    """Parse, evaluate, print."""
    words = [] if wants_help(argv) else [word for word in argv if not word.startswith("-")]
    return (
        EvaluateText(argv).run() if any(map(is_net_of_text, words)) else EvaluateImages(argv).run()
    )


def load_data_of(saved: SavedNet, args: Evaluate) -> RealData:
    """The data that a net was trained on, split and normalized as then."""
    from datadistill.data import SOURCES, load

    record = saved.record or {}
    if record.get("dataset") == "folder":
        raise UsageError(
            f"the net was trained on a folder of images ({saved.dataset}), and its file does not "
            "say which of them were held out; its scores stand in the file and were told by "
            "kd-baselines train"
        )
    if saved.dataset not in SOURCES:
        raise UsageError(
            f"the net was trained on data of your own from Python ({saved.dataset}); test it from "
            "Python with kd_baselines.score(net, data)"
        )
    return load(
        saved.dataset,
        root=args.options.data_root,
        download=args.options.download,
        normalization=saved.normalization,
        validation=record.get("validation"),
        seed=record.get("teacher_seed") or 0,
    )


def find_config(saved: SavedLanguageModel, args: EvaluateLanguage) -> LanguageConfig:
    """The config of the net's training: which text, and how much of it."""
    from datadistill.runs.jsonconfig import build_config
    from datadistill.studies.study import read_run_config

    config = build_config(LanguageConfig, dict(saved.record or {}), str(args.run))
    text = args.text or config.text
    if args.run.is_dir():  # a file tells no path
        text = args.text or read_run_config(args.run, LanguageConfig).text
    elif args.text is None and text != "ptb":
        raise UsageError(f"{args.run} was trained on {text!r}; pass its folder (--text FOLDER)")
    if text == "custom":
        raise UsageError(
            f"{args.run} was trained on a text of your own from Python; test it from Python with "
            "kd_baselines.language.perplexity.perplexity(net, tokens)"
        )
    return config.with_changes(text=text)
