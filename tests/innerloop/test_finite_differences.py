"""The gradient of the outer loss through all steps is that of finite differences."""

import pytest
import torch
from finite_differences import check_directions, check_entries, compare, sample
from inner_cases import case

from datadistill.innerloop import FullUnroll, StepReplay, adam, momentum, sgd

RULES = {
    "sgd": sgd(),
    "sgd, decay": sgd(weight_decay=0.05),
    "nesterov": momentum(0.8, nesterov=True, weight_decay=0.01),
    "adam": adam(beta1=0.8, beta2=0.9, eps_root=1e-8),
}


def function_of(problem, **how):
    return lambda inputs: problem.outer(problem.theta_T(inputs, **how))


def witnessed(problem, generator, entries=25, **how):
    gradients = problem.gradients(**how)
    tensors = {k: x.detach() for k, x in problem.inputs.items()}
    check_entries(function_of(problem, **how), tensors, gradients, generator, entries)
    check_directions(function_of(problem, **how), tensors, gradients, generator)


@pytest.mark.parametrize("per_tensor", [False, True], ids=["T", "TxP"])
@pytest.mark.parametrize("adjoint", [FullUnroll(), StepReplay()], ids=lambda a: type(a).__name__)
def test_lenet(adjoint, per_tensor, generator):
    entries = 25 if isinstance(adjoint, FullUnroll) and not per_tensor else 4
    witnessed(case("lenet", T=2, per_tensor=per_tensor), generator, entries, adjoint=adjoint)


@pytest.mark.parametrize("per_tensor", [False, True], ids=["T", "TxP"])
@pytest.mark.parametrize("norm", ["groupnorm", "batchnorm"])
def test_normalized_convnet(norm, per_tensor, generator):
    witnessed(
        case(norm, T=2, per_tensor=per_tensor),
        generator,
        3 if per_tensor else 25,
        adjoint=StepReplay(),
    )


@pytest.mark.parametrize("rule", RULES)
def test_every_rule(rule, generator):
    # Adam's step has the size of eta whatever the gradient's
    problem = case("groupnorm", T=3, eta=0.02 if rule == "adam" else 0.3)
    witnessed(problem, generator, entries=3, update=RULES[rule], adjoint=StepReplay())


def test_frozen_statistics(generator):
    witnessed(case("batchnorm", T=2), generator, entries=3, norm="frozen")


def test_dropout_under_a_stream(generator):
    witnessed(case("dropout", T=2), generator, entries=3, adjoint=StepReplay(), stream=5)


@pytest.fixture(scope="module")
def sampled():
    """Entries of the true gradient of four tensors, and the finite differences at them."""
    problem = case("groupnorm")
    inputs = {k: x.detach() for k, x in problem.inputs.items()}
    names = ["images.0", "labels.1", "step_sizes", "theta_0.conv1.weight"]
    chosen, expected = sample(
        lambda some: function_of(problem)({**inputs, **some}),
        {k: inputs[k] for k in names},
        torch.Generator().manual_seed(0),
    )
    gradients = problem.gradients()
    return {k: gradients[k].flatten()[i] for k, i in chosen.items()}, expected


@pytest.mark.parametrize("name", ["images.0", "labels.1", "step_sizes", "theta_0.conv1.weight"])
def test_a_wrong_gradient_is_refused(name, sampled):
    right, expected = sampled
    compare(right, expected)
    one_entry = right[name].clone()
    one_entry[one_entry.abs().argmax()] = 0.0
    x = right[name]
    for wrong in (x * 0, x * -1, x * 1.01, x + x.abs().max(), one_entry):
        with pytest.raises(AssertionError, match="finite differences"):
            compare({**right, name: wrong}, expected)


def test_a_gradient_that_is_zero_everywhere_proves_nothing():
    zeros = {"x": torch.zeros(3)}
    with pytest.raises(AssertionError, match="too small"):
        compare(zeros, zeros)
