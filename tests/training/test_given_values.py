"""theta_0="given": a run starts from the values of the user's own net, and the set carries them."""

import copy
import warnings

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_cases import config

import datadistill as dd
from datadistill.cli import main
from datadistill.errors import DataError, UsageError, ValuesNotUsed
from datadistill.nets.spec import NetSpec
from datadistill.training.fit import fit
from datadistill.training.fit_plan import FitPlan
from datadistill.visualize.describe import net_line

SPEC = {"channels": 1, "size": 8, "classes": 10, "width": 6, "depth": 1}


class Trained(nn.Module):
    """Frozen features, a BatchNorm and a head, all with values of their own."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.features, self.norm, self.head = (
            nn.Linear(64, 24),
            nn.BatchNorm1d(24),
            nn.Linear(24, 10),
        )
        self.features.requires_grad_(False)
        with torch.no_grad():
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.head(self.norm(self.features(x.flatten(1))).relu())


def small(**changes):
    return config(
        **{"net": "lenet", "net_args": {}, "theta_0": "given", "iterations": 2, **changes}
    )


def values(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def learned(digits):
    net = Trained()
    return net, dd.distill(small(norm="frozen"), data=digits, net=net)


def test_the_set_carries_the_values_of_the_net(learned, tmp_path):
    net, d = learned
    d.save(tmp_path / "set")
    d = dd.DistilledDataset.load(tmp_path / "set", weights=net)
    assert same({**d.theta_0, **d.buffers}, values(net))
    assert list(d.theta_0) == ["norm.weight", "norm.bias", "head.weight", "head.bias"]
    assert d.start.kind == "given" and d.start.one and d.start.fingerprint.startswith("sha256:")
    assert repr(d).endswith("the given values of custom)")


def test_the_callers_net_is_not_changed(digits):
    net = Trained()
    before = values(net)
    d = dd.distill(small(), data=digits, net=net)
    d.train(Trained(1))
    dd.finetune(d, net, data=digits, reach=False, device="cpu")
    assert same(values(net), before)


def test_train_is_the_sets_steps_from_the_given_values(learned):
    net, d = learned
    theta_0 = {k: p.detach() for k, p in net.named_parameters() if p.requires_grad}
    theta_T = dd.unroll(net, theta_0, d.steps(), d.step_sizes, d.update, norm="frozen")
    for own in (net, Trained(seed=1)):  # another net gives the architecture
        trained = values(d.train(own))
        assert same({k: trained[k] for k in theta_T}, {k: p.detach() for k, p in theta_T.items()})
        assert same({k: trained[k] for k in d.buffers}, d.buffers)


def test_evaluate_and_finetune_start_from_the_given_net(learned, digits):
    net, d = learned
    trained = d.train(net)

    def accuracy(one):
        with torch.no_grad():
            return 100 * float(
                (one.eval()(digits.test.images).argmax(1) == digits.test.labels).float().mean()
            )

    wanted = pytest.approx(
        [accuracy(copy.deepcopy(net)), accuracy(trained)], abs=100 / len(digits.test)
    )
    tuned = dd.finetune(d, net, data=digits, reach=False, device="cpu")
    assert [tuned.accuracy_before, tuned.accuracy_after] == wanted
    for own in (net, Trained(seed=1)):
        found = dd.evaluate(d, net=own, data=digits, plain_nets=0, device="cpu")
        assert [found.accuracy_before_mean, found.accuracy_mean] == wanted
        assert found.nets == 1


def test_statistics_before_training_are_the_nets_own(digits):
    net = Trained()
    d = dd.distill(small(norm="batch"), data=digits, net=net)
    found = dd.evaluate(d, net=net, data=digits, plain_nets=0, device="cpu")
    tuned = dd.finetune(d, net, data=digits, reach=False, device="cpu")
    assert found.accuracy_before_mean == pytest.approx(tuned.accuracy_before)
    assert found.accuracy_mean == pytest.approx(tuned.accuracy_after)


def test_compare_has_a_row_of_the_net_as_it_was(learned, digits):
    net, d = learned
    found = dd.compare(
        d,
        net=net,
        data=digits,
        nets=3,
        sets=1,
        selection_nets=1,
        candidates="learned",
        baselines=["average-real"],
        device="cpu",
    )
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["distilled", "no-adaptation", "average-real"]
    assert {row.nets for row in rows.values()} == {1}


def test_a_trained_net_gains_by_its_given_values(digits):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    few = dd.data.Split(*digits.train.batch(torch.Generator().manual_seed(0), 60))
    net = fit(net, few, FitPlan(epochs=15, batch=20, lr=0.01))
    gain = {}
    for theta_0 in ("fixed", "given"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changes = {
                "theta_0": theta_0,
                "iterations": 30,
                "batch": 128,
                "epochs": 3,
                "lr_images": 0.1,
            }
            d = dd.distill(small().with_changes(**changes), data=digits, net=net)
            tuned = dd.finetune(d, net, data=digits, reach=False, device="cpu")
        gain[theta_0] = tuned.accuracy_after - tuned.accuracy_before
    assert gain["given"] > gain["fixed"] + 3
    assert gain["given"] > 3


def test_a_resume_wants_the_values_it_started_from(digits, tmp_path):
    net = Trained()
    straight = dd.distill(small(), data=digits, net=net)
    dd.distill(small(), data=digits, net=net, out=tmp_path / "run")
    for change in ("head.weight", "features.weight", "norm.running_mean"):
        other = Trained()
        with torch.no_grad():
            other.state_dict()[change].flatten()[0].add_(1)
        with pytest.raises(UsageError, match=r"from a net of other values .* pass that net"):
            dd.distill(None, data=digits, net=other, out=tmp_path / "run", resume=True)
    (tmp_path / "run/distilled.safetensors").unlink()
    again = dd.distill(None, data=digits, net=Trained(), out=tmp_path / "run", resume=True)
    assert torch.equal(again.images, straight.images)
    assert same(again.theta_0, straight.theta_0)


def test_a_file_of_weights_gives_the_last_layer_too(digits, tmp_path):
    net = NetSpec("mlp", SPEC).build()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    d = dd.distill(config(theta_0="given", weights=str(tmp_path / "net.pt")), data=digits)
    assert same(d.theta_0, values(net))
    assert (d.net.name, d.start.kind) == ("mlp", "given")
    trained = values(dd.finetune(d, net, data=digits, reach=False, device="cpu").net)
    assert same(values(d.train()), trained)


def test_another_architecture_gets_fresh_draws(learned, digits):
    _, d = learned
    with pytest.warns(UserWarning, match="expect about chance accuracy"):
        found = dd.evaluate(d, net="mlp", nets=2, data=digits, plain_nets=0, device="cpu")
    assert (found.net, found.nets) == ("mlp", 2)


def test_infinities_of_a_mask_stay_with_the_net(digits, tmp_path):
    net = Trained()
    net.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    d = dd.distill(small(), data=digits, net=net)
    assert "mask" not in d.buffers
    d.save(tmp_path / "set")
    dd.DistilledDataset.load(tmp_path / "set").train(net)


def broken():
    net = Trained()
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    return net


def complex_net():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net.register_parameter("phase", nn.Parameter(torch.zeros(3, dtype=torch.complex64)))
    return net


def with_buffer(dtype):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    net.register_buffer("turns", torch.ones(3).to(dtype))
    return net


REFUSED = [
    (
        lambda data: dd.distill(small(), data=data, net=complex_net()),
        "phase of the net is torch.complex64, and",
    ),
    *(
        (
            lambda data, start=start, dtype=dtype: dd.distill(
                small(theta_0=start), data=data, net=with_buffer(dtype)
            ),
            f"turns of the net is {dtype}, and",
        )
        for start in ("given", "fixed")
        for dtype in (torch.complex64, torch.complex128, torch.uint16)
    ),
    (
        lambda data: dd.distill(small(), data=data, net=Trained().requires_grad_(False)),
        "no parameter of the net requires a gradient",
    ),
    (lambda data: dd.distill(config(theta_0="given"), data=data), "no values are: pass your net"),
    (
        lambda data: dd.distill(small(), data=data, net=broken()),
        "'head.bias' of the net is not finite",
    ),
    (
        lambda data: config(theta_0="given", pool="p"),
        "theta_0 is given, but the pool p holds many nets",
    ),
    (lambda data: config(theta_0="given", source="mnist"), "but the pool of mnist holds many nets"),
]


@pytest.mark.parametrize(("call", "said"), REFUSED)
def test_refusals(call, said, digits):
    with pytest.raises((UsageError, DataError), match=said):
        call(digits)


def test_values_that_do_not_fit_the_carried_ones_are_refused(learned):
    _, d = learned
    other = Trained()
    other.norm = nn.BatchNorm1d(24, track_running_stats=False)
    with pytest.raises(UsageError, match=r"'norm\.running_mean' is missing"):
        d.train(other)


@pytest.mark.parametrize(("theta_0", "said"), [("fixed", "one draw"), ("random", "fresh draws")])
def test_a_module_whose_values_are_not_used_is_told(theta_0, said, digits):
    wanted = f'the values of net are not used: theta_0 is "{theta_0}", {said}.*"given"'
    with pytest.warns(ValuesNotUsed, match=wanted) as found:
        dd.distill(
            small(norm="batch").with_changes(theta_0=theta_0, iterations=1),
            data=digits,
            net=Trained(),
        )
    assert [w.filename for w in found] == [__file__]


def test_given_values_are_used_without_a_word(digits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dd.distill(small(), data=digits, net=Trained()).train(Trained(1))


def test_given_weights_as_typed(digits, tmp_path, monkeypatch, capsys):
    """distill, inspect and finetune of the command line."""
    monkeypatch.chdir(tmp_path)
    torch.save(NetSpec("mlp", SPEC).build().state_dict(), "net.pt")
    small = [
        "--net",
        "mlp",
        "--net-args",
        "width",
        "6",
        "depth",
        "1",
        "--iterations",
        "1",
        "--device",
        "cpu",
    ]
    command = [
        "distill",
        "digits-random",
        "--theta-0",
        "given",
        *small,
        "--no-evaluate",
        "--no-figures",
    ]
    assert main([*command, "--out", "none"]) == 2
    assert "theta_0 is given, but no values are" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main([*command, "--weights", "net.pt", "--out", "run"]) == 0
    assert main(["inspect", "run"]) == 0
    assert "from net.pt, by reference (sha256:" in capsys.readouterr().out
    assert (
        main(["finetune", "run", "--weights", "net.pt", "--no-reach", "--out", "tuned.safetensors"])
        == 0
    )
    tuned, d = load_file("tuned.safetensors"), dd.DistilledDataset.load("run", weights="net.pt")
    assert same(values(d.train()), tuned)
    assert net_line(d).startswith("Learned for mlp from net.pt, seed 0")


def test_unused_values_are_no_error_where_warnings_are(digits, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dd.distill(small().with_changes(theta_0="random", iterations=1), data=digits, net=Trained())
    assert "the values of net are not used" in capsys.readouterr().err
