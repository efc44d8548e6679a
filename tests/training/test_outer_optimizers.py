"""LAMB against its formula."""

import torch

from datadistill.training.outer_optimizers import Lamb


def by_hand(w, gradients, lr, b1=0.9, b2=0.999, eps=1e-6):
    m = n = torch.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        m, n = b1 * m + (1 - b1) * g, b2 * n + (1 - b2) * g**2
        u = (m / (1 - b1**t)) / ((n / (1 - b2**t)).sqrt() + eps)
        w = w - lr * (w.norm() / u.norm()) * u
    return w


def drawn(seed):
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps(optimizer, w, gradients):
    for g in gradients:
        w.grad = g.clone()
        optimizer.step()
    return w.detach()


def test_it_is_the_formula():
    for scale in (1.0, 1e-3):  # of a gradient, which does not count
        gradients = [scale * drawn(k) for k in range(1, 5)]
        w = drawn(0).requires_grad_()
        found = steps(Lamb([w], lr=0.1), w, gradients)
        torch.testing.assert_close(found, by_hand(drawn(0), gradients, 0.1))


def test_a_step_is_relative_to_each_tensor():
    small, large = (scale * drawn(0) for scale in (0.1, 10.0))
    leaves = [x.clone().requires_grad_() for x in (small, large)]
    optimizer = Lamb([{"params": leaves, "lr": 0.03}])
    for leaf in leaves:
        leaf.grad = drawn(1)
    optimizer.step()
    for leaf, before in zip(leaves, (small, large), strict=True):
        moved = (leaf.detach() - before).norm() / before.norm()
        torch.testing.assert_close(moved, torch.tensor(0.03, dtype=torch.float64))


def test_a_tensor_of_zeros_and_one_without_gradient():
    zeros, still = torch.zeros(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = Lamb([{"params": [zeros, still], "lr": 0.1}])
    zeros.grad, still.grad = torch.ones(2), torch.zeros(2)
    optimizer.step()
    torch.testing.assert_close(zeros.detach(), torch.full((2,), -0.1))
    assert torch.equal(still.detach(), torch.ones(2))


def test_it_resumes():
    gradients = [drawn(k) for k in range(1, 5)]
    whole = steps(Lamb([w := drawn(0).requires_grad_()], lr=0.1), w, gradients)
    first = Lamb([w := drawn(0).requires_grad_()], lr=0.1)
    steps(first, w, gradients[:2])
    second = Lamb([w], lr=0.1)
    second.load_state_dict(first.state_dict())
    assert torch.equal(steps(second, w, gradients[2:]), whole)
