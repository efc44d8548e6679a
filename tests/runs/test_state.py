"""States of optimizers and samplers survive the way through tensors and JSON exactly."""

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datadistill.errors import DataError
from datadistill.runs.canonical import canonical_json, parse_json
from datadistill.runs.checkpoints import flatten_state, unflatten_state
from datadistill.runs.tensors import pack, unpack

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8]
WHOLE = st.integers(-(2**63), 2**63 - 1)  # no file holds larger ones
SCALARS = st.none() | st.booleans() | WHOLE | st.floats() | st.text()
KEYS = WHOLE | st.text() | st.booleans() | st.none() | st.tuples(WHOLE, st.text())


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(DTYPES))
    data = draw(st.binary(min_size=0, max_size=3 * dtype.itemsize))
    whole = len(data) // dtype.itemsize * dtype.itemsize
    return torch.tensor(list(data[:whole]), dtype=torch.uint8).view(dtype)


STATES = st.recursive(
    SCALARS | tensors(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$tensor", "$dict", "$", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=10,
)


def exact(value):
    """A value that is equal for two states only if types, key order and bits are."""
    if isinstance(value, torch.Tensor):
        return (
            "tensor",
            value.dtype,
            tuple(value.shape),
            value.reshape(-1).view(torch.uint8).tolist(),
        )
    if isinstance(value, dict):
        return ("dict", [(exact(k), exact(v)) for k, v in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [exact(v) for v in value])
    if isinstance(value, float) and value == value:  # NaN: one is like another
        return ("float", struct.pack("<d", value))
    return (type(value).__name__, repr(value))


@settings(max_examples=150, deadline=None)
@given(STATES)
def test_round_trip_through_files_is_exact(state):
    flat, json = flatten_state(state, "s")
    stored, meta = unpack(pack(flat, {"schema": 1, "state": json}), schema=1, finite=False)
    assert exact(unflatten_state(stored, meta["state"])) == exact(state)
    assert exact(unflatten_state(flat, parse_json(canonical_json(json)))) == exact(state)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.AdamW(
            [{"params": p[:1], "lr": 0.1}, {"params": p[1:]}], lr=torch.tensor(0.01)
        ),
    ],
)
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(make):
    def steps(params, optimizer, first, last):
        for i in range(first, last):
            optimizer.zero_grad()
            sum(((p - i) ** 3).sum() for p in params).backward()
            optimizer.step()

    straight = [torch.ones(3, requires_grad=True), torch.zeros((), requires_grad=True)]
    optimizer = make(straight)
    steps(straight, optimizer, 0, 3)

    flat, json = flatten_state(optimizer.state_dict(), "optimizer")
    stored, meta = unpack(pack(flat, {"schema": 1, "json": json}), schema=1)
    resumed = [p.detach().clone().requires_grad_() for p in straight]
    again = make(resumed)
    again.load_state_dict(unflatten_state(stored, meta["json"]))
    assert exact(again.state_dict()) == exact(optimizer.state_dict())

    steps(straight, optimizer, 3, 6)
    steps(resumed, again, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))


def test_generator_states_survive():
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    flat, json = flatten_state({"rng": generator.get_state()})
    expected = torch.rand(5, generator=generator)
    again = torch.Generator()
    again.set_state(unflatten_state(flat, json)["rng"])
    assert torch.equal(torch.rand(5, generator=again), expected)


def test_what_cannot_be_stored_is_named_by_place():
    with pytest.raises(TypeError, match=r"\['a'\]\[1\] is a .*device"):
        flatten_state({"a": [0, torch.device("cpu")]})


@pytest.mark.parametrize(
    "json",
    [
        {"$tensor": "gone"},
        {"$tensor": []},
        {"$what": 1},
        {"$float": "x"},
        {"$float": None},
        {"$tuple": 3},
        {"$dict": [1]},
    ],
)
def test_damaged_states_are_refused(json):
    with pytest.raises(DataError):
        unflatten_state({"there": torch.ones(1)}, {"a": [json]})
