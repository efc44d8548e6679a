"""What the mathematics leaves unchanged: the order of a batch, the names of classes, copies of
images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inner_cases import DTYPE, assert_same, case

from datadistill.innerloop import FullUnroll, StepReplay, adam, momentum, sgd

few = settings(max_examples=12, deadline=None, derandomize=True)
ADJOINTS = st.sampled_from([FullUnroll(), StepReplay()])
UPDATES = st.sampled_from([sgd(0.1), momentum(0.8), adam(eps_root=1e-4)])
SEEDS = st.integers(0, 10_000)


def gradients(problem, inputs, **how):
    theta_T = problem.theta_T(inputs, **how)
    found = torch.autograd.grad(problem.outer(theta_T), list(inputs.values()))
    return theta_T, dict(zip(inputs, found, strict=True))


def leaves(inputs):
    return {k: x.detach().clone().requires_grad_() for k, x in inputs.items()}


@few
@given(
    ADJOINTS, UPDATES, SEEDS, st.permutations(range(4)), st.sampled_from(["groupnorm", "batchnorm"])
)
def test_the_order_within_a_batch_is_of_no_account(adjoint, update, seed, order, name):
    problem = case(name, seed=seed, eta=0.05)
    theta_T, expected = gradients(problem, problem.inputs, adjoint=adjoint, update=update)
    moved = ("images.1", "labels.1")
    permuted = leaves({k: x[order] if k in moved else x for k, x in problem.inputs.items()})
    permuted_theta_T, found = gradients(problem, permuted, adjoint=adjoint, update=update)
    for k, p in theta_T.items():
        torch.testing.assert_close(permuted_theta_T[k], p, rtol=1e-9, atol=1e-10)
    assert_same(found, {k: g[order] if k in moved else g for k, g in expected.items()}, 1e-8)


@few
@given(ADJOINTS, UPDATES, SEEDS, st.permutations(range(4)))
def test_the_names_of_the_classes_are_of_no_account(adjoint, update, seed, order):
    problem = case("groupnorm", seed=seed, eta=0.05)

    def rename(tensors):
        return {
            k: x[:, order]
            if k.startswith("labels")
            else x[order]
            if k.startswith("theta_0.head")
            else x
            for k, x in tensors.items()
        }

    _, expected = gradients(problem, problem.inputs, adjoint=adjoint, update=update)
    images, labels = problem.real
    problem.real = images, torch.tensor([order.index(int(c)) for c in labels])
    _, found = gradients(problem, leaves(rename(problem.inputs)), adjoint=adjoint, update=update)
    assert_same(found, rename(expected), 1e-8)


@few
@given(ADJOINTS, UPDATES, SEEDS)
def test_copies_of_a_batch_share_its_gradient(adjoint, update, seed):
    # the loss is a mean over the batch, so two copies of every image count half each
    problem = case("groupnorm", seed=seed, eta=0.05)
    _, expected = gradients(problem, problem.inputs, adjoint=adjoint, update=update)
    steps = ("images", "labels")
    twice = leaves(
        {k: torch.cat([x, x]) if k.startswith(steps) else x for k, x in problem.inputs.items()}
    )
    _, found = gradients(problem, twice, adjoint=adjoint, update=update)
    halves = {k: torch.cat([g, g]) / 2 if k.startswith(steps) else g for k, g in expected.items()}
    assert_same(found, halves, 1e-8)


@pytest.mark.parametrize("update", [sgd(), momentum(0.9), adam()], ids=lambda u: type(u).__name__)
def test_step_sizes_of_zero_change_nothing(update):
    problem = case("groupnorm")
    inputs = leaves({**problem.inputs, "step_sizes": torch.zeros(3, dtype=DTYPE)})
    theta_T, found = gradients(problem, inputs, update=update, adjoint=StepReplay())
    assert all(torch.equal(p, inputs[f"theta_0.{k}"]) for k, p in theta_T.items())
    assert all(torch.count_nonzero(found[f"images.{t}"]) == 0 for t in range(3))
    assert found["step_sizes"].abs().min() > 0
