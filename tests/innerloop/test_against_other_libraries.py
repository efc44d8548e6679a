"""theta_T and its gradient are those of `higher` and of TorchOpt, to rounding."""

import higher_oracle
import pytest
import torchopt_oracle
from inner_cases import assert_same, case

from datadistill.innerloop import FullUnroll, Higher, StepReplay, adam, momentum, sgd

RTOL = 1e-10
SGD_FAMILY = {
    "sgd": (sgd(0.02), {"weight_decay": 0.02}),
    "momentum": (momentum(0.9), {"momentum": 0.9}),
    "nesterov": (
        momentum(0.8, nesterov=True, weight_decay=0.03),
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.03},
    ),
}
OPTIMIZERS = {
    "sgd": (sgd(0.02), torchopt_oracle.sgd(0.02)),
    "momentum": (momentum(0.9), torchopt_oracle.momentum(0.9)),
    "nesterov": (momentum(0.8, True, 0.03), torchopt_oracle.momentum(0.8, True, 0.03)),
    "adam": (adam(0.8, 0.95, 1e-6, 1e-7), torchopt_oracle.adam(0.8, 0.95, 1e-6, 1e-7)),
}
CASES = [("lenet", False), ("lenet", True), ("groupnorm", False), ("batchnorm", True)]


def values(theta):
    """theta_T by name, one group: its largest entry is the scale."""
    return {f"theta_T.{k}": x for k, x in theta.items()}


@pytest.mark.parametrize("name, per_tensor", CASES)
@pytest.mark.parametrize("rule", SGD_FAMILY)
def test_higher(rule, name, per_tensor):
    update, settings = SGD_FAMILY[rule]
    problem = case(name, per_tensor=per_tensor, eta=0.1)
    witness = higher_oracle.train(
        problem.net, problem.theta_0(), problem.pairs(), problem.inputs["step_sizes"], **settings
    )
    expected = problem.gradients_of(witness)
    for adjoint in (FullUnroll(), StepReplay(), Higher()):
        theta_T = problem.theta_T(update=update, adjoint=adjoint)
        assert_same(values(theta_T), values(witness), 1e-13)
        assert_same(problem.gradients_of(theta_T), expected, RTOL)


@pytest.mark.parametrize("name, per_tensor", CASES)
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_torchopt(rule, name, per_tensor):
    update, optimizer = OPTIMIZERS[rule]
    problem = case(name, per_tensor=per_tensor, eta=0.01 if rule == "adam" else 0.1)
    witness = torchopt_oracle.train(
        problem.net, problem.theta_0(), problem.pairs(), problem.inputs["step_sizes"], optimizer
    )
    expected = problem.gradients_of(witness)
    for adjoint in (FullUnroll(), StepReplay()):
        theta_T = problem.theta_T(update=update, adjoint=adjoint)
        assert_same(values(theta_T), values(witness), 1e-13)
        assert_same(problem.gradients_of(theta_T), expected, RTOL)


def test_the_witnesses_tell_rules_apart():
    problem = case("groupnorm", eta=0.1)
    found = problem.gradients(update=momentum(0.8, nesterov=True))
    heavy_ball = torchopt_oracle.train(
        problem.net,
        problem.theta_0(),
        problem.pairs(),
        problem.inputs["step_sizes"],
        torchopt_oracle.momentum(0.8),
    )
    with pytest.raises(AssertionError, match="differs by"):
        assert_same(found, problem.gradients_of(heavy_ball), 1e-3)
