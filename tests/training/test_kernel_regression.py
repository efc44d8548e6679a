"""Kernel regression: its loss by another formulation, its gradient, its nets that age."""

import math

import pytest
import torch
import torch.nn.functional as F
from oracles.finite_differences import compare
from torch import nn
from training_cases import assert_resumes, through_a_checkpoint

import datadistill as dd
from datadistill.data import Split
from datadistill.errors import NumericalError, UsageError
from datadistill.innerloop import adam, unroll
from datadistill.innerloop.losses import squared_error
from datadistill.methods import KernelRegression
from datadistill.methods.kernel_regression import label_margin
from datadistill.nets import build
from datadistill.nets.head import head_input
from datadistill.recipes import recipe
from datadistill.starts import Random
from datadistill.synthetic import Pixels, Schedule, Synthetic
from datadistill.theta import net_with


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def synthetic(labels="raw", n=6, classes=3, side=6, images=None):
    return Synthetic(
        Pixels(),
        {"images": drawn(n, 1, side, side, seed=1) if images is None else images},
        torch.arange(n) % classes,
        None if labels == "hard" else drawn(n, classes, seed=2),
        Schedule.equal(n, 1),
        torch.zeros((), dtype=torch.float64),
        "soft" if labels == "hard" else labels,
    )


def small_net(norm=None):
    """Smooth, for differences."""
    norms = [] if norm is None else [norm(4)]
    layers = [nn.Conv2d(1, 4, 3), *norms, nn.Softplus(), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 3)).double()


def split(n=20, side=6, classes=3):
    return Split(drawn(n, 1, side, side, seed=3), torch.arange(n) % classes)


def method(net=None, **changes):
    net = small_net() if net is None else net
    options = {
        "split": split(),
        "classes": 3,
        "batch": 8,
        "pool_size": 2,
        "max_age": 6,
        "lr": 0.01,
        "labels": "raw",
        **changes,
    }
    return KernelRegression(net, Random(net, "xavier", 0), **options)


@pytest.mark.parametrize("mirror", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("labels", ["hard", "soft", "raw"])
def test_the_loss_is_that_of_an_augmented_least_squares_problem(labels, mirror):
    """Ridge regression as ordinary least squares with rows sqrt(size) I below the features."""
    s, m = (
        synthetic(labels),
        method(labels=labels, regularization=0.2, mirror=mirror, pool_size=1, batch=20),
    )
    found = m.loss(s, 4)  # of all real images, so that their order does not count
    net, images, classes = (
        net_with(m.net, m._pools[0].nets[0].theta),
        m.split.images,
        m.split.labels,
    )
    y = F.one_hot(s.labels(), 3).double() if labels == "hard" else s.labels().detach()
    y = y if labels == "raw" else y - 1 / 3
    own = s.images().detach()
    own, rows = (torch.cat([own, own.flip(-1)]), torch.cat([y, y])) if mirror else (own, y)
    features, real = head_input(net, own).detach(), head_input(net, images).detach()
    size = 0.2 * float(features.square().sum()) / len(features)
    above = torch.cat([features, math.sqrt(size) * torch.eye(16)])
    wanted = torch.cat([rows, torch.zeros(16, 3)])
    weight = torch.linalg.lstsq(above, wanted, driver="gelsd").solution
    error = (real @ weight - (F.one_hot(classes, 3) - 1 / 3)).square().sum(1).mean() / 2
    top = y.sort(1).values
    margin = torch.minimum(top[:, -1] - top[:, -2], torch.tensor(1 / 3)).mean()
    torch.testing.assert_close(found, error - margin)


@pytest.mark.parametrize("mirror", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("labels", ["hard", "soft", "raw"])
@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d], ids=["no norm", "batch norm"])
def test_gradients_are_finite_differences(labels, mirror, norm):
    s, m = (
        synthetic(labels),
        method(small_net(norm), labels=labels, regularization=0.05, mirror=mirror),
    )
    leaves = {k: x for k, x in s.leaves().items() if k != "step_sizes"}
    found = dict(zip(leaves, torch.autograd.grad(m.loss(s, 3), leaves.values()), strict=True))
    expected = {}
    with torch.no_grad():
        for name, leaf in leaves.items():
            flat, slope = leaf.view(-1), torch.zeros_like(leaf).view(-1)
            for i in range(0, len(flat), 1 if name == "labels" else 5):
                kept = float(flat[i])
                flat[i] = kept + 1e-6
                above = float(m.loss(s, 3))
                flat[i] = kept - 1e-6
                slope[i] = (above - float(m.loss(s, 3))) / 2e-6
                flat[i] = kept
                found[name].view(-1)[i + 1 : i + 5 if name != "labels" else i + 1] = 0
            expected[name] = slope.view_as(leaf)
    compare(found, expected)


def test_with_all_training_points_and_no_ridge_it_interpolates():
    real = split(9)
    s = synthetic("hard", n=9, images=real.images.clone())
    m = method(split=real, batch=9, labels="hard", regularization=0.0)
    margin = float(label_margin(F.one_hot(s.labels(), 3).double()))
    assert margin == pytest.approx(1 / 3)
    assert abs(m.loss(s, 0).item() + margin) < 1e-12
    ridge = method(split=real, batch=9, labels="hard", regularization=1.0)
    assert ridge.loss(s, 0).item() + margin > 1e-3


def test_label_margin_is_counted_up_to_one_in_k():
    labels = torch.tensor([[0.1, 0.0, 0.0], [2.0, 0.0, 1.9]], requires_grad=True)
    label_margin(labels).backward()
    assert labels.grad.tolist() == [[0.5, -0.5, 0.0], [0.5, 0.0, -0.5]]
    labels = torch.tensor([[0.5, 0.0, 0.0]], requires_grad=True)
    label_margin(labels).backward()
    assert not labels.grad.any()


