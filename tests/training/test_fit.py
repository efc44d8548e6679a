"""The plain training loop: it is torch's, it stops and goes on anywhere, and nets in a stack train
as alone."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from training_cases import through_a_checkpoint, torch_scheduler

from datadistill.data import Split
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.nets import build
from datadistill.streams import generator
from datadistill.training.fit import fit
from datadistill.training.fit_loop import Fit, of_module, of_stack
from datadistill.training.fit_plan import FitPlan

ADAM = FitPlan(epochs=3, batch=8, lr=0.01, decay_epochs=1, decay_factor=0.5)
SGD = FitPlan(epochs=2, batch=8, optimizer="sgd", lr=0.05, momentum=0.8, weight_decay=0.01)
NESTEROV = FitPlan(
    epochs=3, batch=8, optimizer="sgd", lr=0.05, momentum=0.8, nesterov=True,
    milestones=(1, 2), decay_factor=0.1,
)  # fmt: skip
ADAMW = FitPlan(
    epochs=3, batch=8, optimizer="adamw", lr=0.01, weight_decay=0.1, schedule="cosine", warmup=2
)
X = torch.zeros(2, 2, 6, 6)
PLANS = pytest.mark.parametrize(
    "plan", [ADAM, SGD, NESTEROV, ADAMW], ids=["adam", "sgd", "nesterov", "adamw"]
)


class Small(nn.Module):
    """Everything a fit can meet: a convolution, BatchNorm with its buffers, dropout."""

    def __init__(self, norm=True, dropout=0.3):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(3 * 36, 4)

    def forward(self, x):
        return self.head(self.dropout(F.relu(self.norm(self.conv(x))).flatten(1)))


@pytest.fixture
def split():
    g = generator(0, "test")
    return Split(torch.randn(30, 2, 6, 6, generator=g), torch.randint(0, 4, (30,), generator=g))


def small(seed=0, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Small(**changes)


def values(net):
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@PLANS
def test_it_is_the_loop_that_one_writes_by_hand(split, plan):
    # a bias before BatchNorm has gradient 0 but for rounding, which Adam would blow up
    theirs = small(dropout=0.0, norm=plan.optimizer == "sgd")
    ours = fit(theirs, split, plan, seed=5)
    known = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    momentum = {"momentum": 0.8, "nesterov": plan.nesterov} if plan.optimizer == "sgd" else {}
    optimizer = known[plan.optimizer](
        theirs.parameters(), plan.lr, weight_decay=plan.weight_decay, **momentum
    )
    scheduler = torch_scheduler(optimizer, plan)
    for epoch in range(plan.epochs):
        order = torch.randperm(30, generator=generator(5, "fit_order", 0, epoch))
        for part in order.tensor_split(4):
            optimizer.zero_grad()
            F.cross_entropy(theirs(split.images[part]), split.labels[part]).backward()
            optimizer.step()
        scheduler.step()
    theirs, ours = values(theirs), values(ours)
    assert theirs.keys() == ours.keys()
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    assert all(p.is_contiguous() for p in ours.values())


def test_the_net_and_the_global_generator_are_left_alone(split):
    net = small()
    net.eval()
    net.norm.train()
    before, flags, state = values(net), [m.training for m in net.modules()], torch.get_rng_state()
    trained = fit(net, split, ADAM)
    assert same(values(net), before) and torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net.modules()] == flags == [m.training for m in trained.modules()]
    assert all(p.grad is None for p in [*net.parameters(), *trained.parameters()])
    assert not torch.equal(trained.conv.weight, net.conv.weight)
    assert not torch.equal(trained.norm.running_mean, net.norm.running_mean)


def test_the_seed_decides_and_nothing_else(split):
    first = values(fit(small(), split, ADAM, seed=1))
    torch.manual_seed(99)
    assert same(values(fit(small(), split, ADAM, seed=1)), first)
    assert not same(values(fit(small(), split, ADAM, seed=2)), first)


@PLANS
@pytest.mark.parametrize("k", [1, 4, 6])  # within an epoch of 4 steps, at its end, in the second
def test_stopped_and_gone_on_is_the_same_bits(split, plan, k):
    straight, stopped, resumed = (of_module(small(), split, plan, seed=3) for _ in range(3))
    losses = [float(straight.advance()) for _ in range(straight.steps)]
    for _ in range(k):
        stopped.advance()
    resumed.load(through_a_checkpoint(stopped.state()))
    assert resumed.step == k
    assert [float(resumed.advance()) for _ in range(resumed.steps - k)] == losses[k:]
    assert resumed.is_done and same(resumed.tensors, straight.tensors)


@pytest.mark.parametrize("augment", [(), ("flip",)])
def test_nets_in_a_stack_train_as_they_do_alone(split, augment):
    plan = FitPlan(epochs=2, batch=8, lr=0.005, augment=augment)
    numbers = (3, 7)
    nets = [small(seed, norm=False) for seed in numbers]
    theta = {
        k: torch.stack([dict(net.named_parameters())[k] for net in nets])
        for k in nets[0].state_dict()
    }
    stacked = of_stack(small(9, norm=False), theta, split, plan, seed=1, numbers=numbers)
    alone = [
        of_module(net, split, plan, seed=1, number=n) for net, n in zip(nets, numbers, strict=True)
    ]
    before = {k: p.clone() for k, p in theta.items()}
    while not stacked.is_done:
        found = stacked.advance()
        torch.testing.assert_close(
            found, torch.stack([one.advance() for one in alone]), rtol=1e-4, atol=1e-5
        )
    for name, p in stacked.tensors.items():
        expected = torch.stack([one.tensors[name].detach() for one in alone])
        torch.testing.assert_close(p.detach(), expected, rtol=1e-3, atol=1e-5)
    assert same(theta, before)


def loop_of(split, **changes):
    w = torch.zeros(1, requires_grad=True)
    return Fit(
        {"w": w}, lambda batch: (batch.labels + w).square().mean(), split, FitPlan(**changes)
    )


def test_every_image_comes_once_an_epoch_in_batches_of_even_size(split):
    fit_ = loop_of(split, epochs=2, batch=29)
    assert fit_.steps_per_epoch == 2 and fit_.steps == 4  # 15 + 15: no batch of a single image
    batches = [fit_.batch(step) for step in range(4)]
    assert [len(b.labels) for b in batches] == [15] * 4
    for b in batches:
        assert torch.equal(b.images, split.images[b.index]) and torch.equal(
            b.labels, split.labels[b.index]
        )
    orders = [torch.cat([batches[i].index, batches[i + 1].index]) for i in (0, 2)]
    assert all(torch.equal(order.sort().values, torch.arange(30)) for order in orders)
    assert not torch.equal(*orders)
    assert torch.equal(fit_.batch(0).index, batches[0].index)  # whatever was asked before


def test_each_net_has_an_order_of_its_own(split):
    plan = FitPlan(epochs=1, batch=30)
    w = torch.zeros(2, requires_grad=True)
    index = Fit({"w": w}, lambda batch: w, split, plan, nets=(0, 1)).batch(0).index
    assert index.shape == (2, 30) and not torch.equal(index[0], index[1])
    assert torch.equal(index[1], Fit({"w": w}, lambda batch: w, split, plan, nets=1).batch(0).index)


def test_groups_have_learning_rates_of_their_own(split):
    a, b, buffer = (
        torch.zeros(1, requires_grad=True),
        torch.zeros(1, requires_grad=True),
        torch.zeros(1),
    )
    plan = FitPlan(
        epochs=2, batch=30, optimizer="sgd", lr=1.0, momentum=0.0, decay_epochs=1, decay_factor=0.1
    )
    groups = [{"params": [a]}, {"params": [b], "lr": 0.5}]
    loop = Fit(
        {"a": a, "b": b, "buffer": buffer}, lambda batch: (a + b).sum(), split, plan, groups=groups
    )
    while not loop.is_done:
        loop.advance()
    assert (
        a.item() == pytest.approx(-1.1) and b.item() == pytest.approx(-0.55) and buffer.item() == 0
    )


def test_frozen_parameters_stay(split):
    net = small()
    net.conv.requires_grad_(False)
    trained = fit(net, split, ADAM)
    assert torch.equal(trained.conv.weight, net.conv.weight)
    assert not torch.equal(trained.head.weight, net.head.weight)


def test_on_step_sees_every_step_and_can_stop(split):
    seen = []

    def look(step, net):
        seen.append((step, net.head.weight.detach().clone()))
        return step == 5

    trained = fit(small(), split, ADAM, on_step=look)
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5]
    assert torch.equal(seen[-1][1], trained.head.weight) and not torch.equal(seen[0][1], seen[1][1])


def test_a_loss_that_is_not_finite_updates_nothing(split):
    net = small()
    loop = of_module(net, split, ADAM)
    loop.advance()
    before = {k: p.detach().clone() for k, p in net.named_parameters()}
    spoilt = copy.copy(loop)
    spoilt.loss = lambda batch: loop.loss(batch) * float("nan")
    with pytest.raises(
        NumericalError, match=r"step 1 of 12, learning rate 0.01: .*nan.*\(lr 0.001\)"
    ):
        spoilt.advance()
    assert spoilt.step == 1 and same({k: p.detach() for k, p in net.named_parameters()}, before)


def test_parameters_that_the_last_step_spoils_are_refused(split):
    w = torch.zeros(1, requires_grad=True)
    plan = FitPlan(epochs=1, batch=30)
    # 0, with an infinite gradient
    loop = Fit({"w": w}, lambda batch: w.abs().sqrt().sum(), split, plan)
    with pytest.raises(NumericalError, match="the parameters are not finite"):
        loop.advance()


@pytest.mark.parametrize("frozen", [True, False])
def test_batchnorm_frozen_by_the_user_keeps_its_statistics(split, frozen):
    net = small()
    net.norm.train(not frozen)
    trained = fit(net, split, FitPlan(epochs=1, batch=10))
    assert torch.equal(trained.norm.running_mean, net.norm.running_mean) == frozen
    assert [m.training for m in trained.modules()] == [m.training for m in net.modules()]


def test_a_wrapped_net_is_trained_as_the_module_inside():
    split = Split(torch.randn(20, 1, 6, 6), torch.arange(20) % 10)
    inside = build("mlp", channels=1, size=6, classes=10, width=4)
    plan = FitPlan(epochs=1, batch=10)
    found, wanted = (fit(net, split, plan) for net in (nn.DataParallel(inside), inside))
    assert type(found) is type(inside)
    for a, b in zip(found.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(a, b)


def layers(first=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rest = [
            nn.Conv2d(2, 3, 3),
            nn.BatchNorm2d(3),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(48, 4),
        ]
    return nn.Sequential(first or nn.Identity(), *rest)


class Noisy(nn.Module):
    """Draws from a generator that is not torch's."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x * self.draw()


