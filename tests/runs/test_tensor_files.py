"""Safetensors files: what is packed comes back bit for bit, and nothing else is accepted."""

import json
import math
import os
import re
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datadistill.errors import DataError
from datadistill.runs.canonical import canonical_json
from datadistill.runs.header import DTYPES
from datadistill.runs.tensors import checksum, pack, unpack

META = {"schema": 1, "classes": ["plane", "car"], "lr": 0.1}
OURS = {"datadistill": '{"schema":1}'}  # metadata with nothing wrong but the checksum
GOOD = pack({"images": torch.arange(6.0).reshape(2, 3), "labels": torch.tensor([0, 1])}, META)


def refused(data, message=".", **kwargs):
    with pytest.raises(DataError, match=message) as caught:
        unpack(data, schema=1, **kwargs)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)
    return str(caught.value)


def raw(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def parts(data):
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_meta(change):
    """GOOD with its JSON changed, by a function of the parsed object that returns the text."""
    header, body = parts(GOOD)
    header["__metadata__"]["datadistill"] = change(
        json.loads(header["__metadata__"]["datadistill"])
    )
    return raw(header, body)


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(list(DTYPES)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    data = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    if dtype is torch.bool:
        return (torch.tensor(list(data), dtype=torch.uint8) > 127).reshape(shape)
    return torch.tensor(list(data), dtype=torch.uint8).view(dtype).reshape(shape)


def bits(tensor):
    return tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).tolist()


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), tensors(), max_size=4))
def test_round_trip_is_exact_to_the_bit(named):
    named.pop("__metadata__", None)  # the format's own name
    data = pack(named, META)
    assert data == pack(dict(reversed(named.items())), META)
    back, meta = unpack(data, schema=1, finite=False)
    assert list(back) == sorted(named)
    assert {k: bits(v) for k, v in back.items()} == {k: bits(v) for k, v in named.items()}
    assert {k: v for k, v in meta.items() if k != "checksum"} == META


def test_other_readers_of_the_format_agree():
    named = {
        "a": torch.randn(3, 2),
        "b": torch.tensor(True),
        "c": torch.ones(2, dtype=torch.bfloat16),
    }
    theirs, (ours, _) = (
        safetensors.torch.load(pack(named, META)),
        unpack(pack(named, META), schema=1),
    )
    assert all(torch.equal(theirs[name], ours[name]) for name in named)


def test_views_gradients_and_shared_tensors_are_packed_by_value():
    base = torch.arange(6.0, requires_grad=True)
    named = {"a": base, "b": base.reshape(2, 3).t(), "c": base[::2]}
    back, _ = unpack(pack(named, META), schema=1)
    assert all(torch.equal(back[name], named[name]) for name in named)
    assert not any(t.requires_grad for t in back.values())
    assert back["a"].data_ptr() != back["c"].data_ptr()


def test_returned_tensors_are_fresh():
    one, two = unpack(GOOD, schema=1)[0], unpack(GOOD, schema=1)[0]
    one["images"].zero_()
    assert two["images"].sum() == 15
    assert unpack(GOOD, schema=1)[0]["images"].sum() == 15


def test_paths_are_read_and_named(tmp_path):
    path = tmp_path / "set.safetensors"
    path.write_bytes(GOOD)
    assert unpack(path, schema=1)[1] == unpack(GOOD, schema=1)[1]
    path.write_bytes(GOOD[:-1])
    assert str(path) in refused(path, "not a complete safetensors file")


def test_paths_that_hold_no_file_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "absent", "absent does not exist")
    refused(tmp_path, "is a folder")
    refused(tmp_path / "pipe", "not a regular file")
    refused(tmp_path / ("a" * 300), "cannot be read")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1))
def test_every_prefix_is_refused(length):
    refused(GOOD[:length], "not a complete safetensors file")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(min_size=1, max_size=40))
