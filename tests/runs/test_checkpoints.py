"""Checkpoints: complete or absent, and the last complete one is found again."""

import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import time
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datadistill.errors import DataError, ResourceError, UsageError
from datadistill.runs import checkpoints
from datadistill.runs.checkpoints import CheckpointStore

FILES = ("tensors.safetensors", "state.json", "manifest.json")


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def save(store, iteration):
    return store.save(
        iteration, {"x": torch.full((3,), float(iteration))}, {"iteration": iteration}
    )


def names(store):
    return sorted(os.listdir(store.folder))


def latest_quietly(store, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return store.load_latest(**kwargs)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_saved_is_loaded(store):
    assert latest_quietly(store) is None
    odd = torch.tensor([float("nan"), -0.0, float("inf")])
    tensors = {"x": odd, "n": torch.tensor(3), "r": torch.ones(0, 2)}
    path = store.save(120, tensors, {"best": 0.5, "nested": {"a": [1, None]}})
    assert path == store.folder / "step-000120"
    assert sorted(os.listdir(path)) == sorted(FILES)
    found = latest_quietly(store)
    assert (found.iteration, found.path) == (120, path)
    assert found.state == {"best": 0.5, "nested": {"a": [1, None]}}
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].numpy().tobytes() == tensor.numpy().tobytes()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc to name open files")
def test_everything_is_on_disk_before_it_gets_its_name(store, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(fd):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).split(".")[-1])
        fsync(fd)

    def record_rename(old, new):
        events.append(f"-> {os.path.basename(new)}")
        rename(old, new)

    store.folder.mkdir()
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    save(store, 1)
    # each file, then step-000001.tmp that holds it; after the rename, the folder that holds the
    # name
    assert events == ["tmp", "tmp"] * 3 + ["-> step-000001", "checkpoints"]


def test_the_same_checkpoint_has_the_same_bytes(tmp_path):
    a, b = CheckpointStore(tmp_path / "a"), CheckpointStore(tmp_path / "b")
    assert contents(save(a, 3)) == contents(save(b, 3))


def test_only_the_last_are_kept_in_order_of_iteration(tmp_path):
    store = CheckpointStore(tmp_path / "c", keep_last=2)
    for iteration in (0, 999_999, 1_000_000, 10_000_000):
        save(store, iteration)
    assert store.iterations() == [1_000_000, 10_000_000]
    assert names(store) == ["step-1000000", "step-10000000"]
    assert latest_quietly(store).iteration == 10_000_000
    with pytest.raises(UsageError):
        CheckpointStore(tmp_path, keep_last=0)


def test_saving_an_iteration_again_replaces_it(tmp_path):
    store = CheckpointStore(tmp_path / "c", keep_last=1)
    save(store, 5)
    store.save(5, {}, {"again": True})
    assert names(store) == ["step-000005"]
    assert latest_quietly(store).state == {"again": True}


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "replace", "mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failing_save_leaves_the_former_ones(store, monkeypatch, call, number):
    save(store, 1)
    save(store, 2)
    before = contents(store.folder)

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    for iteration in (3, 2):  # a new one, and one that would be replaced
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(ResourceError) as caught:
                save(store, iteration)
        assert number != errno.ENOSPC or "bytes needed" in str(caught.value)
        assert contents(store.folder) == before
        assert names(store) == ["step-000001", "step-000002"]
        assert latest_quietly(store).iteration == 2


def test_a_read_only_place_is_a_usage_error(store, monkeypatch):
    def fail(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(UsageError, match="cannot write to"):
        save(store, 1)


def test_a_state_that_is_no_json_is_refused_first(store):
    save(store, 1)
    for state in ({"a": float("nan")}, {1: 2}, {"a": torch.ones(1)}):
        with pytest.raises((TypeError, ValueError)):
            store.save(2, {}, state)
    assert names(store) == ["step-000001"]


def killed_while(store, iteration, monkeypatch, name, when):
    """Save in a forked child that dies, as by SIGKILL, when `when(args)` holds on calling
    os.`name`."""
    original = getattr(os, name)

    def die(*args, **kwargs):
        if when(args):
            os._exit(9)
        return original(*args, **kwargs)

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, name, die)
        save(store, iteration)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


KILLS = [*(("replace", name) for name in FILES), ("rename", "step-000002")]


@pytest.mark.parametrize(("call", "ending"), KILLS)
def test_killed_before_the_final_rename(store, monkeypatch, call, ending):
    save(store, 1)
    killed_while(store, 2, monkeypatch, call, lambda args: str(args[1]).endswith(ending))
    assert "step-000002.tmp" in names(store)
    assert store.load_latest(clean=False).iteration == 1
    with pytest.warns(
        UserWarning, match=r"removed .*step-000002\.tmp, left by an interrupted save"
    ):
        assert store.load_latest().iteration == 1
    assert names(store) == ["step-000001"]
    save(store, 2)
    assert latest_quietly(store).iteration == 2


def test_killed_at_random_moments_nothing_acknowledged_is_lost(store):
    moments = random.Random(0)
    iteration = 0
    for _ in range(10):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            while True:
                iteration += 1
                save(store, iteration)
                os.write(write, iteration.to_bytes(4, "little"))
        os.close(write)
        os.read(read, 4)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged = os.read(read, 2**16)
        os.close(read)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="removed .*left by an interrupted save")
            warnings.filterwarnings("error", message="passed over")
            found = store.load_latest()
        last = int.from_bytes(acknowledged[-4:], "little")
        assert found.iteration - last in (0, 1) if last else found.iteration > iteration
        assert found.state == {"iteration": found.iteration}
        iteration = found.iteration


