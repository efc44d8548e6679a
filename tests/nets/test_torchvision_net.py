"""torchvision's classifiers: names of tensors, two derivatives, no randomness, and what cannot be
built."""

import pytest
import torch
import torchvision
from torch import nn

from datadistill.errors import UsageError
from datadistill.innerloop import FullUnroll, StepReplay, unroll
from datadistill.nets import arguments, build, draw
from datadistill.nets.torchvision_net import models


def make(model, size=32, classes=4, **args):
    return build("torchvision", channels=3, size=size, classes=classes, model=model, **args)


SMALL = ["squeezenet1_1", "resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5"]


@pytest.mark.parametrize("model", SMALL)
def test_it_is_torchvisions_net(model):
    net = make(model)
    theirs = torchvision.models.get_model(model, weights=None, num_classes=4)
    theirs.load_state_dict(net.state_dict())  # strict: the same names and shapes
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), theirs.eval()(images))
    assert net.train()(images).shape == (2, 4)
    assert not any(getattr(m, "inplace", False) for m in net.modules())
    assert not any(isinstance(m, nn.Dropout) for m in net.modules())


def gradients(net, theta, images, adjoint):
    eta = torch.tensor([0.01], requires_grad=True)
    theta_T = unroll(net, theta, [(images, torch.arange(len(images)))], eta, adjoint=adjoint)
    return torch.autograd.grad(sum(p.square().sum() for p in theta_T.values()), [images, eta])


@pytest.mark.parametrize("model", ["squeezenet1_1", "mobilenet_v3_small"])
def test_training_is_differentiable_and_replayed_alike(model):
    net = make(model)
    theta = draw(net, "xavier", torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    full, replay = (
        gradients(net, theta, images, adjoint) for adjoint in (FullUnroll(), StepReplay())
    )
    assert full[0].abs().max() > 0 and bool(torch.isfinite(full[0]).all())
    for a, b in zip(full, replay, strict=True):
        assert (a - b).norm() <= 1e-4 * a.norm()


def test_one_image_step_of_squeezenet_at_64_px():
    net = make("squeezenet1_0", size=64)
    theta = draw(net, "xavier", torch.Generator().manual_seed(0))
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    theta_T = unroll(net, theta, [(image, torch.tensor([2]))], torch.tensor([0.01]))
    assert list(theta_T) == [name for name, _ in net.named_parameters()]
    (gradient,) = torch.autograd.grad(sum(p.square().sum() for p in theta_T.values()), image)
    assert gradient.shape == image.shape and gradient.abs().max() > 0


def test_stochastic_depth_is_off():
    net = make("efficientnet_b0")
    depth = [m for m in net.modules() if isinstance(m, torchvision.ops.StochasticDepth)]
    assert depth and all(m.p == 0 for m in depth)


def test_dropout_is_what_was_asked_for():
    net = make("squeezenet1_1", dropout=0.25)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.25]


def test_torchvisions_own_module_is_differentiated_too():
    torch.manual_seed(0)
    net = torchvision.models.mobilenet_v3_small(num_classes=4, dropout=0.0)
    theta = {name: p.detach() for name, p in net.named_parameters()}
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    built = make("mobilenet_v3_small")
    for found, expected in zip(
        gradients(net, theta, images, FullUnroll()),
        gradients(built, theta, images, FullUnroll()),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


TRANSFORMERS = [
    ("vit_b_16", 32),
    ("vit_b_16", 64),
    ("vit_b_16", 224),
    ("vit_l_32", 32),
    ("swin_t", 40),
    ("swin_v2_t", 32),
    ("maxvit_t", 448),
]


@pytest.mark.parametrize(("model", "size"), TRANSFORMERS)
def test_transformers_are_built_for_the_size(model, size):
    with torch.device("meta"):
        net = make(model, size)
        assert net(torch.zeros(2, 3, size, size)).shape == (2, 4)
    if model == "vit_b_16":
        assert net.encoder.pos_embedding.shape == (1, (size // 16) ** 2 + 1, 768)


FAULTS = [
    ({"model": "vit_b_16", "size": 40}, "multiples of 16; choose size=32,"),
    ({"model": "vit_b_32", "size": 8}, "multiples of 32; choose size=32,"),
    ({"model": "maxvit_t", "size": 64}, "multiples of 224; choose size=224,"),
    ({"model": "resnet81"}, "did you mean resnet"),
    ({"model": "zzz"}, "for example squeezenet1_0"),
    ({"model": "fcn_resnet50"}, "no classifier called"),
    ({"model": "googlenet"}, "extra heads"),
    ({"model": "inception_v3"}, "extra heads"),
    ({"model": "squeezenet1_1", "channels": 1}, "it takes 3"),
    ({"model": "squeezenet1_1", "size": 8}, "does not take images of 8 px"),
    ({"model": "squeezenet1_1", "dropout": 1.0}, "dropout is 1.0"),
    ({"model": "squeezenet1_1", "classes": 0}, "classes is 0"),
    ({"modle": "squeezenet1_1"}, "did you mean model"),
]


@pytest.mark.parametrize(("args", "sentence"), FAULTS, ids=str)
def test_what_cannot_be_built_is_a_sentence(args, sentence):
    with pytest.raises(UsageError) as caught:
        build("torchvision", **({"channels": 3, "size": 32, "classes": 4} | args))
    assert sentence in str(caught.value)


def test_arguments_and_models():
    assert arguments("torchvision") == {"model": "squeezenet1_0", "dropout": 0.0}
    assert {"alexnet", "resnet18", "vgg11", "vit_b_16"} < set(models())
    assert not {"googlenet", "inception_v3", "fcn_resnet50"} & set(models())
