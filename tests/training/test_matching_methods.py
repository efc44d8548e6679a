"""Gradient matching and distribution matching: their losses by hand, their gradients, and what is
refused."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_cases import (
    CONVNET,
    FEATURES,
    TRAINED,
    assert_resumes,
    config,
    drive,
    loop,
    through_a_checkpoint,
    to_double,
)

from datadistill.config import RunOptions
from datadistill.data import Split
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.methods.gradient_matching import LOOPS, cosine_distance
from datadistill.recipes import recipe
from datadistill.training.learning_from_config import learning_of

STRATEGY = "color_crop_rotate"
GRADIENTS = {"method": "gradient-matching", **CONVNET, "batch": 20}
NO_CLASS_LOSS = {**TRAINED, "method_args": {**TRAINED["method_args"], "class_weight": 0.0}}
LONGER = {
    **TRAINED,
    "method_args": {"pool_size": 3, "max_age": 60, "lr": 0.05, "minibatch": 64},
}
PLAIN = {
    "update": "momentum",
    "update_args": {"beta": 0.9},
    "step_size": 0.05,
    "step_sizes": "shared",
    "clip": 0,
}
CASES = {
    "gradients": GRADIENTS,
    "gradients, augmented, mlp": {
        "method": "gradient-matching",
        "augment": (STRATEGY,),
        "ipc": 2,
        "batch": 5,
    },
    "squared gradients of convolutions": {**GRADIENTS, "method_args": {"distance": "squared"}},
    "features": FEATURES,
    "features, augmented, two nets, mlp": {
        "method": "distribution-matching",
        "augment": (STRATEGY,),
        "ipc": 2,
        "nets": 2,
    },
    "features of trained nets, and their classes": {**TRAINED, "augment": (STRATEGY,), "ipc": 2},
}
H = 1e-6


def learning(data, **changes):
    return to_double(loop(data, **changes))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_gradient_is_that_of_finite_differences(digits, case):
    studied = learning(digits, **case)
    leaf = studied.loop.synthetic.tensors["images"]
    _, gradients = studied.loop.gradients(3)
    place = int(gradients[0].abs().argmax())
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            leaf.view(-1)[place] += sign * H
        values.append(studied.loop.gradients(3)[0])
        with torch.no_grad():
            leaf.view(-1)[place] -= sign * H
    expected = (values[0] - values[1]) / (2 * H)
    assert abs(expected) > 1e-4
    assert float(gradients[0].view(-1)[place]) == pytest.approx(expected, rel=1e-4)
    assert not gradients[1].any()  # the step size is not learned


def module_of(studied, iteration):
    """The net of an iteration as an ordinary module."""
    method = studied.loop.method
    theta = method.start.draw(iteration)
    with torch.no_grad():
        for name, p in method.net.named_parameters():
            p.copy_(theta[name])
    return method.net


def test_gradient_distance_by_hand(digits):
    studied = learning(digits, ipc=2, **{**GRADIENTS, "batch": 10_000})
    net, split, s = module_of(studied, 4), digits.train, studied.loop.synthetic
    total = 0.0
    for k in range(10):
        gradients = []
        for images, classes in ((split.images.double(), split.labels), (s.images(), s.classes)):
            net.zero_grad()
            own = images[classes == k].detach()
            F.cross_entropy(net(own), torch.full((len(own),), k)).backward()
            gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
        for name, g in gradients[0].items():
            if g.dim() == 1:
                continue
            for row, other in zip(g, gradients[1][name], strict=True):
                a, b = row.flatten(), other.flatten()
                norms = a.dot(a).sqrt() * b.dot(b).sqrt()
                total += (1 - a.dot(b) / (norms + 1e-6)) - (1 - norms / (norms + 1e-6))
    found, _ = studied.loop.gradients(4)
    assert found == pytest.approx(float(total), rel=1e-9)


def test_feature_distance_by_hand(digits):
    studied = learning(digits, ipc=2, **{**FEATURES, "batch": 10_000})
    net, split, s = module_of(studied, 4), digits.train, studied.loop.synthetic
    total = 0.0
    for k in range(10):
        real = net.features(split.images[split.labels == k].double()).flatten(1)
        own = net.features(s.images()[s.classes == k]).flatten(1)
        for column in range(real.shape[1]):
            total += (real[:, column].mean() - own[:, column].mean()).item() ** 2
    found, _ = studied.loop.gradients(4)
    assert found == pytest.approx(total, rel=1e-9)


def test_l1_counts_convolutions_alone(digits):
    args = {"method_args": {"distance": "l1"}}
    found, _ = learning(digits, **GRADIENTS, **args).loop.gradients(0)
    with pytest.raises(UsageError, match="distance l1 counts weights of 4 dimensions"):
        loop(digits, method="gradient-matching", **args)
    assert found > 0


@pytest.mark.parametrize("augment", [(), (STRATEGY,)], ids=["plain", "augmented"])
@pytest.mark.parametrize(
    "case", [GRADIENTS, FEATURES, NO_CLASS_LOSS], ids=["gradients", "features", "trained"]
)
def test_equal_images_have_no_loss_and_no_gradient(digits, case, augment):
    studied = learning(digits, ipc=3, augment=augment, **{**case, "batch": 3})
    s = studied.loop.synthetic
    studied.loop.method.split = Split(s.images().detach().clone(), s.classes)
    loss, gradients = studied.loop.gradients(1)
    assert abs(loss) < 1e-10
    assert float(gradients[0].abs().max()) < 1e-10


def test_cosine_distance_of_rows():
    g = torch.randn(3, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(cosine_distance(g, 7 * g)) == pytest.approx(0, abs=1e-12)
    assert float(cosine_distance(g, -g)) == pytest.approx(6, rel=1e-5)
    assert float(cosine_distance(g, 0 * g)) == 0  # no direction


def test_batches_differ_by_class_and_iteration(digits):
    batches = loop(digits, **FEATURES).loop.method._batches
    first = batches.real(1, 0)
    assert torch.equal(first, batches.real(1, 0))
    assert not torch.equal(first, batches.real(1, 1))
    of_class = digits.train.images[digits.train.labels == 1].flatten(1)
    is_same = (first.flatten(1)[:, None] == of_class).all(2)
    assert bool(is_same.any(1).all()) and int(is_same.any(0).sum()) == 20


@pytest.mark.parametrize(
    "changes",
    [
        {
            "method": "gradient-matching",
            "net": "convnet",
            "net_args": {"depth": 1, "width": 2, "norm": "instance"},
            "method_args": {"outer": 3, "inner": 2},
            "augment": (STRATEGY,),
            "batch": 5,
        },
        {**FEATURES, "augment": (STRATEGY,), "optimizer": "sgd"},
        {**TRAINED, "augment": (STRATEGY,)},
    ],
    ids=["gradients", "features", "trained"],
)
def test_a_run_resumes(digits, tmp_path, changes):
    assert_resumes(digits, tmp_path, **changes)


def test_a_net_is_trained_between_and_fresh_after_its_iterations(digits):
    studied = loop(digits, **GRADIENTS, method_args={"outer": 2, "inner": 3, "lr_net": 0.1})
    method, start = studied.loop.method, studied.loop.method.start.draw(0)
    studied.advance()
    theta = through_a_checkpoint(method.state())["theta"]
    s = studied.loop.synthetic
    net = module_of(studied, 0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):  # epochs of one batch
        optimizer.zero_grad()
        F.cross_entropy(net(s.images().detach()), s.classes).backward()
        optimizer.step()
    for name, p in net.named_parameters():
        torch.testing.assert_close(theta[name], p.detach(), rtol=1e-4, atol=1e-5)
        assert not torch.equal(theta[name], start[name]) or p.dim() == 1
    studied.advance()
    assert method.state() == {}


def test_a_skipped_end_of_a_round_leaves_no_net_to_the_next(digits):
    """The last iteration of a round and the first of the next are skipped, and train no net."""
    args = {"outer": 2, "inner": 1, "lr_net": 0.1}
    skipping, fresh = (loop(digits, **GRADIENTS, method_args=args).loop for _ in range(2))
    skipping.advance()
    fresh.synthetic.set({k: p.detach() for k, p in skipping.synthetic.leaves().items()})
    assert skipping.gradients(3)[0] == fresh.gradients(3)[0]


def test_a_net_that_diverges_between_updates_is_named(digits):
    studied = loop(digits, **GRADIENTS, method_args={"outer": 2, "inner": 3, "lr_net": 1e20})
    studied.advance()
    with pytest.raises(NumericalError, match=r"on the set at the rate 1e\+20, lower lr_net"):
        studied.advance()


def test_loops_are_those_of_the_nearest_ipc(digits):
    def loops(ipc, **args):
        studied = loop(digits, **GRADIENTS, ipc=ipc, method_args=args)
        return studied.loop.method._loops(studied.loop.synthetic)

    assert loops(1) == LOOPS[1] and loops(12) == LOOPS[10] and loops(3) == LOOPS[1]
    assert loops(1, outer=4) == (4, 1) and loops(10, inner=5) == (10, 5)


@pytest.mark.parametrize(
    ("changes", "gain"),
    [
        ({**GRADIENTS, "optimizer": "sgd", "lr_images": 3.0}, 4),
        ({**FEATURES, "optimizer": "sgd", "lr_images": 20.0}, 4),
        ({**LONGER, "optimizer": "sgd", "lr_images": 2.0}, 4),
    ],
    ids=["gradients", "features", "trained"],
)
def test_a_short_run_beats_its_start(digits, changes, gain):
    net = {"net_args": {"depth": 2, "width": 8, "norm": "instance"}, "epochs": 30}
    how = {
        "images_from": "real",
        "iterations": 20,
        "schedule": "constant",
        "validate_nets": 3,
        "validate_every": 20,
    }
    studied = loop(digits, **{**changes, **PLAIN, **net, **how, "init": "default", "batch": 32})
    before = studied.validate()["accuracy"]
    drive(studied, 20)
    after = studied.validate()["accuracy"]
    print(before, after)
    assert after > before + gain


REFUSED = {
    "batchnorm": (
        {"net_args": {"depth": 1, "width": 4, "norm": "batch"}},
        UsageError,
        "norm is batch, and a batch of one class",
    ),
    "draws of each image": ({"augment": ("crop",)}, UsageError, "choose 'dsa:crop'"),
    "unknown strategy": ({"augment": ("crop_rotat",)}, UsageError, "did you mean rotate"),
    "soft labels": ({"labels": "soft"}, UsageError, "learns images alone; choose labels hard"),
    "attack": ({"objective": "attack"}, UsageError, "choose the method unrolled"),
    "more images than a class has": (
        {"images_from": "real", "ipc": 1000},
        DataError,
        "1000 images of each start from real",
    ),
}


@pytest.mark.parametrize(
    "method", ["gradient-matching", "distribution-matching", "improved-distribution-matching"]
)
@pytest.mark.parametrize(("changes", "error", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(digits, method, changes, error, said):
    with pytest.raises(error, match=said):
        loop(digits, **{**CONVNET, "method": method, **changes})


@pytest.mark.parametrize(
    "method",
    [
        "gradient-matching",
        "distribution-matching",
        "improved-distribution-matching",
        "kernel-regression",
    ],
)
def test_one_draw_for_ever_is_refused(digits, method):
    with pytest.raises(UsageError, match=f"theta_0 is fixed, and .* {method} .* theta_0 random"):
        loop(digits, **CONVNET, method=method, theta_0="fixed")


def test_one_pretrained_net_is_matched(digits):
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(3)]
    how = config(method="distribution-matching", theta_0="fixed", net="custom", pool="custom")
    studied = learning_of(how, RunOptions(), digits, nets[0], nets)
    assert "pool" in studied.inputs


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method_args": {"distance": "cosin"}}, "did you mean cosine"),
        ({"method_args": {"inner": -1}}, "inner is -1"),
    ],
)
def test_what_gradient_matching_refuses(digits, changes, said):
    with pytest.raises(UsageError, match=said):
        loop(digits, **{**GRADIENTS, **changes})


@pytest.mark.parametrize(
    "name", ["mnist-dc-ipc10", "fashion-dsa-ipc1", "cifar10-dm-ipc50", "mnist5k-dm"]
)
def test_recipes_run_in_miniature(digits, name):
    small = {"net_args": {"width": 4}, "ipc": 2, "batch": 4, "device": "cpu", "dataset": "digits"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # digits are flipped where the recipe's images may be
        studied = learning_of(recipe(name).with_changes(**small), RunOptions(), digits, None)
    before = studied.loop.synthetic.images().detach().clone()
    studied.advance()
    assert not torch.equal(studied.loop.synthetic.images(), before)
    assert len(set(studied.snapshot().step_sizes.tolist())) == 1


class WithoutSecondDerivative(nn.Module):
    """A net whose layer has no second derivative in torch."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(OnceDifferentiable.apply(images.flatten(1) * self.head.weight.mean()))


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g


def test_a_net_without_second_derivatives_is_refused(digits):
    studied = loop(digits, WithoutSecondDerivative(), method="gradient-matching", net="custom")
    with pytest.raises(UsageError, match="second derivatives"):
        studied.advance()
