"""Each refusal is a UsageError whose sentence says what was found, what was wanted and what to
do."""

import pytest
import torch
import torch.nn.functional as F
from inner_cases import DTYPE, case
from torch import nn

from datadistill.errors import UsageError
from datadistill.innerloop import (
    FullUnroll,
    Higher,
    StepReplay,
    Steps,
    Truncated,
    adam,
    momentum,
    sgd,
    unroll,
)
from datadistill.innerloop.update_rules import describe, from_description


def call(problem=None, **changes):
    """unroll of a small problem with some arguments changed."""
    problem = problem or case("groupnorm", T=2)
    arguments = {
        "net": problem.net,
        "theta_0": problem.theta_0(),
        "steps": problem.pairs(),
        "step_sizes": problem.inputs["step_sizes"],
    }
    return unroll(**{**arguments, **changes})


def replaced(**entries):
    theta_0 = {k.replace(".", "__"): p for k, p in case("groupnorm", T=2).theta_0().items()}
    return {k.replace("__", "."): p for k, p in {**theta_0, **entries}.items() if p is not None}


def shape(*sizes):
    return torch.zeros(sizes, dtype=DTYPE)


def pairs(images, labels):
    return [(torch.zeros(images, 1, 8, 8, dtype=DTYPE), torch.zeros(labels, dtype=torch.long))] * 2


