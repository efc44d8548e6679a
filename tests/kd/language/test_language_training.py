"""Runs of language models from start to end, their files, their recipes, and chains of
generations."""

import json
import re
from dataclasses import replace

import pytest
import torch

from datadistill.config import RunOptions
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config, dump_config
from kd_baselines.language.config import LANGUAGE_KIND, LanguageConfig
from kd_baselines.language.corpus import make_corpus, read_corpus
from kd_baselines.language.lineage import LanguageLineage
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.nets import build_language, language_arguments
from kd_baselines.language.perplexity import Ensemble, perplexity
from kd_baselines.language.training import train_language
from kd_baselines.recipes import RECIPES, page, recipe
from kd_baselines.studies.chains import refuse_other_teacher

LINES = ("the cat sat on the mat\n", "a dog ran\n", "the dog sat\n", "<unk> cat ran on a mat\n")
TEXT = "".join(LINES[int(n)] for n in 4 * "0120312302")
PART = "".join(LINES[int(n)] for n in "0213021303")
TINY = LanguageConfig(net_args={"width": 5, "dropout": 0.3}, epochs=3, batch=4, unroll=10, lr=0.5)
TAUGHT = replace(TINY, method="born-again", seed=1)
QUICK = RunOptions(quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text in files."""
    place = tmp_path_factory.mktemp("text") / "tiny"
    place.mkdir()
    for name in ("train", "valid", "test"):
        (place / f"{name}.txt").write_text(TEXT if name == "train" else PART)
    return place


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """A teacher and what it taught."""
    place = tmp_path_factory.mktemp("runs")
    train_language(replace(TINY, text=str(folder)), out=place / "teacher")
    train_language(
        replace(TAUGHT, text=str(folder)), teacher=place / "teacher", out=place / "student"
    )
    return place


# --- a run


def test_what_a_run_leaves(runs, folder):
    run = RunFolder.open(runs / "student", kind=LANGUAGE_KIND)
    corpus = read_corpus(folder)
    lines = run.read_metrics()
    assert [line["epoch"] for line in lines] == [1, 2, 3] and len(run.read_timing()) == 3
    assert all(set(line) == {"epoch", "loss", "lr", "perplexity"} for line in lines)
    teacher, saved = (SavedLanguageModel.load(runs / name) for name in ("teacher", "student"))
    assert run.environment["data"] == corpus.fingerprint and run.environment["teacher"].startswith(
        "sha256:"
    )
    assert (
        saved.words == corpus.words
        and saved.dataset == "tiny"
        and teacher.record["method"] == "plain"
    )
    net = saved.net()
    assert saved.scores["perplexity"] == perplexity(net, corpus.test)
    assert (
        saved.scores["validation perplexity"]
        == perplexity(net, corpus.validation)
        == lines[-1]["perplexity"]
    )
    assert str(folder) not in (runs / "student" / "student.safetensors").read_bytes().decode(
        "latin-1"
    )
    assert saved.record["text"] == "tiny" and saved.args == {
        **language_arguments("lstm"),
        **TINY.net_args,
    }
    # in memory, of a text at hand
    again = train_language(TAUGHT, corpus=corpus, teacher=teacher.net())
    assert again.saved.fingerprint == saved.fingerprint and not again.net.training


# --- what is refused, before anything is written


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"unroll": 1000}, UsageError, "unroll is 1000"),
        ({"batch": 5000}, UsageError, "batch is 5000"),
        ({"net": "lsmt"}, UsageError, "did you mean lstm"),
        ({"net_args": {"wdith": 3}}, UsageError, "did you mean width"),
        ({"text": "nowhere"}, DataError, "nowhere"),
        ({"tokens": 10**6}, UsageError, "tokens is 1,000,000"),
        (
            {"method": "born-again"},
            UsageError,
            "kd-baselines born-again RECIPE.*teacher=FILE.*arm teacher",
        ),
        (
            {"lr": 1e38, "clip": 1e38, "epochs": 9},
            NumericalError,
            "train with a smaller learning rate",
        ),
    ],
)
def test_refused(changes, error, said, folder, tmp_path):
    with pytest.raises(error, match=said):
        train_language(
            replace(TINY, text=str(folder)).with_changes(**changes), out=tmp_path / "run"
        )
    assert error is NumericalError or not (tmp_path / "run").exists()


def test_short_and_unlike_texts_are_refused(runs, tmp_path):
    with pytest.raises(DataError, match="test text of custom has 4 words, wanted at least 20"):
        train_language(TINY, corpus=make_corpus(TEXT, TEXT, "the cat sat\n"), out=tmp_path / "run")
    shuffled = make_corpus("mat mat mat mat mat\n" + TEXT, TEXT, TEXT)
    with pytest.raises(
        DataError,
        match=r"the teacher knows 10 words, .* has 10: word 2 is 'sat' to the net and 'mat'",
    ):
        train_language(TAUGHT, corpus=shuffled, teacher=runs / "teacher", out=tmp_path / "run")
    with pytest.raises(
        DataError, match=r"the teacher knows 10 words, .* has 11: 'zebra' is only the text's"
    ):
        train_language(
            TAUGHT, corpus=make_corpus(TEXT + "zebra\n", TEXT, TEXT), teacher=runs / "teacher"
        )
    with pytest.raises(UsageError, match="method is plain"):
        train_language(
            TINY,
            corpus=make_corpus(TEXT, TEXT, TEXT),
            teacher=runs / "teacher",
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


# --- the file


@pytest.mark.parametrize("net", ["lstm", "cnn-lstm"])
def test_a_file_gives_the_net_back(net, tmp_path):
    words, args = ("the", "cat", "mät", "<unk>"), {"width": 3, "dropout": 0.25}
    model = build_language(net, words, seed=2, **args).eval()
    args = {**language_arguments(net), **args}
    one = SavedLanguageModel(
        model.state_dict(), net, args, words, "mine", {"perplexity": 3.5}, {"seed": 2}
    )
    one.save(tmp_path / "a.safetensors")
    two = SavedLanguageModel.load(tmp_path / "a.safetensors")
    for name in ("name", "args", "words", "dataset", "scores", "record", "bytes", "fingerprint"):
        assert getattr(two, name) == getattr(one, name), name
    tokens = torch.tensor([[0, 1], [2, 3]])
    before = torch.random.get_rng_state()
    assert torch.equal(two.net()(tokens)[0], model(tokens)[0]) and not two.net().training
    assert torch.equal(torch.random.get_rng_state(), before)
    replace(one, args={**args, "width": 4}).save(tmp_path / "c.safetensors")
    with pytest.raises(DataError, match=f"c.safetensors: tensor .* of the net {net}"):
        SavedLanguageModel.load(tmp_path / "c.safetensors")


# --- generations


def test_a_lineage_trains_nets_and_measures_them(runs, folder, tmp_path):
    lineage = LanguageLineage(QUICK)
    config = replace(TAUGHT, text=str(folder), label_weight=0.5)
    first, later = lineage.build_first(config, 7), lineage.build_later(config, 8)
    assert (first.method, first.seed, first.net_args) == (
        "plain",
        7,
        TINY.net_args,
    ) and later.seed == 8
    assert replace(later, seed=1) == config
    lineage.train(later, runs / "teacher/student.safetensors", tmp_path / "run", False)
    files = [runs / "teacher/student.safetensors", tmp_path / "run/student.safetensors"]
    refuse_other_teacher(tmp_path / "run", files[0], lineage.fingerprint(files[0]))
    with pytest.raises(DataError, match="was taught by another net"):
        refuse_other_teacher(tmp_path / "run", files[1], lineage.fingerprint(files[1]))
    nets, corpus = [SavedLanguageModel.load(f).net() for f in files], read_corpus(folder)
    for average in ("arithmetic", "geometric"):
        found = lineage.scores(files, config, average)
        assert list(found) == ["perplexity", "validation perplexity"]
        assert found["perplexity"] == perplexity(Ensemble(*nets, average=average), corpus.test)
    assert lineage.scores(files[1:], config, "arithmetic")["perplexity"] == pytest.approx(
        perplexity(nets[1], corpus.test), rel=1e-12
    )
    with pytest.raises(UsageError, match="unroll"):
        lineage.refuse(replace(config, unroll=999))


# --- recipes

EVERY = [
    (n, arm)
    for n, p in RECIPES.items()
    if isinstance(p.make(), LanguageConfig)
    for arm in ("own", *p.arms)
]
SMALL = {
    "lstm": {"width": 5, "dropout": 0.1},
    "cnn-lstm": {"width": 4, "char_width": 3, "widths": 3, "filters": 2, "layers": 2},
}


def test_the_recipes_that_were_promised_are_there():
    assert {name for name, _ in EVERY} == {"ban-ptb", "ban-ptb-small", "ban-ptb-tiny"}
    configs = [recipe(name, arm).with_changes(arm="x") for name, arm in EVERY if name == "ban-ptb"]
    assert all(a != b for i, a in enumerate(configs) for b in configs[:i])


@pytest.mark.parametrize(("name", "arm"), EVERY)
def test_a_miniature_of_every_arm_trains(name, arm, runs):
    config = recipe(name, arm)
    assert (config.recipe, config.arm, config.text) == (name, arm, "ptb")
    assert (
        build_config(LanguageConfig, json.loads(json.dumps(dump_config(config))), "config.json")
        == config
    )
    assert set(config.net_args) <= set(language_arguments(config.net))
    small = config.with_changes(net_args=SMALL[config.net], epochs=1, batch=4, unroll=10)
    corpus = make_corpus(TEXT, PART, PART)
    teacher = (
        SavedLanguageModel.load(runs / "teacher").net() if config.method == "born-again" else None
    )
    found = train_language(small, corpus=corpus, teacher=teacher)
    assert 1 < found.perplexity < 20 and found.config.text == "custom"


def test_published_perplexities_are_table_6s():
    table = {"own": (68.56, 71.19, 71.87, 75.11), "cnn-lstm": (76.97, 80.27, 80.05, 83.69)}
    table |= {"teacher": (71.87, 75.11), "cnn-lstm-teacher": (80.05, 83.69), "small": (), "ban": ()}
    assert set(table) == {"own", *page("ban-ptb").arms} and page("ban-ptb").measure == "perplexity"
    for arm, numbers in table.items():
        text = page("ban-ptb").published_of(arm)
        assert [float(x) for x in re.findall(r"\d+\.\d+", text)] == list(numbers)
        assert text == "-" or re.match(
            r"[\d.]+ test perplexity, .*\(Furlanello et al. 2018, table 6\)$", text
        )
