"""What ordinary fine-tuning reaches beside a set: in as many steps, as many seconds, in the end."""

import pytest
import torch
from torch import nn

from datadistill.distilled import DistilledDataset
from datadistill.errors import NumericalError, UsageError
from datadistill.evaluation.accuracy import accuracy
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.recipes import recipe
from datadistill.training import distill, ordinary_finetuning
from datadistill.training.finetune import finetune
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan
from datadistill.training.ordinary_finetuning import RATES, Observed, run_ordinary

BATCH, STEPS = 64, 12


class Own(nn.Module):
    """BatchNorm, dropout and a tied layer."""

    def __init__(self, dropout=0.2):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.again = self.body[1]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        h = self.dropout(self.body(x))
        return self.head(torch.relu(self.again(h)))


def own(seed=0, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Own(**changes)


def set_of(data, norm="batch", T=4, step_size=0.1):
    order = list(torch.arange(30 * T).split(30))
    return DistilledDataset(
        data.train.images[: 30 * T],
        data.train.labels[: 30 * T],
        torch.full((T,), step_size),
        order,
        classes=data.classes,
        normalization=data.normalization,
        net=NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10}),
        update=sgd(),
        norm=norm,
    )


def plain_fit(net, data, steps, lr=1e-3, seed=0):
    """A separate run of exactly so many steps."""
    if steps == 0:
        return net
    plan = FitPlan(epochs=5, batch=BATCH, lr=lr)
    return fit(net, data.train, plan, seed=seed, on_step=lambda step, net: step == steps)


def percent(net, split):
    return accuracy(net, {k: p.detach() for k, p in net.named_parameters()}, split)


def frozen_norms(net):
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.eval()
    return net


@pytest.mark.parametrize("norm", ["batch", "frozen"])
def test_accuracies_are_those_of_runs_of_so_many_steps(digits, norm):
    net = own()
    found = finetune(
        set_of(digits, norm), net, data=digits, max_steps=STEPS, every=3, batch=BATCH, seed=5
    )
    start = frozen_norms(own()) if norm == "frozen" else net
    alone = {n: plain_fit(start, digits, n, seed=5) for n in range(STEPS + 1)}
    looks = [percent(alone[n], digits.validation) for n in (0, 3, 6, 9, 12)]
    best = max(n for n, look in zip((0, 3, 6, 9, 12), looks, strict=True) if look == max(looks))
    tested = {n: percent(one, digits.test) for n, one in alone.items()}
    assert found.accuracy_same_steps == tested[4]
    assert found.accuracy_same_seconds == tested[found.steps_same_seconds]
    assert (found.steps_end, found.accuracy_end) == (best, tested[best])
    assert found.seconds_same_steps <= found.seconds_end and found.norm == norm and found.dropout
    assert set(found.rates.values()) == {1e-3}


def observed(**changes):
    settings = {"set_steps": 4, "set_seconds": 0.0, "wanted": 101.0, "max_steps": 6, "every": 3}
    return Observed(**{**settings, **changes})


def run(data, net=None, lr=1e-3, **changes):
    return run_ordinary(
        net or own(), data, observed(**changes), norm="batch", lr=lr, batch=BATCH, seed=0
    )


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.0, 0), (0.9, 0), (1.0, 1), (3.5, 3), (6.0, 6), (100.0, 6)]
)
def test_same_seconds_is_the_last_step_that_ends_in_time(digits, monkeypatch, seconds, steps):
    """By a clock on which a step takes a second, and each test or copy ten."""
    clock = Clock()
    monkeypatch.setattr(ordinary_finetuning, "read_clock", clock)
    monkeypatch.setattr(ordinary_finetuning, "copy_net", clock.lasting(copy_net, 10))
    monkeypatch.setattr(ordinary_finetuning, "percent_of", clock.lasting(percent, 10))
    monkeypatch.setattr(ordinary_finetuning, "fit", clock.ticking(fit))
    found = run(digits, set_seconds=seconds)
    assert (found.same_seconds.steps, found.seconds) == (steps, 6.0)
    assert found.same_steps.seconds == 4.0


copy_net = ordinary_finetuning.copy_net


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self, device):
        return self.now

    def lasting(self, function, seconds):
        def call(*args):
            self.now += seconds
            return function(*args)

        return call

    def ticking(self, fit):
        def call(*args, on_step, **kwargs):
            def step(number, net):
                self.now += 1.0
                return on_step(number, net)

            return fit(*args, on_step=step, **kwargs)

        return call


