"""An idea of one's own is a class and a line in a table: from a config to a saved and reloaded
set."""

from typing import ClassVar

import pytest
import torch
from sklearn.datasets import load_digits
from training_cases import config

import datadistill as dd
from datadistill import objectives
from datadistill.cli import main
from datadistill.config import PoolConfig
from datadistill.data.normalization import NORMALIZATIONS, Normalization
from datadistill.errors import DataError, UsageError
from datadistill.methods import METHODS, OuterMethod
from datadistill.synthetic import DECODERS


class ClassMeans(OuterMethod):
    """Synthetic images of a class are drawn to the mean of its real ones."""

    def __init__(self, split, weight: float = 1.0):
        self.split, self.weight = split, weight

    def loss(self, synthetic, iteration):
        return self.weight * sum(
            (synthetic.of_class(k)[0].mean(0) - self.split.of_class(k).images.mean(0))
            .square()
            .sum()
            for k in range(10)
        )


class LinearBasis:
    """Every image is a combination of a few learned ones."""

    def __init__(self, bases: int = 4):
        self.bases = bases

    def count(self, ipc, shape, classes):
        return ipc

    def init(self, start, generator):
        rows = torch.randn(len(start), self.bases, generator=generator)
        return {
            "rows": rows,
            "bases": torch.linalg.lstsq(rows, start.flatten(1)).solution.view(-1, *start.shape[1:]),
        }

    def images(self, tensors, index):
        return torch.einsum("nk,kchw->nchw", tensors["rows"][index], tensors["bases"])

    def describe(self):
        return {"name": "linear-basis", "bases": self.bases}


class OneLower:
    """Every image is to be taken for the class below its own."""

    def __init__(self, classes):
        self.classes = classes

    def labels(self, labels):
        return (labels - 1) % self.classes

    def describe(self):
        return {"name": "one-lower"}

    def __call__(self, net, theta, images, labels, norm="batch"):
        return objectives.classification(net, theta, images, self.labels(labels), norm)


class Misnamed(LinearBasis):
    def init(self, start, generator):
        return {"bases": start, "step_sizes": start}

    def describe(self):
        return {"name": "misnamed", "bases": self.bases}


class Described(LinearBasis):
    """Its description is the argument `told`."""

    told: ClassVar[dict]

    def describe(self):
        return self.told


class Forgetful(OneLower):
    def describe(self):
        return {"name": "forgetful", "classes": self.classes}


class Constant(OuterMethod):
    def loss(self, synthetic, iteration):
        return torch.zeros(())


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    monkeypatch.setitem(METHODS, "constant", Constant)
    monkeypatch.setitem(DECODERS, "misnamed", Misnamed)
    monkeypatch.setitem(DECODERS, "described", Described)
    monkeypatch.setitem(objectives.OBJECTIVES, "forgetful", Forgetful)
    monkeypatch.setitem(METHODS, "class-means", ClassMeans)
    monkeypatch.setitem(DECODERS, "linear-basis", LinearBasis)
    monkeypatch.setitem(objectives.OBJECTIVES, "one-lower", OneLower)


def reloaded(d, tmp_path):
    d.save(tmp_path / "set.safetensors")
    return dd.DistilledDataset.load(tmp_path / "set.safetensors")


def test_a_method_reaches_the_class_means(digits, tmp_path):
    longer = config(
        method="class-means", method_args={"weight": 2.0}, iterations=300, lr_images=0.2, clip=0.0
    )
    d = reloaded(dd.distill(longer, data=digits), tmp_path)
    means = torch.stack([digits.train.of_class(k).images.mean(0) for k in range(10)])
    torch.testing.assert_close(d.images, means, atol=0.05, rtol=0)
    assert torch.allclose(d.step_sizes, torch.full((2,), 0.1)), "nothing pulls on the step sizes"


