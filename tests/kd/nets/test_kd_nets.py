"""The knowledge-distillation nets: shapes, sizes, gradients, determinism, and what they refuse."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kd_baselines.nets as kd
from datadistill.errors import UsageError
from datadistill.nets import NETS, all_nets, arguments, build
from datadistill.nets.initialization import INITIALIZATIONS, draw
from datadistill.nets.spec import NetSpec
from kd_baselines.nets.maxout import MaxoutConv2d, MaxoutLayer, MaxoutLinear
from kd_baselines.nets.thin_deep import ends_of_groups

DATADISTILL = {
    "lenet",
    "alexcifarnet",
    "alexnet",
    "convnet",
    "mlp",
    "resnet18",
    "vgg11",
    "torchvision",
}
SMALL = {  # arguments that make a net fast to test
    "mlp-dropout": {"width": 8},
    "wide-cnn": {"width": 4},
    "thin-cnn": {"width": 4},
    "vgg9": {"width": 4},
    "vgg4": {"width": 4},
    "wrn": {"depth": 10, "widen": 1},
}
DEEPER = {  # of the classes of resnet8, vgg8 and wrn
    *(f"resnet{depth}" for depth in ("14", "20", "32", "44", "56", "110", "8x4", "32x4")),
    *("cifar-vgg11", "vgg13", "vgg16", "vgg19"),
    *("wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"),
}
BUILT = [name for name in kd.KD_NETS if name not in DEEPER]


def test_names_are_new_and_build_through_datadistill():
    assert not DATADISTILL & set(kd.KD_NETS)
    assert set(NETS) == DATADISTILL
    for name, make in kd.KD_NETS.items():
        assert all_nets()[name] is make
        for default in arguments(name).values():
            assert isinstance(default, bool | int | float | str), name
        if name in DEEPER:
            continue
        spec = NetSpec(name, {"channels": 1, "size": 28, "classes": 3, **SMALL.get(name, {})})
        assert NetSpec.from_dict(spec.as_dict()).build()(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


@pytest.mark.parametrize("name", BUILT)
def test_logits_have_one_column_a_class_at_every_size(name):
    for size, channels in [(8, 1), (27, 3), (28, 1), (32, 3), (33, 3), (48, 3)]:
        with torch.device("meta"):
            net = kd.KD_NETS[name](channels=channels, size=size, classes=7, **SMALL.get(name, {}))
            assert net.eval()(torch.empty(2, channels, size, size)).shape == (2, 7), (
                size,
                channels,
            )


@pytest.mark.parametrize("name", BUILT)
def test_gradients_reach_every_parameter_and_evaluation_repeats(name):
    net = build(name, channels=1, size=28, classes=3, **SMALL.get(name, {}))
    # as large as is needed for the signal to come through the deepest net
    for key, value in draw(net, "kaiming", torch.Generator().manual_seed(1)).items():
        net.get_parameter(key).data.copy_(value)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, 28, 28, generator=generator)
    net.eval()
    first = net(images)
    assert torch.equal(first, net(images))
    assert first.std(0).min() > 0, "the logits do not depend on the image"
    F.cross_entropy(first, torch.tensor([0, 1, 2])).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", BUILT)
def test_layers_run_in_the_order_in_which_they_are_registered(name):
    """So that "the parameters up to the guided layer" are those that it depends on."""
    net = build(name, channels=1, size=28, classes=3, **SMALL.get(name, {})).eval()
    order = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    called = []
    for n in order:
        net.get_submodule(n).register_forward_hook(lambda *_, n=n: called.append(n))
    net(torch.zeros(1, 1, 28, 28))
    if name != "wrn":  # in a block the shortcut and the convolutions are beside each other
        assert called == order
    assert sorted(called) == sorted(order)


@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_every_initialization_fits(init):
    net = build("fitnet-mnist", channels=1, size=28, classes=3)
    theta = draw(net, init, torch.Generator().manual_seed(0))
    assert {k: v.shape for k, v in theta.items()} == {k: p.shape for k, p in net.named_parameters()}


def test_maxout_is_the_maximum_over_its_pieces():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 6, 6, generator=generator, dtype=torch.float64)
    conv = MaxoutConv2d(3, 4, kernel=3, padding=1, pieces=5).double()
    weights, biases = conv.linear.weight.chunk(5), conv.linear.bias.chunk(5)
    each = [F.conv2d(maps, w, b, padding=1) for w, b in zip(weights, biases, strict=True)]
    torch.testing.assert_close(conv(maps), torch.stack(each).max(0).values)

    values = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    linear = MaxoutLinear(3, 4, pieces=2).double()
    one, two = linear.linear(values).split(4, dim=1)
    torch.testing.assert_close(linear(values), torch.maximum(one, two))
    single = MaxoutLinear(3, 4, pieces=1).double()
    torch.testing.assert_close(single(values), single.linear(values))


@pytest.mark.parametrize(
    ("name", "size"), [("fitnet-mnist", 28), ("thin-cnn", 8), ("wrn", 8), ("vgg4", 8)]
)
def test_two_derivatives_agree_with_finite_differences(name, size):
    """What a matched Jacobian asks of a net: d logit / d image, and d/dw of its squared norm."""
    args = SMALL.get(name, {}) | ({"norm": "none"} if name == "vgg4" else {})
    net = build(name, channels=1, size=size, classes=2, **args).double().eval()
    generator = torch.Generator().manual_seed(0)
    # larger than the defaults, so that the gradients are no tiny numbers
    for parameter in net.parameters():
        parameter.data.mul_(3)
    images = torch.rand(
        2, 1, size, size, generator=generator, dtype=torch.float64, requires_grad=True
    )
    towards = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    towards /= towards.norm()  # a short way, on which no maximum changes its piece
    (jacobian,) = torch.autograd.grad(net(images)[:, 0].sum(), images)
    with torch.no_grad():
        ahead, behind = (net(images + step * towards)[:, 0].sum() for step in (1e-6, -1e-6))
    assert (jacobian * towards).sum().item() == pytest.approx(
        (ahead - behind).item() / 2e-6, rel=1e-6
    )

    weight = next(p for p in net.parameters() if p.ndim > 1)
    direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)

    def penalty():
        (jacobian,) = torch.autograd.grad(net(images)[:, 0].sum(), images, create_graph=True)
        return jacobian.square().sum()

    (gradient,) = torch.autograd.grad(penalty(), weight)
    values = []
    for step in (1e-6, -2e-6):
        weight.data.add_(step * direction)
        values.append(penalty().item())
    finite = (values[0] - values[1]) / 2e-6
    assert (gradient * direction).sum().item() == pytest.approx(finite, rel=1e-6)
    assert abs(finite) > 1e-9


def test_pools_stand_over_the_edge_as_the_papers_do():
    assert [
        MaxoutLayer(1, 8, 4, pool=4, stride=2).side(32),
        MaxoutLayer(1, 8, 3, pool=4, stride=2).side(16),
    ] == [16, 7]
    maps = {
        "maxout-mnist": (1, 28, [10, 4, 3]),
        "maxout-cifar10": (3, 32, [16, 7, 5]),
        "maxout-svhn": (3, 32, [18, 10, 6]),
        "fitnet-mnist": (1, 28, [24, 10, 12, 4, 8, 3]),
        "fitnet1": (3, 32, [32, 32, 16, 16, 16, 8, 8, 8, 1]),
    }
    for name, (channels, size, sides) in maps.items():
        with torch.device("meta"):
            net = kd.KD_NETS[name](channels=channels, size=size, classes=10)
            h, found = torch.empty(1, channels, size, size), []
            for conv in net.convs:
                h = conv(h)
                found.append(h.shape[-1])
        assert found == sides, name


TEACHERS = {"fitnet-mnist": "maxout-mnist", "thin-cnn": "wide-cnn"}
STUDENTS = [(name, {}) for name in kd.HINTS] + [
    *(("fitnet-depth", {"layers": n, "budget": b}) for n in (5, 7, 9) for b in ("30M", "107M")),
    *(
        ("thin-cnn", args)
        for args in (
            {"depth": 6},
            {"depth": 17, "pools": 2},
            {"pools": 1},
            {"depth": 1, "pools": 0},
        )
    ),
]


@pytest.mark.parametrize(("student", "args"), STUDENTS, ids=str)
def test_guided_maps_are_at_least_as_large_as_the_hints(student, args):
    """So that the regressor's kernel N_g - N_h + 1 is 1 or more."""
    guided, hint = kd.hints(student, **args)
    teacher = TEACHERS.get(student, "maxout-cifar10")
    for size in (28, 32):
        sides = []
        for name, layer, own in [(student, guided, args), (teacher, hint, {})]:
            with torch.device("meta"):
                net = kd.KD_NETS[name](channels=1, size=size, classes=10, **own)
                net.get_submodule(layer).register_forward_hook(
                    lambda module, given, out, sides=sides: sides.append(out.shape[-1])
                )
                net(torch.empty(1, 1, size, size))
        assert sides[0] >= sides[1], sides


