"""A kind of file, declared in a few lines: what is saved is loaded, and the table of fields refuses
others."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch

from datadistill.errors import DataError
from datadistill.runs.artifact import Artifact, Content
from datadistill.runs.content import check_text, check_whole
from datadistill.runs.file_kinds import FILE_KINDS, read_kind
from datadistill.runs.tensors import pack, read_metadata

HOUSE = Artifact(
    "house",
    schema=2,
    fields={"rooms": partial(check_whole, least=1), "garden": check_text},
    optional=["garden"],
    uncovered={1: ("rooms",)},
    file_name="house.safetensors",
    runs=["building"],
    command="houses build",
)


@dataclass
class House:
    tensors: dict[str, torch.Tensor]
    rooms: int
    garden: str | None = None


@pytest.fixture(autouse=True)
def in_the_table(monkeypatch):
    monkeypatch.setitem(FILE_KINDS, "house", ("a house", "houses show {}"))


def house(**changes):
    return House(**{"tensors": {"walls": torch.arange(3.0)}, "rooms": 4, **changes})


def test_saving_and_loading_is_the_identity(tmp_path):
    for name, made in (("a", house()), ("b", house(garden="with a tree"))):
        HOUSE.save(made, tmp_path / name)
        found = HOUSE.load(tmp_path / name, House)
        assert torch.equal(found.tensors["walls"], made.tensors["walls"])
        assert (found.rooms, found.garden) == (made.rooms, made.garden)
        HOUSE.save(found, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == (tmp_path / name).read_bytes()
        assert ("garden" in read_metadata(tmp_path / name)) == (made.garden is not None)


def test_a_file_in_its_run_folder_is_found(tmp_path):
    HOUSE.save(house(), tmp_path / "house.safetensors")
    HOUSE.save(house(rooms=9), tmp_path / "other.safetensors")
    assert HOUSE.load(tmp_path, House).rooms == 4
    assert HOUSE.load(tmp_path, House, name="other.safetensors").rooms == 9
    assert read_kind(tmp_path / "house.safetensors") == "house" and read_kind(tmp_path) is None


def test_the_fingerprint_is_the_checksum_in_the_file(tmp_path):
    HOUSE.save(house(), tmp_path / "a")
    assert HOUSE.fingerprint(house()) == read_metadata(tmp_path / "a")["checksum"]
    assert HOUSE.fingerprint(house()) != HOUSE.fingerprint(house(rooms=5))
    assert HOUSE.fingerprint(house(), schema=1) == HOUSE.fingerprint(house(rooms=5), schema=1)


def test_a_value_that_is_refused_is_said_of_the_file(tmp_path):
    HOUSE.save(house(rooms=0), tmp_path / "a")
    with pytest.raises(DataError, match="a: rooms is 0, wanted a whole number from 1"):
        HOUSE.load(tmp_path / "a", House)


def test_what_fails_in_the_class_is_said_of_the_file(tmp_path):
    HOUSE.save(house(), tmp_path / "a")
    with pytest.raises(
        DataError, match=r"a: its metadata is not that of a house \(ZeroDivisionError"
    ):
        HOUSE.load(tmp_path / "a", lambda **house: 1 / 0)


def test_without_a_table_any_values_are_taken(tmp_path):
    plain = Artifact("house")
    plain.save(Content({"x": torch.ones(1)}, {"anything": [1, None]}), tmp_path / "a")
    assert plain.load(tmp_path / "a", Content).values == {"anything": [1, None]}


def test_a_file_of_no_kind_is_no_house(tmp_path):
    (tmp_path / "a").write_bytes(pack({}, {"schema": 1}))
    with pytest.raises(DataError, match=r"a holds something else, wanted a house \(houses build\)"):
        HOUSE.load(tmp_path / "a", House)