def test_a_decoder_is_learned_through_and_stored(digits, tmp_path):
    options = {"decoder": "linear-basis", "decoder_args": {"bases": 3}, "ipc": 4, "iterations": 3}
    learned = dd.distill(config(**options), data=digits)
    start = dd.distill(config(**options, lr_images=0.0), data=digits)
    d = reloaded(learned, tmp_path)
    assert torch.equal(d.images, learned.images) and d.decoder.describe() == {
        "name": "linear-basis",
        "bases": 3,
    }
    assert set(d.coded) == {"rows", "bases"} and not torch.equal(d.images, start.images)
    assert torch.linalg.matrix_rank(d.images.flatten(1)) == 3
    assert d.bytes == 4 * (40 * 3 + 3 * 64) + 8 * 40 + 4 * 2, (
        "bases, rows, labels, step sizes: not the pixels"
    )
    assert d.quantized().decoder is None and reloaded(d.quantized(), tmp_path).images.shape == (
        40,
        1,
        8,
        8,
    )
    assert torch.equal(reloaded(d.to("cpu"), tmp_path).images, d.images)


def test_a_decoder_stopped_and_resumed_gives_the_same_bytes(digits, tmp_path):
    options = config(decoder="linear-basis", iterations=4)
    quick = dd.config.RunOptions(quiet=True, checkpoint_every="1")
    straight = dd.distill(options, data=digits, out=tmp_path / "a", options=quick)
    longer = dd.config.RunOptions(quiet=True, resume_with_changes=True)
    constant = options.with_changes(schedule="constant")
    dd.distill(constant.with_changes(iterations=2), data=digits, out=tmp_path / "b", options=quick)
    again = dd.distill(constant, data=digits, out=tmp_path / "b", resume=True, options=longer)
    wanted = dd.distill(constant, data=digits)
    assert torch.equal(again.images, wanted.images) and not torch.equal(
        again.images, straight.images
    )


def test_an_objective_decides_what_nets_are_taught(digits, tmp_path):
    lower = config(
        objective="one-lower",
        theta_0="fixed",
        net_args={"width": 32, "depth": 1},
        iterations=60,
        epochs=5,
        step_size=0.5,
        lr_images=0.1,
    )
    d = reloaded(dd.distill(lower, data=digits), tmp_path)
    net = d.train()
    found = net(digits.validation.images).argmax(1)
    asked, true = (digits.validation.labels - 1) % 10, digits.validation.labels
    assert (found == asked).float().mean() > 0.5 > (found == true).float().mean()


REFUSALS = [
    ({"method": "class-mean"}, "there is no method 'class-mean'; did you mean class-means?"),
    (
        {"method": "class-means", "method_args": {"wait": 1.0}},
        "the method class-means has no argument 'wait'",
    ),
    (
        {"method": "class-means", "method_args": {"split": 1}},
        "the method class-means has no argument 'split'",
    ),
    (
        {"method": "class-means", "method_args": {"weight": "x"}},
        "weight of the method class-means is 'x'",
    ),
    ({"method": "constant"}, "the loss of the outer method does not depend on what is learned"),
    ({"decoder": "basis"}, "there is no decoder 'basis'"),
    (
        {"decoder": "linear-basis", "decoder_args": {"bases": 2.5}},
        "bases of the decoder linear-basis is 2.5",
    ),
    ({"decoder": "misnamed"}, "learns 'step_sizes', torch.float32; give it floats by names"),
    (
        {"adjoint": "replay"},
        "there is no adjoint 'replay'; did you mean step-replay? (known: auto, full",
    ),
    ({"decoder_args": {"bases": 2}}, "the decoder pixels has no argument 'bases'; it takes none"),
    ({"objective": "lower"}, "there is no objective 'lower'"),
]


@pytest.mark.parametrize("changes, pattern", REFUSALS, ids=[pattern for _, pattern in REFUSALS])
def test_refusals(digits, changes, pattern):
    with pytest.raises(UsageError) as refused:
        dd.distill(config(**changes), data=digits)
    assert pattern in str(refused.value)


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = [
        "distill",
        "digits-random",
        "--method",
        "class-means",
        "--method-args",
        "weight",
        "0.5",
        "--iterations",
        "2",
    ]
    assert (
        main([*argv, "--decoder", "linear-basis", "--no-evaluate", "--no-figures", "--out", "run"])
        == 0
    )
    assert main(["inspect", "run"]) == 0 and main(["show", "run"]) == 0
    monkeypatch.delitem(DECODERS, "linear-basis")
    with pytest.raises(DataError, match="there is no decoder 'linear-basis'"):
        dd.DistilledDataset.load("run")


