"""Improved distribution matching: its loss and its nets by hand, and what is refused. What holds
for every method that matches classes is in test_matching_methods.py."""

import pytest
import torch
import torch.nn.functional as F
from training_cases import TRAINED, loop, to_double

from datadistill.errors import UsageError
from datadistill.streams import generator


def test_relative_distance_and_class_loss_by_hand(digits):
    studied = to_double(loop(digits, ipc=2, **{**TRAINED, "batch": 10_000}))
    method, split, s = studied.loop.method, digits.train, studied.loop.synthetic
    studied.loop.gradients(0)  # starts the pool
    one = method._net(5)
    net = method.net
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(one.theta[name])
    real, own = ([], []), ([], [])  # features and logits of each class
    for k in range(10):
        for found, x in (
            (real, split.images[split.labels == k].double()),
            (own, s.images()[s.classes == k]),
        ):
            found[0].append(net.features(x).flatten(1).detach())
            found[1].append(net(x).detach())
    means = [[f.mean(0) for f in found[0]] for found in (real, own)]
    middle = sum(means[0]) / 10
    scatter = sum((m - middle).square().sum() for m in means[0]) / 10
    distance = sum((a - b).square().sum() for a, b in zip(*means, strict=True)) / scatter
    right = sum(int((logits.argmax(1) == k).sum()) for k, logits in enumerate(real[1]))
    share = right / len(split)
    of_class = [F.cross_entropy(logits, torch.full((2,), k)) for k, logits in enumerate(own[1])]
    wanted = float(distance.detach()) + 0.5 * share * float(sum(of_class) / 10)
    found, _ = studied.loop.gradients(5)
    assert found == pytest.approx(wanted, rel=1e-9) and 0 < share < 1


def test_nets_grow_old_on_real_images(digits):
    size, steps = 50, 3
    studied = loop(digits, **{**TRAINED, "method_args": {**TRAINED["method_args"], "steps": steps}})
    method = studied.loop.method
    one = method._net(0)
    before = {k: p.clone() for k, p in one.theta.items()}
    velocity = {k: v.clone() for k, v in one.state["v"].items()}
    age, number = one.age, one.number
    method.max_age = method._pool.max_age = 1000
    method.after(studied.loop.synthetic, 0)
    assert one.age == age + steps
    for t in range(steps):
        draws = generator(method.seed, "images_of_age", number, age + t)
        rows = torch.randperm(len(digits.train), generator=draws)[:size]
        with torch.no_grad():
            for name, p in method.net.named_parameters():
                p.copy_(before[name])
        method.net.zero_grad()
        F.cross_entropy(method.net(digits.train.images[rows]), digits.train.labels[rows]).backward()
        for name, p in method.net.named_parameters():
            velocity[name] = 0.9 * velocity[name] + p.grad + 5e-4 * before[name]
            before[name] = before[name] - 0.2 * velocity[name]
    for name, p in one.theta.items():
        torch.testing.assert_close(p, before[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nets": 2}, "nets is 2, and an iteration takes one net"),
        ({"method_args": {"pool_size": 0}}, "pool_size of the method is 0; give 1 or more"),
        ({"method_args": {"class_weight": -1.0}}, "class_weight of the method is -1.0"),
        ({"method_args": {"lr": 0.0}}, "lr of the method is 0.0"),
    ],
)
def test_what_improved_distribution_matching_refuses(digits, changes, said):
    with pytest.raises(UsageError, match=said):
        loop(digits, **{**TRAINED, **changes})
