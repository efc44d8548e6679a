"""`DistilledDataset.train`: a plain loop in the set's own order and step sizes, from the right
start."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from distilled_cases import CONVNET, MLP, K, distilled
from torch import nn

import datadistill as dd
from datadistill.errors import UsageError
from datadistill.innerloop import momentum, sgd
from datadistill.nets import build
from datadistill.nets.spec import NetSpec


@pytest.fixture(autouse=True)
def no_warning_unless_it_is_asked_for():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def net_for(d, seed):
    net = d.net.build()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=g))
    return net


def values(net):
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for k in a:
        assert torch.equal(a[k], b[k]), k


def plain_loop(d, net, **options):
    """The textbook loop: torch's SGD, one parameter group a tensor, its rate set before each
    step."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD([{"params": [p]} for p in net.parameters()], lr=1.0, **options)
    for t, index in enumerate(d.order):
        rates = d.step_sizes[t].expand(len(optimizer.param_groups)).tolist()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        optimizer.zero_grad()
        F.cross_entropy(net(d.images[index]), d.labels[index]).backward()
        optimizer.step()
    return values(net)


RULES = {
    "sgd": (sgd(), {}),
    "sgd with weight decay": (sgd(weight_decay=0.1), {"weight_decay": 0.1}),
    "momentum": (momentum(0.9), {"momentum": 0.9}),
    "nesterov": (
        momentum(0.8, nesterov=True, weight_decay=0.05),
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
    ),
}


@pytest.mark.parametrize(("rule", "options"), RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize(
    "kind", [{}, {"soft": True, "per_tensor": True}], ids=["hard, (T,)", "soft, (T, P)"]
)
def test_it_is_a_plain_loop(rule, options, kind):
    d = distilled(update=rule, **kind)
    net = net_for(d, 1)
    expected = plain_loop(d, net, **options)
    torch.testing.assert_close(values(d.train(net)), expected, rtol=1e-4, atol=1e-6)
    assert max(float((expected[k] - v).abs().max()) for k, v in values(net).items()) > 0.05


def test_the_order_of_the_steps_counts():
    d = distilled()
    net = net_for(d, 1)
    d.order = d.order[::-1]
    reversed_ = values(d.train(net))
    d.order = d.order[::-1]
    assert not torch.allclose(
        values(d.train(net))["layers.0.weight"], reversed_["layers.0.weight"], atol=1e-4
    )


def test_hard_labels_are_soft_labels_of_certainty():
    d = distilled()
    hard = values(d.train(net_for(d, 1)))
    d.labels = F.one_hot(d.labels, K).float()
    torch.testing.assert_close(values(d.train(net_for(d, 1))), hard)


@pytest.mark.parametrize("fixed", [False, True])
def test_the_net_passed_is_never_changed(fixed):
    d = distilled(fixed=fixed, net=CONVNET)
    net = net_for(d, 1)
    net.features[0].eval()  # a mixture of flags
    next(net.parameters()).grad = torch.ones_like(next(net.parameters()))
    before, flags = values(net), [m.training for m in net.modules()]
    trained = d.train(net)
    assert trained is not net
    assert_equal(values(net), before)
    assert [m.training for m in net.modules()] == flags
    assert torch.equal(next(net.parameters()).grad, torch.ones_like(next(net.parameters())))
    assert all(p.grad is None and p.requires_grad for p in trained.parameters())
    assert not {p.data_ptr() for p in net.parameters()} & {
        p.data_ptr() for p in trained.parameters()
    }


# --- where it starts


def test_a_fixed_set_starts_from_its_own_theta_0():
    d = distilled(fixed=True)
    results = [values(d.train()), values(d.train(net_for(d, 1))), values(d.train(net_for(d, 2)))]
    own = d.net.build()
    own.load_state_dict(d.theta_0)
    torch.testing.assert_close(results[0], plain_loop(d, own), rtol=1e-4, atol=1e-6)
    assert_equal(results[0], results[1])
    assert_equal(results[0], results[2])


def test_a_fixed_set_from_another_start_says_so():
    d = distilled(fixed=True)
    other = {k: p + 0.1 for k, p in d.theta_0.items()}
    with pytest.warns(
        UserWarning, match="learned for one fixed initialization, and the net starts from another"
    ):
        trained = d.train(theta_0=other)
    own = d.net.build()
    own.load_state_dict(other)
    torch.testing.assert_close(values(trained), plain_loop(d, own), rtol=1e-4, atol=1e-6)
    d.train(theta_0={k: p.clone() for k, p in d.theta_0.items()})  # its own values: no warning


def test_a_fixed_set_on_another_architecture_says_so():
    d = distilled(fixed=True)
    with pytest.warns(UserWarning, match="one fixed initialization"):
        d.train(build("mlp", channels=1, size=6, classes=K, width=7, depth=1))


def test_a_random_set_starts_from_the_net_or_a_fresh_draw():
    d = distilled()
    net = net_for(d, 1)
    torch.testing.assert_close(values(d.train(net)), plain_loop(d, net), rtol=1e-4, atol=1e-6)
    assert_equal(values(d.train()), values(d.train(seed=0)))
    assert not torch.equal(d.train().layers[0].weight, d.train(seed=1).layers[0].weight)


def test_tensors_absent_from_theta_0_and_frozen_ones_stay():
    d = distilled(per_tensor=True)
    net = net_for(d, 1)
    head = {k: p.detach() for k, p in net.named_parameters() if k.startswith("layers.2")}
    trained = d.train(net, head)
    assert torch.equal(trained.layers[0].weight, net.layers[0].weight)
    net.layers[0].requires_grad_(False)
    assert_equal(values(d.train(net)), values(trained))
    assert not torch.equal(trained.layers[2].weight, net.layers[2].weight)


def test_a_custom_module_is_needed_where_the_set_had_one():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, K))
    d = distilled(net=NetSpec("custom", {}), module=net)
    with pytest.raises(UsageError, match="pass it as net="):
        d.train()
    torch.testing.assert_close(values(d.train(net)), plain_loop(d, net), rtol=1e-4, atol=1e-6)


