"""Nothing is written into the folder of images that is read."""

import pytest
from PIL import Image

import datadistill as dd
from datadistill.cli import compare, distill, finetune
from datadistill.data import load_folder
from datadistill.errors import DataError, UsageError
from datadistill.runs.folder import RunFolder
from datadistill.runs.inside import refuse_inside

INSIDE = "lies inside .*folder of images.*choose a place outside"


@pytest.fixture
def pets(tmp_path):
    """pets/cat, pets/dog (a link to elsewhere/dog), and a link to pets."""
    for path in (tmp_path / "pets" / "cat", tmp_path / "elsewhere" / "dog"):
        path.mkdir(parents=True)
        for i in range(5):
            Image.new("L", (4, 4), 50 * i).save(path / f"{i}.png")
    (tmp_path / "pets" / "dog").symlink_to(tmp_path / "elsewhere" / "dog", target_is_directory=True)
    (tmp_path / "link").symlink_to(tmp_path / "pets", target_is_directory=True)
    return tmp_path / "pets"


@pytest.mark.parametrize(
    "out, images",
    [
        ("pets", "pets"),
        ("pets/runs/a", "pets"),
        ("pets/cat/a.csv", "pets"),
        ("link/runs/a", "pets"),
        ("pets/runs/a", "link"),
        ("elsewhere/dog/a", "pets"),
        ("elsewhere/../pets/runs", "pets"),
        ("runs/a", "."),
    ],
)
@pytest.mark.parametrize("absolute", [True, False])
def test_places_inside_are_refused_by_every_name(pets, out, images, absolute, monkeypatch):
    monkeypatch.chdir(pets.parent)
    place = (lambda name: pets.parent / name) if absolute else str
    with pytest.raises(UsageError, match=INSIDE):
        refuse_inside(place(out), place(images))


@pytest.mark.parametrize(
    "out", ["runs/a", "pets2/a", "elsewhere/a", "pets/.runs/a", "pets/cat/.a.csv", "pets/../a"]
)
def test_places_outside_and_hidden_ones_are_allowed(pets, out):
    refuse_inside(pets.parent / out, pets)


def test_no_place_and_no_images_are_allowed(pets):
    refuse_inside(None, pets)
    refuse_inside(pets / "a", None)
    refuse_inside(pets / "a", pets.parent / "absent")


def unlearned(*args, **options):
    raise AssertionError("something was read or learned")


def test_distill_refuses_before_it_reads(pets, monkeypatch):
    monkeypatch.setattr("datadistill.data.from_config.load_folder", unlearned)
    config = dd.DistillConfig(dataset="folder", data=str(pets))
    with pytest.raises(UsageError, match=INSIDE):
        dd.distill(config, out=pets / "runs" / "a")
    assert sorted(path.name for path in pets.iterdir()) == ["cat", "dog"]


def test_the_default_out_is_refused_inside_the_images(pets, monkeypatch):
    monkeypatch.chdir(pets)
    monkeypatch.setattr("datadistill.training.distill", unlearned)
    with pytest.raises(UsageError, match=r"runs/own-images-s0 lies inside \."):
        distill.run(["own-images", "--data", "."])


def test_a_rescue_folder_inside_the_images_is_refused(pets, tmp_path, monkeypatch):
    monkeypatch.setattr("datadistill.data.from_config.load_folder", unlearned)
    options = [
        "own-images",
        "--data",
        str(pets),
        "--out",
        str(tmp_path / "a"),
        "--rescue-dir",
        str(pets / "b"),
    ]
    with pytest.raises(UsageError, match="rescue_dir"):
        distill.run(options)


def test_compare_and_finetune_refuse_before_they_read(pets, monkeypatch):
    monkeypatch.setattr("datadistill.distilled.DistilledDataset.load", lambda path: None)
    with pytest.raises(UsageError, match=INSIDE):
        compare.run(
            ["set.safetensors", "--data", str(pets), "--out", str(pets / "cat" / "table.csv")]
        )
    with pytest.raises(UsageError, match=INSIDE):
        finetune.run(
            [
                "set.safetensors",
                "--weights",
                "w.pt",
                "--data",
                str(pets),
                "--out",
                str(pets / "net"),
            ]
        )


@pytest.mark.parametrize("place", ["runs", "runs/a", "runs/reproduce/table1-smoke/a"])
def test_runs_among_the_classes_are_no_class(pets, place):
    RunFolder.create(pets / place, {}, {}, kind="distill")
    with pytest.raises(
        DataError, match=r"pets.runs holds runs of datadistill and no images of a class; move"
    ):
        load_folder(pets)
