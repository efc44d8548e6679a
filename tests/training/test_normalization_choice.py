"""The normalization of a run: measured, ImageNet's, that of torchvision's weights, a file's,
numbers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from picture_folder import write_pictures

import datadistill as dd
from datadistill.cli import main
from datadistill.config import DistillConfig, PoolConfig, RunOptions, complete_config
from datadistill.data import SOURCES, load, load_folder
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.own_data import load_own_data
from datadistill.nets.weights_file import statistics_of
from datadistill.training.learning_from_config import load_run_data
from datadistill.training.normalization_from_config import read_normalization

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NET = {"net": "mlp", "net_args": {"width": 4, "depth": 1}}
QUICK = {"iterations": 1, "epochs": 1, "batch": 4, "validate_every": 1, "validate_nets": 1}


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """A folder of two classes, six images each."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pets", 6, 8)
    return "pets"


def config(**changes):
    fields = {"dataset": "folder", "data": "pets", "size": 8, "device": "cpu", **NET, **QUICK}
    return DistillConfig(**{**fields, **changes})


def used(**changes):
    found = load_run_data(config(**changes), RunOptions()).normalization
    return found.mean, found.std


def test_a_folder_is_measured_unless_something_is_said(pets):
    own = load_folder(pets, size=8).normalization
    assert used() == used(normalization="own") == (own.mean, own.std)
    assert used(normalization="imagenet") == IMAGENET
    assert used(normalization="0.5/0.25") == ((0.5,) * 3, (0.25,) * 3)
    assert used(normalization="0.1,0.2,0.3/0.5") == ((0.1, 0.2, 0.3), (0.5,) * 3)


def test_own_measures_where_published_numbers_are_the_default(monkeypatch):
    measured = load("digits").normalization
    source = replace(SOURCES["digits"], statistics=((0.5,), (0.25,)))
    monkeypatch.setitem(SOURCES, "digits", source)
    published, own = (load("digits", normalization=n).normalization for n in (None, "own"))
    assert (published.mean, published.std) == source.statistics and own == measured
    assert load("digits", channels=3, normalization="imagenet").normalization.mean == IMAGENET[0]


def test_torchvisions_weights_bring_their_own_numbers(pets):
    large = {"net": "torchvision", "net_args": {"model": "efficientnet_v2_l"}}
    weights = {"theta_0": "given", "weights": "imagenet"}
    half = ((0.5,) * 3, (0.5,) * 3)
    assert used(**large, **weights) == used(**large, **weights, normalization="imagenet") == half
    assert used(net="torchvision", net_args={}, **weights) == IMAGENET
    assert used(net="alexnet", net_args={}, **weights) == IMAGENET
    assert used(**large, normalization="imagenet") == IMAGENET
    own = load_folder(pets, size=8).normalization
    assert used(**large, theta_0="given", weights="w.pt") == (own.mean, own.std)
    assert used(**large, **weights, normalization="own") == (own.mean, own.std)


def test_every_model_of_torchvision_says_its_numbers():
    from datadistill.nets.torchvision_net import models

    for model in models():
        mean, std = statistics_of(model)
        assert len(mean) == len(std) == 3 and min(std) > 0


def test_files_of_ours_lend_their_normalization(pets, tmp_path):
    d = dd.distill(config(normalization="imagenet"), out="run")
    d.save("set.safetensors")
    tuning = dd.finetune(d, d.build(), data=load_own_data(d, folder=pets), reach=False)
    tuning.save("net.safetensors")
    for place in ("set.safetensors", "run", "net.safetensors"):
        assert read_normalization(place) == d.normalization
        assert used(normalization=place) == IMAGENET


def test_a_pools_normalization(tmp_path):
    quick = {"nets": 1, "validation_nets": 1, "held_out": 1, "epochs": 1, "device": "cpu"}
    pool = dd.pretrain(
        PoolConfig(dataset="digits", normalization="0.5/0.25", **NET, **quick),
        out=tmp_path / "pool",
    )
    assert (pool.normalization.mean, pool.normalization.std) == ((0.5,), (0.25,))
    assert read_normalization(tmp_path / "pool") == pool.normalization


