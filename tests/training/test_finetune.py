"""Fine-tuning with a set: the user's own net, its T steps, and what ordinary fine-tuning needs
beside."""

import copy
import json
import math
import warnings

import pytest
import torch
import torch.nn.functional as F

import datadistill as dd
from datadistill.data import RealData, Split
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, Interrupted, NumericalError, UsageError
from datadistill.evaluation.accuracy import accuracy
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.objectives import Attack
from datadistill.training.finetune import compare_ordinary, finetune
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan
from datadistill.training.ordinary_finetuning import Watch

SPEC = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 16, "depth": 1})


def set_of(data, *, net=SPEC, T=4, step_size=0.3, fixed=None, **more):
    """A set of real images, 30 a step."""
    images, labels = data.train.images[: 30 * T], data.train.labels[: 30 * T]
    return DistilledDataset(
        images,
        labels,
        torch.full((T,), step_size),
        list(torch.arange(30 * T).split(30)),
        classes=data.classes,
        normalization=data.normalization,
        net=net,
        update=sgd(),
        theta_0=fixed,
        data=DataReference("digits"),
        **more,
    )


def fresh(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = SPEC.build()
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.2)
    return net


def values(net):
    return {k: p.detach() for k, p in net.named_parameters()}


def test_it_is_the_sets_own_steps_from_the_nets_own_values(digits):
    d, net = set_of(digits), fresh()
    given = copy.deepcopy(net.state_dict())
    found = finetune(d, net, data=digits, reach=False)
    by_hand = copy.deepcopy(net)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.3)
    for images, labels in d.steps():
        optimizer.zero_grad()
        F.cross_entropy(by_hand(images), labels).backward()
        optimizer.step()
    for p, q in zip(found.net.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    assert all(torch.equal(x, given[k]) for k, x in net.state_dict().items())
    assert found.accuracy_before == accuracy(net, values(net), digits.test)
    assert found.accuracy_after == accuracy(found.net, values(found.net), digits.test)
    assert found.accuracy_after > found.accuracy_before and found.steps == 4 and found.seconds > 0
    assert (found.steps_ordinary, found.seconds_ordinary, found.max_steps) == (None, None, None)


def first_step_as_good(net, data, wanted, plan, every):
    """The steps of plain training at which the validation split first has `wanted` percent."""
    seen = []

    def look(step, current):
        if step % every == 0 and accuracy(current, values(current), data.validation) >= wanted:
            seen.append(step)
        return bool(seen)

    fit(net, data.train, plan, on_step=look)
    return seen[0]


def test_the_steps_of_ordinary_fine_tuning(digits):
    d, net = set_of(digits), fresh()
    found = finetune(d, net, data=digits, max_steps=400, every=3, lr=2e-3, batch=32)
    wanted = accuracy(found.net, values(found.net), digits.validation)
    steps = first_step_as_good(net, digits, wanted, FitPlan(epochs=20, batch=32, lr=2e-3), 3)
    assert found.steps_ordinary == steps > 0 and steps % 3 == 0
    assert found.seconds_ordinary > 0 and found.max_steps == 400


def test_not_reached(digits):
    found = finetune(set_of(digits), fresh(), data=digits, max_steps=7, every=5, lr=1e-7)
    assert found.steps_ordinary is None and found.seconds_ordinary > 0 and found.max_steps == 7


@pytest.mark.parametrize(
    ("every", "looks"), [(5, [0, 5, 10, 12]), (4, [0, 4, 8, 12]), (100, [0, 12])]
)
def test_it_looks_every_so_many_steps_and_at_the_last(digits, monkeypatch, every, looks):
    seen = []

    def counted(net, theta, split):
        seen.append(len(split))
        return 50.0 if len(seen) == 1 else 10.0  # the first call is for what is wanted

    tuning = finetune(set_of(digits), fresh(), data=digits, reach=False)
    monkeypatch.setattr("datadistill.training.ordinary_finetuning.accuracy", counted)
    compare_ordinary(tuning, digits, max_steps=12, every=every, batch=32)
    tested = 3  # same steps, same seconds, the end
    expected = [len(digits.validation)] * (1 + len(looks)) + [len(digits.test)] * tested
    assert seen == expected


def test_a_net_that_is_as_good_already_needs_no_step(digits):
    net = fit(fresh(), digits.train, FitPlan(epochs=10, lr=0.01))
    found = finetune(set_of(digits, step_size=1e-6), net, data=digits)
    assert found.steps_ordinary == 0 and found.seconds_ordinary == 0.0


def test_the_test_split_is_read_when_training_is_over(digits, monkeypatch):
    data = dd.load("digits")
    tuning = finetune(set_of(data), fresh(), data=data, reach=False)
    steps, split = [], data.test
    data._kept.clear()
    data._held_out.split = None
    data._held_out._read = lambda: pytest.fail("the test split was read")
    observe = Watch.observe

    def observed(watch, step, net):
        steps.append(step)
        if is_last := observe(watch, step, net):
            data._held_out._read = lambda: split
        return is_last

    monkeypatch.setattr(Watch, "observe", observed)
    compare_ordinary(tuning, data, max_steps=10)
    assert steps == list(range(1, 11))


def test_a_set_for_one_fixed_initialization_says_so(digits):
    own, other = fresh(1), fresh(2)
    d = set_of(digits, fixed=values(own))
    with pytest.warns(UserWarning, match="learned for one fixed initialization"):
        found = finetune(d, other, data=digits, reach=False)
    # it starts from the net it was given, not from the one the set carries
    assert found.accuracy_before == accuracy(other, values(other), digits.test)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at_home = finetune(d, own, data=digits, reach=False)
    for p, q in zip(at_home.net.parameters(), d.train().parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_set_that_attacks_says_so(digits):
    d = set_of(digits, objective=Attack(3, 5, 10))
    with pytest.warns(UserWarning, match="take 3 for 5 .a study of data poisoning"):
        finetune(d, fresh(), data=digits, reach=False)


def test_frozen_parameters_stay(digits):
    net = fresh()
    net.layers[0].weight.requires_grad_(False)
    found = finetune(set_of(digits), net, data=digits, reach=False)
    assert torch.equal(found.net.layers[0].weight, net.layers[0].weight)
    assert not torch.equal(found.net.layers[2].weight, net.layers[2].weight)
    for p in net.parameters():
        p.requires_grad_(False)
    with pytest.raises(UsageError, match="unfreeze"):
        finetune(set_of(digits), net, data=digits)


def test_batchnorm_is_right_in_evaluation_mode(digits):
    spec = NetSpec(
        "convnet",
        {"channels": 1, "size": 8, "classes": 10, "width": 4, "depth": 1, "norm": "batch"},
    )
    d = set_of(digits, net=spec)
    found = finetune(d, spec.build(), data=digits, reach=False)
    assert (
        not found.net.state_dict().keys().isdisjoint({k for k, _ in spec.build().named_buffers()})
    )
    logits = found.net.eval()(digits.test.images)
    hits = (logits.argmax(1) == digits.test.labels).float().mean()
    assert found.accuracy_after == pytest.approx(100 * float(hits))


def test_the_fields_are_plain_values(digits):
    found = finetune(set_of(digits), fresh(), data=digits, max_steps=5).as_dict()
    assert "net" not in found and json.loads(json.dumps(found)) == found


# --- what does not fit


def of_classes(digits, names):
    keep = digits.train.labels < len(names)
    split = Split(digits.train.images[keep], digits.train.labels[keep])
    return RealData.from_tensors(
        split.images.sigmoid(),
        split.labels,
        test_images=split.images.sigmoid(),
        test_labels=split.labels,
        classes=names,
        name="nine",
    )


def net_of(**wrong):
    return NetSpec("mlp", {**SPEC.args, **wrong}).build()


def without_validation():
    return dd.load("digits", validation=0)


# the set's options, the net, the data (None: digits), the options; words of the refusal
REFUSED = {
    "other classes": (
        {},
        fresh,
        lambda data: of_classes(data, [str(k) for k in range(9)]),
        {},
        r"the set has 10 classes .* the data nine has 9",
    ),
    "another size": (
        {},
        fresh,
        lambda data: dd.load("digits", size=12),
        {},
        "1x8x8, those of digits are 1x12x12",
    ),
    "a net of 9 classes": ({}, lambda: net_of(classes=9), None, {}, "the net"),
    "a net of 7 pixels": ({}, lambda: net_of(size=7), None, {}, "the net"),
    "a net of 3 channels": ({}, lambda: net_of(channels=3), None, {}, "the net"),
    "no validation images": ({}, fresh, lambda data: without_validation(), {}, "reach=False"),
    "no step": ({}, fresh, None, {"max_steps": 0}, "max_steps is 0"),
    "no look": ({}, fresh, None, {"every": 0}, "every is 0"),
    "no batch": ({}, fresh, None, {"batch": 0}, "batch is 0"),
    "no rate": ({}, fresh, None, {"lr": 0.0}, "lr is 0"),
    "huge step sizes": (
        {"step_size": 1e30, "T": 8},
        fresh,
        None,
        {"reach": False},
        "step sizes, up to 1e",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(digits, name):
    changes, make, other, options, pattern = REFUSED[name]
    data = digits if other is None else other(digits)
    with pytest.raises((DataError, UsageError, NumericalError), match=pattern):
        finetune(set_of(digits, **changes), make(), data=data, **options)


def test_without_validation_images_the_sets_own_steps_are_taken(digits):
    assert finetune(set_of(digits), fresh(), data=without_validation(), reach=False).steps == 4


def test_what_cannot_be_compared_is_refused_before_any_step(digits, monkeypatch):
    monkeypatch.setattr(
        "datadistill.training.net_finetuning.take_steps", lambda *_, **__: pytest.fail("a step")
    )
    for data, options in ((without_validation(), {}), (digits, {"every": 0})):
        with pytest.raises((DataError, UsageError)):
            finetune(set_of(digits), fresh(), data=data, **options)


def test_poll_stops_the_ordinary_part(digits):
    calls = []

    def poll():
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted("stopped", 2)

    with pytest.raises(Interrupted):
        finetune(set_of(digits), fresh(), data=digits, poll=poll, lr=1e-7)
    assert len(calls) == 4


def test_it_is_a_public_name(digits):
    found = dd.finetune(set_of(digits), fresh(), data=digits, reach=False)
    assert isinstance(found, dd.FineTuning) and math.isfinite(found.accuracy_after)
