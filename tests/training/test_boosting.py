"""Boosting: a set grown from a smaller one, and prefixes of sets."""

import re

import pytest
import torch
from training_cases import assert_resumes, config, loop

import datadistill as dd
from datadistill.data.reference import DataReference
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import unroll
from datadistill.synthetic import Schedule
from datadistill.theta import is_same

SMALL = {"ipc": 1, "epochs": 2}
GROWN = {**SMALL, "ipc": 3}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of one image a class; hard labels, random initializations."""
    path = tmp_path_factory.mktemp("boosting") / "small"
    dd.distill(config(**SMALL), data=dd.load("digits"), out=path)
    return path


def grow(data, small, **changes):
    return loop(data, **{**GROWN, "boost_from": str(small), **changes})


# --- growing


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_images_at_rate_zero_keep_their_bytes(digits, small, optimizer):
    learning = grow(digits, small, optimizer=optimizer)
    before = learning.loop.synthetic.images().detach().clone()
    for _ in range(3):
        learning.advance()
    old, new = dd.DistilledDataset.load(small), learning.result()
    assert torch.equal(new.images[:10], old.images)
    assert not any(torch.equal(a, b) for a, b in zip(new.images[10:], before[10:], strict=True))
    assert torch.equal(new.prefix(1).images, old.images)


def test_kept_images_are_no_part_of_the_gradients_norm(digits, small):
    learning = grow(digits, small, lr_step_sizes=0.0)
    images = grow(digits, small, boost_rate=1.0).loop.gradients(0)[1][0]
    learning.advance()
    assert learning.loop.gradient_norm == pytest.approx(float(images[10:].norm()), rel=1e-6)
    assert learning.loop.gradient_norm < float(images.norm())


def test_a_rate_multiplies_the_step_of_the_older_images(digits, small):
    moved = []
    for rate in (1.0, 0.25):
        learning = grow(digits, small, boost_rate=rate)
        before = learning.loop.synthetic.images().detach().clone()
        learning.advance()
        moved.append(learning.loop.synthetic.images().detach() - before)
    torch.testing.assert_close(moved[1][:10], 0.25 * moved[0][:10], rtol=1e-4, atol=1e-6)
    assert torch.equal(moved[1][10:], moved[0][10:])


def test_a_rate_of_one_is_joint_learning(digits, small):
    """As if the start images had been given to an ordinary run."""
    joint, grown = loop(digits, **GROWN), grow(digits, small, boost_rate=1.0)
    joint.loop.synthetic.set({k: x for k, x in grown.loop.synthetic.leaves().items()})
    for _ in range(3):
        joint.advance()
        grown.advance()
    assert torch.equal(joint.result().images, grown.result().images)


@pytest.mark.parametrize("labels", ["soft", "raw"])
def test_learned_labels_are_the_older_ones(digits, tmp_path, labels):
    old = dd.distill(config(**SMALL, labels=labels), data=digits, out=tmp_path / "old")
    learning = grow(digits, tmp_path / "old", labels=labels)
    for _ in range(2):
        learning.advance()
    torch.testing.assert_close(learning.result().labels[:10], old.labels)
    start = loop(digits, **GROWN, labels=labels).loop.synthetic.labels()
    assert not torch.allclose(learning.result().labels[10:], start[10:])


@pytest.mark.parametrize("changes", [{}, {"boost_rate": 0.5, "labels": "hard", "minibatch": 7}])
def test_a_stopped_run_is_resumed_to_the_same_bytes(digits, small, tmp_path, changes):
    assert_resumes(digits, tmp_path, **{**GROWN, "boost_from": str(small), **changes})


def test_the_file_says_what_it_was_grown_from(digits, small):
    d = grow(digits, small).result()
    assert d.origin["boost_from"].startswith("sha256:")
    assert "boost_from" not in loop(digits).result().origin


def test_another_set_is_refused_on_resume(digits, small, tmp_path):
    other = tmp_path / "other"
    dd.distill(config(**SMALL, seed=1), data=digits, out=other)
    run = config(**GROWN, boost_from=str(small), iterations=2)
    dd.distill(run, data=digits, out=tmp_path / "run")
    options = dd.RunOptions(quiet=True, resume_with_changes=True)
    with pytest.raises(UsageError, match=r"grown from another set .*pass that one with"):
        dd.distill(
            run.with_changes(boost_from=str(other), iterations=3),
            data=digits,
            out=tmp_path / "run",
            resume=True,
            options=options,
        )


@pytest.mark.parametrize("form", ["per-step", "shared", "per-tensor"])
def test_step_sizes_go_on_from_the_older_ones(digits, tmp_path, form):
    old = dd.distill(config(**SMALL, step_sizes=form), data=digits, out=tmp_path / "old")
    assert not torch.allclose(old.step_sizes, torch.tensor(0.1))
    for step_size in (0.3, None):
        grown = grow(digits, tmp_path / "old", step_sizes=form, step_size=step_size)
        torch.testing.assert_close(grown.loop.synthetic.step_sizes().detach(), old.step_sizes)
        assert grown.note is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 3}, r"has 2 for Sgd.*, wanted 3 for Sgd"),
        ({"step_sizes": "per-tensor"}, r"has 2 for Sgd.*, wanted 2x4 for Sgd"),
        ({"step_sizes": "shared"}, r"has 2 for Sgd.*, wanted 1 for Sgd"),
        ({"update": "adam"}, r"has 2 for Sgd.*, wanted 2 for Adam"),
    ],
)
def test_other_step_sizes_start_anew_and_say_so(digits, small, changes, said):
    grown = grow(digits, small, **changes)
    torch.testing.assert_close(
        grown.loop.synthetic.step_sizes().unique().detach(), torch.tensor([0.1])
    )
    assert re.search(said, grown.note)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            {"data": DataReference("mnist")},
            DataError,
            "from mnist, and the data are digits",
        ),
        ({"data": DataReference("digits", seed=5)}, UsageError, "with seed 5 and validation"),
        ({"data": DataReference("digits", fingerprint="0")}, DataError, "fingerprint differs"),
        ({"classes": tuple("abcdefghij")}, DataError, r"10 classes \(a, b, "),
    ],
)
def test_a_set_of_other_data_is_not_grown(digits, small, tmp_path, changes, error, said):
    dd.DistilledDataset.load(small)._replace(**changes).save(tmp_path / "other")
    with pytest.raises(error, match=said):
        grow(digits, tmp_path / "other")


def test_a_set_of_data_found_by_name_is_not_grown_on_data_that_are_given(digits, tmp_path):
    few = {"iterations": 1, "validate_every": 1}
    named = tmp_path / "named"
    dd.distill(config(**SMALL, dataset="digits").with_changes(**few), out=named)
    with pytest.raises(UsageError, match=r"found by name \(digits\), and data are given"):
        dd.distill(config(**GROWN, boost_from=str(named)), data=digits)


def test_a_set_of_a_decoder_is_not_grown(digits, tmp_path):
    dd.distill(config(**SMALL, decoder="mosaic"), data=digits, out=tmp_path / "old")
    with pytest.raises(UsageError, match=r"made by the decoder mosaic.* grow a set of pixels"):
        grow(digits, tmp_path / "old", ipc=5)


def test_windows_grow_sets_too(digits, small):
    grown = grow(digits, small, epochs=4, window=2, horizon="random")
    grown.advance()
    assert torch.equal(grown.result().prefix(1).images, dd.DistilledDataset.load(small).images)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"ipc": 1}, UsageError, "has 1 images of each class, and ipc is 1; choose a larger --ipc"),
        ({"labels": "soft"}, UsageError, "choose --labels hard"),
        ({"theta_0": "fixed"}, UsageError, "choose --theta-0 random"),
        ({"objective": "attack"}, UsageError, "was learned for classification"),
        ({"decoder": "mosaic"}, UsageError, "leave the decoder out"),
        ({"boost_rate": 1.5}, UsageError, "boost_rate is 1.5"),
        ({"boost_from": None, "boost_rate": 0.5}, UsageError, "pass it"),
        ({"boost_from": "nowhere"}, DataError, "nowhere"),
        ({"normalization": "0.1/0.9"}, DataError, "normalized by"),
    ],
)
def test_refusals(digits, small, changes, error, said):
    data = digits if "normalization" not in changes else None
    said = said.replace("--", "(--)?").replace("theta-0", "theta[-_]0")
    with pytest.raises(error, match=said):
        grow(data, small, **changes)


# --- prefixes


def test_a_prefix_trains_on_its_images_with_their_step_sizes(digits):
    d = loop(digits, ipc=4, steps=2, epochs=2, labels="soft").result()
    assert d.prefix(4).schedule.describe() == d.schedule.describe()
    half = d.prefix(2)
    assert torch.equal(half.step_sizes, d.step_sizes[[0, 2]])
    net = d.build()
    theta_0 = {k: torch.randn(p.shape) / 10 for k, p in net.named_parameters()}
    pairs = [(d.images[:20], d.labels[:20])] * 2
    by_hand = unroll(net, theta_0, pairs, d.step_sizes[[0, 2]], d.update)
    trained = dict(half.train(net, theta_0).named_parameters())
    assert is_same({k: p.detach() for k, p in trained.items()}, by_hand)


def test_a_batch_loses_the_images_that_are_cut(digits):
    part = loop(digits, ipc=3, epochs=2).result().prefix(2)
    assert [index.tolist() for index in part.order] == [list(range(20))] * 2


def test_a_prefix_of_minibatches_has_fewer_steps(digits, tmp_path):
    changes = {"ipc": 3, "minibatch": 10, "epochs": 4, "step_sizes": "shared"}
    part = loop(digits, **changes).result().prefix(1)
    assert part.schedule.describe() == Schedule.shuffled(10, 10, 4).describe()
    assert len(part.step_sizes) == 4
    part.save(tmp_path / "part")
    again = dd.DistilledDataset.load(tmp_path / "part")
    assert torch.equal(again.images, part.images)


def test_a_quantized_set_has_prefixes(digits, tmp_path):
    part = loop(digits, ipc=3).result().quantized().prefix(1)
    part.save(tmp_path / "part")
    assert torch.equal(dd.DistilledDataset.load(tmp_path / "part").images, part.images)


def test_prefixes_that_cannot_be(digits):
    d = loop(digits, ipc=2).result()
    for ipc in (0, 3):
        with pytest.raises(UsageError, match="has 2 images of each class"):
            d.prefix(ipc)
    backwards = d._replace(labels=d.labels.flip(0))
    with pytest.raises(UsageError, match="image j of class j % K"):
        backwards.prefix(1)
    uneven = loop(digits, ipc=3, minibatch=10, step_sizes="per-step").result()
    rising = torch.arange(1, 1 + len(uneven.step_sizes)) / 100
    with pytest.raises(UsageError, match=r"step[-_]sizes shared"):
        uneven._replace(step_sizes=rising).prefix(1)
    mosaic = loop(digits, ipc=1, decoder="mosaic").result()
    with pytest.raises(UsageError, match="a prefix is of a set of pixels"):
        mosaic.prefix(1)
