"""Schedules of a set: random minibatches and augmentation of its own images, learned and kept."""

import pytest
import torch
from training_cases import assert_resumes, config, loop

import datadistill as dd
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import LOSSES, momentum, unroll
from datadistill.synthetic import Schedule
from datadistill.theta import is_same
from datadistill.training.distillation import Distillation


def pairs_of(d, stream):
    steps = d.steps(stream)
    return [steps(t) for t in range(steps.T)]


def test_a_pass_sees_every_image_once():
    schedule = Schedule.shuffled(images=7, minibatch=3, epochs=2)
    for epoch in range(2):
        seen = torch.cat([schedule.index(3 * epoch + part, stream=5) for part in range(3)])
        assert seen.sort().values.tolist() == list(range(7))
    assert schedule.steps == 6


def test_a_step_is_a_pure_function_of_stream_and_number():
    schedule = Schedule.shuffled(images=50, minibatch=20, epochs=4)
    backwards = [schedule.index(t, 1) for t in reversed(range(12))]
    assert all(torch.equal(schedule.index(t, 1), backwards[11 - t]) for t in range(12))
    assert not torch.equal(schedule.index(0, 1), schedule.index(0, 2))
    assert not torch.equal(schedule.index(0, 1), schedule.index(3, 1))  # another pass


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule.equal(4, 2, 3),
        Schedule.shuffled(5, 2, 3, augment=("flip",)),
        Schedule.equal(4, 1, 2, augment=("crop", "flip")),
    ],
)
def test_a_description_gives_the_schedule_again(schedule):
    again = Schedule.from_description(schedule.describe())
    assert again.describe() == schedule.describe()
    assert all(torch.equal(again.index(t, 3), schedule.index(t, 3)) for t in range(schedule.steps))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"augment": ["turn"]}, "turn"),
        ({"minibatch": 0}, "minibatch"),
        ({"images": 10**12}, "images"),
        ({"name": "other"}, "batches"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(change, said):
    with pytest.raises(DataError, match=said):
        Schedule.from_description({**Schedule.shuffled(5, 2, 3).describe(), **change})


def test_minibatches_go_with_one_step_an_epoch(digits):
    with pytest.raises(UsageError, match="leave steps out"):
        config(ipc=2, steps=2, minibatch=5)


def test_a_set_of_minibatches_trains_as_a_loop_written_by_hand(digits, tmp_path):
    short = config(
        minibatch=4,
        epochs=2,
        update="momentum",
        update_args={"beta": 0.9},
        step_size=0.05,
        iterations=2,
    )
    d = dd.distill(short, data=digits, out=tmp_path / "run")
    assert d.schedule.steps == 6  # three minibatches of ten images, twice
    d = dd.DistilledDataset.load(tmp_path / "run")
    net = d.build()
    theta_0 = {k: torch.randn(p.shape) / 10 for k, p in net.named_parameters()}
    trained = dict(d.train(net, theta_0, seed=3).named_parameters())
    pairs = [(d.images[i], d.labels[i]) for i in (d.schedule.index(t, 3) for t in range(6))]
    by_hand = unroll(net, theta_0, pairs, d.step_sizes, momentum(0.9))
    assert is_same({k: p.detach() for k, p in trained.items()}, by_hand)


@pytest.mark.filterwarnings("ignore:.*flips digits")
def test_augmented_steps_reach_the_images(digits):
    d = dd.distill(config(augment_synthetic=("flip",), iterations=3), data=digits)
    assert not torch.equal(pairs_of(d, 0)[0][0], pairs_of(d, 1)[0][0])
    assert torch.equal(pairs_of(d, 0)[0][0], pairs_of(d, 0)[0][0])


def test_raw_labels_are_learned_by_a_squared_error(digits, tmp_path):
    d = dd.distill(config(labels="raw", iterations=3), data=digits, out=tmp_path / "run")
    again = dd.DistilledDataset.load(tmp_path / "run")
    assert (again.loss, again.label_kind) == ("squared-error", "raw")
    assert not torch.allclose(d.labels.sum(1), torch.ones(len(d.labels)))
    net = again.build()
    theta_0 = {k: p.detach() for k, p in net.named_parameters()}
    by_hand = unroll(net, theta_0, d.steps(), d.step_sizes, d.update, loss=LOSSES["squared-error"])
    trained = dict(again.train(net, theta_0).named_parameters())
    assert is_same({k: p.detach() for k, p in trained.items()}, by_hand)


@pytest.mark.filterwarnings("ignore:.*flips digits")
@pytest.mark.parametrize(
    "changes",
    [{"minibatch": 4, "augment_synthetic": ("flip",)}, {"labels": "raw", "optimizer": "sgd"}],
)
def test_a_stopped_run_is_resumed_to_the_same_bytes(digits, tmp_path, changes):
    assert_resumes(digits, tmp_path, **changes)


def test_sgd_takes_the_step_of_its_formula(digits):
    outer = loop(digits, optimizer="sgd", momentum=0.0, lr_images=0.5, clip=0.0).loop
    before = outer.synthetic.images().detach().clone()
    _, gradients = outer.gradients(0)
    outer.advance()
    rate = 0.5  # the first iteration has all of it
    assert torch.allclose(outer.synthetic.images(), before - rate * gradients[0])


def test_an_unknown_optimizer_is_refused(digits):
    with pytest.raises(UsageError, match="did you mean sgd"):
        loop(digits, optimizer="sgdd")


def test_flipped_digits_of_the_set_are_warned_of(digits):
    with pytest.warns(UserWarning, match="'flip' flips digits"):
        loop(dd.load("digits"), augment_synthetic=("flip",))


def test_another_training_is_of_the_same_images(digits):
    d = dd.distill(config(iterations=1), data=digits)
    with pytest.raises(DataError, match="drawn from 5 images, but there are 10"):
        d.with_training(Schedule.shuffled(5, 5, 2), torch.full((2,), 0.1), d.update)


def test_the_steps_of_random_minibatches_are_counted(digits):
    """20 images in minibatches of 8: three steps an epoch."""
    learning = loop(digits, ipc=2, minibatch=8, epochs=5, step_sizes="shared")
    synthetic = learning.loop.synthetic
    assert synthetic.schedule.steps == learning.loop.method.differentiated_steps(synthetic) == 15
    assert config(ipc=2, minibatch=8, epochs=5).inner_steps is None
    assert config(ipc=2, steps=2, epochs=5).inner_steps == 10


def test_too_many_steps_of_random_minibatches_are_refused(digits):
    with pytest.raises(UsageError, match="make 1000010 inner steps"):
        loop(digits, minibatch=1, epochs=100_001, step_sizes="shared")


def test_out_of_memory_names_the_steps_there_are(digits):
    for changes, said in (
        ({"minibatch": 4, "step_sizes": "shared"}, "6 inner steps with every graph kept"),
        ({"adjoint": "step-replay"}, "2 inner steps; try fewer of them"),
        ({"epochs": 201}, "201 inner steps; try fewer of them"),
        ({"net": "convnet", "method": "distribution-matching"}, "of distribution-matching; try a"),
    ):
        run, kind = config(**changes), Distillation(digits)
        assert "inner steps" not in kind.explain_memory(run)
        kind.build(run, dd.RunOptions())
        assert said in kind.explain_memory(run)
