"""A results.pth from anyone: nothing in it is run, and what makes no sense is refused by entry."""

import io
import os
import pickle
import zipfile

import pytest
import torch

from datadistill.cli import main
from datadistill.errors import DataError
from datadistill.export.wang import import_results

OWN = {"net": "mlp", "mean": (0.5,), "std": (0.5,)}


class Canary:
    """Makes a folder where it is unpickled by an open reader."""

    def __init__(self, place):
        self.place = str(place)

    def __reduce__(self):
        return os.mkdir, (self.place,)


def step(images=None, labels=None, lr=None):
    return (
        torch.zeros(10, 1, 8, 8) if images is None else images,
        torch.arange(10) if labels is None else labels,
        torch.tensor([0.1]) if lr is None else lr,
    )


def saved(tmp_path, content, **how):
    torch.save(content, tmp_path / "results.pth", **how)
    return tmp_path / "results.pth"


@pytest.mark.parametrize("how", ["zip", "old", "bare", "bare, newest"])
@pytest.mark.parametrize("inside", [True, False], ids=["as an lr", "beside the entries"])
def test_a_pickle_that_runs_code(tmp_path, capsys, how, inside):
    canary = Canary(tmp_path / "hatched")
    content = [step(lr=canary)] if inside else [step(), canary]
    path = tmp_path / "results.pth"
    if "bare" in how:
        content = [(0, 0, canary)] if inside else [0, canary]
        path.write_bytes(pickle.dumps(content, protocol=2 if how == "bare" else None))
    else:
        saved(tmp_path, content, _use_new_zipfile_serialization=how == "zip")
    assert main(["import", str(path), "--dataset", "mnist"]) == 3
    said = capsys.readouterr().err
    assert "nothing in it was run" in said and "torch.save" in said
    assert "mkdir" in said or how == "bare, newest"  # torch does not come to the name
    assert "weights_only" not in said and len(said.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["results.pth"]


def test_the_canary_would_hatch(tmp_path):
    pickle.loads(pickle.dumps(Canary(tmp_path / "hatched")))
    assert (tmp_path / "hatched").is_dir()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 60, 0.3, 0.7, 0.999])
def test_truncated(tmp_path, kept, zipped):
    path = saved(tmp_path, [step()] * 3, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(
        DataError,
        match=r"results\.pth is (empty|truncated|a damaged|a pickle that .* or is damaged)",
    ):
        import_results(path, "digits", **OWN)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x02.", b"PK\x03\x04" + bytes(100), bytes(1000)]
)
def test_no_file_of_torch(tmp_path, content):
    (tmp_path / "results.pth").write_bytes(content)
    with pytest.raises(DataError, match=r"results\.pth"):
        import_results(tmp_path / "results.pth", "digits", **OWN)


def test_places_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, said in [
        ("pipe", "not a regular file"),
        (".", "a folder"),
        ("none", "does not exist"),
    ]:
        with pytest.raises(DataError, match=said):
            import_results(tmp_path / name, "digits", **OWN)


def test_an_archive_that_claims_to_span_several_disks(tmp_path):
    path = saved(tmp_path, [step()])
    whole = path.read_bytes()
    end = whole.rindex(b"PK\x06\x07")  # its number of disks stands at the end of this record
    path.write_bytes(whole[: end + 16] + b"\x07\0\0\0" + whole[end + 20 :])
    with pytest.raises(DataError, match="damaged archive"):
        import_results(path, "digits", **OWN)


def test_an_archive_that_unfolds(tmp_path):
    source = saved(tmp_path, [step(images=torch.zeros(200, 1, 64, 64))])
    packed = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    source.write_bytes(packed.getvalue())
    with pytest.raises(DataError, match="unfold"):
        import_results(source, "digits", **OWN)


