"""Fault 36: stdout that nobody reads, character sets that know no accents."""

import io
import os
import subprocess
import sys

import pytest
from small_kinds import KINDS
from small_run import SMALL, digest

from datadistill.cli import main


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("argv", [["recipes"], ["--help"], ["distill", "--help"]])
def test_a_reader_that_has_gone(argv):
    writer = closed_pipe()
    done = subprocess.run(
        [sys.executable, "-m", "datadistill", *argv],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_reads_anything():
    writer = closed_pipe()
    argv = [sys.executable, "-m", "datadistill", "recipes", "--json"]
    assert subprocess.run(argv, stdout=writer, stderr=writer).returncode == 0
    os.close(writer)


@pytest.mark.parametrize("gone", [(1,), (1, 2)])
def test_a_run_goes_on_without_a_reader(server, tmp_path, straight, gone):
    run = server.run("distill", *SMALL, "--out", "run", folder=tmp_path, gone=gone)
    assert run.code == 0, run.err
    assert "Traceback" not in run.err
    assert digest(tmp_path / "run") == straight


@pytest.mark.parametrize("closed", [(2,), (1,), (0, 1, 2)])
def test_a_run_that_was_started_without_streams(server, tmp_path, straight, closed):
    run = server.run("distill", *SMALL, "--out", "run", folder=tmp_path, closed=closed)
    assert run.code == 0, run.err
    assert digest(tmp_path / "run") == straight


def test_a_run_of_the_other_program_without_streams(server, tmp_path):
    kind = KINDS["kd train"]
    run = server.run(*kind.start, folder=tmp_path, program=kind.program, closed=(0, 1, 2))
    assert run.code == 0, run.err
    assert len(kind.digest(tmp_path)) == len(kind.results)


def test_an_error_without_streams_has_its_exit_code(server, tmp_path):
    assert server.run("distill", "no-such-recipe", folder=tmp_path, closed=(0, 1, 2)).code == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_output_that_does_not_fit_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "datadistill", "recipes", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 5
    assert "stdout could not be written" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "argv", [["recipes"], ["distill", "--help"], ["distill", "mnist-fixed", "--ipcc", "1"]]
)
def test_a_terminal_without_utf_8(argv):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = subprocess.run(
        [sys.executable, "-m", "datadistill", *argv],
        capture_output=True,
        env={**os.environ, **plain},
    )
    said = (done.stdout + done.stderr).decode("ascii")
    assert done.returncode in (0, 2) and "Traceback" not in said and len(said) > 200


def test_names_that_the_character_set_lacks(pictures, tmp_path, monkeypatch, capsys):
    (pictures / "jay").rename(pictures / "Häher")
    argv = [
        "own-images",
        "--data",
        str(pictures),
        "--size",
        "8",
        "--net",
        "mlp",
        "--iterations",
        "1",
    ]
    argv += ["--batch", "4", "--nets", "1", "--nets-tested", "1", "--no-figures"]
    assert main(["distill", *argv, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["inspect", str(tmp_path / "run")]) == 0
    assert b"H\\xe4her" in narrow.buffer.getvalue()
