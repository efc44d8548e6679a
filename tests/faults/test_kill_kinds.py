"""Fault 4 for every kind of run: kill -9 at random moments, and the same command, or a resume,
reaches the bytes of an unbroken run.

In the suite each kind is killed once. `DATADISTILL_KILLS=50 pytest -s
tests/faults/test_kill_kinds.py` spreads 50 kills over the kinds and prints where they hit.
"""

import os
import random
import signal
import time

import pytest
from small_kinds import KINDS, write_text

KILLS = int(os.environ.get("DATADISTILL_KILLS", len(KINDS)))


@pytest.fixture(scope="session")
def unbroken(server, tmp_path_factory):
    """Digest and seconds of an undisturbed run of a kind; each made once."""
    known = {}
    # waits until torch is loaded there
    server.run("recipes", folder=tmp_path_factory.mktemp("first"))

    def of(name):
        if name not in known:
            folder = tmp_path_factory.mktemp("unbroken")
            write_text(folder)
            kind, began = KINDS[name], time.monotonic()
            done = server.run(
                *kind.start, folder=folder, program=kind.program, patch="small_recipes"
            )
            assert done.code == 0, done.err
            known[name] = kind.digest(folder), time.monotonic() - began
            assert len(known[name][0]) >= 2
        return known[name]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("kill", range(KILLS))
def test_a_killed_run_of_any_kind_reaches_the_same_bytes(server, tmp_path, unbroken, kill):
    name = list(KINDS)[kill % len(KINDS)]
    kind, (wanted, seconds) = KINDS[name], unbroken(name)
    write_text(tmp_path)
    run = server.start(*kind.start, folder=tmp_path, program=kind.program, patch="small_recipes")
    time.sleep(random.Random(f"kill {kill}").uniform(0.1, 0.95) * seconds)
    run.send(signal.SIGKILL)
    code = run.wait()
    assert code in (-9, 0)
    begun = (tmp_path / "run/config.json").exists()
    saved = len(list(tmp_path.glob("run/**/step-*"))) + len(
        list(tmp_path.glob("run/**/*.safetensors"))
    )
    print(
        f"\n{name}: {'over' if code == 0 else 'killed'}, {saved} checkpoints and results on disk",
        end=" ",
    )
    words = kind.again if begun else kind.start
    again = server.run(*words, folder=tmp_path, program=kind.program, patch="small_recipes")
    assert again.code == 0, again.err
    assert kind.digest(tmp_path) == wanted
    assert not list(tmp_path.glob("run/**/lock")) and not list(tmp_path.glob("run/**/.*.tmp"))