def test_a_tensor_of_a_terabyte_in_a_few_bytes(tmp_path):
    vast = torch.zeros(1).expand(10**6, 1, 1000, 1000)
    path = saved(tmp_path, [step(images=vast)])
    assert path.stat().st_size < 4000
    with pytest.raises(DataError, match="entry 0: images are no tensor of numbers"):
        import_results(path, "digits", **OWN)


def nan_at(x, *index):
    x[index] = float("nan")
    return x


ENTRIES = {
    "a number": (3, "is a int, wanted three"),
    "two parts": (step()[:2], "has 2 parts, wanted three"),
    "no images": ((None, *step()[1:]), "images are no tensor"),
    "no lr": ((*step()[:2], None), "lr is a NoneType"),
    "images flat": (step(images=torch.zeros(10, 64)), "images are (10, 64)"),
    "no image": (step(images=torch.zeros(0, 1, 8, 8), labels=torch.arange(0)), "B >= 1"),
    "whole pixels": (step(images=torch.zeros(10, 1, 8, 8, dtype=torch.uint8)), "torch.uint8"),
    "not square": (step(images=torch.zeros(10, 1, 8, 9)), "8x9"),
    "three channels": (
        step(images=torch.zeros(10, 3, 8, 8)),
        "images have 3 channels, wanted 1 for digits",
    ),
    "other size": (step(images=torch.zeros(10, 1, 9, 9)), "those of entry 0 (10, 1, 8, 8)"),
    "NaN pixel": (
        step(images=nan_at(torch.zeros(10, 1, 8, 8), 4, 0, 1, 1)),
        "image 4 has values that are not",
    ),
    "sparse": (
        step(images=torch.zeros(10, 1, 8, 8).to_sparse()),
        "images are no tensor of numbers",
    ),
    "nine labels": (step(labels=torch.arange(9)), "labels are (9,)"),
    "label 10": (step(labels=torch.arange(1, 11)), "labels reach 1..10, wanted 0..9"),
    "label -1": (step(labels=torch.arange(-1, 9)), "labels reach -1..8"),
    "float labels": (step(labels=torch.arange(10).float()), "no probabilities"),
    "labels of yes and no": (step(labels=torch.ones(10, dtype=torch.bool)), "torch.bool"),
    "soft beside hard": (
        step(labels=torch.full((10, 10), 0.1)),
        "another kind than those of entry 0",
    ),
    "sum to 2": (step(labels=torch.full((10, 10), 0.2)), "sum to 1"),
    "NaN label": (step(labels=nan_at(torch.full((10, 10), 0.1), 2, 2)), "no probabilities"),
    "two ones": (step(labels=torch.ones(10, 10).long()), "not one-hot"),
    "lr 0": (step(lr=torch.tensor([0.0])), "lr is 0.0"),
    "lr below 0": (step(lr=-0.5), "lr is -0.5"),
    "lr NaN": (step(lr=torch.tensor(float("nan"))), "lr is nan"),
    "lr infinite": (step(lr=float("inf")), "lr is inf"),
    "two lrs": (step(lr=torch.tensor([0.1, 0.2])), "lr is a tensor (2,)"),
    "lr yes": (step(lr=True), "lr is a bool"),
    "lr a word": (step(lr="fast"), "lr is a str"),
}


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize(("entry", "said"), ENTRIES.values(), ids=ENTRIES.keys())
def test_an_entry_that_makes_no_sense(tmp_path, entry, said, place):
    content = [step(), step(), step()]
    content[place] = entry
    path = saved(tmp_path, content)
    with pytest.raises(DataError) as refusal:
        import_results(path, "digits", **OWN)
    assert f"{path}: entry {place}: " in str(refusal.value) and said in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [
        [],
        (),
        {},
        {"images": torch.zeros(3)},
        torch.zeros(3),
        5,
        "text",
        [[[step()]]],
        [step(), [step()]],
    ],
)
def test_wrong_nesting(tmp_path, content):
    with pytest.raises(DataError, match="wanted"):
        import_results(saved(tmp_path, content), "digits", **OWN)
