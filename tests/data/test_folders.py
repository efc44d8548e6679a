"""Your own folder of images, and everything that can be wrong with one."""

import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from datadistill.data import Normalization, load, load_folder
from datadistill.errors import DataError, UsageError


def make(root, counts, size=(12, 10)):
    """One folder a class, each with `count` noisy pictures."""
    noise = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = noise.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:03}.png")
    return root


@pytest.fixture
def birds(tmp_path):
    return make(tmp_path / "birds", {"wren": 10, "jay": 20, "owl": 2})


def rows(split):
    return {image.numpy().tobytes() for image in split.images}


def test_classes_splits_shapes(birds):
    data = load_folder(birds, size=8)
    assert data.classes == ("jay", "owl", "wren") and data.name == "birds"
    assert data.shape == (3, 8, 8)
    assert torch.bincount(data.test.labels).tolist() == [4, 1, 2]
    parts = [rows(data.train), rows(data.validation), rows(data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 32
    assert "birds" in data.description and "25 to learn from" in data.description


def test_defaults_are_32_pixels_and_three_channels(birds):
    assert load("folder", folder=birds).shape == (3, 32, 32)
    assert load("folder", folder=birds, size=16, channels=1).shape == (1, 16, 16)


def test_the_seed_decides(birds):
    first, again, other = (load_folder(birds, size=8, seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(first.test.images, again.test.images)
    assert rows(first.test) != rows(other.test)


def test_the_test_part_is_read_when_asked_for(birds):
    data = load_folder(birds, size=8)
    assert not data.test_was_read
    for path in (birds / "jay").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="jay"):
        _ = data.test
    assert not data.test_was_read


def test_litter_is_ignored(birds):
    for path in (".DS_Store", "jay/.hidden.txt", "jay/Thumbs.db", "owl/desktop.ini"):
        (birds / path).write_bytes(b"x")
    (birds / ".git").mkdir()
    assert len(load_folder(birds, size=8).test) == 7


def test_modes_in_files(tmp_path):
    root = make(tmp_path / "modes", {"a": 3, "b": 3})
    Image.new("1", (9, 9), 1).save(root / "a" / "bit.png")
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(root / "a" / "alpha.png")
    Image.new("LA", (9, 9), (0, 0)).save(root / "a" / "la.png")
    Image.new("CMYK", (9, 9), (0, 0, 0, 0)).save(root / "a" / "cmyk.jpg")
    Image.fromarray(np.full((9, 9), 65535, np.uint16)).save(root / "a" / "deep.png")
    frames = [Image.new("RGB", (9, 9), shade) for shade in ("white", "black")]
    frames[0].save(root / "a" / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("P", (9, 9), 0).save(root / "b" / "palette.png")
    data = load_folder(root, size=9, holdout=2, validation=0, seed=1)
    seen = data.normalization.inverse(torch.cat([data.train.images, data.test.images]))
    white = (seen > 0.99).flatten(1).all(1)  # JPEG may be off by one
    assert white.sum() == 6


def damage(path):
    path.write_bytes(path.read_bytes()[:60])


def test_a_damaged_image_is_named(birds):
    damage(birds / "jay" / "003.png")
    with pytest.raises(DataError, match=r"jay.003\.png cannot be decoded"):
        load_folder(birds)


def test_a_file_that_is_no_image_is_named(birds):
    (birds / "jay" / "notes.txt").write_text("a jay")
    with pytest.raises(DataError, match=r"jay.notes\.txt is not an image"):
        load_folder(birds)


def test_an_empty_file_is_named(birds):
    (birds / "jay" / "000.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"jay.000\.png is not an image"):
        load_folder(birds)


def test_bad_files_can_be_skipped_with_a_count(birds, caplog):
    damage(birds / "jay" / "003.png")
    (birds / "wren" / "notes.txt").write_text("a wren")
    with caplog.at_level(logging.WARNING):
        data = load_folder(birds, size=8, skip_bad=True)
    assert "2 file(s)" in caplog.text and "2 skipped" in data.description
    assert len(data.train) + len(data.validation) + len(data.test) == 31


def test_a_class_whose_files_are_all_bad(birds):
    for path in (birds / "owl").iterdir():
        damage(path)
    with pytest.raises(DataError, match=r"'owl'.*no image.*2 skipped"):
        load_folder(birds, skip_bad=True)


@pytest.mark.parametrize("factor", [1, 3])  # Pillow warns up to twice its limit and raises beyond
def test_a_decompression_bomb_is_refused(birds, monkeypatch, factor):
    # the pictures have 120
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 119 if factor == 1 else 30)
    with pytest.raises(DataError, match="decompression bomb"):
        load_folder(birds)


def test_an_empty_class(birds):
    (birds / "kite").mkdir()
    with pytest.raises(DataError, match=r"'kite'.*no image"):
        load_folder(birds)


def test_a_class_with_one_image(birds):
    (birds / "owl" / "000.png").unlink()
    with pytest.raises(DataError, match=r"'owl'.*one image only.*at least two"):
        load_folder(birds)


def test_one_class(tmp_path):
    with pytest.raises(DataError, match=r"one class only \(jay\)"):
        load_folder(make(tmp_path / "birds", {"jay": 3}))


def test_no_class(tmp_path):
    with pytest.raises(DataError, match="no class"):
        load_folder(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_folder(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not a folder"):
        load_folder(tmp_path / "file")


def test_images_without_class_folders(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"files \(a\.png.*one folder for each class"):
        load_folder(tmp_path)


def test_a_file_beside_the_classes(birds):
    (birds / "README.txt").write_text("birds")
    with pytest.raises(DataError, match=r"README\.txt beside"):
        load_folder(birds)


def test_a_folder_inside_a_class(birds):
    (birds / "jay" / "young").mkdir()
    with pytest.raises(DataError, match="young is a folder inside"):
        load_folder(birds)


def test_options_that_make_no_sense(birds):
    with pytest.raises(UsageError, match="channels is 2"):
        load_folder(birds, channels=2)
    with pytest.raises(UsageError, match="size is 0"):
        load_folder(birds, size=0)
    with pytest.raises(UsageError, match="contradict"):
        load_folder(birds, size=8, normalization=Normalization((0.5,), (0.5,), 16, 1))


def test_a_given_normalization_is_used(birds):
    chosen = Normalization((0.5,), (0.5,), 16, 1)
    data = load_folder(birds, normalization=chosen)
    assert data.shape == (1, 16, 16) and data.normalization is chosen


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of Unix")
def test_a_named_pipe_is_refused_and_not_waited_for(birds):
    os.mkfifo(birds / "jay" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png is not a regular file"):
        load_folder(birds)


def test_a_link_to_a_device_is_refused(birds):
    (birds / "jay" / "endless.png").symlink_to(os.devnull)
    with pytest.raises(DataError, match=r"endless\.png is not a regular file"):
        load_folder(birds)


def test_a_link_that_leads_nowhere_is_refused(birds):
    (birds / "jay" / "gone.png").symlink_to(birds / "nothing.png")
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        load_folder(birds)
