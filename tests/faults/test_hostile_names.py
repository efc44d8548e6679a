"""Fault 23: folders of classes with names that could be paths, markup, commands or lines of their
own."""

import pytest

import datadistill as dd
from datadistill.cli import main

NAMES = [
    "<script>alert(1)",
    "two\nlines",
    "CON",
    "~",
    "$(reboot)",
    r"a\..\..\x",
    "n" * 200,
    "\x1b[2Ja",
]


@pytest.fixture
def hostile(pictures):
    (pictures / "jay").rename(pictures / NAMES[0])
    pixels = next((pictures / "pelican").iterdir()).read_bytes()
    for name in NAMES[1:]:
        (pictures / name).mkdir()
        for i in range(4):
            (pictures / name / f"{i}.png").write_bytes(pixels)
    return pictures


def test_names_of_classes_name_no_file_and_reach_no_terminal(
    hostile, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    argv = [
        "own-images",
        "--data",
        "birds",
        "--size",
        "8",
        "--net",
        "mlp",
        "--iterations",
        "1",
        "--batch",
        "4",
    ]
    assert main(["distill", *argv, "--nets", "1", "--nets-tested", "1", "--out", "run"]) == 0
    assert main(["show", "run", "--out", "shown"]) == 0
    assert main(["inspect", "run"]) == 0
    said = capsys.readouterr()
    assert all(line.isprintable() for line in (said.out + said.err).split("\n"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["birds", "run", "shown"]
    written = {p.name for place in ("run", "shown") for p in (tmp_path / place).rglob("*")}
    assert not written & set(NAMES)
    assert {*dd.DistilledDataset.load(tmp_path / "run").classes} == {*NAMES, "pelican"}