def test_theta_0_that_does_not_fit_is_refused():
    d = distilled()
    with pytest.raises(UsageError, match=r"theta_0 has 'layer\.0\.weight'.*layers\.0\.weight"):
        d.train(theta_0={"layer.0.weight": torch.zeros(5, 36)})
    with pytest.raises(UsageError, match="theta_0 is empty"):
        d.train(theta_0={})


# --- step sizes of another net


def test_step_sizes_for_each_tensor_go_by_name():
    d = distilled(per_tensor=True)
    net = net_for(d, 1)
    backwards = dict(reversed([(k, p.detach()) for k, p in net.named_parameters()]))
    assert list(backwards) != list(d.tensors)
    assert_equal(values(d.train(net, backwards)), values(d.train(net)))


def test_step_sizes_of_another_net_become_geometric_means():
    d = distilled(per_tensor=True)
    other = nn.Sequential(nn.Flatten(), nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, K))
    with pytest.warns(UserWarning, match="geometric mean"):
        trained = values(d.train(other))
    # by hand: the P-th root of the product
    d.step_sizes = d.step_sizes.double().prod(1).pow(1 / 4).float()
    torch.testing.assert_close(trained, plain_loop(d, other), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tensors", [None, tuple(k for k, _ in MLP.build().named_parameters())])
def test_one_step_size_a_step_fits_every_net(tensors):
    d = distilled()
    d.tensors = tensors  # a run notes the names of its net whatever the form of its step sizes
    other = build("mlp", channels=1, size=6, classes=K, width=3, depth=2)
    torch.testing.assert_close(values(d.train(other)), plain_loop(d, other), rtol=1e-4, atol=1e-6)


# --- BatchNorm


def accuracy(net, split):
    with torch.no_grad():
        return 100 * float((net(split.images).argmax(1) == split.labels).double().mean())


def test_batchnorm_buffers_are_estimated_anew():
    """Real digits as a distilled set: in evaluation mode the net is as good as with batch
    statistics."""
    data = dd.load("digits")
    chosen = torch.cat([(data.train.labels == k).nonzero()[:20, 0] for k in range(10)])
    chosen = chosen.view(10, 20).T.flatten()  # every step sees each class
    spec = NetSpec(
        "convnet",
        {"channels": 1, "size": 8, "classes": 10, "depth": 3, "width": 16, "norm": "batch"},
    )
    index = torch.arange(200)
    d = dd.DistilledDataset(
        data.train.images[chosen],
        data.train.labels[chosen],
        torch.full((32,), 0.3),
        list(index.split(50)) * 8,
        classes=data.classes,
        normalization=data.normalization,
        net=spec,
        update=sgd(),
    )
    assert d.passes == 8
    trained = d.train()
    evaluated = accuracy(trained.eval(), data.test)
    by_batch = accuracy(copy.deepcopy(trained).train(), data.test)
    stale = copy.deepcopy(trained)
    for name, buffer in d.net.build().named_buffers():
        stale.get_buffer(name).copy_(buffer)
    assert evaluated > 70
    assert abs(evaluated - by_batch) < 4
    assert accuracy(stale.eval(), data.test) < evaluated - 40


def test_frozen_statistics_stay_as_they_are():
    d = distilled(net=CONVNET, norm="frozen")
    net = net_for(d, 1)
    net.features[1].running_mean += 0.3
    trained = d.train(net)
    assert torch.equal(trained.features[1].running_mean, net.features[1].running_mean)
    torch.testing.assert_close(
        trained.features[0].weight, _frozen_loop(d, net), rtol=1e-4, atol=1e-6
    )


def _frozen_loop(d, net):
    net = copy.deepcopy(net).eval()
    return nn.Parameter(plain_loop(d, net)["features.0.weight"])


@pytest.mark.parametrize(
    ("order", "passes"),
    [
        ([0, 1, 0, 1], 2),
        ([0, 0, 0], 3),
        ([0, 1, 2], 1),
        ([0, 1, 0], 1),
        ([0], 1),
        ([0, 1, 1, 0, 1, 1], 2),
    ],
)
def test_passes_counts_the_repetitions_of_the_order(order, passes):
    d = distilled()
    d.order = [torch.tensor([2 * i, 2 * i + 1]) for i in order]
    assert d.passes == passes


# --- the other views of a set


def test_normalization_prepares_the_users_own_images():
    d = distilled()
    images = torch.randint(0, 256, (3, 1, 6, 6), dtype=torch.uint8)
    torch.testing.assert_close(d.normalization(images), (images / 255 - 0.25) / 0.5)
    torch.testing.assert_close(d.normalization.inverse(d.normalization(images)), images / 255)
    assert d.train().eval()(d.normalization(images)).shape == (3, K)


def test_pixels_span_0_to_1_in_every_image():
    d = distilled()
    d.images[3] = 2.5  # an image of one value
    pixels = d.pixels()
    assert pixels.shape == d.images.shape
    assert torch.equal(pixels[3], torch.zeros(1, 6, 6))
    rest = [i for i in range(8) if i != 3]
    assert torch.equal(pixels.amin((1, 2, 3)), torch.zeros(8))
    torch.testing.assert_close(pixels[rest].amax((1, 2, 3)), torch.ones(7))
    assert torch.equal(pixels[0].flatten().argsort(), d.images[0].flatten().argsort())


def test_as_tensor_dataset():
    d = distilled(soft=True)
    dataset = d.as_tensor_dataset()
    assert len(dataset) == 8
    image, label = dataset[5]
    assert torch.equal(image, d.images[5])
    assert torch.equal(label, d.labels[5])


def test_steps_are_the_pairs_in_order():
    d = distilled()
    steps = d.steps()
    assert len(steps) == 4
    assert torch.equal(steps[1][0], d.images[4:8])
    assert torch.equal(steps[2][1], d.labels[0:4])


def test_what_it_says_of_itself():
    said = (
        "DistilledDataset(8 images 1x6x6, 4 classes, 4 steps, its own fixed initialization of mlp)"
    )
    assert repr(distilled(fixed=True)) == said