def test_a_leftover_does_not_stop_the_next_save(store, monkeypatch):
    killed_while(store, 2, monkeypatch, "rename", lambda args: True)
    save(store, 2)
    assert names(store) == ["step-000002"]


def test_killed_while_replacing_the_only_one(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path / "c", keep_last=1)
    save(store, 5)
    killed_while(store, 5, monkeypatch, "rename", lambda args: str(args[1]).endswith("step-000005"))
    assert names(store) == ["step-000005.old", "step-000005.tmp"]
    with pytest.warns(UserWarning, match=r"step-000005\.tmp"):
        assert store.load_latest().iteration == 5
    assert names(store) == ["step-000005"]


def test_killed_while_removing_an_old_one(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path / "c", keep_last=1)
    save(store, 1)
    killed_while(store, 2, monkeypatch, "unlink", lambda args: str(args[0]).endswith("state.json"))
    assert store.iterations() == [2]
    with pytest.warns(UserWarning, match=r"step-000001\.tmp"):
        assert store.load_latest().iteration == 2


def test_an_old_one_that_cannot_be_removed_is_only_a_warning(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path / "c", keep_last=1)
    save(store, 1)

    def fail(path):
        if path.name.startswith("step-000001"):
            raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(checkpoints, "_remove", fail)
    with pytest.warns(UserWarning, match="could not remove the old checkpoint .*busy"):
        save(store, 2)
    assert latest_quietly(store, clean=False).iteration == 2


@pytest.mark.parametrize("file", FILES)
def test_an_incomplete_checkpoint_is_passed_over_by_name(store, file):
    save(store, 1)
    path = save(store, 2)
    (path / file).unlink()
    message = rf"passed over .*step-000002 \({file} is missing\); using .*step-000001"
    with pytest.warns(UserWarning, match=message):
        assert store.load_latest().iteration == 1
    with pytest.raises(DataError, match="is missing"):
        store.load(2)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), file=st.sampled_from(FILES), cut=st.booleans())
def test_any_damage_is_noticed(tmp_path_factory, data, file, cut):
    store = CheckpointStore(tmp_path_factory.mktemp("c"))
    save(store, 1)
    path = save(store, 2) / file
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    if cut:
        path.write_bytes(content[:position])
    else:
        damaged = bytearray(content)
        damaged[position] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(damaged)
    with contextlib.suppress(ValueError):
        if file == "manifest.json" and json.loads(content) == json.loads(path.read_bytes()):
            return  # white space
    with pytest.warns(UserWarning, match=r"passed over .*step-000002.*; using .*step-000001"):
        assert store.load_latest().iteration == 1


def test_when_all_are_damaged_there_is_none_and_it_says_so(store):
    for iteration in (1, 2):
        (save(store, iteration) / "state.json").write_bytes(b"{}\n")
    with pytest.warns(
        UserWarning, match="step-000002 .*step-000001 .*no complete checkpoint is left"
    ):
        assert store.load_latest() is None


@pytest.mark.parametrize("keep_last", [1, 3])
def test_after_a_resume_damaged_later_ones_make_no_difference(store, keep_last):
    save(store, 10)
    for iteration in (20, 30):
        os.truncate(save(store, iteration) / "state.json", 1)
    with pytest.warns(UserWarning, match="step-000030 .*step-000020 .*using .*step-000010"):
        assert store.load_latest().iteration == 10
    assert store.iterations() == [10, 20, 30]  # reading removes no evidence
    store.keep_last = keep_last
    for iteration in (15, 20):
        save(store, iteration)
        assert latest_quietly(store).iteration == iteration
    assert store.iterations() == [10, 15, 20][-keep_last:]


def test_other_files_in_the_folder_are_left_alone(store):
    save(store, 1)
    for name in ("notes.tmp", "step-12", "step-abc.tmp", "keep.old"):
        (store.folder / name).write_text("x")
    (store.folder / "step-000009").write_text("a file")
    with pytest.warns(UserWarning, match="step-000009"):
        assert store.load_latest().iteration == 1
    assert len(names(store)) == 6


def rewrite(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    manifest = {k: v for k, v in {**manifest, **changes}.items() if v is not ...}
    manifest["sha256"] = checkpoints._digest(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_checkpoint_of_a_newer_version_is_not_passed_over(store):
    save(store, 1)
    rewrite(save(store, 2), schema=3)
    with pytest.raises(DataError, match="written by schema 3, this reads up to 1"):
        store.load_latest()


@pytest.mark.parametrize(
    "changes", [{"iteration": 7}, {"files": {}}, {"files": ...}, {"schema": "x"}, {"schema": ...}]
)
def test_manifests_that_make_no_sense_are_damage(store, changes):
    save(store, 1)
    rewrite(save(store, 2), **changes)
    with pytest.warns(UserWarning, match="using .*step-000001"):
        assert store.load_latest().iteration == 1


def test_a_checkpoint_under_another_number_is_damage(store):
    save(store, 1)
    shutil.copytree(store.folder / "step-000001", store.folder / "step-000004")
    with pytest.warns(UserWarning, match="it is of iteration 1"):
        assert store.load_latest().iteration == 1


def test_the_manifest_can_be_checked_by_hand(store):
    path = save(store, 1)
    manifest = json.loads((path / "manifest.json").read_text())
    for name in FILES[:2]:
        data = (path / name).read_bytes()
        assert manifest["files"][name] == {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
