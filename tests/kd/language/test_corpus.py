"""Texts as numbers: counts, vocabulary, unknown words, windows, and what is refused."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch

from datadistill.errors import DataError, UsageError
from kd_baselines.language.corpus import Corpus, make_corpus, read_corpus
from kd_baselines.language.windows import columns, windows

HERE = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
PLACES = [
    Path(part) for part in os.environ.get("DATADISTILL_DATA", "").split(os.pathsep) if part
] + [HERE]


def write(
    folder, train="the cat sat\nthe dog ran\n", valid="the cat ran\n", test="a dog\n", names=None
):
    for name, text in zip(
        names or ("train.txt", "valid.txt", "test.txt"), (train, valid, test), strict=True
    ):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def spelled(corpus, split):
    return " ".join(corpus.words[i] for i in getattr(corpus, split).tolist())


@pytest.fixture(scope="module")
def penn():
    place = next((p for p in PLACES if (p / "ptb" / "ptb.train.txt").is_file()), None)
    if place is None:
        pytest.skip("ptb is not in $DATADISTILL_DATA nor in ../shared/data")
    return place


def test_penn_treebank_has_the_standard_counts(penn):
    corpus = read_corpus("ptb", root=penn)
    assert [len(t) for t in (corpus.train, corpus.validation, corpus.test)] == [
        929_589,
        73_760,
        82_430,
    ]
    assert len(corpus.words) == len(set(corpus.words)) == 10_000
    assert corpus.unknown == {"train": 0, "validation": 0, "test": 0}
    counts = corpus.train.bincount(minlength=10_000)
    assert bool((counts[:-1] >= counts[1:]).all()) and corpus.words[:3] == ("the", "<unk>", "<eos>")
    for split, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        text = (penn / "ptb" / f"ptb.{name}.txt").read_text()
        assert spelled(corpus, split) == " ".join(text.replace("\n", " <eos> ").split())


def test_the_first_words_of_penn_treebank(penn):
    corpus = read_corpus("ptb", root=penn, tokens=2_000, vocabulary=100)
    text = (penn / "ptb" / "ptb.train.txt").read_text().replace("\n", " <eos> ").split()[:2_000]
    assert len(corpus.train) == 2_000 and len(corpus.words) == 100 and "<unk>" in corpus.words
    kept = {word for word, _ in Counter(w for w in text if w != "<unk>").most_common(99)}
    assert kept == set(corpus.words) - {"<unk>"}
    assert corpus.unknown["train"] == sum(word not in corpus.words for word in text)
    assert len(corpus.validation) == 73_760  # only the training text is cut


def test_words_are_numbered_by_frequency_then_appearance(tmp_path):
    corpus = read_corpus(write(tmp_path, "b a b c\nc a\n", "a\n", "c c\n"))
    assert corpus.words == ("b", "a", "c", "<eos>")  # two each: all by which comes first
    assert corpus.train.tolist() == [0, 1, 0, 2, 3, 2, 1, 3] and corpus.train.dtype == torch.int64
    assert corpus.test.tolist() == [2, 2, 3] and corpus.name == tmp_path.name


def test_line_ends_marks_and_blank_lines(tmp_path):
    texts = [b"\xef\xbb\xbfa b\r\n a \r\n", b"a\n\nb", "a\u2028b\x0b\n".encode()]
    corpus = read_corpus(write(tmp_path, *texts))
    assert spelled(corpus, "train") == "a b <eos> a <eos>"
    assert spelled(corpus, "validation") == "a <eos> <eos> b <eos>"
    assert spelled(corpus, "test") == "a b <eos>"  # only a line feed ends a line


def test_rare_words_become_unknown():
    corpus = make_corpus("a a a b b c d\n<unk> b\n", "c e a\n", "e\n", vocabulary=4)
    # a and b 3, <eos> 2; c and d become <unk>, which is 3 with the text's own
    assert corpus.words == ("a", "b", "<unk>", "<eos>")
    assert spelled(corpus, "train") == "a a a b b <unk> <unk> <eos> <unk> b <eos>"
    # the text's own does not count
    assert corpus.unknown == {"train": 2, "validation": 2, "test": 1}


def test_a_large_vocabulary_has_all_words_and_an_unknown_one():
    corpus = make_corpus("a b\n", "c\n", "a\n", vocabulary=50)
    assert corpus.words == ("a", "b", "<eos>", "<unk>")
    assert corpus.unknown == {"train": 0, "validation": 1, "test": 0}


def test_words_that_only_come_after_the_cut_are_unknown(tmp_path):
    corpus = read_corpus(write(tmp_path, "a <unk>\nb a\n", "b\n", "a\n"), tokens=3)
    assert corpus.words == ("a", "<unk>", "<eos>") and corpus.unknown["validation"] == 1
    assert spelled(corpus, "validation") == "<unk> <eos>"


def test_lists_of_words_are_taken_as_they_are():
    assert make_corpus(["a", "b c"], ["a"], ["b c"]).words == ("a", "b c")


def test_the_fingerprint_is_of_the_words_and_the_texts():
    def prints(*texts, **args):
        return make_corpus(*texts, **args).fingerprint

    one = prints("a b\n", "a\n", "b\n")
    assert len(one) == 64 and int(one, 16) >= 0
    assert one == prints("a b\n", "a\n", "b\n", name="other")
    assert (
        len(
            {
                one,
                prints("a c\n", "a\n", "c\n"),
                prints("a b\n", "b\n", "b\n"),
                prints("a b\n", "a\n", "a\n"),
            }
        )
        == 4
    )


def test_columns_are_stretches_of_the_text():
    cols = columns(torch.arange(11), 3)
    assert cols.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]  # 9 and 10 fill no row
    assert columns(torch.arange(5), 1).flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("unroll", [1, 2, 3, 6])
def test_windows_ask_for_every_word_but_the_first(unroll):
    cols = columns(torch.randperm(14), 2)
    pairs = list(windows(cols, unroll))
    assert (
        all(len(x) == len(y) == unroll for x, y in pairs[:-1]) and 1 <= len(pairs[-1][0]) <= unroll
    )
    assert torch.equal(torch.cat([x for x, _ in pairs]), cols[:-1])
    assert torch.equal(torch.cat([y for _, y in pairs]), cols[1:])


def test_a_window_longer_than_the_text_is_refused():
    with pytest.raises(UsageError, match="unroll is 35, but a column has 12 words"):
        windows(columns(torch.arange(24), 2), 35)
    with pytest.raises(
        UsageError, match="unroll is 12, but a column has 12 words, 11 of them with a next one"
    ):
        windows(columns(torch.arange(24), 2), 12)
    with pytest.raises(UsageError, match="unroll is 0"):
        windows(columns(torch.arange(24), 2), 0)


@pytest.mark.parametrize(
    "tokens, batch, said",
    [
        (torch.arange(5), 3, "batch is 3, but the text has 5 words.*lower batch to at most 2"),
        (torch.arange(1), 1, "give a longer text"),
        (torch.arange(0), 1, "the text has 0 words"),
        (torch.arange(5), 0, "batch is 0"),
        (torch.zeros(5), 1, "float32"),
        (torch.zeros(5, 1, dtype=torch.int64), 1, r"\(5, 1\)"),
    ],
)
def test_columns_of_no_text_are_refused(tokens, batch, said):
    with pytest.raises(UsageError, match=said):
        columns(tokens, batch)


@pytest.mark.parametrize(
    "texts, args, error, said",
    [
        ({"valid": "the zebra\n"}, {}, DataError, r"lacks 2 words .*\('zebra', 'a'\).*add them to"),
        (
            {"test": "zebra\n"},
            {},
            DataError,
            r"lacks 1 word of .*for it; pass a vocabulary \(vocabulary=N\) below its \d+ words, "
            r"which "
            "makes an <unk>",
        ),
        (
            {"test": "p q r s t u\n"},
            {},
            DataError,
            r"lacks 6 words .*\('p', 'q', 'r', 's', 't', \.\.\.\)",
        ),
        ({"train": ""}, {}, DataError, "train.txt is empty"),
        ({"valid": " \n\n"}, {}, DataError, "valid.txt is empty"),
        ({"test": b"a dog\nran \xff\n"}, {}, DataError, "test.txt, line 2, is not UTF-8"),
        (
            {"test": "dog\n"},
            {"tokens": 9},
            UsageError,
            "tokens is 9, but the training text of .* has 8",
        ),
        ({"test": "dog\n"}, {"tokens": 0}, UsageError, "tokens is 0"),
        ({}, {"vocabulary": 1}, UsageError, "vocabulary is 1"),
        ({}, {"vocabulary": 2.5}, UsageError, "vocabulary is 2.5"),
    ],
)
def test_bad_texts_are_refused(tmp_path, texts, args, error, said):
    with pytest.raises(error, match=said):
        read_corpus(write(tmp_path, **texts), **args)


def test_missing_files_are_named_with_the_places(tmp_path):
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "ptb.train.txt").write_text("a\n")
    with pytest.raises(
        DataError, match=r"ptb.valid.txt, ptb.test.txt\).*Linguistic Data Consortium.*Mikolov"
    ):
        read_corpus("ptb", root=tmp_path)
    with pytest.raises(DataError, match=r"'wikitext' was not found: looked for train\.txt, valid"):
        read_corpus("wikitext")
    names = ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
    write(tmp_path / "ptb", "a b\n", "a\n", "b\n", names)
    assert read_corpus("ptb", root=[tmp_path / "ptb", tmp_path]).name == "ptb"


def test_an_empty_text_at_hand_is_refused():
    with pytest.raises(DataError, match="the validation text has no word"):
        make_corpus("a\n", "\n", "a\n")


def test_a_corpus_can_be_made_of_numbers():
    one = torch.zeros(3, dtype=torch.int64)
    assert Corpus("x", ("a",), one, one, one).unknown == {"train": 0, "validation": 0, "test": 0}
