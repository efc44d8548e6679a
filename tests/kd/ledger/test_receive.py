"""What a receiver makes of a payload: equal students, exactly so many steps, on what was
shipped."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from datadistill.data import Normalization, Split, load
from datadistill.distilled import DistilledDataset
from datadistill.errors import NumericalError, UsageError
from datadistill.innerloop import adam, sgd
from datadistill.nets import draw
from datadistill.nets.spec import NetSpec
from datadistill.streams import generator
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan
from kd_baselines.ledger import receive as module
from kd_baselines.ledger.payload import Payload
from kd_baselines.ledger.receive import receive, soft_labels
from kd_baselines.teachers import Teacher

TEN = tuple("0123456789")
NORM = Normalization((0.5,), (0.5,), size=8, channels=1)
MLP = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 16, "depth": 1}, "kaiming")
NORMED = NetSpec(
    "convnet",
    {"channels": 1, "size": 8, "classes": 10, "depth": 1, "width": 4, "norm": "batch"},
    "default",
)
DROPOUT = NetSpec(
    "mlp-dropout", {"channels": 1, "size": 8, "classes": 10, "width": 8, "depth": 1}, "kaiming"
)


def images(n=20, seed=0):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def shipped(x=None, y=None, **changes):
    x = images() if x is None else x
    y = torch.arange(len(x)) % 10 if y is None else y
    return Payload.of_images(x, y, **{"classes": TEN, "normalization": NORM, **changes})


def soft(n=20):
    return torch.rand(n, 10, generator=torch.Generator().manual_seed(9)).mul(3).softmax(1)


def distilled(net=MLP, **changes):
    order = list(torch.arange(20).split(10)) * 3
    given = {"classes": TEN, "normalization": NORM, "net": net, "update": sgd()}
    return DistilledDataset(
        images(), torch.arange(20) % 10, torch.linspace(0.01, 0.1, 6), order, **{**given, **changes}
    )


def start(spec, seed):
    """The student as the stream draws it, made here."""
    net = spec.build()
    theta = draw(net, spec.init, generator(seed, "ledger_student"))
    net.load_state_dict(theta, strict=False)
    return net


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def close(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.allclose(a[k], b[k], rtol=1e-5, atol=1e-6) for k in a)


# --- images


@pytest.mark.parametrize("spec", [MLP, NORMED], ids=["mlp", "batchnorm"])
def test_hard_labels_train_as_fit_does_on_the_quantized_images(spec):
    payload = shipped()
    got = receive(payload, spec, FitPlan(batch=7, lr=0.01), seed=4, steps=9)  # 3 steps an epoch
    split = Split(payload.images(), payload.labels())
    wanted = fit(start(spec, 4), split, FitPlan(epochs=3, batch=7, lr=0.01), seed=4)
    assert equal(got.net, wanted.eval()) and not got.net.training
    assert got.steps == 9 and got.seconds > 0
    assert all(p.grad is None for p in got.net.parameters())


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_training_stops_at_exactly_so_many_steps(steps):
    payload, done = shipped(), []
    got = receive(payload, MLP, FitPlan(batch=7, lr=0.01), seed=1, steps=steps)

    def stop(step, net):
        done.append(step)
        return step == steps

    split = Split(payload.images(), payload.labels())
    wanted = fit(start(MLP, 1), split, FitPlan(epochs=9, batch=7, lr=0.01), seed=1, on_step=stop)
    assert got.steps == steps == done[-1]
    assert equal(got.net, wanted)


def test_soft_labels_are_targets_of_cross_entropy():
    """Gradient descent on all images, step by step with the formula: - mean_i sum_k p_ik log
    softmax(z_i)_k."""
    y = soft()
    payload = shipped(y=y, storage="float32")
    got = receive(
        payload, MLP, FitPlan(batch=20, optimizer="sgd", lr=0.1, momentum=0.0), seed=2, steps=5
    )
    net = start(MLP, 2)
    for _ in range(5):
        loss = -(y * net(images()).log_softmax(1)).sum(1).mean()
        grads = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for p, g in zip(net.parameters(), grads, strict=True):
                p -= 0.1 * g
    assert close(got.net, net)


def test_soft_labels_stay_with_their_images():
    """One-hot rows train as the labels do, in shuffled batches."""
    y = torch.arange(20) % 10
    one_hot = F.one_hot(y, 10).float()
    plan = FitPlan(batch=6, lr=0.01)
    hard, soft, rolled = (
        receive(shipped(y=labels), MLP, plan, 3, steps=7).net
        for labels in (y, one_hot, one_hot.roll(1, 0))
    )
    assert close(hard, soft) and not close(hard, rolled)


def test_a_student_is_a_function_of_the_seed_and_no_other():
    plan, payload = FitPlan(batch=6, augment=("flip",)), shipped()
    first = receive(payload, NORMED, plan, seed=5, steps=4)
    torch.manual_seed(77)
    state = torch.get_rng_state()
    again = receive(payload, NORMED, plan, seed=5, steps=4)
    assert equal(first.net, again.net) and torch.equal(state, torch.get_rng_state())
    assert not equal(first.net, receive(payload, NORMED, plan, seed=6, steps=4).net)


def test_a_loaded_payload_teaches_the_same(tmp_path):
    d = distilled()
    payload = shipped(d.images, soft(), schedule=d)
    payload.save(tmp_path / "p")
    loaded = Payload.load(tmp_path / "p")
    for own in (False, True):
        a, b = (receive(p, MLP, FitPlan(), 0, steps=4, own_steps=own) for p in (payload, loaded))
        assert equal(a.net, b.net)


def test_it_learns():
    data = load("digits")
    part = Split(data.train.images[:400], data.train.labels[:400])
    payload = Payload.of_images(
        part.images, part.labels, classes=data.classes, normalization=data.normalization
    )
    net = receive(payload, MLP, FitPlan(lr=0.01), seed=0, steps=150).net
    hits = net(data.validation.images).argmax(1) == data.validation.labels
    assert hits.float().mean() > 0.85


# --- own steps


@pytest.mark.parametrize("spec", [MLP, NORMED, DROPOUT], ids=["mlp", "batchnorm", "dropout"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_own_steps_are_those_of_the_quantized_set(spec, labels):
    d = distilled(net=spec, update=adam())
    y = d.labels if labels == "hard" else soft()
    got = receive(shipped(d.images, y, schedule=d), spec, FitPlan(), seed=3, own_steps=True)
    q = d.quantized(8)._replace(labels=y)
    net = start(spec, 3)
    wanted = q.train(net, dict(net.named_parameters()), seed=3)
    assert equal(got.net, wanted) and got.steps == 6 and not got.net.training
    assert not equal(got.net, d.train(start(spec, 3)))  # what was not shipped


def test_own_steps_of_a_set_for_one_start_begin_there():
    d = distilled(theta_0=dict(start(MLP, 99).named_parameters()))
    payload = shipped(d.images, d.labels, schedule=d, storage="float32")
    a, b = (receive(payload, MLP, FitPlan(), seed, own_steps=True).net for seed in (0, 1))
    assert equal(a, b) and equal(a, d.train())
    wider = NetSpec("mlp", {**MLP.args, "width": 17})
    with pytest.raises(UsageError, match="one initialization of mlp"):
        receive(payload, wider, FitPlan(), 0, own_steps=True)
    assert receive(payload, wider, FitPlan(), 0, steps=2).steps == 2  # as plain images


# --- nets


def test_a_shipped_net_is_used_as_it_is():
    net = start(NORMED, 8)
    payload = Payload.of_net(net, NORMED, classes=TEN, normalization=NORM)
    got = receive(payload, MLP, FitPlan(), seed=0)
    assert (got.seconds, got.steps, got.net.training) == (0.0, 0, False)
    assert torch.equal(got.net(images()), net.eval()(images()))


# --- a teacher's labels


def test_soft_labels_of_a_teacher():
    net = start(NORMED, 1).train()
    before = copy.deepcopy(net.state_dict())
    found = soft_labels(net, images(), batch=3)
    with torch.no_grad():
        wanted = copy.deepcopy(net).eval()(images()).double().softmax(1)
    assert found.dtype == torch.float32 and found.shape == (20, 10) and not found.requires_grad
    assert torch.allclose(found.double(), wanted, rtol=1e-5, atol=1e-7)
    assert net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(found, soft_labels(Teacher(net), images(), batch=3))
    shipped(y=found)
    with pytest.raises(UsageError, match="0 images"):
        soft_labels(net, images(0))


def test_soft_labels_of_an_ensemble_are_its_mean():
    nets = [start(MLP, seed).eval() for seed in (1, 2)]
    wanted = sum(net(images()).softmax(1) for net in nets) / 2
    assert torch.allclose(soft_labels(Teacher(*nets), images()), wanted, atol=1e-6)


# --- refused


@pytest.mark.parametrize(
    ("words", "call"),
    {
        "9 outputs": lambda: receive(
            shipped(), NetSpec("mlp", {**MLP.args, "classes": 9}), FitPlan(), 0
        ),
        "student takes 1x12x12": lambda: receive(
            shipped(), NetSpec("mlp", {**MLP.args, "size": 12}), FitPlan(), 0
        ),
        "without a schedule": lambda: receive(shipped(), MLP, FitPlan(), 0, own_steps=True),
        "payload of net without": lambda: receive(
            Payload.of_net(start(MLP, 0), MLP, classes=TEN, normalization=NORM),
            MLP,
            FitPlan(),
            0,
            own_steps=True,
        ),
        "steps is 0": lambda: receive(shipped(), MLP, FitPlan(), 0, steps=0),
        "steps is 1.5": lambda: receive(shipped(), MLP, FitPlan(), 0, steps=1.5),
        "batch of one": lambda: receive(shipped(), NORMED, FitPlan(batch=1), 0),
        "no initialization": lambda: receive(
            shipped(), NetSpec("mlp", MLP.args, "xavir"), FitPlan(), 0
        ),
    }.items(),
)
def test_what_does_not_fit_is_refused(words, call):
    with pytest.raises(UsageError, match=words):
        call()


def test_a_training_that_becomes_infinite_is_told():
    with pytest.raises(NumericalError):
        receive(shipped(), MLP, FitPlan(batch=20, optimizer="sgd", lr=1e38), 0, steps=3)
    d = distilled()._replace(step_sizes=torch.full((6,), 1e38))
    with pytest.raises(NumericalError):
        receive(shipped(d.images, d.labels, schedule=d), MLP, FitPlan(), 0, own_steps=True)


def test_the_seconds_are_those_of_the_training_alone(monkeypatch):
    """The clock is read right before the first step and right after the last."""
    events = []
    advance = module.Fit.advance
    monkeypatch.setattr(module.Fit, "advance", lambda fit: (events.append("step"), advance(fit))[1])
    monkeypatch.setattr(
        module, "_read_clock", lambda device: events.append("clock") or float(len(events))
    )
    got = receive(shipped(), MLP, FitPlan(), 0, steps=3)
    assert events == ["clock", "step", "step", "step", "clock"] and got.seconds == 4.0


def test_one_image_and_a_large_batch():
    payload = shipped(images(1), torch.tensor([3]))
    got = receive(payload, MLP, FitPlan(lr=0.01), 0, steps=30)
    assert got.steps == 30 and int(got.net(payload.images()).argmax()) == 3
    assert isinstance(got.net, nn.Module)