def test_more_steps_than_the_run_has_are_not_made(digits):
    found = run(digits, set_steps=7)
    assert found.same_steps is None and found.best.steps <= 6
    tuning = finetune(set_of(digits), own(), data=digits, max_steps=3, batch=BATCH)
    assert tuning.accuracy_same_steps is None and tuning.seconds_same_steps is None


def test_a_net_that_only_gets_worse_ends_as_it_was(digits):
    good = plain_fit(own(), digits, 60)
    found = run(digits, good, lr=3.0)
    assert found.best.steps == 0 and found.best.seconds == 0.0


def test_auto_takes_the_best_rate_of_each_moment_on_the_validation_split(digits):
    found = run(digits, lr="auto", set_seconds=100.0)
    runs = {rate: run(digits, lr=rate, set_seconds=100.0) for rate in RATES}
    for moment in ("same_steps", "same_seconds", "best"):
        chosen = getattr(found, moment)
        reached = {
            rate: percent(getattr(one, moment).net, digits.validation) for rate, one in runs.items()
        }
        assert reached[chosen.lr] == max(reached.values())
        same = getattr(runs[chosen.lr], moment)
        for p, q in zip(chosen.net.parameters(), same.net.parameters(), strict=True):
            assert torch.equal(p, q)
    tuning = finetune(set_of(digits), own(), data=digits, max_steps=4, batch=BATCH, lr="auto")
    assert tuning.rates.keys() == {"ordinary", "same_steps", "same_seconds", "end"}
    assert set(tuning.rates.values()) <= set(RATES)


def test_auto_passes_over_a_rate_that_diverges(digits, monkeypatch):
    monkeypatch.setattr(ordinary_finetuning, "RATES", (1e30, 1e-3))
    assert run(digits, lr="auto").best.lr == 1e-3
    monkeypatch.setattr(ordinary_finetuning, "RATES", (1e30,))
    with pytest.raises(NumericalError):
        run(digits, lr="auto")


def test_another_word_than_auto_is_refused(digits):
    with pytest.raises(UsageError, match="lr is 'fast', wanted a learning rate or 'auto'"):
        run(digits, lr="fast")


def test_layers_are_in_the_modes_of_the_sets_steps(digits, monkeypatch):
    seen = []

    def recorded(net, *args, **kwargs):
        inner = net[0]
        seen.append((inner.training, inner.body[2].training, inner.dropout.training))
        return fit(net, *args, **kwargs)

    monkeypatch.setattr(ordinary_finetuning, "fit", recorded)
    for net, norm, modes in (
        (own(), "batch", (True, True, True)),
        (own(), "frozen", (True, False, True)),
        (own().eval(), "batch", (False, True, False)),
        (own().eval(), "frozen", (False, False, False)),
    ):
        seen.clear()
        found = finetune(set_of(digits, norm), net, data=digits, max_steps=1, batch=BATCH)
        assert set(seen) == {modes} and found.dropout == modes[2]
        assert found.net.training == net.training


def test_frozen_parameters_stay_in_ordinary_fine_tuning_too(digits):
    net = own()
    net.body.requires_grad_(False)
    found = run(digits, net)
    assert torch.equal(found.best.net.body[1].weight, net.body[1].weight)
    assert not torch.equal(found.same_steps.net.head.weight, net.head.weight)


def test_statistics_that_the_set_carries_are_those_of_both(digits):
    config = recipe("digits-random").with_changes(
        theta_0="given", norm="reestimated", iterations=1, validate_nets=1, batch=8
    )
    net = own(dropout=0.0)
    d = distill(config, data=digits, net=net)
    found = finetune(d, net, data=digits, max_steps=1, batch=BATCH)
    assert found.norm == "reestimated"
    carried = d.carried["body.2.running_mean"]
    assert not torch.equal(carried, net.body[2].running_mean)
    for one in (found.start, found.net):
        assert torch.equal(one.body[2].running_mean, carried)
    alone = plain_fit(frozen_norms(copy_net(found.start)), digits, 1)
    assert found.accuracy_end in (found.accuracy_before, percent(alone, digits.test))
