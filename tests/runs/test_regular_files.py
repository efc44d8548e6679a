"""What belongs to a run is a regular file of the run folder itself: no link, pipe, socket or
device."""

import os
import socket

import pytest

from datadistill.errors import UsageError
from datadistill.runs.atomic import write_json
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonlines import append_line, durable_length, read_lines, truncate
from datadistill.runs.regular import open_run_file, read_run_file, refuse_irregular


@pytest.fixture
def run(tmp_path):
    folder = RunFolder.create(tmp_path / "run", {"seed": 0}, {}, kind="distill")
    folder.append_metrics({"iteration": 1})
    folder.append_timing({"seconds": 1.0})
    return folder


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("precious, without newline")
    yield path
    assert path.read_text() == "precious, without newline"


def linked(place, victim):
    place.symlink_to(victim)


def dangling(place, victim):
    place.symlink_to(victim.with_name("absent"))


def endless(place, victim):
    place.symlink_to("/dev/zero")


def pipe(place, victim):
    os.mkfifo(place)


def listening(place, victim):
    # a socket's name is short: bound from its own folder
    with socket.socket(socket.AF_UNIX) as end:
        before = os.getcwd()
        os.chdir(place.parent)
        end.bind(place.name)
        os.chdir(before)


def folder_there(place, victim):
    place.mkdir()


MAKERS = [linked, dangling, endless, pipe, listening, folder_there]
USES = {
    "append": lambda path: append_line(path, {"a": 1}),
    "read lines": read_lines,
    "length": durable_length,
    "cut": lambda path: truncate(path, 0),
    "read": read_run_file,
    "open to write": lambda path: open_run_file(path, os.O_RDWR | os.O_CREAT),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("make", MAKERS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, victim, make, use):
    make(tmp_path / "metrics.jsonl", victim)
    with pytest.raises(UsageError, match=r"metrics\.jsonl is .*not a regular file; remove it"):
        USES[use](tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "environment.json",
        "lock",
        "metrics.jsonl",
        "timing.jsonl",
        "distilled.safetensors",
        "table.md",
        "figures/images.png",
        "nets/net-0",
        "checkpoints/step-000001/state.json",
    ],
)
@pytest.mark.parametrize("make", [linked, pipe])
def test_a_run_folder_with_one_of_them_is_not_opened(run, victim, make, name):
    place = run.path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    make(place, victim)
    with pytest.raises(UsageError, match=f"{place.name} is .*not a regular file; remove it"):
        RunFolder.open(run.path)


@pytest.mark.parametrize("name", ["checkpoints", "figures", "nets", "checkpoints/step-000001"])
def test_a_linked_folder_of_a_run_is_not_opened(run, tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a symbolic link, wanted a folder of the run itself"):
        RunFolder.open(run.path)


def test_links_of_the_users_own_in_a_run_folder_do_no_harm(run, victim):
    (run.path / "notes.txt").symlink_to(victim)
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints/best").symlink_to("step-000001")
    assert RunFolder.open(run.path).read_metrics() == [{"iteration": 1}]


def test_a_run_below_another_one_may_be_a_link(run, tmp_path):
    (tmp_path / "trained").mkdir()
    (run.path / "nets").mkdir()
    (run.path / "nets/teacher-s0").symlink_to(tmp_path / "trained")
    refuse_irregular(run.path)


def test_a_link_to_the_run_folder_itself_is_followed(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path)
    folder = RunFolder.open(tmp_path / "link")
    folder.append_metrics({"iteration": 2})
    assert [line["iteration"] for line in run.read_metrics()] == [1, 2]


def test_json_replaces_a_link_and_not_the_file_behind_it(tmp_path, victim):
    (tmp_path / "environment.json").symlink_to(victim)
    write_json(tmp_path / "environment.json", {})
    assert read_run_file(tmp_path / "environment.json") == b"{}\n"


@pytest.mark.parametrize(
    "edit", [lambda run: run.append_metrics({"a": 1}), lambda run: run.truncate_metrics(0)]
)
def test_a_copy_made_of_hard_links_stays_as_it_is(run, tmp_path, edit):
    os.link(run.metrics, tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    edit(run)
    assert (tmp_path / "backup").read_bytes() == before != run.metrics.read_bytes()