def test_hints_are_the_papers():
    assert [kd.hints(f"fitnet{i}")[0] for i in (1, 2, 3, 4)] == [
        "convs.5",
        "convs.5",
        "convs.7",
        "convs.10",
    ]
    assert [kd.hints("fitnet-depth", layers=n)[0] for n in (5, 7, 9, 11)] == [
        f"convs.{i - 1}" for i in (2, 4, 5, 7)
    ]
    assert kd.hints("fitnet-depth") == kd.HINTS["fitnet-depth"]
    assert kd.hints("thin-cnn") == kd.HINTS["thin-cnn"]
    with pytest.raises(UsageError, match=r"no choice of layers for 'fitnet5'; .*fitnet1"):
        kd.hints("fitnet5")


def test_groups_of_the_thin_net_are_as_equal_as_can_be():
    for depth in range(1, 20):
        for pools in range(1, depth + 1):
            ends = (-1, *ends_of_groups(depth, pools))
            lengths = [b - a for a, b in itertools.pairwise(ends)]
            assert sum(lengths) == depth and max(lengths) - min(lengths) <= 1, (depth, pools)


def test_norms_and_dropout_only_where_asked_for():
    def kinds(name, kind, **args):
        net = kd.KD_NETS[name](channels=1, size=28, classes=10, **SMALL.get(name, {}), **args)
        return [m for m in net.modules() if isinstance(m, kind)]

    for name in BUILT:
        asked = "mlp-dropout" in name
        assert bool(kinds(name, nn.Dropout)) == asked, name
    for name in ("vgg9", "vgg4", "thin-cnn", "wide-cnn"):
        assert not kinds(name, nn.BatchNorm2d, norm="none")
        assert len(kinds(name, nn.BatchNorm2d, norm="batch")) == len(kinds(name, nn.Conv2d))
    assert [m.p for m in kinds("mlp-dropout", nn.Dropout)] == [0.2, 0.5, 0.5]
    assert [m.p for m in kinds("maxout-mnist", nn.Dropout, dropout=0.5, input_dropout=0.2)] == [
        0.2,
        0.5,
    ]
    assert {m.p for m in kinds("wrn", nn.Dropout, dropout=0.3)} == {0.3}


