"""Sets of features of a frozen net: learned, saved, tested, and put into the net as its head."""

import json
from dataclasses import replace

import pytest
import torch
from picture_folder import write_pictures
from safetensors.torch import load_file
from torch import nn

import datadistill as dd
from datadistill.cli import main
from datadistill.config import DistillConfig
from datadistill.data import Split
from datadistill.data.normalization import Normalization
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.own_data import load_own_data
from datadistill.nets import build
from datadistill.nets.head import features_of
from datadistill.real_features import to_features
from datadistill.training.finetune import finetune

CONFIG = DistillConfig(
    space="features",
    theta_0="given",
    init="small",
    method="ridge-regression",
    images_from="kmeans",
    epochs=10,
    step_size=None,
    step_sizes="shared",
    iterations=20,
    batch=32,
    lr_images=0.01,
    validate_every=10,
)


def net_of(seed=0, classes=10, norm=True):
    """A convolution with BatchNorm in front of a linear head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8) if norm else nn.Identity(),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(72, classes),
        )
    if norm:
        net[1].running_mean.normal_(generator=torch.Generator().manual_seed(seed))
    return net


@pytest.fixture(scope="module")
def learned():
    data = dd.load("digits")
    d = dd.distill(CONFIG, data=data, net=net_of())
    return data, d


def test_a_set_of_features_trains_a_linear_head(learned):
    data, d = learned
    assert d.images.shape == (10, 72, 1, 1) and d.start.kind == "draws"
    assert (d.net.name, d.net.args["depth"], d.theta_0) == ("mlp", 0, None)
    found = dd.evaluate(d, data=data, nets=2, plain_nets=0)
    assert found.accuracy_before_mean < 30 and found.accuracy_mean > 75
    rows = dd.compare(
        d, data=data, nets=1, sets=2, selection_nets=1, baselines=["random-real"]
    ).rows
    assert rows[0].accuracy_mean > rows[1].accuracy_mean


def test_features_are_normalized_and_made_of_images(learned):
    _, d = learned
    data = dd.load("digits")
    real = to_features(data, d.normalization)
    assert not data.test_was_read and not real.test_was_read
    x = real.train.images.flatten(1)
    torch.testing.assert_close(x.mean(0), torch.zeros(72), atol=1e-4, rtol=0)
    assert abs(float(x.square().mean()) - 1) < 1e-3
    raw = features_of(net_of(), data.train.images[:5])
    torch.testing.assert_close(
        d.normalization.inverse(real.train.images[:5]).flatten(1), raw, atol=1e-5, rtol=1e-4
    )
    pixels = data.normalization.inverse(data.train.images[:5]).clamp(0, 1)
    torch.testing.assert_close(d.normalization(pixels), real.train.images[:5], atol=1e-4, rtol=1e-4)
    alone = d.normalization(pixels[:1])[0]
    torch.testing.assert_close(d.normalization(pixels)[0], alone, atol=1e-5, rtol=1e-5)
    assert to_features(real, d.normalization) is real and real.fingerprint != data.fingerprint


def test_the_file_names_the_net_and_does_not_hold_it(learned, tmp_path):
    data, d = learned
    d.save(tmp_path / "a")
    again = dd.DistilledDataset.load(tmp_path / "a")
    assert again.normalization == d.normalization and again.needs_weights
    again.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size < 4 * 10 * 72 + 4096
    assert again.train()(torch.zeros(1, 72, 1, 1)).shape == (1, 10)
    for use in (
        lambda: again.normalization(torch.zeros(1, 1, 8, 8)),
        lambda: dd.evaluate(again, data=data),
    ):
        with pytest.raises(
            UsageError, match=r"its file names \(sha256:.* pass that net: d.with_weights"
        ):
            use()
    with pytest.raises(DataError, match="is not the backbone whose features the set has"):
        again.with_weights(net_of(1))
    other_head = net_of()
    nn.init.zeros_(other_head[-1].weight)
    whole = again.with_weights(other_head)
    assert not whole.needs_weights
    torch.save(net_of(classes=7).state_dict(), tmp_path / "weights.pt")
    by_file = again.with_weights(tmp_path / "weights.pt", net_of(2))
    found = [
        dd.evaluate(one, data=data, nets=1, plain_nets=0).accuracy_mean
        for one in (d, whole, by_file)
    ]
    assert found[0] == found[1] == found[2]


def test_the_same_run_gives_the_same_bytes(learned, tmp_path):
    data, d = learned
    straight = dd.distill(CONFIG, data=data, net=net_of(), out=tmp_path / "a")
    straight.save(tmp_path / "c")
    d.save(tmp_path / "d")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "d").read_bytes()
    constant = CONFIG.with_changes(schedule="constant")
    dd.distill(constant.with_changes(iterations=10), data=data, net=net_of(), out=tmp_path / "b")
    longer = dd.config.RunOptions(quiet=True, resume_with_changes=True)
    resumed = dd.distill(
        constant, data=data, net=net_of(), out=tmp_path / "b", resume=True, options=longer
    )
    assert torch.equal(resumed.images, dd.distill(constant, data=data, net=net_of()).images)


def test_finetune_puts_the_head_into_the_net(learned):
    data, d = learned
    net = net_of()
    before = {k: x.clone() for k, x in net.state_dict().items()}
    tuning = finetune(d, net, data=data, max_steps=20)
    assert tuning.accuracy_after > 75 > tuning.accuracy_before
    assert tuning.steps == 10 and tuning.accuracy_same_steps is not None
    own = tuning.net.eval()
    found = (own(data.test.images).argmax(1) == data.test.labels).float().mean() * 100
    assert abs(float(found) - tuning.accuracy_after) < 0.3
    start = (net.eval()(data.test.images).argmax(1) == data.test.labels).float().mean() * 100
    assert abs(float(start) - tuning.accuracy_before) < 0.3
    after = tuning.net.state_dict()
    changed = [k for k, x in before.items() if not torch.equal(x, after[k])]
    assert changed == ["6.weight", "6.bias"]
    assert all(torch.equal(x, net.state_dict()[k]) for k, x in before.items())
    assert tuning.meta["normalization"] == d.normalization.base


class WithSigmoid(nn.Sequential):
    def forward(self, images):
        return super().forward(images).sigmoid()


def test_refusals_of_nets(learned):
    data, d = learned
    with pytest.raises(DataError, match="is not the backbone"):
        finetune(d, net_of(1), data=data)
    with pytest.raises(UsageError, match="makes 7 logits, and there are 10 classes"):
        finetune(d, net_of(classes=7), data=data, reach=False)
    behind = WithSigmoid(*net_of())
    for use in (
        lambda: dd.distill(CONFIG.with_changes(iterations=10**9), data=data, net=behind),
        lambda: finetune(d, behind, data=data, max_steps=10**9),
    ):
        with pytest.raises(UsageError, match="a linear head cannot take the place of the net's la"):
            use()


def test_another_forward_with_the_same_values_has_its_own_features(learned):
    data, d = learned
    other = net_of()
    other[2] = nn.Tanh()
    short = CONFIG.with_changes(iterations=1)
    normalization = dd.distill(short, data=data, net=other).normalization
    assert normalization.fingerprint == d.normalization.fingerprint
    wanted = features_of(other, data.train.images)
    torch.testing.assert_close(torch.tensor(normalization.mean), wanted.mean(0))
    found = to_features(data, normalization).validation.images
    wanted = features_of(other, data.validation.images)
    torch.testing.assert_close(normalization.inverse(found).flatten(1), wanted)


def test_finetune_without_validation_images(learned):
    data, d = learned
    none = Split(data.validation.images[:0], data.validation.labels[:0])
    found = finetune(d, net_of(), data=replace(data, validation=none), reach=False)
    assert found.accuracy_after > 75 > found.accuracy_fresh


def test_data_of_another_normalization_are_refused(learned):
    data, d = learned
    other = dd.load("digits", normalization=Normalization((0.5,), (0.5,), 8, 1))
    with pytest.raises(DataError, match=r"load them with normalization=d\.normalization\.base"):
        dd.evaluate(d, data=other)
    features = to_features(data, dd.distill(CONFIG, data=data, net=net_of(3)).normalization)
    with pytest.raises(DataError, match="pass the images themselves"):
        dd.evaluate(d, data=features)


REFUSALS = [
    ({"theta_0": "fixed"}, "space is features, which are those of one pretrained net"),
    ({"train": ("norm",)}, "a linear head is all that is trained on features"),
    ({"head": "keep"}, "the head is drawn afresh"),
    ({"norm": "batch"}, "the backbone keeps its statistics"),
    ({"embed_weights": True}, "the file names the backbone and does not hold it"),
    ({"augment": ("flip",)}, "the features of the real images are computed once"),
    ({"augment_synthetic": ("dsa:color",)}, "features are no images"),
]


@pytest.mark.parametrize("changes, pattern", REFUSALS, ids=[pattern for _, pattern in REFUSALS])
def test_choices_that_features_leave_no_room_for(changes, pattern):
    with pytest.raises(UsageError, match=pattern):
        CONFIG.with_changes(**changes)


def test_a_set_of_images_through_the_body(learned):
    data, _ = learned
    config = CONFIG.with_changes(
        space="pixels", train=("head",), epochs=100, update="adam", step_size=0.03, lr_images=0.03
    )
    for method in ("ridge-regression", "linear-gradient-matching"):
        d = dd.distill(config.with_changes(method=method, method_args={}), data=data, net=net_of())
        assert d.images.shape == (10, 1, 8, 8) and not d.needs_weights
        assert dd.evaluate(d, net=net_of(), data=data, plain_nets=0).accuracy_mean > 75


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Images of two classes, and weights of two architectures for a thousand classes."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pets", 10, 32, levels=150)
    return tmp_path


@pytest.mark.parametrize("model", ["mobilenet_v3_small", "squeezenet1_0"])
def test_from_the_command_line(here, capsys, model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build("torchvision", channels=3, size=32, model=model, classes=1000)
        torch.save(net.state_dict(), "net.pt")
        next(net.parameters()).data.mul_(2)
        torch.save(net.state_dict(), "other.pt")
    argv = "distill own-images-head --data pets --size 32 --weights net.pt --iterations 10"
    argv = [*argv.split(), "--net-args", "model", model, "--batch", "8", "--out", "run"]
    assert main([*argv, "--nets-tested", "2", "--plain-nets", "0"]) == 0
    assert not (here / "run" / "figures" / "images.png").exists()
    capsys.readouterr()
    assert main(["show", "run"]) == 0
    assert "of features no picture can be drawn" in capsys.readouterr().out
    assert main(["inspect", "run"]) == 0
    assert f" features of {model}, net.pt (sha256:" in " ".join(capsys.readouterr().out.split())
    assert main(["evaluate", "run", "--nets", "1", "--plain-nets", "0", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "run", "--weights", "other.pt"]) == 3
    assert "is not the backbone whose features the set has" in capsys.readouterr().err
    assert main(["finetune", "run", "--max-steps", "10", "--out", "own.safetensors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy_after"] == shown["accuracy_mean"]
    net = build("torchvision", channels=3, size=32, classes=2, model=model)
    net.load_state_dict(load_file("own.safetensors"))
    test = load_own_data(dd.DistilledDataset.load("run"), folder="pets").test
    with torch.no_grad():
        right = (net.eval()(test.images).argmax(1) == test.labels).float().mean() * 100
    assert right == pytest.approx(found["accuracy_after"])
    assert main(["finetune", "run", "--net", "lenet", "--out", "x.pt"]) == 2
    (here / "net.pt").unlink()
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 2
    assert "pass its weights (--weights" in capsys.readouterr().err
