"""A text as numbers: words, vocabulary, unknown words. `windows` cuts it up for a language model.

    file         words separated by white space, "<eos>" at the end of every line
    numbers      0, 1, ... by how often a word is in the training text; ties by which comes first
    unknown      a word outside the vocabulary is read as "<unk>", where the vocabulary has one

Penn Treebank as language models use it (Mikolov's version) has 929,589 / 73,760 / 82,430 tokens and
10,000 words, "<unk>" and "<eos>" among them.

References: Mikolov et al., Recurrent neural network based language model, 2010; Marcus et al.,
Building a large annotated corpus of English: the Penn Treebank, 1993
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from datadistill.data.roots import Root, data_roots
from datadistill.errors import DataError, UsageError, list_some
from datadistill.nets.layers import check_whole
from datadistill.runs.tensors import checksum

__all__ = ["EOS", "UNK", "Corpus", "make_corpus", "read_corpus", "refuse_other_words"]

EOS = "<eos>"
"""The word at every line's end."""
UNK = "<unk>"
"""The word that stands for those outside the vocabulary."""
SPLITS = ("train", "validation", "test")
PTB = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
OWN = ("train.txt", "valid.txt", "test.txt")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Three texts over one vocabulary."""

    name: str
    """Of the text."""
    words: tuple[str, ...]
    """The vocabulary: number -> word."""
    train: Int[Tensor, " n"]
    """int64, each a number of `words`."""
    validation: Int[Tensor, " n"]
    """The same."""
    test: Int[Tensor, " n"]
    """The same."""
    unknown: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    """Split -> how many of its tokens became "<unk>" here; those that the text itself has do not
    count."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the vocabulary and the three texts, 64 hexadecimal digits."""
        texts = {split: getattr(self, split) for split in SPLITS}
        return checksum(texts, {"words": list(self.words)}).removeprefix("sha256:")


def read_corpus(
    text: str | os.PathLike[str] = "ptb",
    *,
    tokens: int | None = None,
    vocabulary: int | None = None,
    root: Root = None,
) -> Corpus:
    """Read a training, a validation and a test text.

    Penn Treebank cannot be downloaded here: the Linguistic Data Consortium licenses it.

    Args:
        text: "ptb": the folder ptb with ptb.train.txt, ptb.valid.txt and ptb.test.txt in a data
            root; anything else is a folder with train.txt, valid.txt and test.txt.
        tokens: only so many words of the training text, from its beginning, "<eos>" counted; None:
            all. The vocabulary is of these alone.
        vocabulary: tell at most so many words apart, at least 2: "<unk>" and the most frequent
            others of the training text; None: all of them, and no "<unk>" where the text has none.
        root: where data lie; as in `data_roots`.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> for name in ("train", "valid", "test"):
        ...     _ = (folder / f"{name}.txt").write_text("the cat sat\\nthe dog sat\\n")
        >>> len(read_corpus(folder).words), len(read_corpus(folder).test)
        (5, 8)
    """
    if text == "ptb":
        folders, names = [place / "ptb" for place in data_roots(root)], PTB
    else:
        folders, names = [Path(text).expanduser()], OWN
    folder = next((f for f in folders if all((f / name).is_file() for name in names)), None)
    if folder is None:
        raise DataError(_describe_missing(str(text), folders, names))
    texts = [_read(folder / name) for name in names]
    return _corpus("ptb" if text == "ptb" else folder.resolve().name, texts, tokens, vocabulary)


def make_corpus(
    train: str | Sequence[str],
    validation: str | Sequence[str],
    test: str | Sequence[str],
    *,
    name: str = "custom",
    vocabulary: int | None = None,
) -> Corpus:
    """A corpus of texts at hand: strings, read as files are, with "<eos>" at every line's end, or
    lists of words, taken as they are. `vocabulary` is as in `read_corpus`.

    Example:
        >>> make_corpus("a a b\\nc\\n", "d\\n", "a\\n", vocabulary=3).unknown
        {'train': 2, 'validation': 1, 'test': 0}
    """
    texts = [
        _split_words(part) if isinstance(part, str) else list(part)
        for part in (train, validation, test)
    ]
    for split, words in zip(SPLITS, texts, strict=True):
        if not any(word != EOS for word in words):
            raise DataError(f"the {split} text has no word; give one or more")
    return _corpus(name, texts, None, vocabulary)


