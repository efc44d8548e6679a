"""Every net: shapes, sizes, parameter counts, two derivatives, vmap, and the sentences for what
cannot be."""

import itertools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from datadistill.errors import UsageError
from datadistill.nets import NETS, AlexNet, arguments, build
from datadistill.nets.alexcifarnet import ResponseNorm


def size_of(net):
    return sum(p.numel() for p in net.parameters())


def conv(inputs, outputs, kernel):
    return outputs * inputs * kernel**2 + outputs


def linear(inputs, outputs):
    return inputs * outputs + outputs


ANY_SIZE = [(8, 1), (28, 1), (28, 3), (32, 1), (32, 3), (33, 3), (64, 3)]
SIZES = {name: ANY_SIZE for name in NETS} | {
    "lenet": [(28, 1), (28, 3), (32, 1), (32, 3)],
    "torchvision": [(28, 3), (64, 3)],
}
VARIANTS = [
    ("alexnet", {"dropout": 0.5}),
    *(("convnet", {"norm": norm}) for norm in ("batch", "group", "layer", "none")),
    *(("convnet", {"pooling": pooling, "width": 4}) for pooling in ("max", "none")),
    *(("convnet", {"activation": activation}) for activation in ("sigmoid", "leakyrelu")),
    ("convnet", {"depth": 6, "norm": "layer", "width": 4}),
    ("convnet", {"first_padding": 3}),
    ("mlp", {"depth": 0}),
    ("mlp", {"depth": 3, "width": 7}),
    ("resnet18", {"norm": "instance"}),
    ("resnet18", {"width": 4}),
    ("vgg11", {"norm": "instance"}),
    ("vgg11", {"norm": "none", "dropout": 0.5}),
]


@pytest.mark.parametrize("name", NETS)
def test_logits_have_one_column_a_class(name):
    for size, channels in SIZES[name]:
        if (name, size) == ("alexnet", 64):
            continue  # 20 million parameters; its shape is held by the comparison with torchvision
        net = build(name, channels=channels, size=size, classes=7)
        with torch.no_grad():
            assert net(torch.rand(2, channels, size, size)).shape == (2, 7), (size, channels)


@pytest.mark.parametrize(
    ("name", "args"), VARIANTS, ids=lambda v: v if isinstance(v, str) else str(v)
)
def test_arguments_of_each_net(name, args):
    net = build(name, channels=1, size=28, classes=10, **args)
    with torch.no_grad():
        logits = net(torch.rand(3, 1, 28, 28))
    assert logits.shape == (3, 10)
    assert logits.std(0).min() > 0, "the logits do not depend on the image"


def test_parameter_counts_against_the_arithmetic():
    def count(name, channels, size, **args):
        return size_of(build(name, channels=channels, size=size, classes=10, **args))

    # 156 + 2,416 + 48,120 + 10,164 + 850
    lenet = conv(1, 6, 5) + conv(6, 16, 5) + linear(400, 120) + linear(120, 84) + linear(84, 10)
    assert lenet == 61706
    assert count("lenet", 1, 28) == count("lenet", 1, 32) == lenet
    assert count("lenet", 3, 32) == lenet + 2 * 6 * 25

    cifar = (
        conv(3, 64, 5)
        + conv(64, 64, 5)
        + linear(64 * 8 * 8, 384)
        + linear(384, 192)
        + linear(192, 10)
    )
    assert count("alexcifarnet", 3, 32) == cifar == 1756426

    convs = (
        conv(3, 128, 5)
        + conv(128, 192, 5)
        + conv(192, 256, 3)
        + conv(256, 192, 3)
        + conv(192, 192, 3)
    )
    assert count("alexnet", 3, 32) == convs + linear(192 * 4 * 4, 10) == 1872202

    # three norms with 2 x 128 parameters; 32 -> 16 -> 8 -> 4 px
    blocks = conv(3, 128, 3) + 2 * conv(128, 128, 3)
    assert count("convnet", 3, 32) == blocks + 3 * 256 + linear(128 * 4 * 4, 10) == 320010
    assert count("convnet", 3, 32, norm="none") == blocks + linear(128 * 4 * 4, 10)
    # 28 px padded to 32 px has the map of a 32 px image
    assert count("convnet", 1, 28, first_padding=3) == count("convnet", 1, 32)

    assert count("mlp", 1, 28) == linear(784, 128) + linear(128, 128) + linear(128, 10) == 118282
    assert count("mlp", 1, 28, depth=0) == linear(784, 10)

    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    vgg = sum(conv(a, b, 3) for a, b in itertools.pairwise(widths)) + linear(512, 10)
    assert count("vgg11", 3, 32, norm="none") == vgg
    assert count("vgg11", 3, 32) == vgg + 2 * sum(widths[1:]) == 9231114

    def resnet(inputs):
        total = 27 * inputs + 2 * inputs + linear(8 * inputs, 10)  # stem with norm; linear layer
        for width in (inputs, 2 * inputs, 4 * inputs, 8 * inputs):
            total += 9 * inputs * width + 3 * 9 * width * width + 4 * 2 * width
            if inputs != width:
                total += inputs * width + 2 * width  # 1x1 shortcut with its norm
            inputs = width
        return total

    assert resnet(64) == count("resnet18", 3, 32, norm="instance") == 11173962
    assert (count("resnet18", 3, 32), count("resnet18", 3, 32, width=5)) == (resnet(64), resnet(5))


