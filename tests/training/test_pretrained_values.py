"""Pretrained nets: values by reference, the last layer, the parameters that train, BatchNorm."""

import copy
import json
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from training_cases import config

import datadistill as dd
from datadistill.cli import main
from datadistill.errors import DataError, UsageError
from datadistill.nets.spec import NetSpec
from datadistill.theta import trainable

ARGS = {"width": 4, "depth": 2, "norm": "batch"}
SPEC = NetSpec("convnet", {"channels": 1, "size": 8, "classes": 10, **ARGS})


def pretrained(classes=10, seed=0):
    """A ConvNet with BatchNorm statistics that a training might have left."""
    torch.manual_seed(seed)
    net = NetSpec("convnet", {**SPEC.args, "classes": classes}).build()
    with torch.no_grad():
        for name, buffer in net.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5) if "var" in name else buffer.uniform_(-0.2, 0.2)
    return net


@pytest.fixture
def weights(tmp_path):
    save_file(pretrained().state_dict(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@pytest.fixture
def other_classes(tmp_path):
    save_file(pretrained(7).state_dict(), tmp_path / "seven.safetensors")
    return tmp_path / "seven.safetensors"


def learn(digits, weights, **changes):
    chosen = {"net": "convnet", "net_args": ARGS, "theta_0": "given", "iterations": 1, **changes}
    return dd.distill(
        config(weights=None if weights is None else str(weights), **chosen), data=digits
    )


def reload(d, tmp_path, **how):
    d.save(tmp_path / "set.safetensors")
    return dd.DistilledDataset.load(tmp_path / "set.safetensors", **how)


def same(a, b):
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


def states(net):
    return dict(net.state_dict())


# --- by reference


@pytest.mark.parametrize("head", ["keep", "fresh"])
@pytest.mark.parametrize("train", [("all",), ("head",), ("norm",), ("features.4", "head")])
def test_a_set_by_reference_is_whole_again_with_its_weights(digits, weights, tmp_path, head, train):
    d = learn(digits, weights, head=head, train=train)
    bare = reload(d, tmp_path)
    assert not bare.is_complete
    again = bare.with_weights(weights)
    assert same(again.theta_0, d.theta_0) and same(again.buffers, d.buffers)
    assert same(states(again.train()), states(d.train()))
    carried = {k for k in d.carried if not k.endswith("num_batches_tracked")}
    assert carried == ({"classifier.weight", "classifier.bias"} if head == "fresh" else set())


def test_the_file_holds_no_value_of_the_weights_and_no_folder(digits, weights, tmp_path):
    reload(learn(digits, weights), tmp_path)
    with safe_open(tmp_path / "set.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["images", "labels", "step_sizes"]
        text = json.dumps(file.metadata())
    assert "net.safetensors" in text and str(tmp_path) not in text


def test_embedded_weights_need_no_file(digits, weights, tmp_path):
    d = learn(digits, weights, embed_weights=True)
    again = reload(d, tmp_path)
    assert again.is_complete and same(again.theta_0, d.theta_0)
    assert same(states(again.train()), states(learn(digits, weights).train()))


def test_without_the_weights_it_says_what_is_missing(digits, weights, tmp_path):
    bare = reload(learn(digits, weights), tmp_path)
    said = r"which its file names and does not hold: net\.safetensors \(sha256:.*pass that file"
    for use in (
        lambda: bare.theta_0,
        bare.train,
        lambda: dd.evaluate(bare, data=digits, plain_nets=0),
        lambda: dd.compare(bare, data=digits),
    ):
        with pytest.raises(UsageError, match=said):
            use()
    assert bare.pixels().shape == bare.images.shape and repr(bare)  # to be looked at all the same


def test_a_net_that_has_the_values_does_as_well(digits, weights, tmp_path):
    d = learn(digits, weights)
    bare = reload(d, tmp_path)
    assert same(states(bare.train(pretrained())), states(d.train()))
    found = dd.evaluate(bare, net=pretrained(), data=digits, plain_nets=0)
    assert found.accuracy_mean == dd.evaluate(d, data=digits, plain_nets=0).accuracy_mean


def test_other_values_are_refused(digits, weights, other_classes, tmp_path):
    bare = reload(learn(digits, weights), tmp_path)
    save_file(pretrained(seed=1).state_dict(), tmp_path / "other.safetensors")
    said = r"is not what the set was learned for: net\.safetensors \(sha256:"
    for values in (tmp_path / "other.safetensors", pretrained(seed=1)):
        with pytest.raises(DataError, match=said):
            bare.with_weights(values)
    with pytest.raises(DataError, match="does not fit the net"):
        bare.with_weights(other_classes)


def test_a_set_for_a_module_of_ones_own_names_its_values(digits, tmp_path):
    net = pretrained()
    d = dd.distill(config(theta_0="given", iterations=1), data=digits, net=net)
    bare = reload(d, tmp_path)
    with pytest.raises(UsageError, match=r"the values of a net of your own .* pass that net"):
        bare.train()
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    for whole in (
        bare.with_weights(net),
        bare.with_weights(tmp_path / "own.safetensors", net=pretrained(seed=2)),
    ):
        assert same(whole.theta_0, d.theta_0) and same(whole.buffers, d.buffers)


def test_finetune_takes_the_net_that_it_is_for(digits, weights, other_classes, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a start that is another
        for d in (learn(digits, weights), learn(digits, weights, head="fresh")):
            bare = reload(d, tmp_path)
            tuned = dd.finetune(bare, pretrained(), data=digits, reach=False).net
            assert same(states(tuned), states(d.train()))
    with pytest.warns(UserWarning, match=r"learned for net\.safetensors .* from other values"):
        dd.finetune(bare, pretrained(seed=1), data=digits, reach=False)


# --- the last layer


def test_a_head_of_other_classes_is_drawn_afresh_or_refused(digits, other_classes):
    d = learn(digits, other_classes)
    assert d.start.kind == "weights" and set(d.own) == {"classifier.weight", "classifier.bias"}
    body = {k: v for k, v in d.theta_0.items() if not k.startswith("classifier.")}
    assert all(torch.equal(v, pretrained(7).state_dict()[k]) for k, v in body.items())
    said = r"the last layer of .*seven\.safetensors does not fit these classes \(classifier\.weight"
    with pytest.raises(DataError, match=said):
        learn(digits, other_classes, head="keep")


def test_the_head_of_a_module_may_be_drawn_afresh(digits):
    net = pretrained()
    chosen = {"theta_0": "given", "iterations": 1, "init": "small"}
    kept, fresh = (
        dd.distill(config(head=head, **chosen), data=digits, net=net) for head in ("auto", "fresh")
    )
    assert torch.equal(kept.theta_0["classifier.weight"], net.classifier.weight)
    assert not torch.equal(fresh.theta_0["classifier.weight"], net.classifier.weight)
    assert fresh.own and fresh.start.kind == "weights"


# --- the parameters that train


def test_only_the_chosen_parameters_move(digits, weights):
    before = pretrained().state_dict()
    for train, moved in {
        ("head",): {"classifier.weight", "classifier.bias"},
        ("norm",): {"features.1.weight", "features.1.bias", "features.5.weight", "features.5.bias"},
        ("features.0.weight", "head"): {
            "features.0.weight",
            "classifier.weight",
            "classifier.bias",
        },
    }.items():
        d = learn(digits, weights, train=train)
        names = set(d.theta_0)
        after = d.train().state_dict()
        assert {k for k in before if not torch.equal(before[k], after[k])} == names
        assert names == moved
        tuned = dd.finetune(d, pretrained(), data=digits, reach=False).net.state_dict()
        assert same(tuned, after)


def test_gradients_of_a_set_for_the_head_are_those_of_the_net_with_a_frozen_body(digits, weights):
    frozen = pretrained().requires_grad_(False)
    frozen.classifier.requires_grad_(True)
    a = learn(digits, weights, train=("head",), iterations=2)
    b = dd.distill(
        config(theta_0="given", iterations=2, net="convnet", net_args=ARGS), data=digits, net=frozen
    )
    assert torch.equal(a.images, b.images) and torch.equal(a.step_sizes, b.step_sizes)


def test_the_callers_module_keeps_what_it_trains(digits):
    net = pretrained()
    d = dd.distill(config(theta_0="given", train=("head",), iterations=1), data=digits, net=net)
    d.train(net)
    dd.finetune(d, net, data=digits, reach=False)
    dd.evaluate(d, net=net, data=digits, plain_nets=0)
    assert trainable(net) == tuple(k for k, _ in net.named_parameters())


# --- BatchNorm


def test_statistics_of_a_pretrained_net_stay_unless_asked(digits, weights):
    own = {k: b for k, b in pretrained().named_buffers() if "running" in k}
    for norm, stays in (("auto", True), ("frozen", True), ("batch", False)):
        d = learn(digits, weights, norm=norm)
        after = dict(d.train().named_buffers())
        assert d.norm == ("batch" if norm == "batch" else "frozen")
        assert all(torch.equal(after[k], b) for k, b in own.items()) == stays


def test_reestimated_statistics_are_the_real_images_and_are_carried(digits, weights, tmp_path):
    d = learn(digits, weights, norm="reestimated")
    net = copy.deepcopy(pretrained())
    with torch.no_grad():
        first = net.features[0](digits.train.images)
    name = next(k for k in d.buffers if k.endswith("running_mean"))
    assert torch.allclose(d.buffers[name], first.mean((0, 2, 3)), atol=0.05)
    again = reload(d, tmp_path).with_weights(weights)
    assert same(again.buffers, d.buffers)
    assert same(states(again.train()), states(d.train()))


def test_a_fresh_net_uses_the_statistics_of_its_batches(digits):
    d = dd.distill(config(net="convnet", net_args=ARGS, iterations=1), data=digits)
    assert d.norm == "batch"


# --- refused before anything is learned


REFUSED = [
    ({"train": ("headd",)}, "no parameter of the net is called 'headd'.*did you mean head"),
    ({"train": ("all", "head")}, "train is all head; choose all alone"),
    ({"train": ()}, "train is empty"),
    ({"weights": None, "theta_0": "random", "train": ("head",)}, "train .* goes with a pretrained"),
    ({"weights": None, "theta_0": "random", "head": "keep"}, "head is 'keep', which goes with"),
    ({"weights": None, "theta_0": "fixed", "embed_weights": True}, "embed_weights is True, which"),
    ({"weights": None, "theta_0": "fixed", "norm": "reestimated"}, "norm is 'reestimated', which"),
    ({"net_args": {**ARGS, "norm": "none"}, "train": ("norm",)}, "no norm layer with parameters"),
    ({"net_args": {**ARGS, "width": 8}}, "does not fit the net"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_refusals(digits, tmp_path, changes, said):
    args = changes.get("net_args", {})
    net = pretrained()
    if args.get("norm") == "none":
        net = NetSpec("convnet", {**SPEC.args, "norm": "none"}).build()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    with pytest.raises((UsageError, DataError), match=said):
        learn(digits, **{"weights": tmp_path / "net.safetensors", **changes})


def test_norm_reestimated_wants_statistics(digits, tmp_path):
    spec = NetSpec("convnet", {**SPEC.args, "norm": "none"})
    save_file(spec.build().state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(UsageError, match="the net has no BatchNorm statistics"):
        learn(
            digits,
            tmp_path / "net.safetensors",
            net_args={**ARGS, "norm": "none"},
            norm="reestimated",
        )


def test_as_typed(tmp_path, monkeypatch, capsys, weights):
    monkeypatch.chdir(tmp_path)
    words = "--theta-0 given --net convnet --net-args width 4 depth 2 norm batch --device cpu"
    words = f"distill digits-random {words} --iterations 1 --no-figures --train head --head fresh"
    assert (
        main([*words.split(), "--weights", str(weights), "--out", "run", "--plain-nets", "0"]) == 0
    )
    assert main(["inspect", "run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "started from net.safetensors; last layer drawn afresh; head trained (2 of" in said
    assert "BatchNorm's statistics the net's own, frozen" in said
    assert "from net.safetensors with a fresh last layer" in said and "own tensors carried" in said
    assert "trained head" in said
    assert main([*words.split(), "--weights", "missing.pt", "--out", "none"]) == 3
    assert not (tmp_path / "none").exists()


# --- what is easily lost


def test_parameters_that_the_user_froze_stay_frozen_in_any_twin(digits, tmp_path):
    net = pretrained()
    net.features.requires_grad_(False)
    chosen = config(theta_0="given", iterations=1, step_sizes="per-step")
    d = dd.distill(chosen, data=digits, net=net, out=tmp_path / "run")
    assert d.trained == ("classifier.weight", "classifier.bias")
    twin, bare = pretrained(), dd.DistilledDataset.load(tmp_path / "run")
    wanted = states(d.train(twin))
    assert same(states(bare.with_weights(twin).train(twin)), wanted)
    assert same(states(dd.finetune(bare, twin, data=digits, reach=False).net), wanted)
    with pytest.raises(UsageError, match="another net"):
        dd.distill(None, data=digits, net=twin, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("changes", [{"head": "fresh"}, {"norm": "reestimated"}])
def test_embedded_sets_start_where_those_by_reference_do(digits, weights, changes):
    found = [
        states(
            dd.finetune(
                learn(digits, weights, embed_weights=embed, **changes),
                pretrained(),
                data=digits,
                reach=False,
            ).net
        )
        for embed in (True, False)
    ]
    assert same(*found)


def test_a_set_that_owns_all_of_its_start_holds_it(digits, tmp_path):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    d = dd.distill(config(theta_0="given", head="fresh", iterations=1), data=digits, net=net)
    assert d.is_complete and same(reload(d, tmp_path).theta_0, d.theta_0)


class Renamed(torch.nn.Module):
    """A module whose state has other names than its parameters."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.fc = torch.nn.Linear(64, 10)
        self.register_buffer("mask", torch.full((1,), -torch.inf))
        self._register_state_dict_hook(
            lambda m, state, prefix, _: {f"model.{k}": v for k, v in state.items()}
        )

    def forward(self, x):
        return self.fc(x.flatten(1))


def test_values_are_those_of_the_parameters_whatever_the_state_calls_them(digits, tmp_path):
    d = dd.distill(config(theta_0="given", iterations=1), data=digits, net=Renamed(0))
    bare = reload(d, tmp_path)
    assert same(bare.with_weights(Renamed(0)).theta_0, d.theta_0)
    with pytest.raises(DataError, match="is not what the set was learned for"):
        bare.with_weights(Renamed(1))


def test_a_mask_in_a_file_of_weights_is_the_nets_own(digits, tmp_path):
    class Masked(torch.nn.Sequential):
        def __init__(self):
            super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 10))
            self.register_buffer("mask", torch.full((1,), -torch.inf))

    net = Masked()
    bare = reload(dd.distill(config(theta_0="given", iterations=1), data=digits, net=net), tmp_path)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    assert same(
        bare.with_weights(tmp_path / "net.pt", net=Masked()).theta_0, bare.with_weights(net).theta_0
    )


def test_before_is_said_alike(digits, weights):
    d = learn(digits, weights, head="fresh", norm="batch")
    tuned = dd.finetune(d, pretrained(), data=digits, reach=False)
    found = dd.evaluate(d, data=digits, plain_nets=0)
    assert found.accuracy_before_mean == pytest.approx(tuned.accuracy_before)
    assert found.accuracy_mean == pytest.approx(tuned.accuracy_after)


def test_a_head_that_does_not_make_the_logits_is_refused(digits):
    class Order(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.body = torch.nn.Linear(16, 10), torch.nn.Linear(64, 16)

        def forward(self, x):
            return self.fc(self.body(x.flatten(1)).relu())

    for changes in ({"train": ("head",)}, {"head": "fresh"}):
        with pytest.raises(UsageError, match="registers, body, which has 16 outputs for 10"):
            dd.distill(config(theta_0="given", iterations=1, **changes), data=digits, net=Order())
