"""Atomic writes: the old file or the new one, never a third thing, and never a silent failure."""

import errno
import os
import resource
import stat

import pytest

from datadistill.errors import ResourceError, UsageError
from datadistill.runs import atomic


@pytest.fixture
def umask_077():
    former = os.umask(0o077)
    yield
    os.umask(former)


def failing(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path):
    path = tmp_path / "a.bin"
    atomic.write_bytes(path, b"old")
    atomic.write_bytes(path, b"new" * 1000)
    assert path.read_bytes() == b"new" * 1000
    assert os.listdir(tmp_path) == ["a.bin"]


def test_artefacts_are_0644_whatever_the_umask(tmp_path, umask_077):
    atomic.write_text(tmp_path / "a", "x")
    atomic.write_bytes(tmp_path / "b", b"x", mode=0o600)
    assert stat.S_IMODE(os.stat(tmp_path / "a").st_mode) == 0o644
    assert stat.S_IMODE(os.stat(tmp_path / "b").st_mode) == 0o600


def test_json_is_canonical(tmp_path):
    atomic.write_json(tmp_path / "a.json", {"b": [1.0], "a": "é"})
    assert (
        tmp_path / "a.json"
    ).read_bytes() == b'{\n  "a": "\\u00e9",\n  "b": [\n    1.0\n  ]\n}\n'
    with pytest.raises(ValueError):
        atomic.write_json(tmp_path / "a.json", {"b": float("nan")})
    assert (tmp_path / "a.json").stat().st_size > 0


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_or_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a.bin"
    atomic.write_bytes(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(number))
        with pytest.raises(ResourceError) as caught:
            atomic.write_bytes(path, b"new!")
    if number != errno.EIO:
        assert "4 bytes needed" in str(caught.value)
        assert "bytes free" in str(caught.value)
    assert caught.value.exit_code == 5
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_limit_that_the_system_enforces(tmp_path):
    atomic.write_bytes(tmp_path / "a.bin", b"old")
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            atomic.write_bytes(tmp_path / "a.bin", bytes(5000))
        except ResourceError as error:
            os._exit(error.exit_code if "5000 bytes needed" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_place_that_cannot_be_written_is_a_usage_error(tmp_path, monkeypatch, number):
    monkeypatch.setattr(atomic.tempfile, "mkstemp", failing(number))
    with pytest.raises(UsageError, match=r"cannot write to .*a\.bin") as caught:
        atomic.write_bytes(tmp_path / "a.bin", b"x")
    assert caught.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_usage_error(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(UsageError, match="cannot write to"):
            atomic.write_bytes(tmp_path / "a.bin", b"x")
    finally:
        tmp_path.chmod(0o755)


def test_a_missing_folder_and_a_file_as_folder_are_usage_errors(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "absent" / "a", tmp_path / "file" / "a"):
        with pytest.raises(UsageError, match="cannot write to"):
            atomic.write_bytes(path, b"x")


def test_interruption_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    atomic.write_bytes(path, b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_write_in_pieces_is_whole(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
    atomic.write_bytes(tmp_path / "a.bin", bytes(range(100)))
    assert (tmp_path / "a.bin").read_bytes() == bytes(range(100))


def test_targets_that_are_no_regular_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(os.listdir(tmp_path))
    for name in ("pipe", "folder", "link", "loop"):
        with pytest.raises(UsageError, match="cannot write to"):
            atomic.write_bytes(tmp_path / name, b"x")
    assert sorted(os.listdir(tmp_path)) == before


def test_links_to_files_and_folders_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_bytes(b"old")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real" / "a")
    atomic.write_bytes(tmp_path / "link", b"new")
    atomic.write_bytes(tmp_path / "folder" / "b", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_bytes() == b"new"
    assert (tmp_path / "real" / "b").read_bytes() == b"new"


def test_names_as_long_as_the_system_allows(tmp_path):
    for name in ("a" * 255, "é" * 127):
        atomic.write_bytes(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"
