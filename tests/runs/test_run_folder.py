"""The run folder: created once, opened strictly, metrics that are complete or refused."""

import errno
import json
import os
import time

import pytest

from datadistill.errors import DataError, NumericalError, ResourceError, UsageError
from datadistill.runs.folder import RunFolder
from datadistill.runs.lock import RunLock

CONFIG = {"recipe": "mnist-fixed", "seed": 0, "lr": 0.1}
ENVIRONMENT = {"threads": 1}


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "runs" / "a", CONFIG, ENVIRONMENT, kind="distill")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_was_created_is_opened(run):
    back = RunFolder.open(run.path, kind="distill")
    assert (back.kind, back.config, back.environment) == ("distill", CONFIG, ENVIRONMENT)
    assert back.config_hash == run.config_hash
    assert sorted(os.listdir(run.path)) == ["config.json", "environment.json"]
    assert back.checkpoints.load_latest() is None
    names = [
        back.distilled.name,
        back.figures.name,
        back.report.name,
        back.metrics.name,
        back.timing.name,
    ]
    assert names == [
        "distilled.safetensors",
        "figures",
        "report.html",
        "metrics.jsonl",
        "timing.jsonl",
    ]


def test_the_clock_does_not_show(tmp_path, monkeypatch):
    folders = []
    for now in (0.0, 4e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        folders.append(RunFolder.create(tmp_path / str(now), CONFIG, ENVIRONMENT, kind="distill"))
        folders[-1].append_metrics({"iteration": 0, "loss": 0.5})
    assert contents(folders[0].path) == contents(folders[1].path)


def test_a_folder_that_holds_a_run_is_refused_with_both_ways_out(run):
    before = contents(run.path)
    with pytest.raises(UsageError) as caught:
        RunFolder.create(run.path, {"seed": 1}, {}, kind="pool")
    assert str(caught.value) == (
        f"{run.path} already holds a run of distill; resume it with resume=True, or "
        "choose another out"
    )
    assert contents(run.path) == before


def test_a_folder_that_holds_anything_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"it holds thesis\.tex.*choose another out"):
        RunFolder.create(tmp_path, CONFIG, {}, kind="distill")
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_empty_folders_links_to_them_and_half_made_runs_are_used(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "environment.json").write_text("{")
    (tmp_path / "half" / ".config.json.abc.tmp").write_text("{")
    for name in ("link", "half"):
        run = RunFolder.create(tmp_path / name, CONFIG, ENVIRONMENT, kind="distill")
        assert RunFolder.open(run.path).config == CONFIG
        assert sorted(os.listdir(run.path)) == ["config.json", "environment.json"]


