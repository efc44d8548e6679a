"""The lock: one process at a time, and none that outlives its process."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import pytest

from datadistill.errors import UsageError
from datadistill.runs import lock as module
from datadistill.runs.lock import RunLock

HOLDER = """
import sys, time
from datadistill.runs.lock import RunLock
with RunLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(30)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_process_is_refused_and_changes_nothing(tmp_path, holder):
    before = (tmp_path / "lock").read_bytes()
    with pytest.raises(UsageError, match="in use by pid") as caught:
        RunLock(tmp_path).acquire()
    assert str(caught.value).startswith(
        f"{tmp_path} is in use by pid {holder.pid} on {socket.gethostname()}"
    )
    assert (tmp_path / "lock").read_bytes() == before


@pytest.mark.parametrize(
    "before", [b"", {"pid": 2**22 + 1, "host": socket.gethostname(), "started": "7"}]
)
@pytest.mark.parametrize(
    "after, who", [({"pid": 7, "host": "far"}, "pid 7 on far"), (b"", "another process")]
)
def test_an_owner_that_is_still_to_write_its_name_is_waited_for(tmp_path, before, after, who):
    fcntl = pytest.importorskip("fcntl")
    before, after = (x if isinstance(x, bytes) else json.dumps(x).encode() for x in (before, after))
    with open(tmp_path / "lock", "wb", buffering=0) as held:
        held.write(before)  # nothing, or what a killed process left
        fcntl.flock(held, fcntl.LOCK_EX)

        def sign():
            held.seek(0)
            held.truncate()
            held.write(after)

        writer = threading.Timer(0.2, sign)
        writer.start()
        with pytest.raises(UsageError, match=f"is in use by {who}; wait"):
            RunLock(tmp_path).acquire()
        writer.join()


def test_a_killed_process_leaves_a_lock_that_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with (
        pytest.warns(UserWarning, match=f"took over the lock of pid {holder.pid}"),
        RunLock(tmp_path) as lock,
    ):
        assert "no longer runs" in lock.note
        assert json.loads(lock.path.read_text())["pid"] == os.getpid()


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="no zombies there")
def test_a_killed_process_that_nobody_reaped_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
    with (
        pytest.warns(UserWarning, match=f"took over the lock of pid {holder.pid}"),
        RunLock(tmp_path),
    ):
        pass


def test_a_process_killed_on_another_machine_holds_nothing(tmp_path):
    sign(tmp_path, pid=7, host="node17")
    with pytest.warns(UserWarning, match="on node17, which no longer runs"), RunLock(tmp_path):
        pass


def test_a_released_lock_leaves_no_file_and_no_note(tmp_path):
    with RunLock(tmp_path) as lock:
        assert lock.path.exists()
    assert os.listdir(tmp_path) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with RunLock(tmp_path) as again:
            assert again.note is None


def test_one_process_cannot_hold_it_twice(tmp_path):
    with RunLock(tmp_path) as held:
        with pytest.raises(UsageError, match=f"pid {os.getpid()}"):
            RunLock(tmp_path).acquire()
        assert held.acquire() is held
    RunLock(tmp_path).acquire().release()


def test_a_forked_child_does_not_hold_it(tmp_path):
    lock = RunLock(tmp_path).acquire()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        lock.release()  # not the child's to release
        os.read(read, 1)  # lives on after the parent gave the lock back
        os._exit(0)
    try:
        time.sleep(0.05)
        assert lock.path.exists()
        lock.release()
        RunLock(tmp_path).acquire().release()
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1]", b'{"pid": "x", "host": "y"}', b'{"pid": -1, "host": "h"}', b"\xff"]
)
def test_an_unsigned_lock_file_is_taken_without_a_note(tmp_path, text):
    (tmp_path / "lock").write_bytes(text)
    with RunLock(tmp_path) as lock:
        assert lock.note is None


def sign(folder, **changes):
    me = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": module._start_time(os.getpid()),
    }
    (folder / "lock").write_text(json.dumps({**me, **changes}))


@pytest.fixture
def no_flock(monkeypatch):
    monkeypatch.setattr(module, "_flock", lambda fd: None)


def test_without_flock_a_living_process_is_respected(tmp_path, no_flock):
    parent = os.getppid()
    sign(tmp_path, pid=parent, started=module._start_time(parent))
    with pytest.raises(UsageError, match=f"in use by pid {parent}"):
        RunLock(tmp_path).acquire()


def test_without_flock_a_reused_pid_is_not_taken_for_the_owner(tmp_path, no_flock):
    if module._start_time(os.getpid()) is None:
        pytest.skip("this system tells no start times")
    sign(tmp_path, pid=os.getppid(), started=1)
    with pytest.warns(UserWarning, match="took over"), RunLock(tmp_path):
        pass


def test_a_place_that_cannot_hold_a_lock(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(UsageError, match="lock is a folder, not a regular file"):
        RunLock(tmp_path).acquire()
    with pytest.raises(UsageError, match="cannot write to"):
        RunLock(tmp_path / "absent").acquire()


def test_a_linked_lock_is_refused_and_the_file_behind_it_stays(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match="lock is a symbolic link"):
        RunLock(tmp_path).acquire()
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_hard_linked_lock_is_another_folders(tmp_path):
    (tmp_path / "other").mkdir()
    with RunLock(tmp_path / "other"):
        pass
    (tmp_path / "other/lock").write_text("theirs")
    os.link(tmp_path / "other/lock", tmp_path / "lock")
    with RunLock(tmp_path):
        assert (tmp_path / "other/lock").read_text() == "theirs"
