"""What a foreign file says reaches the terminal as text: no escape sequence, no line of its own, no
markup."""

import io
import sys
import warnings

import pytest

from datadistill.cli import main
from datadistill.cli.dispatch import DATADISTILL
from datadistill.cli.printing import Output
from datadistill.errors import DataError, escape
from datadistill.progress import announce, reporting

HOSTILE = "[red]a[/]\x1b[2J\x1b]0;title\x07\r\nforged: line\u202eb\u2066\x9b31m\u2028c\x00"
SHOWN = r"[red]a[/]\x1b[2J\x1b]0;title\x07\r\nforged: line\u202eb\u2066\x9b31m\u2028c\x00"


def assert_harmless(text):
    assert SHOWN in "".join(text.split("\n")), text
    assert all(line.isprintable() for line in text.split("\n")), text


def test_control_characters_become_escapes():
    assert escape(HOSTILE) == SHOWN
    assert escape("\ud800") == r"\ud800"


def test_names_in_any_script_stay_as_they_are():
    assert escape("pájaro 鳥 ± \u00a0птица 🐦") == "pájaro 鳥 ± \u00a0птица 🐦"


def test_lines_and_tables_are_harmless(capsys):
    output = Output()
    output.say(f"said {HOSTILE}")
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert_harmless(said)
    output.table((HOSTILE, "b"), [("x", "y")])
    assert_harmless(capsys.readouterr().out)
    output.table(("", ""), [("a", HOSTILE), (HOSTILE, "b")])
    assert_harmless(capsys.readouterr().out)


def test_json_is_harmless(capsys):
    Output(as_json=True).result({"name": HOSTILE})
    assert capsys.readouterr().out.strip().isprintable()


def test_errors_and_warnings_are_harmless(monkeypatch, capsys):
    def fail(arguments):
        warnings.warn(f"warned of {HOSTILE}", stacklevel=2)
        raise DataError(f"refused {HOSTILE}")

    monkeypatch.setattr("datadistill.cli.doctor.run", fail)
    assert DATADISTILL.main(["doctor"]) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    for line in said.splitlines():
        assert_harmless(line)


def test_lines_of_progress_are_harmless(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with reporting(True):
        announce(f"net {HOSTILE}")
    assert_harmless(stream.getvalue())


@pytest.mark.parametrize("command", ["inspect", "show"])
def test_a_set_with_hostile_class_names_is_told_of(command, tmp_path, monkeypatch, capsys):
    from datadistill import DistilledDataset
    from datadistill.recipes import recipe
    from datadistill.training import distill

    d = distill(
        recipe("digits-random").with_changes(
            iterations=1, net="mlp", net_args={}, validate_nets=1, batch=8
        )
    )
    names = (HOSTILE, "[bold]", "$x^$", *d.classes[3:])
    DistilledDataset(
        d.images,
        d.labels,
        d.step_sizes,
        d.order,
        classes=names,
        normalization=d.normalization,
        net=d.net,
        update=d.update,
        origin={**d.origin, "recipe": HOSTILE, "description": HOSTILE},
    ).save(tmp_path / "set.safetensors")
    monkeypatch.chdir(tmp_path)
    assert main([command, "set.safetensors"]) == 0
    said = capsys.readouterr()
    assert all(line.isprintable() for line in (said.out + said.err).split("\n"))
