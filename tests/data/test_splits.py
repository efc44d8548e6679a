"""Stratified splits keep every index once and every class in proportion."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datadistill import streams
from datadistill.data.splits import held_out_counts, split_stratified, split_stratified_fixed
from datadistill.errors import DataError, UsageError

LABELS = torch.tensor([0] * 60 + [1] * 30 + [2] * 11)[
    torch.randperm(101, generator=streams.generator(0, "order"))
]


def draw(seed=0):
    return streams.generator(seed, "split")


@pytest.mark.parametrize("amount, total", [(10, 10), (0.1, 10), (0, 0), (50, 50), (0.25, 25)])
def test_every_index_is_on_one_side_and_the_total_is_exact(amount, total):
    kept, held_out = split_stratified(LABELS, amount, draw())
    assert sorted(kept.tolist() + held_out.tolist()) == list(range(101))
    assert len(held_out) == total
    assert kept.tolist() == sorted(kept.tolist()) and held_out.tolist() == sorted(held_out.tolist())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.floats(0, 1))
def test_counts_add_up_and_leave_something_to_learn_from(sizes, share):
    room = sum(size - 1 for size in sizes)
    wanted = int(share * room)
    counts = held_out_counts(sizes, wanted)
    assert sum(counts) == wanted
    assert all(0 <= count < size for count, size in zip(counts, sizes, strict=True))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(20, 90), min_size=2, max_size=12), st.integers(1, 50))
def test_no_class_is_off_its_share_by_one(sizes, wanted):
    wanted = min(wanted, sum(sizes) // 2)
    for count, size in zip(held_out_counts(sizes, wanted), sizes, strict=True):
        assert abs(count - wanted * size / sum(sizes)) < 1


def test_the_generator_decides_which_and_nothing_else_does():
    state = torch.random.get_rng_state()
    first = split_stratified(LABELS, 20, draw())[1]
    assert torch.equal(first, split_stratified(LABELS, 20, draw())[1])
    other = split_stratified(LABELS, 20, draw(1))[1]
    assert not torch.equal(first, other)
    assert torch.equal(torch.bincount(LABELS[first]), torch.bincount(LABELS[other]))
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_fixed_split_is_the_one_it_always_was():
    held_out = split_stratified_fixed(torch.arange(20) % 2, 4, "a key")[1]
    assert held_out.tolist() == FIXED
    assert split_stratified_fixed(torch.arange(20) % 2, 4, "another")[1].tolist() != FIXED


# first two of each class by SHA-256 of "a key/<index>", worked out with hashlib alone
FIXED = [0, 1, 18, 19]


def test_small_classes_keep_one_image():
    labels = torch.tensor([0, 1, 1, 1, 1, 1])
    kept, held_out = split_stratified(labels, 4, draw())
    assert labels[kept].tolist() == [0, 1] and labels[held_out].tolist() == [1, 1, 1, 1]


def test_at_least_one_of_each_class():
    labels = torch.tensor([0] * 50 + [1] * 2)
    assert (
        torch.bincount(
            labels[split_stratified(labels, 0.1, draw(), at_least=1)[1]], minlength=2
        ).min()
        == 1
    )
    with pytest.raises(DataError, match=r"class 1 has 1 image.*at least 2"):
        split_stratified(torch.tensor([0, 0, 1]), 0.2, draw(), at_least=1)


@pytest.mark.parametrize("amount", [-1, 1.0, 1.5, float("nan"), True, "ten"])
def test_amounts_that_make_no_sense(amount):
    with pytest.raises(UsageError, match="held-out"):
        split_stratified(LABELS, amount, draw())


def test_more_than_there_is():
    with pytest.raises(DataError, match="at most 98 of the 101"):
        split_stratified(LABELS, 99, draw())
