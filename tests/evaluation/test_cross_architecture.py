"""Several architectures and coresets in one table, by one protocol."""

import json
import statistics

import pytest
import torch

import datadistill as dd
from datadistill.cli import main
from datadistill.data.reference import DataReference
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.coresets import coreset, herding, random_real
from datadistill.evaluation.cross_architecture import evaluate_across
from datadistill.evaluation.protocols import Protocol
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.objectives import Attack
from datadistill.starts import Random
from datadistill.stats import paired_difference

SPEC = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 12, "depth": 1})
CPU = {"device": "cpu", "split": "validation"}
SHORT = Protocol("short", 4)


@pytest.fixture(scope="module")
def data():
    return dd.load("digits")


def distilled(data, *, fixed=False, attack=None):
    """The first image of each class."""
    first = torch.stack([(data.train.labels == k).nonzero()[0, 0] for k in range(10)])
    return dd.DistilledDataset(
        data.train.images[first],
        torch.arange(10),
        torch.full((2,), 0.5),
        [torch.arange(10)] * 2,
        classes=data.classes,
        normalization=data.normalization,
        net=SPEC,
        update=sgd(),
        theta_0=Random(SPEC.build(), "xavier", 5).draw(0) if fixed else None,
        objective=attack,
        data=DataReference("digits"),
    )


@pytest.mark.parametrize("fixed", [False, True])
def test_rows_are_evaluations_of_the_set_and_its_coresets(data, fixed):
    d = distilled(data, fixed=fixed)
    how = {"protocol": SHORT, "nets": 3, "seed": 2, "data": data, "before": False, **CPU}
    found = evaluate_across(d, beside=("herding", "random-real"), sets=2, **how)
    ours, herded, drawn = found
    assert ours.evaluations == (dd.evaluate(d, **how),)
    assert ours.difference is None
    assert herded.evaluations == (dd.evaluate(coreset(d, herding, data.train, 2, 0), **how),)
    for n in range(2):
        made = coreset(d, random_real, data.train, 2, n)
        assert drawn.evaluations[n] == dd.evaluate(made, **how)
    assert ours.evaluations[0].nets == 3
    assert len(set(drawn.values)) > 3


def test_the_difference_is_paired_by_nets(data):
    ours, drawn = evaluate_across(
        distilled(data), beside=["random-real"], sets=2, protocol=SHORT, nets=3, data=data, **CPU
    )
    first, second = (e.values for e in drawn.evaluations)
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert drawn.difference == paired_difference(ours.values, means)
    record = drawn.as_dict()
    assert record["difference"] == pytest.approx(
        statistics.fmean(ours.values) - statistics.fmean(drawn.values)
    )
    assert record["accuracy_std"] == pytest.approx(statistics.pstdev(drawn.values))
    assert (record["sets"], record["nets"], len(record["values"])) == (2, 3, 6)


def test_each_architecture_has_its_rows(data):
    nets = ["mlp:width=6", "convnet:width=4,depth=1,norm=batch"]
    found = evaluate_across(
        distilled(data),
        architectures=nets,
        beside=["k-means"],
        sets=1,
        protocol=SHORT,
        nets=1,
        data=data,
        **CPU,
    )
    rows = [row.as_dict() for row in found]
    assert [(row["net"], row["name"]) for row in rows] == [
        (net, name) for net in ("mlp", "convnet") for name in ("distilled", "k-means")
    ]
    assert rows[0]["net_args"] == {"width": 6, "depth": 1}
    assert rows[2]["net_args"]["norm"] == "batch"


REFUSED = {
    "no such coreset": ({"beside": ["herdin"]}, {}, "no coreset 'herdin'; did you mean herding"),
    "by its own steps": ({"beside": ["herding"], "protocol": "own"}, {}, "or use compare"),
    "no set": ({"sets": 0}, {}, "sets is 0"),
    "sets of nothing": ({"sets": 4}, {}, "stands nothing; add random-real or k-means"),
    "sets of one": ({"sets": 4, "beside": ["herding"]}, {}, "stands herding alone"),
    "the last net": ({"architectures": ("mlp", "mlp:depht=1")}, {}, "did you mean depth"),
    "an attack": ({"beside": ["herding"]}, {"attack": Attack(0, 1, 10)}, "the set attacks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_before_any_training(data, name, monkeypatch):
    asked, changes, words = REFUSED[name]
    monkeypatch.setattr("datadistill.evaluation.held_out.measure_training", None)
    d = distilled(data, **changes)
    with pytest.raises((UsageError, DataError), match=words):
        evaluate_across(d, **{"protocol": SHORT, "nets": 1, "data": data, **CPU, **asked})


# --- the command


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("set") / "distilled.safetensors"
    distilled(data, fixed=True).save(path)
    return str(path)


def test_one_command_prints_all_rows(file, capsys):
    argv = ["evaluate", file, "--protocol", "dsa", "--epochs", "2", "--nets", "2", "--sets", "2"]
    argv += ["--beside", "random-real", "k-means", "herding", "--net", "mlp", "mlp:width=6"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert len([line for line in lines if line.startswith("mlp (")]) == 8
    assert "mlp (width 6, depth 1)" in said and "distilled - this" in lines[0]
    assert (
        "protocol dsa: 2 epochs of SGD with color_crop_cutout_scale_rotate, where the protocol"
        in said
    )
    assert "learned for one fixed initialization, and is tested on held-out ones" in said
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 8 and found["rows"][0]["values"] == found["values"]
    assert (found["protocol"], found["epochs"], found["nets"]) == ("dsa", 2, 2)
    assert found["init"] == "default" and ", initializations default; dev" in said


def test_one_net_by_a_protocol_is_shown_as_ever(file, capsys):
    assert main(["evaluate", file, "--protocol", "plain", "--epochs", "2", "--nets", "2"]) == 0
    said = capsys.readouterr().out
    assert "of mlp (width 12, depth 1), drawn by the scheme default" in said
    assert "protocol plain" in said and "2 epochs of SGD without augmentation" in said


def test_sets_that_nothing_is_drawn_for(file, capsys):
    assert main(["evaluate", file, "--sets", "4"]) == 2
    said = capsys.readouterr().err
    assert "sets is 4" in said and "(--beside random-real), or leave --sets out" in said


def test_a_protocol_is_not_saved(file, capsys):
    assert main(["evaluate", file, "--protocol", "plain", "--save"]) == 2
    said = capsys.readouterr().err
    assert "--beside, --quantize, --teachers, --split and --protocol out" in said
