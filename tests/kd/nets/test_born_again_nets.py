"""DenseNet-BC, pre-activation ResNet and the residual net in a DenseNet's place: counts, shapes,
formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from datadistill.nets import build
from kd_baselines.nets import DenseNet, DenseResidualNet, PreResNet, WideResNet, parameters
from kd_baselines.nets.densenet import DensePlan

BAN = {"depth": 90, "growth": 60, "last_transition": True}


def on_meta(make, **args):
    with torch.device("meta"):
        return make(**args)


def count(make, **args):
    return parameters(on_meta(make, **{"channels": 3, "size": 32, "classes": 10, **args}))


def outputs(net, names, size=32):
    """Shapes (C, H) of the outputs of some modules, for one image of three channels."""
    found = {}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: found.update({name: tuple(out.shape[1:3])})
        )
    net.eval()(torch.zeros(1, 3, size, size))
    return found


# --- DenseNet


def dense_count(depth, growth, classes, compression=0.5, first=0, last_transition=False):
    """Number of parameters by summing the arithmetic series of a block: no net is built."""
    n, k = (depth - 4) // 6, growth
    h = first or 2 * k
    total = 27 * h
    for block in range(3):
        read = n * h + k * n * (n - 1) // 2  # channels that all layers of the block read
        total += read * (2 + 4 * k) + n * (8 * k + 36 * k * k)
        made = h + n * k
        if block < 2 or last_transition:
            h = math.floor(compression * made)
            total += made * (2 + h)
        else:
            h = made
    return total + 2 * h + (h + 1) * classes


@pytest.mark.parametrize(
    "args",
    [
        {"depth": 10, "growth": 1},
        {"depth": 22, "growth": 5, "compression": 0.7},
        {"depth": 100, "growth": 12},
        {"depth": 112, "growth": 33},
        {"depth": 46, "growth": 120, "first": 120, "last_transition": True},
        BAN,
    ],
    ids=str,
)
def test_a_densenet_has_the_parameters_of_its_formula(args):
    for classes in (10, 100):
        assert count(DenseNet, classes=classes, **args) == dense_count(classes=classes, **args)


@pytest.mark.parametrize(
    ("depth", "growth", "millions"), [(100, 12, 0.8), (250, 24, 15.3), (190, 40, 25.6)]
)
def test_huangs_nets_have_the_printed_counts(depth, growth, millions):
    assert round(dense_count(depth, growth, 10) / 1e6, 1) == millions
    assert round(count(DenseNet, depth=100, growth=12) / 1e6, 1) == 0.8


def test_what_the_docstring_says_of_the_born_again_counts():
    def millions(*args, **more):
        return round(dense_count(*args, **more) / 1e6, 1)

    nets = [(112, 33), (90, 60), (80, 80), (80, 120)]
    assert [millions(*net, 10) for net in nets] == [6.9, 15.1, 20.9, 47.0]
    assert [millions(*net, 10, last_transition=True) for net in nets] == [7.4, 16.2, 22.4, 50.4]
    assert millions(106, 33, 10) == 6.3
    same_hidden = {"first": 120, "last_transition": True}
    depths = [(46, 120), (172, 30), (256, 20), (340, 15)]
    assert [millions(*net, 100, **same_hidden) for net in depths] == [21.3, 13.7, 13.0, 12.6]
    shares = [0.25, 0.375, 0.75]
    assert [millions(90, 60, 100, compression=c, last_transition=True) for c in shares] == [
        12.4,
        14.1,
        21.9,
    ]


def test_nets_of_other_depth_have_the_same_hidden_channels():
    wanted = DensePlan(**BAN)
    assert (wanted.conv1, wanted.hidden) == (120, (480, 660, 750))
    for depth, growth in [(46, 120), (172, 30), (256, 20), (340, 15)]:
        plan = DensePlan(depth, growth, first=120, last_transition=True)
        assert (plan.conv1, plan.blocks, plan.hidden) == (120, wanted.blocks, wanted.hidden)
        assert plan.layers * growth == 14 * 60


def test_blocks_and_transitions_have_the_planned_shapes():
    names = [
        "conv1",
        "block1",
        "transition1",
        "block2",
        "transition2",
        "block3",
        "transition3",
        "norm",
    ]
    for last in (False, True):
        plan = DensePlan(22, 5, last_transition=last)
        net = DenseNet(depth=22, growth=5, last_transition=last)
        (b1, b2, b3), (h1, h2, h3) = plan.blocks, plan.hidden
        assert outputs(net, names) == {
            "conv1": (10, 32),
            "block1": (b1, 32),
            "transition1": (h1, 16),
            "block2": (b2, 16),
            "transition2": (h2, 8),
            "block3": (b3, 8),
            "transition3": (h3, 8),
            "norm": (h3, 8),
        }
        assert (b1, h1, b2, h2, b3) == (25, 12, 27, 13, 28) and h3 == (14 if last else 28)


def filled(make, **args):
    """A net in double precision whose tensors, statistics too, are drawn; and those tensors."""
    net = make(**args).double().eval()
    generator = torch.Generator().manual_seed(0)
    theta = {
        key: torch.rand(value.shape, generator=generator, dtype=torch.float64)
        - (0.5 if value.ndim > 1 else 0)
        for key, value in net.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    net.load_state_dict(theta, strict=False)
    return net, theta, torch.rand(2, 3, 8, 8, generator=generator, dtype=torch.float64)


def active(theta, h, key):
    statistics = theta[f"{key}.running_mean"], theta[f"{key}.running_var"]
    return F.relu(F.batch_norm(h, *statistics, theta[f"{key}.weight"], theta[f"{key}.bias"]))


def head(theta, h):
    pooled = active(theta, h, "norm").mean((2, 3))
    return F.linear(pooled, theta["classifier.weight"], theta["classifier.bias"])


@pytest.mark.parametrize("last", [False, True])
def test_a_densenet_is_what_its_formula_says(last):
    net, theta, images = filled(
        DenseNet, size=8, classes=5, depth=16, growth=3, last_transition=last
    )
    h = F.conv2d(images, theta["conv1.weight"], padding=1)
    for b in (1, 2, 3):
        made = [h]
        for layer in (f"block{b}.0", f"block{b}.1"):
            a = F.conv2d(
                active(theta, torch.cat(made, 1), f"{layer}.norm1"), theta[f"{layer}.conv1.weight"]
            )
            made.append(
                F.conv2d(
                    active(theta, a, f"{layer}.norm2"), theta[f"{layer}.conv2.weight"], padding=1
                )
            )
        h = torch.cat(made, 1)
        if b < 3 or last:
            h = F.conv2d(
                active(theta, h, f"transition{b}.norm"), theta[f"transition{b}.conv.weight"]
            )
        h = F.avg_pool2d(h, 2) if b < 3 else h
    torch.testing.assert_close(net(images), head(theta, h))


# --- pre-activation ResNet


def unit_by_hand(theta, h, key, stride):
    kernels = [
        theta[f"{key}.convs.{i}.weight"] for i in range(3) if f"{key}.convs.{i}.weight" in theta
    ]
    strided = [k.shape[-1] for k in kernels].index(3)
    a = active(theta, h, f"{key}.norms.0")
    shortcut = theta.get(f"{key}.shortcut.weight")
    beside = h if shortcut is None else F.conv2d(a, shortcut, stride=stride)
    for i, kernel in enumerate(kernels):
        step = stride if i == strided else 1
        a = F.conv2d(
            a if i == 0 else active(theta, a, f"{key}.norms.{i}"),
            kernel,
            None,
            step,
            kernel.shape[-1] // 2,
        )
    return beside + a


@pytest.mark.parametrize(("kind", "depth"), [("bottleneck", 20), ("basic", 14)])
def test_a_pre_activation_resnet_is_what_its_formula_says(kind, depth):
    net, theta, images = filled(PreResNet, size=8, classes=5, depth=depth, widen=0.25, kind=kind)
    h = F.conv2d(images, theta["conv1.weight"], padding=1)
    for group, stride in [(1, 1), (2, 2), (3, 2)]:
        h = unit_by_hand(
            theta, unit_by_hand(theta, h, f"group{group}.0", stride), f"group{group}.1", 1
        )
    torch.testing.assert_close(net(images), head(theta, h))


@pytest.mark.parametrize(
    ("depth", "kind", "millions"),
    [(164, "bottleneck", 1.7), (1001, "bottleneck", 10.3), (110, "basic", 1.7)],
)
def test_hes_nets_have_their_counts(depth, kind, millions):
    """In closed form: n units a group; the first of each projects."""
    n = (depth - 2) // (9 if kind == "bottleneck" else 6)
    inputs, total = 16, 27 * 16
    for w in (16, 32, 64):
        out = 4 * w if kind == "bottleneck" else w
        # all convolutions but the first
        inside = 9 * w * w + (w * out if kind == "bottleneck" else 0)
        # weights of the first convolution, an input channel
        reads = w if kind == "bottleneck" else 9 * w
        norms = 2 * w * (2 if kind == "bottleneck" else 1)
        total += n * (inside + norms) + (inputs + (n - 1) * out) * (reads + 2)
        total += inputs * out if inputs != out else 0
        inputs = out
    total += 2 * inputs + 10 * (inputs + 1)
    assert count(PreResNet, depth=depth, kind=kind) == total
    assert round(total / 1e6, 1) == millions


def test_a_wide_resnet_is_what_its_formula_says():
    net, theta, images = filled(WideResNet, channels=3, size=8, classes=5, depth=16, widen=2)
    h = F.conv2d(images, theta["conv1.weight"], padding=1)
    for group, stride in [("group1", 1), ("group2", 2), ("group3", 2)]:
        for block, step in [(f"{group}.0", stride), (f"{group}.1", 1)]:
            a = active(theta, h, f"{block}.norm1")
            inside = F.conv2d(a, theta[f"{block}.conv1.weight"], stride=step, padding=1)
            inside = F.conv2d(
                active(theta, inside, f"{block}.norm2"), theta[f"{block}.conv2.weight"], padding=1
            )
            projected = f"{block}.shortcut.weight"  # widened: in the first block of every group
            assert (projected in theta) == block.endswith(".0")
            h = inside + (F.conv2d(a, theta[projected], stride=step) if projected in theta else h)
    torch.testing.assert_close(net(images), head(theta, h))


# --- the residual net in a DenseNet's place


@pytest.mark.parametrize(
    "args",
    [BAN, {"depth": 22, "growth": 5}, {"depth": 22, "growth": 5, "first": 7, "compression": 0.7}],
    ids=str,
)
@pytest.mark.parametrize(("kind", "ratio"), [("wide", 1.0), ("bottleneck", 0.5)])
def test_first_and_last_layer_can_be_the_densenets(args, kind, ratio):
    teacher = on_meta(DenseNet, classes=100, **args).state_dict()
    student = on_meta(
        DenseResidualNet, classes=100, units=2, ratio=ratio, kind=kind, **args
    ).state_dict()
    shared = ["conv1.weight", "classifier.weight", "classifier.bias"]
    assert {key: student[key].shape for key in shared} == {
        key: teacher[key].shape for key in shared
    }


@pytest.mark.parametrize(
    ("kind", "ratio"), [("wide", 0.5), ("bottleneck", 1.0), ("bottleneck", 0.5)]
)
def test_maps_behind_transitions_are_as_the_densenets(kind, ratio):
    args = {"depth": 22, "growth": 8, "last_transition": True}
    names = ["conv1", "transition1", "transition2", "transition3", "norm"]
    student = DenseResidualNet(units=3, ratio=ratio, kind=kind, **args)
    assert outputs(student, names) == outputs(DenseNet(**args), names)
    plan = DensePlan(**args)
    blocks = outputs(student, ["block1", "block2", "block3"])
    assert [c for c, _ in blocks.values()] == [round(ratio * h) for h in plan.hidden]
    assert all(len(getattr(student, f"block{i}")) == 3 for i in (1, 2, 3))


@pytest.mark.parametrize("kind", ["wide", "bottleneck"])
def test_the_residual_net_is_what_its_formula_says(kind):
    args = {"depth": 16, "growth": 3, "units": 2, "ratio": 0.5, "kind": kind}
    net, theta, images = filled(DenseResidualNet, size=8, classes=5, **args)
    h = F.conv2d(images, theta["conv1.weight"], padding=1)
    for b in (1, 2, 3):
        h = unit_by_hand(theta, unit_by_hand(theta, h, f"block{b}.0", 1), f"block{b}.1", 1)
        h = F.conv2d(active(theta, h, f"transition{b}.norm"), theta[f"transition{b}.conv.weight"])
        h = F.avg_pool2d(h, 2) if b < 3 else h
    torch.testing.assert_close(net(images), head(theta, h))


@pytest.mark.parametrize(
    ("units", "ratio", "printed"), [(1, 1.0, 20.9), (2, 1.0, 43.1), (4, 0.5, 24.3), (4, 1.0, 87.3)]
)
def test_wide_students_have_the_printed_counts(units, ratio, printed):
    total, before = 0, 120
    for h in (480, 660, 750):
        w = round(ratio * h)
        # the first unit
        total += before * (2 + 9 * w + (w if w != before else 0)) + (2 + 9 * w) * w
        total += (units - 1) * 2 * w * (2 + 9 * w) + w * (2 + h)
        before = h
    frozen = 27 * 120 + 751 * 100
    net = on_meta(DenseResidualNet, classes=100, units=units, ratio=ratio, **BAN)
    assert parameters(net) == total + frozen + 2 * 750
    assert abs(total / 1e6 - printed) < 0.1


def test_bottleneck_students_do_not_have_the_printed_counts():
    """7.3M and 17.7M are printed; the docstring tells what these are."""
    counts = [
        count(DenseResidualNet, classes=100, units=14, ratio=r, kind="bottleneck", **BAN)
        for r in (0.5, 1.0)
    ]
    assert [round(c / 1e6, 1) for c in counts] == [5.7, 20.4]


# --- small images, faults


@pytest.mark.parametrize("name", ["densenet", "preresnet", "dense-residual"])
def test_gradients_reach_everything_at_8_pixels_in_training_mode(name):
    args = {"preresnet": {"depth": 11}}.get(
        name, {"depth": 16, "growth": 4, "last_transition": True}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(name, channels=1, size=8, classes=3, **args)
        loss = F.cross_entropy(net(torch.rand(6, 1, 8, 8)), torch.arange(6) % 3)
    loss.backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


def test_dropout_stands_behind_every_convolution_but_the_first():
    net = DenseNet(depth=16, growth=2, last_transition=True, dropout=0.2)
    calls = []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Dropout):
            module.register_forward_hook(lambda m, *_: calls.append(type(m).__name__))
    net(torch.zeros(2, 3, 8, 8))
    assert calls == ["Conv2d", *["Conv2d", "Dropout"] * (3 * 2 * 2 + 3)]
