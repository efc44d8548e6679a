"""A student of one's own: a module, an objective or stages in place of what a config names."""

import copy
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

import kd_baselines as kd
from datadistill import FitPlan, load
from datadistill.config import RunOptions
from datadistill.errors import DataError, Interrupted, UsageError
from datadistill.training.fit_loop import Fit
from kd_baselines.cli import main
from kd_baselines.given_student import describe_stages

PLAN = FitPlan(epochs=2, batch=64, lr=0.01)
CONFIG = kd.KdConfig(dataset="digits", per_class=10, epochs=2, batch=25, lr=0.01, teacher_epochs=1)


class Own(nn.Module):
    def __init__(self, width=6, classes=10):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, width, 3), nn.BatchNorm2d(width)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(width * 36, classes)

    def forward(self, x):
        return self.head(self.dropout(self.norm(self.conv(x)).relu().flatten(1)))


def own(seed=0, **changes):
    torch.manual_seed(seed)
    return Own(**changes)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def objective():
    return kd.CE(weight=0.1) + kd.KD(T=4, weight=0.9)


def two_stages():
    return (
        kd.Stage("hints", kd.Hint({"conv": "conv"}), PLAN, until="norm"),
        kd.Stage("student", objective(), replace(PLAN, epochs=1)),
    )


WAYS = {
    "method": lambda: {"net": own()},
    "objective": lambda: {"net": own(), "objective": objective()},
    "stages": lambda: {"net": own(), "stages": two_stages()},
    "factory": lambda: {"net": Own, "objective": objective()},
    "objective alone": lambda: {"objective": objective()},
}


def config_of(way):
    return CONFIG.with_changes(method="soft-targets") if way == "method" else CONFIG


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_stopped_and_resumed_to_the_same_bytes(way, tmp_path, monkeypatch):
    config, given, teacher = config_of(way), WAYS[way](), kd.Teacher(own(9))
    trained = kd.train(config, teacher=teacher, out=tmp_path / "whole", **given)
    assert trained.scores.accuracy > 15
    advance, steps = Fit.advance, []

    def interrupted(self):
        steps.append(1)
        if len(steps) == 6:
            signal.raise_signal(signal.SIGTERM)
        return advance(self)

    stopped = {"out": tmp_path / "run", "teacher": teacher, "options": RunOptions(quiet=True)}
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as said:
        patch.setattr(Fit, "advance", interrupted)
        kd.train(config, **WAYS[way](), **stopped)
    for name in (*given, "teacher"):
        assert f"{name}=..." in str(said.value)
    kd.train(None, resume=True, **WAYS[way](), **stopped)
    for name in ("student.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    saved = kd.SavedNet.load(tmp_path / "run")
    net = saved.net() if way == "objective alone" else saved.net(net=own(3))
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(net(images), trained.student(images))


def test_it_is_what_fit_makes_of_the_same_stages(digits):
    net, teacher = own(), kd.Teacher(own(9))
    before = copy.deepcopy(net.state_dict())
    given = two_stages()
    trained = kd.train(data=digits, net=net, teacher=teacher, stages=given, config=None)
    fitted = kd.fit(net, digits.train, two_stages(), teacher)
    for name, value in fitted.state_dict().items():
        torch.testing.assert_close(trained.student.state_dict()[name], value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not given[0].objective.regressors  # terms are copied too
    assert net.training and all(p.grad is None for p in net.parameters())


def test_layers_that_were_frozen_stay_so_in_every_stage(digits):
    net = own()
    net.norm.eval()
    trained = kd.train(CONFIG, net=net, teacher=kd.Teacher(own(9)), stages=two_stages())
    assert int(trained.student.norm.num_batches_tracked) == 0


def test_a_factory_draws_by_the_seed_of_the_student():
    found = [
        kd.train(CONFIG.with_changes(seed=seed, epochs=1), net=Own).saved.fingerprint
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]


def test_the_config_says_in_words_what_was_given(tmp_path):
    trained = kd.train(
        CONFIG, net=own(), teacher=kd.Teacher(own(9)), objective=objective(), out=tmp_path / "run"
    )
    said = {"objective": "CE(weight=0.1) + KD(T=4, weight=0.9)"}
    assert (trained.config.net, trained.config.method) == ("custom", "custom")
    assert trained.config.method_args == trained.saved.record["method_args"] == said
    assert describe_stages(two_stages()) == describe_stages(two_stages())
    assert describe_stages(two_stages())["1 hints"].endswith("until norm")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given") / "run"
    kd.train(CONFIG, net=own(), objective=kd.CE(), out=folder)
    return folder


def test_a_run_is_resumed_with_the_same_objects_alone(finished, capsys):
    def resume(**given):
        kd.train(None, out=finished, resume=True, **given)

    with pytest.raises(UsageError, match=r"objective of your own .*net=\.\.\., objective=\.\.\."):
        resume(net=own())
    with pytest.raises(UsageError, match=r"CE\(\).* -> .*CE\(weight=0.5\)"):
        resume(net=own(), objective=kd.CE(weight=0.5))
    with pytest.raises(UsageError, match="started from a net of other values"):
        resume(net=own(1), objective=kd.CE())
    with pytest.raises(UsageError, match=r"another net .its tensors differ"):
        resume(net=own(width=5), objective=kd.CE())
    assert main(["train", "--resume", str(finished)]) == 2
    assert "net and objective of your own from Python" in capsys.readouterr().err
    assert main(["evaluate", str(finished)]) == 2
    assert "a module of the user's own" in capsys.readouterr().err
    with pytest.raises(DataError, match="of the net Own"):
        kd.SavedNet.load(finished).net(net=own(width=5))


REFUSED = {
    "no module": ({"net": 3}, "net is 3, wanted a torch module"),
    "both": ({"objective": kd.CE(), "stages": two_stages()}, "both objective and stages"),
    "no term": ({"objective": "CE"}, "objective is 'CE', wanted a term"),
    "no stage": ({"stages": [kd.CE()]}, r"stages is CE\(\), wanted one kd_baselines.Stage"),
    "empty": ({"stages": []}, "stages is empty"),
    "weights": (
        {"net": own(), "config": CONFIG.with_changes(weights="a.pt")},
        "weights is 'a.pt', but the net is given",
    ),
    "classes": ({"net": own(classes=7)}, r"the net makes \(2, 7\) of 2 images, wanted \(2, 10\)"),
    "lazy": (
        {"net": nn.Sequential(nn.Flatten(), nn.LazyLinear(10))},
        "1.weight has no shape yet; run one batch through the net",
    ),
    "no data": ({"net": own(), "config": None}, "pass data=, or such as KdConfig"),
    "no teacher": (
        {"net": own(), "config": None, "objective": objective(), "data": load("digits")},
        "a term needs a teacher, and there is neither one",
    ),
    "no such net": ({"config": CONFIG.with_changes(net="custom")}, "custom"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_trained_is_refused_first(case, monkeypatch):
    given, said = REFUSED[case]
    monkeypatch.setattr(Fit, "advance", lambda self: pytest.fail("a step was taken"))
    with pytest.raises(UsageError, match=said):
        kd.train(**{"config": CONFIG, **given})
