"""Nets of the user's own: the result of an ordinary torch loop in float64, whatever they do in
their pass."""

import copy

import pytest
import torch
import torch.nn.functional as F
from foreign_nets import (
    FULL,
    IMAGES,
    LABELS,
    NETS,
    Flat,
    cubes,
    made,
    ours,
    state_of,
    theta_of,
    theta_T_of,
    torch_loop,
)
from torch import nn

from datadistill.errors import UsageError
from datadistill.innerloop import FullUnroll, Higher, StepReplay, unroll


@pytest.mark.parametrize("name", NETS)
def test_steps_are_those_of_an_ordinary_loop(name):
    wanted = state_of(torch_loop(made(name)))
    for norm in ("batch", "track"):
        net = made(name)
        found = ours(net, theta_of(net), norm=norm)
        assert set(theta_of(net)) <= set(found)
        for k, value in found.items():
            torch.testing.assert_close(
                value.detach(), wanted[k].detach(), rtol=1e-9, atol=1e-11, msg=k
            )


@pytest.mark.parametrize("name", NETS)
def test_nothing_of_the_pass_stays_in_the_net(name):
    net = made(name)
    before = [(m, dict(m.__dict__), m.training) for m in net.modules()]
    values = {k: x.detach().clone() for k, x in state_of(net).items()}
    seen = list(getattr(net, "seen", []))
    images = IMAGES.clone()
    ours(net, theta_of(net), images, StepReplay())
    for k, x in state_of(net).items():
        assert torch.equal(x, values[k]), k
    for m, attributes, training in before:
        assert m.training == training
        assert all(m.__dict__[k].grad_fn is None for k in m.__dict__.keys() - attributes.keys())
        assert all(m.__dict__[k] is v for k, v in attributes.items())
    assert getattr(net, "seen", []) == seen
    assert torch.equal(images, IMAGES)


# state that no step is given
OF_THEIR_OWN = {"counter in Python", "buffer written later", "hidden state"}


@pytest.mark.parametrize("name", sorted(OF_THEIR_OWN))
def test_a_state_that_no_step_is_given_is_not_replayed(name):
    images = IMAGES.clone().requires_grad_()
    with pytest.raises(UsageError, match="came out otherwise"):
        cubes(theta_T_of(made(name), images, StepReplay())).backward()


@pytest.mark.parametrize("name", sorted(NETS.keys() - OF_THEIR_OWN))
def test_replayed_gradients_are_those_of_the_full_unroll(name):
    gradients = []
    for adjoint in (FullUnroll(), StepReplay()):
        net, images = made(name), IMAGES.clone().requires_grad_()
        theta_T = theta_T_of(net, images, adjoint)
        gradients += torch.autograd.grad(cubes(theta_T), images)
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-11)
    assert float(gradients[0].norm()) > 1e-6


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint, reentrant", "checkpoint_sequential"])
def test_hypergradients_through_checkpoints_are_the_plain_nets(name):
    plain, gradients = Flat().double(), []
    plain.load_state_dict(made(name).state_dict())
    for net in (plain, made(name)):
        images = IMAGES.clone().requires_grad_()
        found = ours(net, theta_of(net), images)
        gradients += torch.autograd.grad(cubes(found), images)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_checkpointing_is_back_after_a_pass():
    import torch.utils.checkpoint as module

    before = dict(vars(module))
    net = made("checkpoint")
    ours(net, theta_of(net))
    assert all(vars(module)[k] is v for k, v in before.items())


@pytest.mark.parametrize("name", NETS)
def test_stacked_nets_train_as_each_alone(name):
    net, thetas = made(name), [theta_of(made(name, seed)) for seed in range(3)]
    alone = [ours(net, theta) for theta in thetas]
    together = ours(net, {k: torch.stack([theta[k] for theta in thetas]) for k in thetas[0]})
    assert together.keys() == alone[0].keys()
    for k, value in together.items():
        wanted = torch.stack([one[k] for one in alone])
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-11, msg=k)


@pytest.mark.parametrize(
    "name", ["checkpoint", "checkpoint, BatchNorm", "weight_norm", "frozen BatchNorm"]
)
def test_higher_takes_the_same_steps(name):
    gradients = []
    for adjoint in (FULL, Higher()):
        images = IMAGES.clone().requires_grad_()
        theta_T = theta_T_of(made(name), images, adjoint)
        gradients += torch.autograd.grad(cubes(theta_T), images)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_a_compiled_net_runs_eagerly_in_the_loop():
    inside = made("keeps tensors")
    net = torch.compile(inside, backend="aot_eager")
    images = IMAGES.clone().requires_grad_()
    plain = IMAGES.clone().requires_grad_()
    found = torch.autograd.grad(cubes(theta_T_of(net, images)), images)[0]
    wanted = torch.autograd.grad(cubes(theta_T_of(inside, plain)), plain)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_inference_mode_trains_as_without_gradients():
    net = copy.deepcopy(made("InstanceNorm"))
    wanted = ours(net, theta_of(net))
    with torch.inference_mode():
        inference = made("InstanceNorm")
        found = ours(inference, theta_of(inference), IMAGES * 1)
    for k, value in found.items():
        assert not value.requires_grad
        torch.testing.assert_close(value, wanted[k].detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_labels_of_every_integer_type_are_classes(dtype):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    found, wanted = (
        unroll(net, theta_of(net), [(IMAGES.float(), y)], torch.full((1,), 0.1))
        for y in (LABELS.to(dtype), LABELS)
    )
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_one_hot_integers_are_probabilities():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    hot = F.one_hot(LABELS, 3)
    found, wanted = (
        unroll(net, theta_of(net), [(IMAGES.float(), y)], torch.full((1,), 0.1))
        for y in (hot, hot.float())
    )
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)