def ages(m):
    return [one.age for one in m._pools[0].nets]


def test_the_pool_starts_at_ages_spread_evenly():
    s, m = synthetic(), method(pool_size=4, max_age=10)
    m.loss(s, 0)
    assert ages(m) == [0, 2, 5, 7]
    start, one = m.start.draw(2), m._pools[0].nets[2]
    pairs = [(s.images().detach(), s.labels().detach())] * 5
    sizes = torch.full((5,), 0.01)
    theta = unroll(m.net, start, pairs, sizes, adam(), loss=squared_error)
    assert all(torch.equal(theta[k].detach(), x) for k, x in one.theta.items())


def test_a_net_at_the_largest_age_is_replaced_by_a_fresh_draw():
    s, m = synthetic(), method(pool_size=2, max_age=6)
    numbers, taken = {0, 1}, set()
    m.loss(s, 0)
    for i in range(40):
        before = list(m._pools[0].nets)
        one = m._pools[0].of_iteration(i)
        age, place = one.age, before.index(one)
        m.after(s, i)
        taken.add(place)
        new = m._pools[0].nets[place]
        assert m._pools[0].nets[1 - place] is before[1 - place]
        if age == 5:
            assert (new.age, new.number) == (0, max(numbers) + 1)
            fresh = m.start.draw(new.number)
            assert all(torch.equal(fresh[k], x) for k, x in new.theta.items())
            numbers.add(new.number)
        else:
            assert new is one
            assert one.age == age + 1
    assert len(numbers) > 4
    assert taken == {0, 1}


def test_a_step_takes_some_of_many_images():
    s, whole, some = synthetic(), method(pool_size=1), method(pool_size=1, minibatch=2)
    for m in (whole, some):
        m.loss(s, 0)
        m.after(s, 0)
    name = "0.weight"
    assert not torch.equal(whole._pools[0].nets[0].theta[name], some._pools[0].nets[0].theta[name])


def test_the_state_is_all_that_there_is():
    s, straight, resumed = synthetic(), method(max_age=3), method(max_age=3)
    for i in range(5):
        straight.after(s, i)
    resumed.load(through_a_checkpoint(straight.state()))
    for i in range(5, 12):
        assert straight.loss(s, i).item() == resumed.loss(s, i).item()
        for m in (straight, resumed):
            m.after(s, i)
    assert ages(straight) == ages(resumed)


CONVNET = {"net": "convnet", "net_args": {"depth": 2, "width": 4, "growth": 2, "norm": "none"}}
RUNS = {
    "lamb, raw": {"optimizer": "lamb", "labels": "raw"},
    "adam, soft, minibatches": {
        "labels": "soft",
        "method_args": {"pool_size": 2, "max_age": 2, "minibatch": 7},
    },
    "hard, batch norm": {"net_args": {**CONVNET["net_args"], "norm": "batch"}},
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_runs_resume(digits, tmp_path, changes):
    pool = {"pool_size": 2, "max_age": 3}
    common = {**CONVNET, "method": "kernel-regression", "method_args": pool, "ipc": 2}
    assert_resumes(digits, tmp_path, **{**common, **changes})


@pytest.mark.parametrize("name", ["mnist5k-frepo", "mnist-frepo-ipc1"])
def test_recipes_run_in_miniature(name):
    small = {"iterations": 2, "validate_every": 2, "validate_nets": 1, "epochs": 2, "batch": 16}
    net_args = {**recipe(name).net_args, "width": 4, "depth": 2}
    method_args = {"pool_size": 2, "max_age": 2}
    changes = {**small, "dataset": "digits", "net_args": net_args, "method_args": method_args}
    learned = dd.distill(recipe(name).with_changes(augment_synthetic=(), **changes))
    assert learned.label_kind == recipe(name).labels


def test_growth_doubles_the_channels_of_each_block():
    net = build("convnet", channels=3, size=32, classes=10, growth=2, norm="none")
    shapes = [tuple(p.shape[:2]) for k, p in net.named_parameters() if k.endswith("weight")]
    assert shapes == [(128, 3), (256, 128), (512, 256), (10, 8192)]
    with pytest.raises(UsageError, match="width in the last block is"):
        build("convnet", channels=3, size=32, classes=10, growth=100000)


REFUSALS = [
    ({"pool_size": 0}, "pool_size of the method is 0; give 1 or more"),
    ({"max_age": 0}, "max_age of the method is 0; give 1 or more"),
    ({"minibatch": 0}, "minibatch of the method is 0; give 1 or more"),
    ({"regularization": -1.0}, "regularization of the method is -1.0; give 0 or more"),
    ({"regularization": float("nan")}, "regularization of the method is nan; give 0 or more"),
    ({"lr": 0.0}, "lr of the method is 0.0; give a number above 0"),
    ({"net": nn.Sequential(small_net(), nn.Sigmoid())}, "another net, or the method unrolled"),
]


@pytest.mark.parametrize("changes, pattern", REFUSALS, ids=[pattern for _, pattern in REFUSALS])
def test_refusals(changes, pattern):
    with pytest.raises(UsageError, match=pattern):
        method(**changes)


def test_a_regression_without_a_solution_is_refused():
    without = method(regularization=0.0)
    with pytest.raises(UsageError, match="18 images with 16 features are too many"):
        without.loss(synthetic(n=18), 0)
    with pytest.raises(NumericalError, match="the kernel of the set's 6 images is singular"):
        without.loss(synthetic(images=torch.ones(6, 1, 6, 6, dtype=torch.float64)), 0)
