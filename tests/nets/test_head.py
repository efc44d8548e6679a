"""The last layer of a net: what it gets, and whether a linear head can stand in its place."""

import pytest
import torch
from torch import nn

from datadistill.errors import UsageError
from datadistill.nets import build
from datadistill.nets.head import (
    check_linear_head,
    features_of,
    head_input,
    head_logits,
    is_linear_head,
    put_linear_head,
)


def net_of(model, size=64, classes=5):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build("torchvision", channels=3, size=size, classes=classes, model=model)


def images(n=3, size=64, seed=1):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


MODELS = {
    "resnet18": (64, 512, True),
    "mobilenet_v3_small": (64, 1024, True),
    "convnext_tiny": (64, 768, True),
    "squeezenet1_0": (64, 512, False),
}


@pytest.mark.parametrize("model", MODELS)
def test_a_trained_head_takes_the_place_of_the_last_layer(model):
    size, width, linear = MODELS[model]
    net, x = net_of(model, size), images(size=size)
    features = features_of(net, x)
    assert features.shape == (3, width) and is_linear_head(net, x) == linear
    weight, bias = torch.randn(5, width) / width**0.5, torch.randn(5)
    adapted = put_linear_head(net, weight, bias, x)
    other = images(size=size, seed=2)
    wanted = features_of(net, other) @ weight.T + bias
    found = adapted.eval()(other)
    torch.testing.assert_close(found.softmax(1), wanted.softmax(1), atol=1e-3, rtol=1e-3)
    assert all(
        torch.equal(x, adapted.state_dict()[k])
        for k, x in net.state_dict().items()
        if x.shape not in (bias.shape, (5, width), (5, width, 1, 1))
    )


def test_features_have_a_gradient_and_the_net_is_left_alone():
    net, x = net_of("resnet18"), images().requires_grad_()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    head_input(net, x).square().sum().backward()
    assert x.grad.abs().max() > 0 and net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not net.fc._forward_pre_hooks


def test_a_map_is_averaged_over_space():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    x = torch.randn(4, 1, 6, 6)
    torch.testing.assert_close(head_input(net, x), net[0](x).mean((2, 3)))
    assert is_linear_head(net, x)
    torch.testing.assert_close(head_logits(net, features_of(net, x)), net(x))


class Unused(nn.Module):
    """Its last linear layer makes nothing."""

    def __init__(self):
        super().__init__()
        self.flatten, self.used, self.spare = nn.Flatten(), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, images):
        return self.used(self.flatten(images))


class Flattened(nn.Sequential):
    """Its last layer gets the images of a batch in one row."""

    def forward(self, images):
        return super().forward(images.reshape(1, -1)).reshape(len(images), -1)


class HeadFirst(nn.Module):
    """Registers the layer that makes the logits before its body."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(3, 3), nn.Linear(4, 3)

    def forward(self, images):
        return self.head(self.body(images.flatten(1)).relu())


def test_nets_that_cannot_take_a_linear_head():
    x = torch.randn(3, 1, 2, 2)
    check_linear_head(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), x, 3)
    check_linear_head(net_of("squeezenet1_0"), images(), 5)
    with pytest.raises(UsageError, match=r"body \(3, 4\), the one that it registers last: the l"):
        check_linear_head(HeadFirst(), x, 3)
    with pytest.raises(UsageError, match="it has no bias"):
        check_linear_head(nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)), x, 3)


def test_refusals():
    x = torch.randn(2, 1, 2, 2)
    with pytest.raises(UsageError, match="the last layer of the net, spare, gets nothing of 2"):
        head_input(Unused(), x)
    with pytest.raises(UsageError, match=r"gets torch.Size\(\[1, 8\]\) of 2 images"):
        head_input(Flattened(nn.Linear(8, 4)), x)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with pytest.raises(UsageError, match="makes 3 logits, and there are 2 classes"):
        put_linear_head(linear, torch.ones(2, 4), torch.ones(2), x)
    behind = nn.Sequential(linear, nn.Sigmoid())
    with pytest.raises(UsageError, match=r"a linear head cannot take the place .*space pixels"):
        put_linear_head(behind, torch.randn(3, 4), torch.ones(3), x)