UNREADABLE = [
    (
        {"name": "described", "basis": 3},
        "the decoder described has no argument 'basis'; did you mean bases?",
    ),
    ({"name": "described"}, "Described.describe() gives"),
    (
        {"name": "linear-basis", "bases": 3},
        "gives the name 'linear-basis' of another class, LinearBasis",
    ),
    ({"name": "described", "bases": torch.tensor(3)}, "by which no file could be read again"),
    ({"bases": 3}, "wanted its name"),
]


@pytest.mark.parametrize("told, pattern", UNREADABLE, ids=[pattern for _, pattern in UNREADABLE])
def test_a_description_that_makes_no_such_decoder_is_refused(digits, told, pattern, monkeypatch):
    monkeypatch.setattr(Described, "told", told, raising=False)
    if told == {"name": "described"}:  # of two arguments it gives the default of one
        monkeypatch.setattr(
            Described, "describe", lambda self: {"name": "described", "bases": self.bases + 1}
        )
    with pytest.raises(UsageError) as refused:
        dd.distill(config(decoder="described"), data=digits)
    assert pattern in str(refused.value) and "Described.describe()" in str(refused.value)


def test_a_description_that_makes_no_such_objective_is_refused(digits):
    with pytest.raises(
        UsageError, match=r"Forgetful.describe\(\) gives .*forgetful has no argument 'classes'"
    ):
        dd.distill(config(objective="forgetful"), data=digits)


def test_spare_rows_of_a_decoder_are_refused(digits, tmp_path):
    d = dd.distill(config(decoder="linear-basis", iterations=1), data=digits)
    d.coded["rows"] = torch.cat([d.coded["rows"], torch.ones(1, 4)])
    d.save(tmp_path / "set")
    with pytest.raises(
        DataError, match=r"more images of .*'rows': \(11, 4\).* than the 10 that have labels"
    ):
        dd.DistilledDataset.load(tmp_path / "set")


class Mirrored(Normalization):
    """Rows of pixels mixed by a matrix, after mean and deviation."""

    kind = "mirrored"

    def __init__(self, mean, std, size, channels, mix):
        super().__init__(mean, std, size, channels)
        object.__setattr__(self, "mix", mix)

    @property
    def tensors(self):
        return {"mix": self.mix}

    def __call__(self, images):
        return self.mix @ super().__call__(images)

    def inverse(self, images):
        return super().inverse(torch.linalg.inv(self.mix) @ images)

    @classmethod
    def from_dict(cls, values):
        return cls(*(values[k] for k in ("mean", "std", "size", "channels")), **values["tensors"])


@pytest.fixture
def mirrored_digits(monkeypatch):
    monkeypatch.setitem(NORMALIZATIONS, "mirrored", Mirrored)
    bunch = load_digits()
    images = torch.from_numpy(bunch.images / 16).float()[:, None]
    mirrored = Mirrored((0.3,), (0.4,), 8, 1, torch.eye(8).flip(0).contiguous())
    labels = torch.from_numpy(bunch.target)
    return dd.RealData.from_tensors(
        images[:1000],
        labels[:1000],
        test_images=images[1000:],
        test_labels=labels[1000:],
        normalization=mirrored,
    )


def test_a_normalization_travels_with_its_tensors(mirrored_digits, tmp_path):
    data, options = mirrored_digits, dd.config.RunOptions(quiet=True)
    plain = Normalization((0.3,), (0.4,), 8, 1)
    pixels = data.normalization.inverse(data.train.images)
    torch.testing.assert_close(data.train.images, plain(pixels.clamp(0, 1)).flip(2))
    learned = dd.distill(config(iterations=2), data=data, out=tmp_path / "run", options=options)
    d = dd.DistilledDataset.load(tmp_path / "run")
    assert torch.equal(d.normalization.mix, data.normalization.mix) and torch.equal(
        d.images, learned.images
    )
    some = pixels[:3].clamp(0, 1)
    assert torch.equal(d.normalization(some), learned.normalization(some))
    pool = PoolConfig(
        net="mlp", net_args={"width": 4}, nets=1, validation_nets=1, held_out=1, epochs=1
    )
    dd.pretrain(pool, data=data).save(tmp_path / "pool")
    assert torch.equal(dd.Pool.load(tmp_path / "pool").normalization.mix, data.normalization.mix)