def refuse_other_words(who: str, words: tuple[str, ...], corpus: Corpus) -> None:
    """Refuse a net whose vocabulary is not the text's; the sentence says where they differ.

    Example:
        >>> refuse_other_words("the teacher", ("a", "b"), make_corpus("a a\\n", "a\\n", "a\\n"))
        Traceback (most recent call last):
        datadistill.errors.DataError: the teacher knows 2 words, the text custom has 2: 'b' is only
        the ...
    """
    if words == corpus.words:
        return
    own, there = set(words), set(corpus.words)
    alone = [f"{w!r} is only the net's" for w in words if w not in there][:1]
    alone += [f"{w!r} is only the text's" for w in corpus.words if w not in own][:1]
    if not alone:
        n, a, b = next(
            (n, a, b) for n, (a, b) in enumerate(zip(words, corpus.words, strict=True)) if a != b
        )
        alone = [f"word {n} is {a!r} to the net and {b!r} in the text"]
    raise DataError(
        f"{who} knows {len(words):,} words, the text {corpus.name} has {len(corpus.words):,}: "
        f"{', '.join(alone)}; take a net that was trained on these words (the same text, --tokens "
        "and --vocabulary)"
    )


def _corpus(
    name: str, texts: list[list[str]], tokens: int | None, vocabulary: int | None
) -> Corpus:
    """Number the words of three texts."""
    if tokens is not None and check_whole("tokens", tokens) > len(texts[0]):
        raise UsageError(
            f"tokens is {tokens:,}, but the training text of {name} has {len(texts[0]):,}; lower "
            "it or leave it out"
        )
    texts = [texts[0][:tokens], *texts[1:]]
    words = _vocabulary(texts[0], vocabulary)
    number = {word: i for i, word in enumerate(words)}
    foreign = [[word for word in text if word not in number] for text in texts]
    if UNK not in number and any(foreign):
        kinds = list(dict.fromkeys(word for text in foreign for word in text))
        listing = list_some([repr(word[:40]) for word in kinds], 5)
        lacking, them = ("1 word", "it") if len(kinds) == 1 else (f"{len(kinds):,} words", "them")
        raise DataError(
            f"{name}: the training text lacks {lacking} of the validation and test texts "
            f"({listing}) and has no {UNK} for {them}; pass a vocabulary (--vocabulary N) below "
            f"its {len(words):,} words, which makes an {UNK} of the rare ones, or add {them} to "
            "the training text"
        )
    rest = number.get(UNK, -1)
    train, validation, test = (
        torch.tensor([number.get(word, rest) for word in text], dtype=torch.int64) for text in texts
    )
    unknown = dict(zip(SPLITS, map(len, foreign), strict=True))
    return Corpus(name, words, train, validation, test, unknown)


def _vocabulary(text: list[str], most: int | None) -> tuple[str, ...]:
    """The words of a text, the frequent first; Counter keeps ties in the order of first
    appearance."""
    if most is None:
        return tuple(word for word, _ in Counter(text).most_common())
    check_whole("vocabulary", most, least=2)
    kept = {word for word, _ in Counter(w for w in text if w != UNK).most_common(most - 1)}
    counts = Counter(word if word in kept else UNK for word in text)
    counts.setdefault(UNK, 0)  # no word was rare: an <unk> that only other texts can have
    return tuple(word for word, _ in counts.most_common())


def _split_words(text: str) -> list[str]:
    lines = text.split("\n")
    if not lines[-1].strip():  # what follows the last line's end is no line
        lines.pop()
    return [word for line in lines for word in (*line.split(), EOS)]


def _read(path: Path) -> list[str]:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        words = _split_words(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}, is not UTF-8; save the file as UTF-8 text") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); check the file"
        ) from error
    if not any(word != EOS for word in words):
        raise DataError(f"{path} is empty: it has no word; put the text there")
    return words


def _describe_missing(text: str, folders: list[Path], names: Sequence[str]) -> str:
    lacking = [
        f"{folder} (lacks {', '.join(n for n in names if not (folder / n).is_file())})"
        for folder in folders
    ]
    found = (
        f"the text {text!r} was not found: looked for {', '.join(names)} in {'; '.join(lacking)}"
    )
    if names is PTB:
        return (
            f"{found}. Penn Treebank is licensed by the Linguistic Data Consortium (LDC) and "
            "cannot be downloaded here: put the three files of Mikolov's version there, or name a "
            "folder with train.txt, valid.txt and test.txt"
        )
    return f"{found}; put them there, or name another folder (or ptb)"
