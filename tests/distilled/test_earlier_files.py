"""Files of schema 1 to 3, which said much in `origin` that has a field of its own since, are read
as before."""

from pathlib import Path

import pytest
import torch
from distilled_cases import distilled, write

from datadistill.cli import main
from datadistill.data.parts import Parts
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.distilled_file import identity
from datadistill.earlier_files import describe_by_origin
from datadistill.errors import DataError
from datadistill.objectives import Attack, Classification
from datadistill.runs.tensors import unpack
from datadistill.starts import Start

HERE = Path(__file__).parent / "earlier"
ORIGIN = {
    "recipe": "none",
    "seed": 3,
    "dataset": "digits",
    "split": "train",
    "iterations": 5,
    "description": "digits: some",
}
PARTS = Parts(("AAAAAAAA", "BBBBBBBB"), ("CCCCCCCC",), ("DDDDDDDD",))
# file -> the set that was saved, its start, objective, data
FILES = {
    "schema-1": (
        {"fixed": True},
        Start("draws", True),
        Classification(),
        DataReference("digits", 3),
    ),
    "schema-2-pool-attack": (
        {},
        Start("pool", False, "mnist", "sha256:" + "ab" * 32),
        Attack(1, 3, 4),
        DataReference("digits", 3, 0.1),
    ),
    "schema-2-folder": (
        {"soft": True},
        Start(),
        Classification(),
        DataReference("birds", 3, 1, 0.25, True, PARTS),
    ),
    "schema-2-given": (
        {"fixed": True, "per_tensor": True},
        Start("given", True, None, "sha256:" + "cd" * 32),
        Classification(),
        DataReference("mine", 3, fingerprint="ef" * 32),
    ),
    "schema-3-decoder": (
        {"fixed": True},
        Start("weights", True, None, "sha256:" + "12" * 32),
        Classification(),
        DataReference("digits", 3),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_what_origin_said_has_a_field(name, tmp_path):
    made_of, start, objective, data = FILES[name]
    d, same = DistilledDataset.load(HERE / f"{name}.safetensors"), distilled(**made_of)
    assert (d.start, d.objective, d.data) == (start, objective, data)
    assert d.origin == {**ORIGIN, "dataset": data.dataset}
    assert (d.schedule.epochs, d.passes, len(d.order)) == (2, 2, 4)
    for attribute in ("images", "labels", "step_sizes"):
        assert torch.equal(getattr(d, attribute), getattr(same, attribute))
    d.save(tmp_path / "now")
    now = DistilledDataset.load(tmp_path / "now")
    assert identity(now) == identity(d) and now.start == start and now.data == data
    assert {p.name for p in HERE.iterdir()} == {f"{name}.safetensors" for name in FILES}


def test_schema_1_does_not_cover_its_accuracies(tmp_path, capsys):
    old = HERE / "schema-1.safetensors"
    edited = old.read_bytes().replace(rb"\"test\":12.5", rb"\"test\":13.5")
    (tmp_path / "edited").write_bytes(edited)
    assert DistilledDataset.load(tmp_path / "edited").accuracies == {"test": 13.5}
    assert main(["inspect", str(old)]) == 0
    assert "leaves the accuracies out of it" in " ".join(capsys.readouterr().out.split())
    distilled().save(tmp_path / "new")
    assert main(["inspect", str(tmp_path / "new")]) == 0
    assert "leaves" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"attack": [0, 9]}, "target_class is 9"),
        ({"attack": [0]}, r"origin.attack is \[0\], wanted two classes"),
        ({"source": 5}, "start.source is 5, wanted a text"),
        ({"holdout": "a"}, "data.holdout is 'a'"),
        ({"skip_bad": 1}, "data.skip_bad is 1"),
        ({"parts": {}}, "lacks train, validation or test"),
        ({"seed": True}, "data.seed is True"),
    ],
)
def test_an_origin_that_makes_no_sense_is_refused(entry, words, tmp_path):
    tensors, meta = unpack(HERE / "schema-2-pool-attack.safetensors", schema=2)
    with pytest.raises(DataError, match=words):
        DistilledDataset.load(
            write(tmp_path / "file", tensors, {**meta, "origin": {**meta["origin"], **entry}})
        )
    with pytest.raises(DataError, match=r"unknown \['data'\] in schema 2"):
        DistilledDataset.load(write(tmp_path / "file", tensors, {**meta, "data": {}}))


@pytest.mark.parametrize(
    ("origin", "fixed", "init", "start"),
    [
        ({}, False, "xavier", Start()),
        ({"fixed": True}, False, "xavier", Start(one=True)),
        ({}, True, "factory", Start("factory", True)),
        ({"factory": "f"}, False, "factory", Start("factory", fingerprint="f")),
        ({"source": "mnist"}, True, "xavier", Start("pool", True, "mnist")),
        ({"pool": "p"}, False, "xavier", Start("pool", fingerprint="p")),
        ({"source": "mnist", "weights": "w"}, True, "xavier", Start("weights", True, "mnist", "w")),
        ({"given": "g", "weights": "w"}, True, "xavier", Start("given", True, None, "g")),
    ],
)
def test_where_nets_started_by_the_entries_of_an_origin(origin, fixed, init, start):
    assert Start.from_description(describe_by_origin(origin, fixed, init)["start"]) == start
