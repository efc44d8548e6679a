"""Fault 2: a signal while data are read, nets are tested or a teacher is asked is acted on there,
and the resumed run reaches the bytes of an unbroken one."""

import importlib
import signal

import pytest
from small_kinds import KINDS, add_small_recipes, write_text

import datadistill.cli
import kd_baselines.cli
from datadistill.errors import Interrupted
from datadistill.reproduce import TABLES
from datadistill.runs.signals import StopFlag, interruptible, poll
from kd_baselines.recipes import RECIPES

MAIN = {"datadistill": datadistill.cli.main, "kd-baselines": kd_baselines.cli.main}
AT = {
    "distill": {
        "reading data": "datadistill.data:load",
        "testing nets": "datadistill.training.learning:measure_training",
    },
    "pretrain": {
        "reading data": "datadistill.data:load",
        "testing nets": "datadistill.training.pool_loop:accuracy",
    },
    "kd train": {
        "reading data": "datadistill.data:load",
        "testing after an epoch": "kd_baselines.stage_loop:accuracy",
        "asking the teacher": "kd_baselines.teacher_cache:CachedTeacher._fill",
        "testing at the end": "kd_baselines.image_training:score",
    },
    "language": {
        "testing after an epoch": "kd_baselines.language.loop:perplexity",
        "testing at the end": "kd_baselines.language.training:perplexity",
    },
    "born-again": {"testing at the end": "kd_baselines.image_lineage:score"},
    "ledger": {"training on what was sent": "kd_baselines.ledger.rows:receive"},
    "reproduce": {"measuring": "datadistill.reproduce.measure:measure_training"},
}
# stopped in their second job; tests/studies stops everywhere
STUDIES = ("born-again", "ledger", "reproduce")
CASES = [
    (kind, what, when)
    for kind, places in AT.items()
    for what in places
    for when in ((2,) if kind in STUDIES else (1, 3))
]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    known = {}

    def of(name, monkeypatch):
        if name not in known:
            folder = tmp_path_factory.mktemp("unbroken")
            write_text(folder)
            with monkeypatch.context() as patch:
                patch.chdir(folder)
                assert MAIN[KINDS[name].program]([*KINDS[name].start]) == 0
            known[name] = KINDS[name].digest(folder)
        return known[name]

    return of


def signal_in(patch, place, when):
    """Let a function get SIGTERM as it is called the `when`-th time, or the last time it is called
    before."""
    module, _, name = place.partition(":")
    owner = importlib.import_module(module)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    function, calls = getattr(owner, name), []

    def called(*args, **kwargs):
        calls.append(1)
        if len(calls) == when:
            signal.raise_signal(signal.SIGTERM)
        return function(*args, **kwargs)

    patch.setattr(owner, name, called)
    return calls


@pytest.fixture(autouse=True)
def small_recipes(monkeypatch):
    """The recipes and tables of these tests, for these tests alone."""
    monkeypatch.setitem(TABLES, "table9", None)  # both are taken away afterwards
    monkeypatch.setitem(RECIPES, "tiny", None)
    add_small_recipes()


@pytest.mark.parametrize(
    ("name", "what", "when"), CASES, ids=lambda value: str(value).replace(" ", "-")
)
def test_a_signal_is_acted_on_where_it_comes(
    tmp_path, monkeypatch, capsys, unbroken, name, what, when
):
    kind, wanted = KINDS[name], unbroken(name, monkeypatch)
    main = MAIN[kind.program]
    write_text(tmp_path)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        calls = signal_in(patch, AT[name][what], when)
        code = main([*kind.start])
    if len(calls) < when:
        assert code == 0 and when > 1 and name not in STUDIES  # it is not called as often
        return
    assert code == 143
    said = capsys.readouterr().err.splitlines()[-1]
    begun = (tmp_path / "run/config.json").exists()
    assert (
        "go on with: " in said if begun else "nothing was written" in said or "go on with: " in said
    )
    assert len(calls) == when  # not called again: it was broken off, or never begun
    assert not list(tmp_path.glob("run/**/.*.tmp"))
    assert main([*(kind.again if begun else kind.start)]) == 0
    assert kind.digest(tmp_path) == wanted


def test_poll_raises_only_in_a_block_that_allows_it():
    poll()
    with StopFlag() as stop:
        stop.requested = signal.SIGTERM
        poll()
        with pytest.raises(Interrupted, match="inside"), interruptible("inside"):
            poll()


def test_a_flag_inside_another_starts_set_and_hands_on_what_came():
    with StopFlag() as outer:
        with StopFlag() as inner:
            inner.requested = signal.SIGINT
        assert outer.requested == signal.SIGINT
        with StopFlag() as later:
            assert later.requested == signal.SIGINT
