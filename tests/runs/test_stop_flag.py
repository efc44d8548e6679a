"""Signals: the first asks, the second Ctrl-C does not wait. Children are plain Python, without
torch."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from datadistill.errors import Interrupted
from datadistill.runs.signals import StopFlag

CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this test was started with
from datadistill.errors import DatadistillError
from datadistill.runs.signals import StopFlag
assert "torch" not in sys.modules
{before}
with StopFlag() as stop:
    print("ready", flush=True)
    {inside}
    for i in range(1500):
        time.sleep(0.01)
        if stop.requested and {polls}:
            print("saved", flush=True)
            try:
                stop.raise_if_requested("stopped; go on with --resume")
            except DatadistillError as error:
                sys.exit(error.exit_code)
"""


class Child:
    def __init__(self, polls=True, before="", inside=""):
        text = CHILD.format(polls=polls, before=before, inside=inside)
        buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", text], stdout=pipe, stderr=pipe, text=True, env=buffered
        )
        assert self.process.stdout.readline() == "ready\n"

    def send(self, number):
        self.process.send_signal(number)

    def end(self):
        # not communicate(): it would miss what readline() has taken from the pipe already
        with self.process as process:
            out, err = process.stdout.read(), process.stderr.read()
        return process.returncode, out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_loop_save(number, code):
    child = Child()
    child.send(number)
    returned, out, err = child.end()
    assert (returned, out) == (code, "saved\n")
    assert err == "stopping after this iteration; press Ctrl-C again to stop at once\n"


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_signal_stops_at_once(first):
    child = Child(polls=False)
    child.send(first)
    assert child.process.stderr.readline().startswith("stopping")
    child.send(signal.SIGTERM)  # a second SIGTERM changes nothing
    child.send(signal.SIGINT)
    returned, out, err = child.end()
    assert (returned, out, err) == (130, "", "")


def test_output_printed_before_stopping_at_once_is_not_lost():
    child = Child(
        polls=False, inside="sys.stdout.write('in the buffer'); sys.stderr.write('go\\n')"
    )
    assert child.process.stderr.readline() == "go\n"
    child.send(signal.SIGTERM)
    assert child.process.stderr.readline().startswith("stopping")
    child.send(signal.SIGINT)
    assert child.end() == (130, "in the buffer", "")


@pytest.mark.parametrize(
    "before", ["sys.stderr.close()", "sys.stderr = None", "import os; os.close(2)"]
)
def test_a_closed_stderr_does_not_keep_it_from_saving(before):
    child = Child(before=before)
    child.send(signal.SIGTERM)
    assert child.end()[:2] == (143, "saved\n")


def test_signals_ignored_from_the_start_stay_ignored():
    child = Child(before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    child.send(signal.SIGINT)
    child.send(signal.SIGTERM)
    assert child.end()[0] == 143


def test_the_former_handlers_come_back():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(RuntimeError), StopFlag():
        assert signal.getsignal(signal.SIGTERM) != before[1]
        raise RuntimeError
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_first_signal_is_the_one_that_counts(capsys):
    with StopFlag() as stop:
        assert not stop
        stop.raise_if_requested("nothing came")
        os.kill(os.getpid(), signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop
        with pytest.raises(Interrupted, match="saved") as caught:
            stop.raise_if_requested("saved")
    assert caught.value.exit_code == 143
    assert capsys.readouterr().err.count("\n") == 1


def test_outside_the_main_thread_it_does_nothing():
    seen = []

    def work():
        before = signal.getsignal(signal.SIGTERM)
        with StopFlag() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM) == before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, True)]
