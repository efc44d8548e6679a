"""Several processes carry out one run: the same numbers, one folder, and one end for all."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.launcher.api
from rank_scenarios import METHODS, STOP, TESTED, compare, config, interrupt, learn, parts
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

import datadistill as dd
from datadistill.cli.launch import count_processes, launch
from datadistill.config import RunOptions
from datadistill.errors import Interrupted, NumericalError, OutOfMemory, RankLost, UsageError
from datadistill.recipes import recipe
from datadistill.runs import ranks
from datadistill.runs.environment import environment, find_differences
from datadistill.runs.folder import RunFolder
from datadistill.runs.rank_errors import describe, rebuild
from datadistill.runs.ranks import Ranks
from datadistill.runs.signals import StopFlag, interruptible, poll
from datadistill.training.learning_from_config import learning_of

SCRIPT = Path(__file__).with_name("rank_scenarios.py")


def start(rank, port, folder):
    environment = {
        **os.environ,
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        ranks.TIMEOUT: "100",
    }
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(SCRIPT), str(folder)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder in which two ranks went through all scenarios."""
    folder = tmp_path_factory.mktemp("ranks")
    for method in METHODS:
        interrupt(method, folder / f"{method}-alone")
    compare(folder / "compared-alone")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, last = (start(rank, port, folder) for rank in (0, 1))
    said = first.communicate(timeout=400)[1]
    assert first.returncode == 0, said
    assert last.wait(timeout=20) == 9
    return folder


@pytest.fixture(scope="module", params=METHODS)
def method(request):
    return request.param


@pytest.fixture(scope="module")
def alone(method):
    """The set that one process learns."""
    return learn(method, None)


def assert_close(d, wanted):
    for name in ("images", "labels", "step_sizes"):
        ours, theirs = getattr(d, name), getattr(wanted, name)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_two_ranks_with_a_net_each_are_one_with_two(ran, method, alone):
    found = dd.DistilledDataset.load(ran / method)
    assert_close(found, alone)
    start = learning_of(config(method), RunOptions(quiet=True), *parts().values()).snapshot()
    assert float((found.images - start.images).abs().max()) > 1e-3


def test_the_same_number_of_ranks_gives_the_same_bytes(ran, method):
    for name in ("distilled.safetensors", "metrics.jsonl"):
        once, again = ((ran / f / name).read_bytes() for f in (method, f"{method}-again"))
        assert once == again


@pytest.mark.parametrize("at", [STOP, TESTED])
def test_a_signal_to_one_rank_saves_for_all(ran, method, alone, at):
    stopped = ran / f"{method}-stopped-{at}"
    assert f"saved at iteration {at + 1} of 20" in stopped.with_suffix(".txt").read_text()
    assert RunFolder.open(stopped).checkpoints.load_latest().iteration == at + 1
    assert (stopped / "metrics.jsonl").read_text() == ""  # a test that was due is broken off
    assert_close(learn(method, stopped, resume=True), alone)  # by one process
    lines = map(json.loads, (stopped / "metrics.jsonl").read_text().splitlines())
    assert [line["iteration"] for line in lines] == [10, 20]


def test_two_ranks_go_on_where_one_process_stopped(ran, method, alone):
    assert_close(dd.DistilledDataset.load(ran / f"{method}-alone"), alone)


def test_an_error_of_one_rank_ends_all(ran):
    assert (ran / "failed-1.txt").read_text() == "NumericalError: the loss became nan"
    assert (ran / "failed-0.txt").read_text() == "NumericalError: rank 1: the loss became nan"
    assert not (ran / "failed" / "distilled.safetensors").exists()


def test_a_killed_rank_ends_the_others(ran):
    assert (ran / "lost-0.txt").read_text().startswith("RankLost: rank 0 of 2 lost another")


