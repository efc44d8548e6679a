"""Deep mutual learning: the losses of the nets in numpy, whose gradient is whose, and the peers."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, normal, smooth_conv
from scipy.special import softmax
from scipy.stats import entropy
from torch import nn

import kd_baselines as kd
from datadistill import FitPlan
from datadistill.errors import UsageError
from kd_baselines.losses import DeepMutual, mutual_loss
from kd_baselines.stage_loop import stage_fit

LOGITS = [3 * normal(4, 5, seed=seed) for seed in range(3)]
X, Y = normal(6, 1, 4, 4), torch.arange(6) % 3


def test_the_divergences_in_numpy():
    p = [softmax(z.numpy(), 1) for z in LOGITS]
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    wanted = sum(np.mean(entropy(p[a], p[b], axis=1)) for a, b in pairs) / 2
    close(mutual_loss(LOGITS), torch.as_tensor(wanted), 1e-10)


def test_the_gradient_of_a_net_is_that_of_its_own_loss():
    """p_k minus the mean of the others' probabilities, over B."""
    leaves = [z.clone().requires_grad_() for z in LOGITS]
    mutual_loss(leaves).backward()
    p = [z.softmax(1) for z in LOGITS]
    for k in range(3):
        others = (sum(p) - p[k]) / 2
        close(leaves[k].grad, (p[k] - others) / 4, 1e-10, 1e-14)


def distiller(**given):
    student = smooth_conv(0)
    objective = kd.CE() + DeepMutual(**given)
    return student, kd.Distiller(student, objective, sample=(X, Y))


def test_the_term_is_the_rest_of_all_losses():
    student, made = distiller(nets=[smooth_conv(1), smooth_conv(2)])
    found = made.step((X, Y))["loss"]
    logits = [student(X), smooth_conv(1)(X), smooth_conv(2)(X)]
    wanted = sum(F.cross_entropy(z, Y) for z in logits) + mutual_loss(logits)
    close(found, wanted)
    found.backward()
    assert all(p.grad.abs().max() > 0 for p in made.parameters())


def test_peers_are_nets_like_the_student_with_weights_of_their_own():
    student, made = distiller(peers=2)
    nets = [student, *made.objective.terms[1].nets]
    assert len(nets) == 3 and made.objective.terms[1].nets.training
    names = [name for name, _ in student.named_parameters()]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        for name in names:
            one, other = nets[a].get_parameter(name), nets[b].get_parameter(name)
            assert one.shape == other.shape and not torch.equal(one, other)
    again = distiller(peers=2)[1].objective.terms[1].nets
    assert torch.equal(again[1][0].weight, nets[2][0].weight)


def test_peers_train_with_the_student_and_resume_where_they_were():
    split = kd.splits.as_split((X.float(), Y))
    plan = FitPlan(epochs=3, batch=2, lr=0.1)

    def start():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
        stage = kd.Stage("s", kd.CE() + DeepMutual(), plan)
        return stage_fit(net, stage, None, split, 0, 0, {})

    straight, stopped, resumed = start(), start(), start()
    first = {name: value.detach().clone() for name, value in straight.tensors.items()}
    for _ in range(4):
        stopped.advance()
    resumed.load(copy.deepcopy(stopped.state()))
    while not straight.is_done:
        straight.advance()
    while not resumed.is_done:
        resumed.advance()
    for name, value in straight.tensors.items():
        assert torch.equal(value, resumed.tensors[name]), name
        assert "weight" not in name or not torch.equal(value, first[name]), name


REFUSED = [
    (lambda: mutual_loss(LOGITS[:1]), "got logits of 1 nets; give a list of the logits of 2"),
    (lambda: mutual_loss(LOGITS[0]), "got one tensor"),
    (lambda: mutual_loss([LOGITS[0], LOGITS[1][:, :2]]), "the student has 5 classes, the teacher"),
    (lambda: DeepMutual(peers=0), "peers is 0"),
    (lambda: distiller(init="xavir"), "xavier"),
    (lambda: DeepMutual()(kd.losses.Seen(X, Y, LOGITS[0])), "call prepare(seen) once before"),
]


@pytest.mark.parametrize("call, sentence", REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(UsageError) as refused:
        call()
    assert sentence in str(refused.value)
