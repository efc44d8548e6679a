"""A teacher: frozen to the bit, without a gradient, and an ensemble's means as they are defined."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rounding import assert_rounds_alike
from torch import nn

from datadistill.errors import UsageError
from kd_baselines.teachers import Teacher, TeacherOutputs


def net(seed=0, classes=3):
    """With everything that can move: BatchNorm, dropout, an activation in place."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(36, classes),
    ).double()
    made[1].running_mean.normal_()
    made[1].running_var.uniform_(0.5, 2.0)
    return made


def everything(*nets):
    """Bytes of all tensors, flags, modes, gradients and hooks."""
    tensors = [t.detach().clone() for n in nets for t in (*n.parameters(), *n.buffers())]
    rest = [
        [(p.requires_grad, p.grad) for n in nets for p in n.parameters()],
        [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
            for n in nets
            for m in n.modules()
        ],
    ]
    return tensors, rest


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True)) and a[1] == b[1]


@pytest.fixture
def images():
    return torch.randn(6, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


# --- frozen


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["eval", "batch_stats"])
@pytest.mark.parametrize("input_gradients", [False, True])
def test_nothing_of_the_nets_changes(images, mode, training, input_gradients):
    nets = [net(0).train(training), net(1).train(training)]
    nets[0][3].eval()  # a mode of its own
    nets[0][5].weight.requires_grad_(False)
    before, state = everything(*nets), torch.get_rng_state()
    teacher = Teacher(*nets, mode=mode)
    x = images.clone().requires_grad_(input_gradients)
    for _ in range(2):
        out = teacher.outputs(x, input_gradients=input_gradients)
        teacher(x)
    if input_gradients:
        out.logits.square().sum().backward()
        assert x.grad.abs().sum() > 0
    one = Teacher(nets[0], mode=mode)
    one.outputs(x, ["1", "2"], logits=False, input_gradients=input_gradients)
    with pytest.raises(RuntimeError):
        teacher.outputs(x[:, :, :2], input_gradients=input_gradients)  # smaller than the kernel
    assert same(everything(*nets), before) and torch.equal(torch.get_rng_state(), state)
    teacher.check()


def test_it_answers_in_evaluation_mode(images):
    made = net().train()
    out = Teacher(made).outputs(images, ["1", "0:in"])
    plain = copy.deepcopy(made).eval()
    assert torch.equal(out.logits, plain(images))
    # before the activation in place
    assert torch.equal(out.features["1"], plain[1](plain[0](images)))
    assert torch.equal(out.features["0:in"], images)
    # another batch size rounds differently: 18 products in the convolution, then 36 in the linear
    # layer
    assert_rounds_alike(Teacher(made)(images[:2]), out.logits[:2], terms=18 + 36)


def test_batch_statistics_are_the_batchs_with_dropout_off(images):
    made = net().train()
    out = Teacher(made, mode="batch_stats").outputs(images, ["1"])
    maps = made[0](images)
    mean, var = (
        maps.mean((0, 2, 3), keepdim=True),
        maps.var((0, 2, 3), unbiased=False, keepdim=True),
    )
    wanted = (maps - mean) / (var + made[1].eps).sqrt()
    torch.testing.assert_close(out.features["1"], wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        out.logits, made[5](wanted.relu().flatten(1)), rtol=1e-12, atol=1e-12
    )
    flat = Teacher(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(50).double()), mode="batch_stats")
    with pytest.raises(UsageError, match=r"batch_stats.*pass two images or more"):
        flat(images[:1])


def test_no_graph_unless_it_is_asked_for(images):
    made = net()
    teacher, x = Teacher(made), images.clone().requires_grad_()
    out = teacher.outputs(x, ["0"])
    assert (
        not out.logits.requires_grad
        and not out.features["0"].requires_grad
        and not out.at(3.0).requires_grad
    )
    with torch.no_grad():
        assert not teacher(x).requires_grad
    assert not teacher(images).requires_grad