def test_alexnet_at_224_px_is_torchvisions():
    with torch.device("meta"):
        ours = AlexNet(channels=3, size=224, classes=1000)
    theirs = torchvision.models.AlexNet(dropout=0.0)
    assert size_of(theirs) == 61100840
    ours.load_state_dict(theirs.state_dict(), assign=True)  # strict: the same names and shapes
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))


def test_alexnet_shrinks_its_first_linear_layer_with_the_image():
    with torch.device("meta"):
        net = AlexNet(channels=1, size=64, classes=10)
        assert net(torch.empty(2, 1, 64, 64)).shape == (2, 10)
    assert net.classifier[1].in_features == 256


def test_response_norm_equals_torchs():
    maps = (
        torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        * 50
    )
    # alpha is small: at this scale the norm changes the maps by more than a tenth
    assert (ResponseNorm()(maps) - maps).abs().max() > 0.1
    torch.testing.assert_close(
        ResponseNorm()(maps), F.local_response_norm(maps, 4, 0.001 / 9, 0.75, 1.0)
    )


SMALL = [
    ("lenet", 28, {}),
    ("convnet", 8, {"width": 4}),
    ("convnet", 8, {"width": 4, "norm": "group", "activation": "sigmoid"}),
    ("mlp", 8, {"width": 5}),
    ("alexcifarnet", 8, {}),
]


@pytest.mark.parametrize(("name", "size", "args"), SMALL, ids=str)
def test_vmap_over_nets_equals_a_loop_with_two_derivatives(name, size, args):
    net = build(name, channels=1, size=size, classes=3, **args).double()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(
        2, 1, size, size, generator=generator, dtype=torch.float64, requires_grad=True
    )
    thetas = {
        key: torch.randn(2, *p.shape, generator=generator, dtype=torch.float64)
        .mul_(0.2)
        .requires_grad_()
        for key, p in net.named_parameters()
    }

    def run(theta, images):
        return F.cross_entropy(
            torch.func.functional_call(net, theta, (images,)), torch.tensor([0, 2])
        )

    def second_derivative(losses):
        grads = torch.autograd.grad(losses.sum(), list(thetas.values()), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in grads), images)[0]

    looped = torch.stack([run({key: v[i] for key, v in thetas.items()}, images) for i in range(2)])
    mapped = torch.vmap(run, in_dims=(0, None))(thetas, images)
    torch.testing.assert_close(mapped, looped)
    expected = second_derivative(looped)
    assert expected.abs().max() > 0
    torch.testing.assert_close(second_derivative(mapped), expected)


