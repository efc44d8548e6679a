"""Re-estimated BatchNorm statistics: their values, what they leave alone, and what happens on
failure."""

import copy

import pytest
import torch
from torch import nn

from datadistill.errors import UsageError
from datadistill.nets import build, has_batchnorm, reestimate


class Tiny(nn.Module):
    """Two convolutions with BatchNorm, dropout between them."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3, momentum=0.3),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(3, 2, 3),
        )
        self.norm = nn.SyncBatchNorm(2)

    def forward(self, images):
        return self.norm(self.body(images))


def images(seed, count=4):
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def net_for_tests():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Tiny()


def test_one_batch_gives_in_eval_mode_what_batch_statistics_give():
    net, batch = net_for_tests(), images(0)
    reestimate(net, [batch])
    net.eval()
    # running_var is unbiased, batch mode divides by n: put the n's back. Pixels a channel: 4x4x4
    # and 4x2x2
    net.body[1].running_var *= (64 - 1) / 64
    net.norm.running_var *= (16 - 1) / 16
    evaluated = net(batch)
    net.body[1].train()
    net.norm.train()
    torch.testing.assert_close(evaluated, net(batch))


def test_statistics_are_the_average_over_batches():
    net = nn.BatchNorm1d(3)
    batches = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) * n for n in (4, 9, 5)]
    reestimate(net, iter(batches))
    torch.testing.assert_close(net.running_mean, torch.stack([b.mean(0) for b in batches]).mean(0))
    torch.testing.assert_close(net.running_var, torch.stack([b.var(0) for b in batches]).mean(0))
    assert net.num_batches_tracked == 3


def test_the_past_of_the_buffers_does_not_matter():
    net = net_for_tests()
    reestimate(net, [images(0), images(1)])
    once = copy.deepcopy(net.state_dict())
    for _ in range(3):
        net.train()(images(2) + 5)
    reestimate(net, [images(0), images(1)])
    for name, value in net.state_dict().items():
        assert torch.equal(value, once[name]), name


def test_only_the_buffers_change():
    net = net_for_tests()
    net.eval()
    net.body[1].train()  # a mixture of flags
    flags = [m.training for m in net.modules()]
    parameters = [p.detach().clone() for p in net.parameters()]
    torch.manual_seed(4)
    state = torch.get_rng_state()
    reestimate(net, [images(0)])
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in net.modules()] == flags
    assert net.body[1].momentum == 0.3
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), parameters, strict=True))
    assert all(p.grad is None for p in net.parameters())
    assert (net.body[1].running_mean != 0).all()


def test_a_frozen_layer_of_a_training_net_keeps_statistics():
    net = net_for_tests()
    net.body[1].eval()
    before = net.body[1].running_mean.clone()
    reestimate(net, [images(0)])
    assert torch.equal(net.body[1].running_mean, before)


def failing():
    yield images(0)
    raise RuntimeError("reading failed")


@pytest.mark.parametrize(
    ("batches", "error", "sentence"),
    [
        ([], UsageError, "no batch was given"),
        ([images(0, 1)[:, :, :5, :5]], UsageError, "two images or more"),
        (failing(), RuntimeError, "reading failed"),
    ],
    ids=["none", "single value", "broken source"],
)
def test_a_failure_puts_everything_back(batches, error, sentence):
    net = net_for_tests()
    net.train()(images(3))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(error, match=sentence):
        reestimate(net, batches)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert net.body[1].momentum == 0.3


def test_has_batchnorm():
    assert has_batchnorm(build("resnet18", channels=1, size=8, classes=2))
    assert has_batchnorm(nn.BatchNorm3d(2))
    assert not has_batchnorm(build("lenet", channels=1, size=28, classes=2))
    assert not has_batchnorm(build("convnet", channels=1, size=8, classes=2, norm="instance"))


def test_a_net_without_running_statistics_is_left_alone():
    reestimate(nn.Linear(2, 2), failing())
    net = nn.BatchNorm1d(2, track_running_stats=False)
    reestimate(net, failing())
    assert net.running_mean is None
    assert net.training
