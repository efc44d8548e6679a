"""Progress: what fits on a line, what is told to a function, and nothing where nobody asked."""

import io

import pytest
from rich.console import Console

import datadistill as dd
import kd_baselines as kd
from datadistill.data import load
from datadistill.errors import UsageError
from datadistill.nets import build
from datadistill.progress import Task, Terminal, fit_line, iterate, per_second, reporting, track
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan

TINY = dd.recipe("digits-random").with_changes(
    net="mlp", net_args={"width": 4}, iterations=2, validate_nets=1, nets=1, batch=8, epochs=1
)


def learning(done=50):
    task = Task("learning", total=2000)
    task.began -= 100.0  # seconds ago
    task.done = done
    task.parts = ("loss 0.512", "validation 81.5%", "step sizes 0.02 0.02 .. 0.02")
    return task


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 100, 120, 200])
def test_the_line_fits(width):
    assert len(fit_line([learning(), Task("testing nets", total=4)], width)) <= width


@pytest.mark.parametrize(
    ("width", "there"),
    [
        (10, ["50/2000"]),
        (40, ["50/2000", "1:05:00 left", "learning"]),
        (60, ["50/2000", "1:05:00 left", "loss 0.512", "────────"]),
        (80, ["50/2000", "1:05:00 left", "loss 0.512", "validation 81.5%", "────────"]),
        (120, ["50/2000", "1:05:00 left", "validation 81.5%", "step sizes", "2.0 s/it", "───"]),
    ],
)
def test_what_is_worth_most_stays(width, there):
    assert [word for word in there if word not in fit_line([learning()], width)] == []


def test_a_terminal_without_box_characters_gets_a_bar_of_ascii():
    assert fit_line([learning(1000)], 120, "ascii").isascii()


@pytest.mark.parametrize(
    ("speed", "words"), [(12.34, "12.3 it/s"), (1.0, "1.0 it/s"), (0.2, "5.0 s/it")]
)
def test_slow_runs_say_seconds_an_iteration(speed, words):
    assert per_second(speed) == words


def calls_of(call):
    told = []
    call(lambda what, done, total: told.append((what, done, total)))
    return told


SET = "a set that is learned once"


@pytest.fixture(scope="module")
def learned():
    return dd.distill(TINY)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def net():
    return build("mlp", channels=1, size=8, classes=10, width=4)


CALLS = {
    "distill": (lambda d, data, p: dd.distill(TINY, data=data, progress=p), ("learning", 2, 2)),
    "evaluate": (
        lambda d, data, p: dd.evaluate(d, nets=2, plain_nets=0, data=data, progress=p),
        ("testing nets", 2, 2),
    ),
    "compare": (
        lambda d, data, p: dd.compare(
            d, nets=1, sets=1, selection_nets=1, baselines=["average-real"], data=data, progress=p
        ),
        ("testing baselines", 1, 1),
    ),
    "finetune": (
        lambda d, data, p: dd.finetune(d, net(), data=data, max_steps=2, progress=p),
        ("training", 2, 11),
    ),
    "fit": (
        lambda d, data, p: fit(net(), data.validation, FitPlan(epochs=1, batch=1000), progress=p),
        ("training", 1, 1),
    ),
    "kd.train": (
        lambda d, data, p: kd.train(kd.KdConfig(epochs=1, per_class=2), data=data, progress=p),
        ("training", 1, 1),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_function_is_told_how_far_it_is(name, learned, digits):
    call, last = CALLS[name]
    told = calls_of(lambda p: call(learned, digits, p))
    assert last in told
    assert all(done >= 0 and (total is None or done <= total) for _, done, total in told)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_shown_unless_asked_for(name, learned, digits, capsys):
    CALLS[name][0](learned, digits, False)
    assert capsys.readouterr().err == ""


def test_progress_that_is_no_function_is_refused():
    with pytest.raises(UsageError, match="progress is 3, wanted True, False, or a function"):
        dd.distill(TINY, progress=3)


def test_who_looks_may_stop_it():
    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dd.distill(TINY, progress=stop)
    with track("afterwards", 1) as task:  # nobody looks any more
        task.advance()


def test_without_a_terminal_lines_come_every_few_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("datadistill.progress.time.monotonic", lambda: now[0])
    with reporting(True):
        for _ in iterate(range(20), "testing nets", 20):
            now[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["5/20", "10/20", "15/20", "20/20"]
    assert "0:15 left" in lines[0] and "testing nets" in lines[0]


def test_a_bar_leaves_the_terminal_as_it_was(monkeypatch):
    written = io.StringIO()
    shown = Terminal()
    shown.console = Console(file=written, force_terminal=True, width=60, stderr=False)
    shown.draws = True
    task = Task("testing nets", 10, display=shown)
    shown.begin(task)
    task.update(4)
    shown.live.refresh()
    shown.say("a line above the bar")
    shown.end(task)
    said = written.getvalue()
    assert "4/10" in said and "a line above the bar" in said and "\x1b[?25h" in said
    assert shown.live is None


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not Terminal().draws