def test_evaluation_and_finetuning_use_the_sets_own(pets):
    d = dd.distill(config(normalization="imagenet"))
    real = load_own_data(d, folder=pets)
    assert real.normalization == d.normalization
    expected = load_folder(pets, size=8, normalization="imagenet", parts=d.data.parts)
    assert torch.equal(real.train.images, expected.train.images)
    assert torch.equal(real.test.images, expected.test.images)


def test_a_config_without_the_field_is_as_it_was(pets):
    stored = complete_config("distill", {"dataset": "folder", "data": "pets"})
    assert stored["normalization"] == "auto"
    argv = ["distill", "own-images", "--data", pets, "--size", "8", "--net", "mlp", "--no-figures"]
    argv += ["--net-args", "width", "4", "--iterations", "2", "--batch", "4", "--no-evaluate"]
    assert main([*argv, "--out", "run"]) == 0
    distilled, stored = Path("run/distilled.safetensors"), Path("run/config.json")
    kept = distilled.read_bytes()
    distilled.unlink()
    run = json.loads(stored.read_text(encoding="utf-8"))
    del run["config"]["normalization"]
    stored.write_text(json.dumps(run), encoding="utf-8")
    assert main(["distill", "--resume", "run", "--no-figures", "--no-evaluate"]) == 0
    assert distilled.read_bytes() == kept


def test_the_command_line_chooses_and_inspect_shows(pets, capsys):
    argv = ["distill", "own-images", "--data", pets, "--size", "8", "--net", "mlp", "--no-figures"]
    argv += ["--net-args", "width", "4", "--iterations", "1", "--batch", "4", "--no-evaluate"]
    assert main([*argv, "--normalization", "0.5/0.2", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["inspect", "run"]) == 0
    assert "mean 0.5 0.5 0.5, std 0.2 0.2 0.2" in capsys.readouterr().out
    assert main([*argv, "--normalization", "imagnet", "--out", "other"]) == 2
    assert "did you mean imagenet?" in capsys.readouterr().err


REFUSED = [
    ({"normalization": ""}, UsageError, "normalization is empty"),
    ({"normalization": "0.5/"}, UsageError, "wanted auto, own, imagenet|is no file"),
    ({"normalization": "0.5,,1/0.2"}, UsageError, "wanted MEAN/STD"),
    ({"normalization": "0.5/0"}, UsageError, "deviations above 0"),
    ({"normalization": "0.5/1e400"}, UsageError, "wanted finite means"),
    ({"normalization": "1,2,3/1,2"}, UsageError, "has 3 means and 2 deviations"),
    ({"normalization": "1,2/1,2"}, UsageError, "is for 2 channels .* choose a normalization for 3"),
    ({"normalization": "imagenet", "channels": 1}, UsageError, "load them with 3"),
    ({"normalization": "nothing.safetensors"}, UsageError, "is no file"),
    ({"normalization": "pets"}, DataError, "a folder without a finished set"),
    ({"normalization": "pets/cat/0.png"}, DataError, "is no file of ours"),
]


@pytest.mark.parametrize(("changes", "error", "words"), REFUSED, ids=[w for *_, w in REFUSED])
def test_what_is_no_normalization_is_refused(pets, changes, error, words):
    with pytest.raises(error, match=words):
        load_run_data(config(**changes), RunOptions())


def test_a_files_size_and_channels_hold(pets):
    dd.distill(config(size=12)).save("set.safetensors")
    with pytest.raises(UsageError, match="for size 12 and 3"):
        used(normalization="set.safetensors", size=8)
    with pytest.raises(UsageError, match="contradict"):
        used(normalization="set.safetensors", size=12, channels=1)
    assert load_run_data(
        config(normalization="set.safetensors", size=None), RunOptions()
    ).shape == (3, 12, 12)


def test_loading_by_hand_takes_names_too(pets):
    found = load_folder(pets, size=8, normalization="imagenet").normalization
    assert (found.mean, found.std, found.size) == (*IMAGENET, 8)
    for wrong in (3, "set.safetensors"):
        with pytest.raises(UsageError, match="wanted own, imagenet, numbers"):
            load_folder(pets, normalization=wrong)