def test_places_that_are_no_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    for name in ("file", "file/below", "dangling"):
        with pytest.raises(UsageError, match="is not a folder"):
            RunFolder.create(tmp_path / name, CONFIG, {}, kind="distill")
    with pytest.raises(UsageError, match="is not a folder"):
        RunFolder.create("/dev/null", CONFIG, {}, kind="distill")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_read_only_parent_is_refused_at_once(tmp_path, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        with pytest.raises(UsageError, match="cannot write to"):
            RunFolder.create(tmp_path / "a", CONFIG, {}, kind="distill")
    assert os.listdir(tmp_path) == []


def test_a_folder_in_use_is_refused(tmp_path):
    with RunLock(tmp_path), pytest.raises(UsageError, match="in use by pid"):
        RunFolder.create(tmp_path, CONFIG, {}, kind="distill")


def test_a_new_folder_is_in_use_until_its_writer_is_done(tmp_path):
    path = tmp_path / "a"
    with RunFolder.create_locked(path, CONFIG, {}, kind="distill") as folder:
        assert RunFolder.open(path).config == folder.config == CONFIG
        with pytest.raises(UsageError, match="in use by pid"):
            RunFolder.create(path, CONFIG, {}, kind="distill")
        with pytest.raises(UsageError, match="in use by pid"):
            folder.lock().acquire()
    with folder.lock(), pytest.raises(UsageError, match="in use by pid"):
        RunFolder.create(path, CONFIG, {}, kind="distill")
    with pytest.raises(UsageError, match="already holds a run"):
        RunFolder.create(path, CONFIG, {}, kind="distill")


def test_a_create_that_fails_leaves_no_run(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ResourceError):
            RunFolder.create(tmp_path / "a", CONFIG, {}, kind="distill")
    with pytest.raises(UsageError, match="holds no run"):
        RunFolder.open(tmp_path / "a")
    RunFolder.create(tmp_path / "a", CONFIG, {}, kind="distill")


def test_places_without_a_run_are_refused(tmp_path, run):
    (tmp_path / "file").write_text("")
    (tmp_path / "odd").mkdir()
    os.mkfifo(tmp_path / "odd" / "config.json")
    for name in ("absent", "file"):
        with pytest.raises(UsageError, match=r"holds no run: config\.json is missing"):
            RunFolder.open(tmp_path / name)
    with pytest.raises(UsageError, match=r"config\.json is a named pipe, not a regular file"):
        RunFolder.open(tmp_path / "odd")
    with pytest.raises(UsageError, match="holds a run of distill, wanted one of pool"):
        RunFolder.open(run.path, kind="pool")
    (run.path / "environment.json").unlink()
    with pytest.raises(UsageError, match=r"environment\.json is missing"):
        RunFolder.open(run.path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ('{"schema":1,"kind":"distill","config":{"lr":1,"lr":2}}', "'lr' appears twice"),
        ('{"schema":1,"kind":"distill","config":{"lr":NaN}}', "NaN is not a finite number"),
        ('{"schema":1,"kind":"distill","config":{"lr":1e400}}', "1e400 is not a finite number"),
        ('{"schema":7,"kind":"distill","config":{}}', "written by schema 7, this reads up to 1"),
        ('{"schema":"1","kind":"distill","config":{}}', "schema is '1'"),
        ('{"kind":"distill","config":{}}', "schema is None"),
        ('{"schema":1,"kind":"distill"}', "wanted schema, kind and config"),
        ('{"schema":1,"kind":"distill","config":{},"x":1}', "wanted schema, kind and config"),
        ('{"schema":1,"kind":2,"config":{}}', "kind must be a string"),
        ('{"schema":1,"kind":"distill","config":[]}', "config an object"),
        ("[]", "no JSON object"),
    ],
)
def test_an_edited_config_is_refused(run, text, message):
    (run.path / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        RunFolder.open(run.path)
    assert caught.value.exit_code == 2


def test_a_changed_config_changes_the_hash(run):
    before = run.config_hash
    run.replace_config({**CONFIG, "iterations": 5})
    assert RunFolder.open(run.path).config_hash == run.config_hash != before


def test_metrics_are_canonical_lines(run):
    assert run.metrics_length() == 0
    assert run.read_metrics() == []
    run.append_metrics({"loss": 0.5, "iteration": 0})
    run.append_metrics({"iteration": 1, "loss": None})
    assert run.metrics.read_bytes() == b'{"iteration":0,"loss":0.5}\n{"iteration":1,"loss":null}\n'
    assert run.metrics_length() == run.metrics.stat().st_size
    assert run.read_metrics() == [{"iteration": 0, "loss": 0.5}, {"iteration": 1, "loss": None}]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_metrics_are_refused(run, value):
    with pytest.raises(
        NumericalError, match=r"metrics.jsonl: test.accuracy is .*None for a missing number"
    ):
        run.append_metrics({"test": {"accuracy": value}})
    assert run.read_metrics() == []


def test_metrics_cut_back_and_resumed_are_those_of_a_whole_run(run):
    lengths = []
    for i in range(20):
        run.append_metrics({"iteration": i})
        lengths.append(run.metrics_length())
    straight = run.metrics.read_bytes()
    for stop in (0, 7, 18):
        run.truncate_metrics(lengths[stop])
        for i in range(stop + 1, 20):
            run.append_metrics({"iteration": i})
        assert run.metrics.read_bytes() == straight
    run.truncate_metrics(0)
    assert run.read_metrics() == []


def test_cuts_that_do_not_fit_the_file_are_refused(run):
    run.append_metrics({"iteration": 0})
    with pytest.raises(DataError, match="has 16 bytes, the checkpoint was made at 100"):
        run.truncate_metrics(100)
    with pytest.raises(DataError, match="no line ends at byte 5"):
        run.truncate_metrics(5)
    assert run.metrics_length() == 16


@pytest.mark.parametrize("rest", [1, 9, 15, 9000])
def test_half_a_last_line_is_left_out_and_replaced(run, rest):
    run.append_metrics({"iteration": 0})
    run.append_metrics({"iteration": 1, "text": "x" * 10_000})
    os.truncate(run.metrics, 16 + rest)
    assert run.read_metrics() == [{"iteration": 0}]
    run.append_metrics({"iteration": 2})
    assert run.metrics.read_bytes() == b'{"iteration":0}\n{"iteration":2}\n'


def test_a_damaged_line_in_the_middle_is_named(run):
    run.metrics.write_bytes(b'{"iteration":0}\n{"itera\n{"iteration":2}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl line 2: not valid JSON"):
        run.read_metrics()


def test_a_full_disk_stops_the_run_and_leaves_the_lines_before(run, monkeypatch):
    run.append_metrics({"iteration": 0})
    write = os.write

    def half_then_full(fd, data):
        if len(data) < 16:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, bytes(data[:5]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half_then_full)
        with pytest.raises(ResourceError, match="16 bytes needed") as caught:
            run.append_metrics({"iteration": 1})
    assert caught.value.exit_code == 5
    assert run.metrics.read_bytes() == b'{"iteration":0}\n'
    run.append_metrics({"iteration": 1})
    assert len(run.read_metrics()) == 2


def test_timing_is_kept_apart(run):
    run.append_timing({"seconds": 1.5})
    assert run.read_timing() == [{"seconds": 1.5}]
    assert run.read_metrics() == []


def test_names_from_files_stay_inside(run, tmp_path):
    (run.path / "out").symlink_to(tmp_path)
    assert run.resolve_inside("figures/a.png") == run.figures / "a.png"
    for name in ("../b", "/etc/passwd", "figures/../../b", "out/b", "", "."):
        with pytest.raises(UsageError, match="leads out of the run folder"):
            run.resolve_inside(name)


def test_clean_removes_only_temporary_files(run):
    run.figures.mkdir()
    for name in (
        ".distilled.safetensors.x.tmp",
        "figures/.a.png.y.tmp",
        "figures/a.png",
        "note.tmp",
    ):
        (run.path / name).write_text("")
    run.clean()
    left = sorted(contents(run.path))
    assert left == ["config.json", "environment.json", "figures/a.png", "note.tmp"]


def test_config_json_says_what_it_is(run):
    stored = json.loads((run.path / "config.json").read_text())
    assert stored == {"schema": 1, "kind": "distill", "config": CONFIG}


def test_metrics_that_a_checkpoint_has_seen_are_compared(tmp_path):
    run = RunFolder.create(tmp_path / "run", {"seed": 0}, {}, kind="distill")
    run.append_metrics({"iteration": 0, "loss": 2.5})
    run.checkpoints.save(1, {}, run.metrics_record())
    run.append_metrics({"iteration": 1, "loss": 1.5})
    assert len(run.read_metrics()) == 2
    whole = run.metrics.read_bytes()
    run.metrics.write_bytes(whole.replace(b"2.5", b"2.7"))
    state = run.checkpoints.load(1).state
    with pytest.raises(DataError, match=r"metrics.jsonl is damaged or was edited"):
        run.read_metrics()
    with pytest.raises(DataError, match=r"metrics.jsonl is damaged or was edited"):
        run.truncate_metrics(state["metrics_bytes"], state["metrics_sha256"])
    run.metrics.write_bytes(whole)
    run.truncate_metrics(state["metrics_bytes"], state["metrics_sha256"])
    assert run.read_metrics() == [{"iteration": 0, "loss": 2.5}]
