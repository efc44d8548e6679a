"""Nets that draw random numbers in their pass: replayed where the draws are of a stream, refused
elsewhere."""

import random

import numpy as np
import pytest
import torch
from foreign_nets import IMAGES, Flat, cubes, ours, theta_of

from datadistill.errors import UsageError
from datadistill.innerloop import FullUnroll, StepReplay


class Noisy(Flat):
    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        return self.b(self.block(x.flatten(1)) + 0.3 * self.noise())


NOISE = {
    "numpy": lambda: torch.from_numpy(np.random.randn(8)),
    "random": lambda: random.random(),
    "torch": lambda: torch.randn(8, dtype=torch.float64),
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_of_a_stream_is_replayed(name):
    gradients = []
    for adjoint in (FullUnroll(), StepReplay()):
        net, images = Noisy(NOISE[name]).double(), IMAGES.clone().requires_grad_()
        theta = {k: torch.full_like(p, 0.1) for k, p in theta_of(net).items()}
        before = random.getstate(), np.random.get_state()[2], torch.get_rng_state()
        found = ours(net, theta, images, adjoint, stream=3)
        gradients += torch.autograd.grad(cubes(found), images)
        assert random.getstate() == before[0] and np.random.get_state()[2] == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NOISE)
def test_noise_without_a_stream_is_not_replayed(name):
    net = Noisy(NOISE[name]).double()
    images = IMAGES.clone().requires_grad_()
    with pytest.raises(UsageError, match="drew random numbers"):
        ours(net, theta_of(net), images, StepReplay())


def own_generator():
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(8, dtype=torch.float64, generator=generator)


def own_numpy_generator():
    generator = np.random.default_rng(0)
    return lambda: torch.from_numpy(generator.standard_normal(8))


def calls():
    made = []
    return lambda: (made.append(1), len(made))[1]


@pytest.mark.parametrize("noise", [own_generator, own_numpy_generator, calls])
def test_a_replay_that_is_another_step_is_refused(noise):
    net, images = Noisy(noise()).double(), IMAGES.clone().requires_grad_()
    found = ours(net, theta_of(net), images, StepReplay(), stream=1)
    with pytest.raises(UsageError, match="came out otherwise"):
        cubes(found).backward()


def sometimes():
    """Noise of numpy's from the third pass on."""
    made = []
    return lambda: np.random.randn() if made.append(1) or len(made) > 2 else 0.0


@pytest.mark.parametrize("adjoint", [FullUnroll(), StepReplay()])
def test_noise_that_comes_late_is_of_the_stream(adjoint):
    found = []
    for seed in (0, 1):
        np.random.seed(seed)
        net = Noisy(sometimes()).double()
        theta = {k: torch.full_like(p, 0.1) for k, p in theta_of(net).items()}
        # once the net is known to draw from numpy, every step draws from the stream
        ours(net, theta, stream=3)
        found.append(ours(net, theta, IMAGES.clone().requires_grad_(), adjoint, stream=3))
    for k in found[0]:
        torch.testing.assert_close(found[0][k], found[1][k], rtol=1e-12, atol=0)