def test_dropout_is_in_front_of_every_layer_of_a_maxout_net():
    net = kd.KD_NETS["maxout-svhn"](dropout=0.5, input_dropout=0.2)
    calls = []
    net.dropout.register_forward_hook(lambda *_: calls.append("hidden"))
    net.input_dropout.register_forward_hook(lambda *_: calls.append("pixels"))
    for module in [*net.convs, net.fc, net.classifier]:
        module.register_forward_hook(lambda *_: calls.append("layer"))
    torch.manual_seed(0)
    with torch.no_grad():
        net(torch.rand(1, 3, 32, 32))
    assert calls == ["pixels", "layer", *["hidden", "layer"] * 4]


FAULTS = [
    ("fitnet9", {}, "did you mean fitnet"),
    ("fitnet1", {"fc_peices": 5}, "did you mean fc_pieces"),
    ("fitnet1", {"fc_pieces": 0}, "fc_pieces is 0"),
    ("fitnet-depth", {"layers": 13}, "nets of 5, 7, 9, 11 layers"),
    ("fitnet-depth", {"layers": True}, "layers is True"),
    ("fitnet-depth", {"budget": "100M"}, "did you mean 107M"),
    ("fitnet-mnist", {"last_pieces": 0}, "pieces is 0"),
    ("maxout-mnist", {"dropout": 1.0}, "dropout is 1.0"),
    ("maxout-cifar10", {"classes": 0}, "classes is 0"),
    ("mlp-dropout", {"input_dropout": -0.1}, "dropout is -0.1"),
    ("mlp-dropout", {"depth": -1}, "depth is -1"),
    ("vgg9", {"norm": "instance"}, "known: batch, none"),
    ("vgg4", {"width": 0}, "width is 0"),
    ("thin-cnn", {"pools": 5}, "at least 32 px"),
    ("thin-cnn", {"depth": 2}, "pools is 3, but there are 2"),
    ("wide-cnn", {"size": 7}, "at least 8 px"),
    ("wrn", {"depth": 17}, "6 n \\+ 4"),
    ("wrn", {"depth": 4}, "6 n \\+ 4"),
    ("wrn", {"widen": 0}, "widen is 0"),
    ("densenet", {"depth": 9}, "depth is 9, .* at least 10"),
    ("densenet", {"depth": 40.0}, "depth is 40.0"),
    ("densenet", {"growth": 0}, "growth is 0"),
    ("densenet", {"first": -1}, "first is -1"),
    ("densenet", {"compression": 0}, "compression is 0, .* at most 1"),
    ("densenet", {"compression": 1.5}, "compression is 1.5"),
    ("densenet", {"compression": True}, "compression is True"),
    ("densenet", {"growth": 2, "compression": 0.01}, "keeps none; raise compression"),
    ("densenet", {"dropout": 1.0}, "dropout is 1.0"),
    ("densenet", {"size": 3}, "images of 3 px"),
    ("preresnet", {"depth": 30}, r"9 n \+ 2 layers; take 11, 29 or 164"),
    ("preresnet", {"depth": 30, "kind": "basic"}, r"6 n \+ 2 layers; take 8, 20 or 110"),
    ("preresnet", {"depth": 2}, "depth is 2"),
    ("preresnet", {"kind": "bottle"}, "did you mean bottleneck"),
    ("preresnet", {"widen": 0.0}, "widen is 0.0, times 16 channels"),
    ("dense-residual", {"units": 0}, "units is 0"),
    ("dense-residual", {"ratio": 0.001}, "ratio is 0.001"),
    ("dense-residual", {"ratio": float("nan")}, "ratio is nan"),
    ("dense-residual", {"kind": "basic"}, "kind is 'basic'"),
    ("dense-residual", {"depth": 4}, "depth is 4"),
    ("dense-residual", {"size": 2}, "images of 2 px"),
]


@pytest.mark.parametrize(("name", "args", "sentence"), FAULTS, ids=str)
def test_what_cannot_be_is_refused_in_a_sentence(name, args, sentence):
    with pytest.raises(UsageError, match=sentence):
        build(name, **({"channels": 1, "size": 28, "classes": 10} | args))