@pytest.mark.parametrize(
    "draw", [lambda: np.random.rand(), lambda: random.random()], ids=["numpy", "python"]
)
def test_noise_of_numpy_and_python_follows_the_seed(split, draw):
    found = []
    for n in (1, 2):
        np.random.seed(n)
        random.seed(n)
        before = random.getstate(), np.random.get_state()[1].tolist()
        found.append(values(fit(layers(Noisy(draw)), split, SGD, seed=3)))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert same(*found)
    assert not same(found[0], values(fit(layers(Noisy(draw)), split, SGD, seed=4)))


def test_a_net_that_keeps_its_features_can_be_copied_after_a_fit(split):
    net = layers()
    net.register_forward_hook(lambda module, _, out: setattr(module, "kept", out))
    trained = fit(net, split, SGD)
    assert not copy.deepcopy(trained).kept.requires_grad


@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_parameters_are_obeyed(split, kind):
    net = layers()
    if kind == "register_hook":
        net[-1].weight.register_hook(lambda g: 0 * g)
    else:
        net[-1].weight.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", 0 * p.grad))
    trained = fit(net, split, FitPlan(epochs=1, batch=8, lr=0.1))
    assert torch.equal(trained[-1].weight, net[-1].weight)
    assert not torch.equal(trained[-1].bias, net[-1].bias)
    trained(split.images).square().sum().backward()  # the copy has them too
    assert not trained[-1].weight.grad.any()


