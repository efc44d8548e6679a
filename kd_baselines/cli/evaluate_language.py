"""`kd-baselines evaluate RUN_OR_FILE` for a language model: its perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datadistill.cli.options import MachineOptions, NetPath, open_output, parse
from datadistill.config import RunOptions
from datadistill.errors import UsageError
from datadistill.runs.jsonconfig import build_config
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig


@dataclass(frozen=True)
class EvaluateLanguage:
    """Test a trained language model on the validation and the test text."""

    run: NetPath
    """A run folder, or the file of a net."""
    text: str | None = None
    """ptb, or a folder with train.txt, valid.txt and test.txt; default: the text that it was trained on."""
    options: MachineOptions = field(default_factory=MachineOptions)


def is_language(word: str) -> bool:
    """Whether a word of the command is a run folder or a file of a language model."""
    if not Path(word).exists():
        return False
    from datadistill.runs.file_kinds import read_kind

    return read_kind(word) in (LANGUAGE_KIND, "kd-language-net")


def run(argv: Sequence[str]) -> int:
    """Parse, evaluate, print."""
    args = parse(EvaluateLanguage, argv, "kd-baselines evaluate")
    output = open_output(args.options)
    from datadistill.device import resolve
    from kd_baselines.cli.results import perplexity_table
    from kd_baselines.language.netfile import SavedLanguageModel
    from kd_baselines.language.perplexity import perplexity
    from kd_baselines.language.training import load_corpus, refuse_other_words

    saved = SavedLanguageModel.load(args.run)
    config = config_of(args, dict(saved.record or {}))
    with output.redirect_prints():
        options = RunOptions(data_root=args.options.data_root, download=args.options.download)
        corpus = load_corpus(config, options)
        refuse_other_words(str(args.run), saved.words, corpus)
        net = saved.net().to(resolve(args.options.device))
        validation, test = (perplexity(net, x) for x in (corpus.validation, corpus.test))
    perplexity_table(output, {"validation": validation, "test": test})
    output.say(f"{saved.name}; {corpus.name}, {len(corpus.words):,} words; lower is better")
    output.say(f"next: kd-baselines born-again {config.recipe if config.recipe != 'custom' else 'RECIPE'}")
    output.result({
        "net": saved.name, "dataset": corpus.name, "words": len(corpus.words), "bytes": saved.bytes,
        "fingerprint": saved.fingerprint, "perplexity": test, "validation_perplexity": validation,
    })  # fmt: skip
    return 0


def config_of(args: EvaluateLanguage, record: dict[str, object]) -> LanguageConfig:
    """The config of the net's training: which text, and how much of it."""
    config = build_config(LanguageConfig, record, str(args.run))
    text = args.text or config.text
    if args.run.is_dir():  # a file tells no path
        from datadistill.studies.study import read_run_config

        text = args.text or read_run_config(args.run, LanguageConfig).text
    elif args.text is None and text != "ptb":
        raise UsageError(f"{args.run} was trained on {text!r}; pass its folder (--text FOLDER)")
    if text == "custom":
        raise UsageError(
            f"{args.run} was trained on a text of your own from Python; test it from Python with "
            "kd_baselines.language.perplexity.perplexity(net, tokens)"
        )
    return config.with_changes(text=text)
