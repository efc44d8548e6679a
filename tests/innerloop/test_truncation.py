"""Truncated(window): the last steps' exact gradient, exact zeros before them."""

import pytest
import torch
from inner_cases import case

from datadistill.innerloop import (
    FullUnroll,
    StepReplay,
    Steps,
    Truncated,
    adam,
    momentum,
    sgd,
    unroll,
)

T = 4
UPDATES = [sgd(0.01), momentum(0.9, nesterov=True), adam()]


@pytest.mark.parametrize("inner", [FullUnroll(), StepReplay()], ids=repr)
@pytest.mark.parametrize("update", UPDATES, ids=lambda u: type(u).__name__)
@pytest.mark.parametrize("window", [1, 3])
def test_zero_before_the_window_and_exact_in_it(window, update, inner):
    problem = case("groupnorm", T=T, per_tensor=True, eta=0.05)
    cut, inputs = T - window, problem.inputs
    theta_T = problem.theta_T(update=update, adjoint=Truncated(window, inner))
    found = problem.gradients_of(theta_T)

    # the sliced problem: its own steps only, from theta and the state after the first `cut`
    etas, pairs = inputs["step_sizes"], problem.pairs()
    with torch.no_grad():
        theta, state = unroll(
            problem.net, problem.theta_0(), pairs[:cut], etas[:cut], update, return_state=True
        )
    sliced = unroll(problem.net, theta, pairs[cut:], etas[cut:], update, state=state)
    late = [k for k in inputs if k.split(".")[-1] in map(str, range(cut, T))]
    *expected, expected_etas = torch.autograd.grad(
        problem.outer(sliced), [*(inputs[k] for k in late), etas]
    )

    assert len(late) == 2 * window
    for k, g in zip(late, expected, strict=True):
        assert g.abs().max() > 0
        torch.testing.assert_close(found[k], g, rtol=1e-8, atol=1e-13)
    torch.testing.assert_close(
        found["step_sizes"][cut:], expected_etas[cut:], rtol=1e-8, atol=1e-13
    )
    assert torch.count_nonzero(found["step_sizes"][:cut]) == 0
    for k, g in found.items():
        if k not in late and k != "step_sizes":
            assert torch.count_nonzero(g) == 0, k
    reference = problem.theta_T(update=update)
    for k, p in theta_T.items():
        torch.testing.assert_close(p, reference[k], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("inner", [FullUnroll(), StepReplay()], ids=repr)
def test_base_tensors_of_earlier_steps_read_zero(inner):
    problem = case("groupnorm", T=T)
    base = {k: x for k, x in problem.inputs.items() if k.startswith(("images", "labels"))}
    steps = Steps(base, lambda b, t: (b[f"images.{t}"], b[f"labels.{t}"]), T)
    theta_T = unroll(
        problem.net,
        problem.theta_0(),
        steps,
        problem.inputs["step_sizes"],
        adjoint=Truncated(2, inner),
    )
    zero = {
        k: torch.count_nonzero(g) == 0
        for k, g in problem.gradients_of(theta_T).items()
        if k in base
    }
    assert zero == {k: int(k.split(".")[1]) < 2 for k in base}


@pytest.mark.parametrize("inner", [FullUnroll(), StepReplay()], ids=repr)
def test_backward_fills_zero_gradients_too(inner):
    problem = case("groupnorm", T=T)
    problem.outer(problem.theta_T(adjoint=Truncated(1, inner))).backward()
    assert all(x.grad is not None for x in problem.inputs.values())
    assert torch.count_nonzero(problem.inputs["images.0"].grad) == 0
    assert torch.count_nonzero(problem.inputs["images.3"].grad) > 0


@pytest.mark.parametrize("inner", [FullUnroll(), StepReplay()], ids=repr)
def test_the_given_state_reads_zero(inner):
    problem = case("groupnorm", T=T)
    theta_0 = problem.theta_0()
    v = {k: torch.full_like(p, 0.1).requires_grad_() for k, p in theta_0.items()}
    gradients = {}
    for adjoint in (Truncated(2, inner), inner):
        theta_T = problem.theta_T(update=momentum(0.9), state={"v": v}, adjoint=adjoint)
        gradients[adjoint] = torch.autograd.grad(problem.outer(theta_T), list(v.values()))
    assert all(torch.count_nonzero(g) == 0 for g in gradients[Truncated(2, inner)])
    assert all(torch.count_nonzero(g) > 0 for g in gradients[inner])


@pytest.mark.parametrize("window, exact", [(T - 1, False), (T, True), (10 * T, True)])
def test_a_window_of_all_steps_is_exact(window, exact):
    problem = case("groupnorm", T=T)
    g = problem.gradients(adjoint=Truncated(window))["theta_0.head.weight"]
    expected = problem.gradients()["theta_0.head.weight"]
    assert torch.allclose(g, expected, rtol=1e-10) == exact