def test_trailing_junk_is_refused(junk):
    refused(GOOD + junk, "not a complete safetensors file")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_noise_is_refused(noise, framed):
    refused(raw(noise) if framed else noise)


def test_every_single_bit_counts():
    for position in range(len(GOOD)):
        for bit in range(8):
            damaged = bytearray(GOOD)
            damaged[position] ^= 1 << bit
            with pytest.raises(DataError):
                unpack(bytes(damaged), schema=1)


def test_a_flipped_payload_shows_both_checksums():
    damaged = bytearray(GOOD)
    damaged[-24] ^= 1  # an element of images
    message = refused(bytes(damaged), "damaged or was edited")
    assert len(set(re.findall("sha256:[0-9a-f]{64}", message))) == 2
    assert unpack(bytes(damaged), schema=1, verify=False)[0]["images"].shape == (2, 3)


def entry(shape, end, dtype="F32"):
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**64 - 1),
        raw({**entry([10**15], 4 * 10**15), "__metadata__": OURS}, b"1234"),
        raw({**entry([10**15], 4), "__metadata__": OURS}, b"1234"),
        raw({**entry([0, 2**40, 2**40], 0), "__metadata__": OURS}),
        raw({**entry([-1, -1], 4), "__metadata__": OURS}, b"1234"),
        raw({**entry([True], 4), "__metadata__": OURS}, b"1234"),
        raw({**entry([1.0], 4), "__metadata__": OURS}, b"1234"),
        raw({**entry([1], 4, "F8_E4M3"), "__metadata__": OURS}, b"1234"),
        raw({**entry([1] * 100, 4), "__metadata__": OURS}, b"1234"),
        raw({"x": [], "__metadata__": OURS}),
        raw([1]),
        raw(b'{"__metadata__":{"datadistill":"{\\"schema\\":1}"},"x":1,"x":1}'),
        raw(b"[" * 100_000),
    ],
)
def test_nonsense_in_a_header_is_refused_before_allocation(data):
    refused(data, "not a complete safetensors file")


@pytest.mark.parametrize(
    "places", [([0, 4], [0, 4]), ([0, 4], [8, 12]), ([4, 8], [8, 12]), ([0, 8], [4, 12])]
)
def test_overlaps_and_gaps_are_refused(places):
    header = {
        name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
        for name, (begin, end) in zip("ab", places, strict=True)
    }
    refused(raw({**header, "__metadata__": OURS}, bytes(12)), "not a complete")


def test_a_sparse_file_of_any_size_costs_nothing_to_refuse(tmp_path):
    path = tmp_path / "huge"
    with open(path, "wb") as file:
        file.write(raw({**entry([10**12], 4 * 10**12), "__metadata__": OURS}))
        file.truncate(10**11)
    refused(path, "not a complete safetensors file")


