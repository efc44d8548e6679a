"""Pretrained nets of many kinds go from a folder of images to a set, and to an adapted net that
their own library loads: by command line, and as modules."""

import re
import warnings
from pathlib import Path

import pytest
import torch
import torchvision
from picture_folder import write_pictures
from safetensors.torch import load_file
from timm_like import TimmLike
from torch import nn

import datadistill as dd
from datadistill.cli import main
from datadistill.config import DistillConfig
from datadistill.data import load_folder

SIZE = 32
# one step, one iteration, two classes; the last layers of the large nets alone
STEPS = {"steps": 1, "epochs": 1, "iterations": 1, "batch": 2, "step_size": 0.001}
NETS = {
    "resnet18": ("all",),
    "mobilenet_v3_small": ("all",),
    "efficientnet_b0": ("head",),
    "convnext_tiny": ("head",),
    "vit_b_16": ("head",),
}


def theirs(model):
    """torchvision's own net for two classes."""
    more = {"image_size": SIZE} if model.startswith("vit") else {}
    return torchvision.models.get_model(model, weights=None, num_classes=2, **more)


@torch.no_grad()
def settle(net):
    """Statistics of BatchNorm, where there are such layers, as if the net had been trained."""
    if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()(torch.randn(16, 3, SIZE, SIZE))
    return net


def options(**fields):
    """The fields of a config as they are typed."""
    return [x for k, v in fields.items() for x in (f"--{k.replace('_', '-')}", str(v))]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with the images of two classes."""
    place = tmp_path_factory.mktemp("adapt")
    write_pictures(place / "pets", 5, SIZE)
    return place


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def is_adapted(before, after, trained):
    """Whether the named tensors are others than before, and all else is as it was."""
    changed = {k for k, x in before.items() if not torch.equal(x, after[k])}
    return changed and all(name in trained for name in changed)


LARGE = pytest.param("vit_b_16", marks=pytest.mark.slow)


@pytest.mark.parametrize("model", [*(name for name in NETS if name != "vit_b_16"), LARGE])
def test_by_command_line(here, monkeypatch, capsys, model):
    monkeypatch.chdir(here)
    torch.manual_seed(0)
    weights = settle(theirs(model)).state_dict()
    torch.save({"state_dict": {f"module.{k}": x for k, x in weights.items()}}, "weights.pt")
    argv = ["own-images-finetune", "--data", "pets", "--net", "torchvision"]
    argv += ["--net-args", "model", model, "--weights", "weights.pt", "--no-figures"]
    argv += [*options(size=SIZE, **STEPS), "--train", *NETS[model], "--no-evaluate"]
    assert main(["distill", *argv, "--out", model]) == 0
    assert Path(model, "distilled.safetensors").stat().st_size < 100_000
    capsys.readouterr()
    out = f"{model}.safetensors"
    argv = ["--weights", "weights.pt", "--data", "pets", "--out", out]
    argv += options(max_steps=1, every=1, batch=2) if model == "resnet18" else ["--no-reach"]
    assert main(["finetune", model, *argv]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"after its one step +\d+\.\d\d +1 ", shown)
    with torch.device("meta"):
        net = theirs(model)
    net.load_state_dict(load_file(out), strict=True, assign=True)
    last = [name for name in weights if name.startswith(("classifier.", "fc.", "heads."))]
    trained = last if NETS[model] == ("head",) else list(weights)
    assert is_adapted(weights, net.state_dict(), trained)
    assert net.eval()(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 2)
    for made in ("weights.pt", out):
        Path(made).unlink()


def small_transformer():
    """torchvision's vision transformer in small."""
    return torchvision.models.VisionTransformer(SIZE, 16, 2, 2, 16, 32, num_classes=2)


MODULES = {
    "resnet18": lambda: theirs("resnet18"),
    "mobilenet_v3_small": lambda: theirs("mobilenet_v3_small"),
    "efficientnet_b0": lambda: theirs("efficientnet_b0"),
    "convnext_tiny": lambda: theirs("convnext_tiny"),
    "a vision transformer": small_transformer,
    "timm-like": TimmLike,
}


@pytest.mark.parametrize("kind", MODULES)
def test_as_a_module(here, tmp_path, kind):
    torch.manual_seed(0)
    net = settle(MODULES[kind]())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    data = load_folder(here / "pets", size=SIZE, normalization="imagenet")
    config = DistillConfig(
        theta_0="given",
        dataset="folder",
        data=str(here / "pets"),
        images_from="real",
        train=NETS.get(kind, ("all",)),
        device="cpu",
        validate_every=1,
        **STEPS,
    )
    d = dd.distill(config, data=data, net=net)
    d.save(tmp_path / "set.safetensors")
    assert (tmp_path / "set.safetensors").stat().st_size < 100_000
    loaded = dd.DistilledDataset.load(tmp_path / "set.safetensors")
    reach = {"max_steps": 1, "every": 1, "batch": 2} if kind == "timm-like" else {"reach": False}
    tuning = dd.finetune(loaded, net, data=data, device="cpu", **reach)
    tuning.save(tmp_path / "adapted.safetensors")
    fresh = MODULES[kind]()
    fresh.load_state_dict(load_file(tmp_path / "adapted.safetensors"), strict=True)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, tuning.net.state_dict()[name])
    assert is_adapted(before, fresh.state_dict(), list(before))
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())


def test_what_the_timm_like_net_is():
    net = TimmLike()
    assert 20_000 < sum(p.numel() for p in net.parameters()) < 60_000
    kinds = {type(m) for m in net.modules()}
    assert {nn.BatchNorm2d, nn.Dropout, nn.SiLU, nn.LayerNorm} < kinds