DATA = {
    "a pair": lambda x, y: (x, y),
    "a list of labels": lambda x, y: (x, y.tolist()),
    "arrays": lambda x, y: (x.numpy(), y.numpy()),
    "labels of any type": lambda x, y: Split(x, y.double()),
    "one-hot rows": lambda x, y: (x, F.one_hot(y)),
    "a data set": TensorDataset,
    "a list of pairs": lambda x, y: list(zip(x, y.tolist(), strict=True)),
    "a loader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=4),
}


@pytest.mark.parametrize("make", DATA.values(), ids=DATA)
def test_data_of_every_form_trains_alike(split, make):
    data = make(split.images, split.labels)
    assert same(values(fit(layers(), data, SGD)), values(fit(layers(), split, SGD)))


NONE = Split(X[:0], torch.zeros(0, dtype=torch.long))
REFUSED = [
    (lambda net, digits: fit(net, NONE, ADAM), "no image to train on"),
    (lambda net, digits: fit(net.requires_grad_(False), (X, [0, 1]), ADAM), "nothing to train"),
    (lambda net, digits: fit(net, digits, SGD), "the RealData .*; pass .*data.train"),
    (lambda net, digits: fit(net, {"images": 1}, SGD), "split is a dict; pass a Split"),
    (lambda net, digits: fit(net, 7, SGD), "split is a int"),
    (lambda net, digits: fit(net, (X.byte(), [0, 1]), SGD), "torch.uint8; pass floats"),
    (lambda net, digits: fit(net, (X, [0, 1, 2]), SGD), "for 2 samples"),
    (
        lambda net, digits: fit(net, (X, ["cat", "dog"]), SGD),
        "labels are a list that makes no tensor",
    ),
    (
        lambda net, digits: fit(lambda: net, (X, [0, 1]), SGD),
        "wanted a torch module; build one first",
    ),
]


@pytest.mark.parametrize("call, pattern", REFUSED, ids=[p for _, p in REFUSED])
def test_what_is_no_data_or_no_net_is_refused(digits, call, pattern):
    with pytest.raises((UsageError, DataError), match=pattern):
        call(layers(), digits)