def test_missing_foreign_and_additional_metadata_are_refused():
    header, body = parts(GOOD)
    ours = header.pop("__metadata__")
    refused(raw(header, body), "no metadata")
    refused(
        raw({**header, "__metadata__": {"format": "pt"}}, body),
        "'format'.*wanted the key 'datadistill'",
    )
    refused(raw({**header, "__metadata__": {**ours, "format": "pt"}}, body), "alone: it was edited")
    refused(raw({**header, "__metadata__": {"datadistill": {}}}, body), "alone: it was edited")
    refused(safetensors.torch.save({"x": torch.ones(1)}), "no metadata")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: "hello", "not valid JSON"),
        (lambda meta: "[1]", "wanted a JSON object"),
        (lambda meta: canonical_json(meta)[:-1] + ',"schema":1}', "'schema' appears twice"),
        (
            lambda meta: canonical_json({**meta, "schema": 3}),
            "written by schema 3, this reads up to 1",
        ),
        (
            lambda meta: canonical_json({**meta, "schema": "1"}),
            "schema is '1', wanted a whole number",
        ),
        (lambda meta: canonical_json({**meta, "schema": True}), "schema is True"),
        (lambda meta: canonical_json({**meta, "schema": 1.0}), "schema is 1.0"),
        (lambda meta: canonical_json({**meta, "schema": 0}), "schema is 0"),
        (
            lambda meta: canonical_json({k: v for k, v in meta.items() if k != "schema"}),
            "schema is None",
        ),
        (
            lambda meta: canonical_json({k: v for k, v in meta.items() if k != "checksum"}),
            "no checksum",
        ),
        (lambda meta: canonical_json({**meta, "checksum": None}), "states None"),
        (lambda meta: canonical_json({**meta, "lr": 0.2}), "damaged or was edited"),
        (lambda meta: canonical_json({**meta, "new": 0}), "damaged or was edited"),
        (lambda meta: json.dumps(meta), "edited by hand"),
        (
            lambda meta: canonical_json({**meta, "a": {"b": [2**63]}}),
            r"a\.b\[0\] is 9223372036854775808, a number",
        ),
        (
            lambda meta: canonical_json({**meta, "a": ["\ud800"]}),
            r"a\[0\] is '.ud800', with half of a surrogate",
        ),
        (
            lambda meta: canonical_json({**meta, "a": {"\udfff": 1}}),
            "the key .* half of a surrogate pair",
        ),
    ],
)
def test_edited_metadata_is_refused(change, message):
    refused(with_meta(change), message)


def test_a_key_left_out_by_an_old_schema_may_differ():
    named = {"x": torch.ones(2)}
    old = checksum(named, {"schema": 1})
    text = canonical_json({"accuracies": {"test": 97.5}, "checksum": old, "schema": 1})
    data = safetensors.torch.save(named, {"datadistill": text})
    assert unpack(data, schema=2, uncovered={1: ("accuracies",)})[1]["accuracies"] == {"test": 97.5}
    refused(data, "damaged or was edited")  # a reader that covers the key
    with pytest.raises(DataError, match="damaged or was edited"):
        unpack(
            data.replace(b'schema\\":1', b'schema\\":2'), schema=2, uncovered={1: ("accuracies",)}
        )


def test_a_header_larger_than_ten_megabytes_is_not_parsed(monkeypatch):
    monkeypatch.setattr("datadistill.runs.header.parse_json", None)
    refused(raw(b" " * 10_000_001), "10000001 bytes, more than the 10000000 that are read")


def test_metadata_that_no_reader_would_take_is_not_written():
    with pytest.raises(DataError, match="bytes, more than the 10000000 that a header can have"):
        pack({}, {"schema": 1, "text": "x" * 10_000_000})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_are_refused_with_the_first_index(dtype, value):
    images = torch.zeros(2, 3, dtype=dtype)
    images[1, 0] = images[1, 2] = value
    data = pack({"images": images, "other": torch.ones(1)}, META)
    refused(data, rf"tensor 'images' is {value} at index \(1, 0\)")
    assert unpack(data, schema=1, finite=False)[0]["images"].shape == (2, 3)
    refused(pack({"s": torch.tensor(value, dtype=dtype)}, META), r"at index \(\)")


def test_what_cannot_be_packed_is_an_error():
    with pytest.raises(DataError, match=r"'z' is torch\.complex64"):
        pack({"z": torch.zeros(1, dtype=torch.complex64)}, META)
    for schema in (None, "1", True, 0):
        with pytest.raises(ValueError, match="schema"):
            pack({}, {"schema": schema})


def test_the_checksum_depends_on_all_it_covers():
    x = torch.ones(2)
    sums = [
        checksum({"x": x}),
        checksum({"y": x}),
        checksum({"x": x.double()}),
        checksum({"x": x.int()}),
        checksum({"x": x[None]}),
        checksum({"x": -x}),
        checksum({"x": x, "y": x}),
        checksum({"x": x}, {"a": 1}),
    ]
    assert len(set(sums)) == len(sums)
    assert checksum({"x": x}, {"checksum": "?"}) == sums[0]