def test_no_metrics_are_written_twice(ran):
    lines = (ran / "unrolled" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(ranks, "_joined", [Ranks(1, 2)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nets": 1}, "an iteration has 1 net, fewer than the 2 ranks; choose nets 2 or more"),
        ({"theta_0": "fixed"}, "choose nets 2 or more and theta_0 random, or fewer ranks"),
        ({"method": "linear-gradient-matching"}, "takes one net an iteration, which cannot be"),
    ],
)
def test_what_ranks_cannot_share_out_is_refused(two, changes, words):
    config = recipe("digits-random").with_changes(iterations=1, **changes)
    with pytest.raises(UsageError, match=words):
        learning_of(config, RunOptions(quiet=True), None, None)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_all_numbers_once(count, size):
    shares = [Ranks(rank, size).share(count) for rank in range(size)]
    assert [n for share in shares for n in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (UsageError("no"), UsageError("rank 3: no")),
        (NumericalError("nan"), NumericalError("rank 3: nan")),
        (Interrupted("saved", 15), Interrupted("saved", 15)),
        (KeyError("x"), RankLost("rank 3 ended by KeyError: 'x'")),
    ],
)
def test_an_error_keeps_its_kind_in_other_ranks(error, wanted):
    found = rebuild(3, describe(error))
    assert (type(found), str(found), found.exit_code) == (
        type(wanted),
        str(wanted),
        wanted.exit_code,
    )


def test_one_process_is_all_ranks(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with ranks.join() as found:
        assert (found.rank, found.size, found.writes) == (0, 1, True)
        assert found.gather("x") == ["x"] and found.most(3, 0) == (3, 0)
        with pytest.raises(UsageError, match="no"), found.together():
            raise UsageError("no")


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1e1", "2000"])
def test_numbers_of_processes_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="give a number from 1 to 1024, or auto"):
        count_processes(text, nets=4)


def test_processes_start_ranks_that_speak_once(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "datadistill", "distill", "digits-random", "--processes", "2"]
    command += ["--iterations", "2", "--out", str(out), "--no-figures"]
    command += ["--nets-tested", "11", "--plain-nets", "0"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(f"wrote {out}") == 1 and "11 held-out initializations" in ran.stdout
    assert ran.stderr.count("iteration 2/2") == 1
    assert dd.DistilledDataset.load(out).images.shape == (10, 1, 8, 8)


@pytest.mark.parametrize(
    ("codes", "wanted"), [((2, 2), 2), ((-9, 5), 5), ((143, -9), 143), ((-9, -15), None)]
)
def test_the_launcher_gives_the_exit_code_of_a_rank(monkeypatch, codes, wanted):
    def failing(*given):
        failures = {n: SimpleNamespace(exitcode=code) for n, code in enumerate(codes)}
        error = ChildFailedError.__new__(ChildFailedError)
        error.failures = failures
        raise error

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.distributed.launcher.api, "elastic_launch", lambda *_: failing)
    if wanted is None:
        with pytest.raises(RankLost, match="killed by signal 9"):
            launch("datadistill", ["distill"], 2)
    else:
        assert launch("datadistill", ["distill"], 2) == wanted
    assert launch("datadistill", ["distill"], 1) is None


def test_students_of_ranks_have_the_bytes_of_one_process(ran):
    two, one = (ran / name for name in ("compared", "compared-alone"))
    files = [
        f"{arm}-s{seed}/student.safetensors" for arm in ("own", "attention") for seed in (0, 1)
    ]
    for file in ("table.csv", *files):
        assert (two / file).read_bytes() == (one / file).read_bytes()


def test_a_failure_of_ones_own_is_told_though_the_others_are_gone(monkeypatch):
    def gone(collective):
        raise RankLost("lost")

    two = Ranks(0, 2)
    monkeypatch.setattr(two, "_meet", gone)
    with pytest.raises(UsageError, match="mine"), two.together():
        raise UsageError("mine")
    with pytest.raises(RankLost), two.together():
        pass


def test_out_of_memory_keeps_its_name_in_other_ranks():
    error = torch.OutOfMemoryError("CUDA out of memory")
    assert type(rebuild(1, describe(error))) is OutOfMemory


@pytest.mark.parametrize("requested", [None, 2])
def test_a_pending_signal_is_seen_once_all_heed_it(requested):
    with StopFlag(deferred=True) as stop, interruptible("stopped"):
        signal.raise_signal(signal.SIGTERM)
        poll()  # nothing yet
        stop.requested = requested
        Ranks().heed_signals()
        with pytest.raises(Interrupted, match="stopped"):
            poll()
        assert stop.requested == (requested or signal.SIGTERM)


def test_another_number_of_ranks_is_another_environment(monkeypatch):
    one = environment()
    monkeypatch.setattr(ranks, "_joined", [Ranks(1, 2)])
    assert find_differences(one, environment()) == ["ranks 1 -> 2"]
    assert find_differences(environment(), environment()) == []
