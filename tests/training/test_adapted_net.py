"""The file of an adapted net is a plain state dict: it loads into a fresh module, names strict."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from datadistill.distilled import DistilledDataset
from datadistill.errors import UsageError
from datadistill.innerloop import sgd
from datadistill.nets import build
from datadistill.nets.export import write_weights
from datadistill.nets.spec import NetSpec
from datadistill.training.finetune import finetune

READ = {
    "net.safetensors": load_file,
    "net": load_file,
    "net.pt": lambda path: torch.load(path, weights_only=True),
    "net.PTH": lambda path: torch.load(path, weights_only=True),
}


class Tied(nn.Module):
    """Tied and non-contiguous parameters, BatchNorm's integer buffer, a mask, a buffer that is not
    stored, a constant of whole numbers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(4)
        self.square = nn.Linear(256, 256)
        self.again = self.square
        self.head = nn.Linear(256, 10)
        self.head.weight = nn.Parameter(torch.randn(256, 10).t())
        self.register_buffer("mask", torch.rand(256) > 0.5)
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("passing", torch.zeros(2), persistent=False)

    def forward(self, x):
        h = self.norm(self.first(x)).flatten(1) * self.mask
        return self.head(self.again(torch.relu(self.square(h))))


@pytest.fixture
def tuning(digits):
    d = DistilledDataset(
        digits.train.images[:40],
        digits.train.labels[:40],
        torch.full((2,), 0.1),
        list(torch.arange(40).split(20)),
        classes=digits.classes,
        normalization=digits.normalization,
        net=NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10}),
        update=sgd(),
    )
    return finetune(d, Tied(), data=digits, reach=False)


@pytest.mark.parametrize("name", READ)
def test_it_loads_into_a_fresh_module(tuning, name, tmp_path, digits):
    tuning.save(tmp_path / name)
    state = READ[name](tmp_path / name)
    assert type(state) is dict and all(type(x) is torch.Tensor for x in state.values())
    fresh = Tied()
    fresh.load_state_dict(state, strict=True)
    for (key, x), (other, y) in zip(
        fresh.state_dict().items(), tuning.net.state_dict().items(), strict=True
    ):
        assert key == other and x.dtype == y.dtype and torch.equal(x, y)
    images = digits.test.images[:50]
    assert torch.equal(fresh.eval()(images), tuning.net.eval()(images))
    tuning.save(tmp_path / f"again-{name}")
    assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_a_net_of_torchvision_loads_into_torchvisions_own(tmp_path):
    import torchvision

    net = build("torchvision", channels=3, size=32, classes=4, model="mobilenet_v3_small")
    for name in ("net.safetensors", "net.pt"):
        write_weights(net.state_dict(), tmp_path / name, {})
        fresh = torchvision.models.mobilenet_v3_small(num_classes=4)
        fresh.load_state_dict(READ[name](tmp_path / name), strict=True)
        images = torch.ones(2, 3, 32, 32)
        torch.testing.assert_close(fresh.eval()(images), net.eval()(images))


class Extra(nn.Linear):
    def get_extra_state(self):
        return "a text"

    def set_extra_state(self, state):
        pass


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(2, dtype=torch.cfloat))


REFUSED = {
    "another format": (lambda: nn.Linear(2, 2), "net.onnx", r"ends in '\.onnx'"),
    "a text beside": (lambda: Extra(2, 2), "net.pt", "_extra_state .* is a str"),
    "complex": (lambda: Complex(), "net.safetensors", r"w of the net is .* write .*net\.pt"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_cannot_hold_is_refused(name, tmp_path):
    make, path, pattern = REFUSED[name]
    with pytest.raises(UsageError, match=pattern):
        write_weights(make().state_dict(), tmp_path / path, {})
    assert not list(tmp_path.iterdir())


def test_torchs_own_format_holds_complex_tensors(tmp_path):
    write_weights(Complex().state_dict(), tmp_path / "net.pt", {})
    Complex().load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True), strict=True)