@pytest.mark.parametrize(
    "call", [lambda t, x: t.outputs(x, input_gradients=True).logits, lambda t, x: t(x)]
)
@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_gradients_reach_the_images_and_no_weight(images, call, average):
    nets = [net(0), net(1)]
    teacher, x = Teacher(*nets, average=average), images[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: call(teacher, x), x)
    # no parameter is anywhere in the graph
    seen, todo = set(), [call(teacher, x).grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [child for child, _ in node.next_functions]
    leaves = [node.variable for node in seen if hasattr(node, "variable")]
    assert len(leaves) == 1 and leaves[0] is x


def test_jacobians_by_functional_transforms(images):
    teacher = Teacher(net())
    x = images[:1].clone().requires_grad_()
    rows = [torch.autograd.grad(teacher(x)[0, c], x)[0] for c in range(3)]
    found = torch.func.jacrev(teacher)(images[:1])
    torch.testing.assert_close(found[0, :, 0], torch.cat(rows), rtol=1e-12, atol=1e-12)


def test_index_and_view_are_for_caches(images):
    teacher = Teacher(net())
    out = teacher.outputs(images, index=torch.arange(6), view=3)
    assert torch.equal(out.logits, teacher(images))


# --- its features


def test_without_logits_nothing_after_the_layers_is_computed(images):
    made = net()
    called = []
    for module in made:
        module.register_forward_pre_hook(lambda m, _: called.append(type(m).__name__))
    teacher = Teacher(made)
    first = teacher.outputs(images, ["1"], logits=False)  # once whole, see below
    called.clear()
    again = teacher.outputs(images, ["1"], logits=False)
    assert called == ["Conv2d", "BatchNorm2d"] and again.logits is None and again.members is None
    assert torch.equal(first.features["1"], again.features["1"])
    called.clear()
    assert teacher.outputs(images, logits=False).features == {} and not called
    with pytest.raises(UsageError, match="logits were not computed"):
        again.at(1.0)


def test_a_layer_called_again_is_refused_where_the_forward_stops(images):
    relu = nn.ReLU()
    twice = nn.Sequential(nn.Flatten(), relu, nn.Linear(50, 3), relu).double()
    with pytest.raises(UsageError, match="'1' is called more than once"):
        Teacher(twice).outputs(images, ["1"], logits=False)
    with pytest.raises(UsageError, match="no layer '9'"):
        Teacher(twice).outputs(images, ["9"])


# --- ensembles


def softmax(v):
    e = np.exp(v - v.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("T", [0.5, 1.0, 4.0, 20.0])
def test_at_is_the_mean_of_the_softened_nets(T):
    members = 3 * torch.randn(
        4, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    each = softmax(members.numpy() / T)
    arithmetic = TeacherOutputs(members, average="arithmetic").at(T).numpy()
    np.testing.assert_allclose(softmax(arithmetic / T), each.mean(0), rtol=1e-12)
    geometric = TeacherOutputs(members, average="geometric").at(T).numpy()
    product = each.prod(0) ** (1 / 4)
    np.testing.assert_allclose(
        softmax(geometric / T), product / product.sum(-1, keepdims=True), rtol=1e-12
    )


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_equal_nets_are_one_net(images, average):
    one = net()
    teacher = Teacher(one, copy.deepcopy(one), copy.deepcopy(one), average=average)
    out, alone = teacher.outputs(images), Teacher(one)(images)
    # the logits themselves, for regression on them
    for v in (out.logits, out.at(0.1), out.at(20.0)):
        torch.testing.assert_close(v, alone, rtol=1e-12, atol=1e-12)
    assert out.members.shape == (3, 6, 3)


def test_one_net_gives_its_own_logits_at_every_temperature(images):
    made = net().eval()
    out = Teacher(made).outputs(images)
    assert torch.equal(out.logits, made(images)) and torch.equal(out.at(7.0), out.logits)


def test_logits_are_at_temperature_1_and_do_not_overflow():
    members = torch.tensor([[[1e4, 0.0, -1e4]], [[0.0, 1e4, 0.0]]])
    out = TeacherOutputs(members, average="arithmetic")
    assert torch.equal(out.logits, out.at(1.0)) and torch.isfinite(out.at(0.1)).all()
    torch.testing.assert_close(F.softmax(out.logits, 1), torch.tensor([[0.5, 0.5, 0.0]]))


# --- what it is made of


def test_its_hash_changes_by_one_ulp_of_one_buffer():
    made = net()
    first, again, other = Teacher(made), Teacher(copy.deepcopy(made)), Teacher(net(1))
    assert first.hash == again.hash != other.hash and first.hash.startswith("sha256:")
    held = first.hash
    made[1].running_var[2] = torch.nextafter(made[1].running_var[2], torch.tensor(9.0).double())
    assert Teacher(made).hash != held == first.hash
    with pytest.raises(
        UsageError, match=r"teacher has changed since it was made: 1\.running_var; .*deepcopy"
    ):
        first.check()
    again.check()


def test_its_hash_sees_names_dtypes_shapes_and_the_order_of_nets():
    a, b = net(0), net(1)
    hashes = {
        Teacher(*nets).hash for nets in ((a,), (b,), (a, b), (b, a), (a, a), (net(0).float(),))
    }
    assert len(hashes) == 6
    lines = (
        nn.Linear(2, 2, bias=False),
        nn.Linear(4, 1, bias=False),
        nn.Sequential(nn.Linear(2, 2, bias=False)),
    )
    for each in lines:
        nn.init.ones_(next(each.parameters()))
    assert len({Teacher(each).hash for each in lines}) == 3


def test_check_names_the_net_and_what_is_new():
    a, b = net(0), net(1)
    teacher = Teacher(a, b)
    torch.optim.SGD(b.parameters(), lr=0.1)  # an optimizer alone changes nothing
    teacher.check()
    with torch.no_grad():
        b[5].bias += 1
    b.register_buffer("new", torch.zeros(1))
    with pytest.raises(UsageError, match=r"net 1: 5\.bias, net 1: new;"):
        teacher.check()


def test_to_the_device_it_is_on_is_itself():
    teacher = Teacher(net())
    assert teacher.to("cpu") is teacher and teacher.to(torch.device("cpu")) is teacher


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_to_another_device_it_is_a_copy_and_the_nets_stay(images):
    made = net()
    teacher = Teacher(made, average="geometric", mode="batch_stats")
    moved = teacher.to("cuda")
    assert (moved.average, moved.mode, moved.hash) == ("geometric", "batch_stats", teacher.hash)
    assert made[0].weight.device.type == "cpu" and moved.to("cuda") is moved
    torch.testing.assert_close(moved(images.cuda()).cpu(), teacher(images))


# --- bad input


REFUSED = [
    (lambda x: Teacher(), "no net"),
    (lambda x: Teacher(lambda x: x), "is a function"),
    (
        lambda x: Teacher(net(), average="aritmetic"),
        "no average 'aritmetic'; did you mean arithmetic",
    ),
    (lambda x: Teacher(net(), mode="train"), "no mode 'train'"),
    (
        lambda x: Teacher(net(0), net(1, classes=4))(x),
        r"\(6, 3\), \(6, 4\) of 6 images.*same classes",
    ),
    (lambda x: Teacher(net()[:1])(x), r"\(6, 4, 3, 3\) of 6 images, wanted logits"),
    (lambda x: Teacher(net(0), net(1)).outputs(x, ["1"]), "ensemble of 2 nets"),
    (lambda x: Teacher(net()).outputs(x, input_gradients=True), "images do not require a gradient"),
    *(
        (lambda x, T=T: TeacherOutputs(torch.zeros(1, 2, 3)).at(T), r"temperature is .*above 0")
        for T in (0.0, -1.0, float("nan"), float("inf"))
    ),
]


@pytest.mark.parametrize(("call", "pattern"), REFUSED, ids=[pattern for _, pattern in REFUSED])
def test_what_is_no_teacher_is_refused(images, call, pattern):
    with pytest.raises(UsageError, match=pattern):
        call(images)
