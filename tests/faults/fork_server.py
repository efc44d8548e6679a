"""Starts the command line in child processes that have torch loaded already: milliseconds, not
seconds.

A process of its own, so that nobody has used a thread of torch before the fork. It reads requests
as JSON lines and answers each with one:

    {"argv": [...], "folder": DIR, "name": NAME}   ->  {"pid": 123}
        also "patch": NAME, "gone": [1, 2], "closed": [0, 1, 2], "program": NAME
    {"wait": 123, "seconds": 20}                   ->  {"code": 143}     (-9: killed by signal 9)
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from small_kinds import add_small_recipes


def slow_saves() -> None:
    """Checkpoints whose files take a while."""
    from datadistill.runs import checkpoints

    write = checkpoints.write_bytes

    def slow(path, data):
        time.sleep(0.2)
        write(path, data)

    checkpoints.write_bytes = slow


PATCHES = {"slow_saves": slow_saves, "small_recipes": add_small_recipes}


def child(request: dict) -> int:
    if request["program"] == "kd-baselines":
        from kd_baselines.cli import main
    else:
        from datadistill.cli import main

    os.chdir(request["folder"])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    for fd, ending in ((1, "out"), (2, "err")):
        os.dup2(
            os.open(f"{request['name']}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), fd
        )
    for fd in request["gone"]:  # a pipe that nobody reads
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, fd)
    if request["patch"]:
        PATCHES[request["patch"]]()
    for fd in request["closed"]:  # as Python itself starts then
        os.close(fd)
        setattr(sys, ("stdin", "stdout", "stderr")[fd], None)
    try:
        return main(request["argv"])
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else 1


def wait(pid: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -999  # it hung


def serve() -> None:
    import torch

    torch.set_num_threads(1)
    import kd_baselines.language.lineage
    import kd_baselines.ledger.ledger_study
    import kd_baselines.studies.generations
    import kd_baselines.training  # noqa: F401
    from datadistill.data import load

    load("digits").test  # noqa: B018  (imports what reads it)
    torch.optim.Adam([torch.zeros(1)])  # likewise
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"code": wait(request["wait"], request["seconds"])}
        else:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = child(request)
                    for stream in (sys.stdout, sys.stderr):
                        if stream is not None:
                            stream.flush()
                finally:
                    os._exit(code)
            answer = {"pid": pid}
        print(json.dumps(answer), file=answers, flush=True)


class Child:
    """One run of the command line."""

    def __init__(self, server: Server, pid: int, folder: Path, name: str) -> None:
        self.server, self.pid, self.folder, self.name = server, pid, folder, name

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = 60) -> int:
        return self.server.ask(wait=self.pid, seconds=seconds)["code"]

    @property
    def out(self) -> str:
        return self.said("out")

    @property
    def err(self) -> str:
        return self.said("err")

    def said(self, ending: str) -> str:
        path = self.folder / f"{self.name}.{ending}"
        return path.read_text() if path.exists() else ""


class Server:
    """The other end, in the tests."""

    def __init__(self, process) -> None:
        self.process, self.count = process, 0

    def ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        *argv: object,
        folder: Path,
        patch: str | None = None,
        gone: Sequence[int] = (),
        closed: Sequence[int] = (),
        program: str = "datadistill",
    ) -> Child:
        self.count += 1
        name = f"child-{self.count}"
        words = [str(a) for a in argv]
        answer = self.ask(
            argv=words,
            folder=str(folder),
            name=name,
            patch=patch,
            gone=list(gone),
            closed=list(closed),
            program=program,
        )
        return Child(self, answer["pid"], folder, name)

    def run(self, *argv: object, folder: Path, **how) -> Child:
        started = self.start(*argv, folder=folder, **how)
        started.code = started.wait()
        return started


def until(condition, seconds: float = 60) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


if __name__ == "__main__":
    serve()