SENTENCES = {
    r"step_sizes has shape \(3,\) for 2 steps; wanted \(2,\) or \(2, 10\)": {
        "step_sizes": shape(3)
    },
    r"step_sizes has shape \(\) for 2 steps": {"step_sizes": shape()},
    r"step_sizes has shape \(2, 10, 1\)": {"step_sizes": shape(2, 10, 1)},
    r"step_sizes has 3 columns and theta_0 has 10 tensors; give one column": {
        "step_sizes": shape(2, 3)
    },
    r"theta_0 has 'conv1.wieght', which the net does not; did you mean conv1.weight": {
        "theta_0": replaced(conv1__wieght=shape(1))
    },
    r"theta_0\['head.weight'\] has shape \(4, 17\); the net wants \(4, 16\), or \(nets, 4, 16\)": {
        "theta_0": replaced(head__weight=shape(4, 17))
    },
    r"theta_0 mixes entries for \['3', 'None'\] nets; stack all or none": {
        "theta_0": replaced(head__weight=shape(3, 4, 16))
    },
    r"theta_0 is empty; pass name -> tensor": {"theta_0": {}},
    r"norm is 'frosen'; did you mean frozen\? \(known: batch, frozen, track\)": {"norm": "frosen"},
    r"buffers has 'norm1.running_men', which the net does not; ": {
        "buffers": {"norm1.running_men": shape(3)}
    },
    r"step 0 has 4 images and 5 labels; give each image one label": {"steps": pairs(4, 5)},
    r"step 0 is Tensor, but each step is a pair \(images, lab": {"steps": [shape(4, 1, 8, 8)] * 2},
    r"step 1 is tuple, but each step is a pair": {
        "steps": [*pairs(4, 4)[:1], (shape(4, 1, 8, 8), [0, 1])]
    },
    r"the higher engine runs sgd and momentum only, not Adam; use FullUnroll": {
        "adjoint": Higher(),
        "update": adam(),
    },
    r"the higher engine runs one net at a time, not stacked nets; use FullUnroll": {
        "adjoint": Higher(),
        "theta_0": {k: torch.stack([p, p]) for k, p in replaced().items()},
    },
    r"the higher engine does not carry BatchNorm buffers \(norm='track'\); use": {
        "adjoint": Higher(),
        "norm": "track",
    },
    r"the higher engine does not start from a given momentum; use": {
        "adjoint": Higher(),
        "update": momentum(0.9),
        "state": {"v": {k: p + 1 for k, p in replaced().items()}},
    },
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_unroll_refuses(sentence):
    with pytest.raises(UsageError, match=f"^{sentence}") as caught:
        call(**SENTENCES[sentence])
    assert "\n" not in str(caught.value)


def test_higher_refuses_hooks():
    problem = case("groupnorm", T=2)
    problem.net.conv1.register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(
        UsageError, match="the higher engine does not run forward hooks; use FullUnroll"
    ):
        call(problem, adjoint=Higher())


def test_higher_accepts_a_zero_momentum():
    problem = case("groupnorm", T=2)
    state = momentum(0.9).init(problem.theta_0())
    theta_T = call(problem, adjoint=Higher(), update=momentum(0.9), state=state)
    expected = call(problem, update=momentum(0.9))
    torch.testing.assert_close(theta_T, expected, rtol=1e-12, atol=1e-14)


CONSTRUCTORS = {
    r"window is 0, but it must be a whole number of steps, at least 1": lambda: Truncated(0),
    r"window is -3, but it must be": lambda: Truncated(-3),
    r"Truncated cannot run over Higher; use FullUnroll\(\) or StepReplay\(\)": lambda: Truncated(
        2, Higher()
    ),
    r"Truncated cannot run over Truncated; use": lambda: Truncated(2, Truncated(1)),
    r"beta is 1.0, but it must be at least 0 and below 1": lambda: momentum(1.0),
    r"beta1 is -0.1, but": lambda: adam(beta1=-0.1),
    r"beta2 is nan, but": lambda: adam(beta2=float("nan")),
    r"eps_root is -1e-12, but it must be 0 or more": lambda: adam(eps_root=-1e-12),
    r"weight_decay is inf, but it must be 0 or more": lambda: sgd(weight_decay=float("inf")),
    r"update rule 'sdg' is unknown; did you mean sgd\?": lambda: from_description({"name": "sdg"}),
    r"update rule sgd: .*beta": lambda: from_description({"name": "sgd", "beta": 0.9}),
}


@pytest.mark.parametrize("sentence", CONSTRUCTORS)
def test_constructors_refuse(sentence):
    with pytest.raises(UsageError, match=f"^{sentence}"):
        CONSTRUCTORS[sentence]()


@pytest.mark.parametrize(
    "rule", [sgd(0.1), momentum(0.9, True, 0.2), adam(0.8, 0.9, 1e-7, 1e-9)], ids=repr
)
def test_a_rule_survives_its_description(rule):
    assert from_description(describe(rule)) == rule


class Noisy(nn.Module):
    """Random numbers that are no nn.Dropout layer's."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        return self.head(F.dropout(x.flatten(1), 0.5, training=True))


def noisy(adjoint, **how):
    problem = case("groupnorm", T=2)
    net = Noisy().to(DTYPE)
    theta_0 = {
        "head.weight": torch.ones(4, 64, dtype=DTYPE),
        "head.bias": torch.zeros(4, dtype=DTYPE),
    }
    return call(problem, net=net, theta_0=theta_0, adjoint=adjoint, **how)["head.weight"]


@pytest.mark.parametrize("adjoint", [StepReplay(), Truncated(1, StepReplay())], ids=repr)
def test_a_replay_refuses_random_numbers_without_a_stream(adjoint):
    with pytest.raises(
        UsageError, match="drew random numbers, which a replay cannot repeat; pass stream=SEED"
    ):
        noisy(adjoint)
    torch.testing.assert_close(
        noisy(adjoint, stream=3), noisy(FullUnroll(), stream=3), rtol=1e-12, atol=0
    )


def test_a_replay_refuses_random_steps():
    problem = case("groupnorm", T=2)
    base = {k: problem.inputs[k] for k in ("images.0", "labels.0")}
    jitter = Steps(
        base, lambda b, t: (b["images.0"] + torch.randn(1, dtype=DTYPE), b["labels.0"]), 2
    )
    with pytest.raises(UsageError, match=r"Steps\.fn drew random numbers"):
        call(problem, steps=jitter, adjoint=StepReplay())


def test_a_replay_refuses_a_state_that_grows():
    class Growing:
        def init(self, theta):
            return {}

        def step(self, theta, grads, state, eta):
            return {k: p - eta * grads[k] for k, p in theta.items()}, {
                **state,
                str(len(state)): eta,
            }

    with pytest.raises(UsageError, match="state changes its structure"):
        call(update=Growing(), adjoint=StepReplay())
