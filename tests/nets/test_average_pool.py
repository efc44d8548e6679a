"""Average pooling as a convolution is that of torch, bit by bit."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from datadistill.nets.layers import AveragePool

LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["usual", "channels last"])
@pytest.mark.parametrize("channels", [1, 3, 32])
def test_values_and_gradients_are_those_of_torch(channels, layout):
    for images, side in itertools.product((1, 5, 64), (2, 7, 16)):
        x = torch.randn(images, channels, side, side).contiguous(memory_format=layout)
        x.requires_grad_()
        found, wanted = AveragePool()(x), F.avg_pool2d(x, 2)
        assert torch.equal(found, wanted)
        g = torch.randn_like(wanted)
        gradients = [torch.autograd.grad(y, x, g)[0] for y in (found, wanted)]
        assert torch.equal(*gradients)


def test_second_derivatives_and_several_nets():
    x = torch.randn(3, 2, 4, 4, requires_grad=True)

    def of_square(pool):
        (g,) = torch.autograd.grad(pool(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), x)[0]

    assert torch.equal(of_square(AveragePool()), of_square(lambda x: F.avg_pool2d(x, 2)))
    stacked = torch.randn(2, 3, 2, 4, 4)
    mapped = torch.func.vmap(AveragePool())(stacked)
    assert torch.equal(mapped, torch.stack([F.avg_pool2d(y, 2) for y in stacked]))
