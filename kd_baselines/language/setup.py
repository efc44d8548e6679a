"""From a config to what is trained: the text, the teacher, the net, the loop."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from datadistill.config import RunOptions
from datadistill.device import resolve
from datadistill.errors import DataError
from datadistill.runs.jsonconfig import dump_config
from datadistill.runs.resume import fingerprints
from kd_baselines.language.config import LanguageConfig
from kd_baselines.language.corpus import Corpus, read_corpus
from kd_baselines.language.loop import LanguageFit
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.nets import LanguageModel, build_language, language_arguments
from kd_baselines.language.perplexity import COLUMNS
from kd_baselines.language.plan import LanguagePlan
from kd_baselines.teachers import Teacher

__all__ = ["Given", "LanguageSetup", "load_corpus", "refuse_other_words"]

Given = tuple[LanguageModel, str | None]
"""A teacher, and how it was typed."""


def load_corpus(config: LanguageConfig, options: RunOptions) -> Corpus:
    """The text that a config names."""
    return read_corpus(config.text, tokens=config.tokens, vocabulary=config.vocabulary, root=options.data_root)


def refuse_other_words(who: str, words: tuple[str, ...], corpus: Corpus) -> None:
    """Refuse a net whose vocabulary is not the text's; the sentence says where they differ.

    Example:
        >>> from kd_baselines.language.corpus import make_corpus
        >>> refuse_other_words("the teacher", ("a", "b"), make_corpus("a a\\n", "a\\n", "a\\n"))
        Traceback (most recent call last):
        datadistill.errors.DataError: the teacher knows 2 words, the text custom has 2: 'b' is only the ...
    """
    if words == corpus.words:
        return
    own, there = set(words), set(corpus.words)
    alone = [f"{w!r} is only the net's" for w in words if w not in there][:1]
    alone += [f"{w!r} is only the text's" for w in corpus.words if w not in own][:1]
    if not alone:
        n, a, b = next((n, a, b) for n, (a, b) in enumerate(zip(words, corpus.words, strict=True)) if a != b)
        alone = [f"word {n} is {a!r} to the net and {b!r} in the text"]
    raise DataError(
        f"{who} knows {len(words):,} words, the text {corpus.name} has {len(corpus.words):,}: "
        f"{', '.join(alone)}; take a net that was trained on these words (the same text, --tokens and "
        "--vocabulary)"
    )


class LanguageSetup:
    """Text, nets and loop of one run. `corpus` is a text of the user's own, None: the one that the config
    names; `given` is the teacher, and how it was typed."""

    def __init__(
        self, config: LanguageConfig, corpus: Corpus | None, given: Given | None, options: RunOptions
    ) -> None:
        language_arguments(config.net)  # refused before the text is read
        self.config, self.typed = config, None if given is None else given[1]
        self.device = device = resolve(config.device)
        self.corpus = corpus = load_corpus(config, options) if corpus is None else corpus
        self.teacher: Teacher | None = None
        if given is not None:
            refuse_other_words("the teacher", given[0].words, corpus)
            self.teacher = Teacher(given[0]).to(device)
        for name in ("validation", "test"):
            if len(getattr(corpus, name)) < 2 * COLUMNS:
                raise DataError(
                    f"the {name} text of {corpus.name} has {len(getattr(corpus, name))} words, wanted at least "
                    f"{2 * COLUMNS}, 2 in each of {COLUMNS} columns; give a longer one"
                )
        self.net = build_language(config.net, corpus.words, seed=config.seed, **config.net_args).to(device)
        plan = LanguagePlan.of(config)
        self.fit = LanguageFit(
            self.net, corpus.train.to(device), plan, validation=corpus.validation.to(device),
            teacher=None if self.teacher is None else cast(LanguageModel, self.teacher.nets[0]),
            label_weight=config.label_weight, seed=config.seed,
        )  # fmt: skip

    def fingerprints(self) -> dict[str, str]:
        """What a resumed run must find again: the text, the net's tensors, the teacher."""
        origin = {} if self.teacher is None else {"teacher": self.teacher.hash}
        return fingerprints(self.corpus, self.net, origin)

    def to_saved(self, scores: dict[str, float]) -> SavedLanguageModel:
        """The trained net as a file holds it."""
        config = self.config
        record = {name: value for name, value in dump_config(config).items() if name != "device"}
        record["text"] = Path(config.text).name  # a file tells no path
        state = {k: v.detach().cpu().clone() for k, v in self.net.state_dict().items()}
        args = {**language_arguments(config.net), **config.net_args}
        return SavedLanguageModel(state, config.net, args, self.corpus.words, self.corpus.name, scores, record)