@pytest.mark.parametrize("name", ["convnet", "lenet"])
def test_gradient_of_a_gradient_step_equals_finite_differences(name):
    # sigmoid and average pooling are smooth; LeNet's kinks are missed by a step of 1e-6
    size, args = (
        (28, {}) if name == "lenet" else (4, {"width": 4, "depth": 2, "activation": "sigmoid"})
    )
    net = build(name, channels=1, size=size, classes=2, **args).double()
    theta = {key: p.detach().requires_grad_() for key, p in net.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    images, direction = torch.randn(2, 2, 1, size, size, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1])

    def loss_after_a_step(images):
        loss = F.cross_entropy(torch.func.functional_call(net, theta, (images,)), labels)
        grads = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        stepped = {key: p - g for (key, p), g in zip(theta.items(), grads, strict=True)}
        return F.cross_entropy(torch.func.functional_call(net, stepped, (images.detach(),)), labels)

    images.requires_grad_()
    (gradient,) = torch.autograd.grad(loss_after_a_step(images), images)

    # the outer images are held: differentiate the step alone
    def held(moved):
        loss = F.cross_entropy(torch.func.functional_call(net, theta, (moved,)), labels)
        grads = torch.autograd.grad(loss, list(theta.values()))
        stepped = {key: p - g for (key, p), g in zip(theta.items(), grads, strict=True)}
        return F.cross_entropy(torch.func.functional_call(net, stepped, (images,)), labels).item()

    finite = (held(images + 1e-6 * direction) - held(images - 1e-6 * direction)) / 2e-6
    assert (gradient * direction).sum().item() == pytest.approx(finite, rel=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_build_repeats_and_leaves_the_global_generator_alone(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(name, channels=SIZES[name][0][1], size=28, classes=10)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = build(name, channels=SIZES[name][0][1], size=28, classes=10)
    for (key, a), (other, b) in zip(
        first.state_dict().items(), second.state_dict().items(), strict=True
    ):
        assert key == other
        assert torch.equal(a, b)


def test_no_dropout_unless_asked_for():
    for name in NETS:
        net = build(name, channels=SIZES[name][0][1], size=28, classes=10)
        assert not any(isinstance(m, nn.Dropout) for m in net.modules())
    net = build("alexnet", channels=1, size=28, classes=10, dropout=0.25)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.25]


def test_arguments_lists_what_build_takes():
    assert arguments("lenet") == {}
    assert arguments("vgg11") == {"norm": "batch", "dropout": 0.0}


FAULTS = [
    ("lenett", {}, "did you mean lenet"),
    ("convnet", {"widht": 3}, "did you mean width"),
    ("lenet", {"width": 3}, "only channels, size and classes"),
    ("lenet", {"size": 20}, "28 and 32 px"),
    ("convnet", {"norm": "instanc"}, "did you mean instance"),
    ("convnet", {"pooling": "mean"}, "known: avg, max, none"),
    ("convnet", {"activation": "relo"}, "did you mean relu"),
    ("convnet", {"size": 4, "depth": 3}, "depth=2 or norm='layer'"),
    ("convnet", {"norm": "group", "width": 6}, "multiple of 4"),
    ("convnet", {"width": 0}, "width is 0"),
    ("convnet", {"depth": "3"}, "depth is '3'"),
    ("mlp", {"depth": -1}, "depth is -1"),
    ("mlp", {"classes": 0}, "classes is 0"),
    ("mlp", {"channels": True}, "channels is True"),
    ("resnet18", {"norm": "instance", "size": 8}, "works from 9 px"),
    ("resnet18", {"width": 0}, "width is 0"),
    ("vgg11", {"norm": "group"}, "known: batch, instance, none"),
    ("alexnet", {"dropout": 1.0}, "dropout is 1.0"),
]


@pytest.mark.parametrize(("name", "args", "sentence"), FAULTS, ids=str)
def test_what_cannot_be_built_is_a_sentence(name, args, sentence):
    with pytest.raises(UsageError) as caught:
        build(name, **({"channels": 1, "size": 28, "classes": 10} | args))
    assert sentence in str(caught.value)
