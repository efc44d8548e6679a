"""Soft labels of a set by trained nets: `relabel`, its command, and evaluation with such labels."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.special import softmax
from test_cross_architecture import CPU, SHORT, SPEC, distilled
from torch import nn

import datadistill as dd
from datadistill.cli import main
from datadistill.cli.evaluate import Evaluate
from datadistill.cli.relabel import Relabel
from datadistill.data import Normalization
from datadistill.errors import DataError, UsageError
from datadistill.evaluation.coresets import coreset, random_real
from datadistill.evaluation.cross_architecture import evaluate_across
from datadistill.objectives import Attack
from datadistill.starts import Random
from datadistill.synthetic.decoders import Mosaic
from datadistill.teacher_labels import TEMPERATURE, agreement
from datadistill.theta import put


@pytest.fixture(scope="module")
def data():
    return dd.load("digits")


def net(number):
    built = SPEC.build()
    return put(built, Random(built, "xavier", 7).draw(number))


def pool(data, **changes):
    found = dd.Pool.of([net(n) for n in range(3)], data=data)
    return replace(found, net=SPEC, **changes)


def test_labels_are_the_mean_of_the_teachers_softened_outputs(data):
    d, teachers = distilled(data), [net(0), net(1)]
    found = dd.relabel(d, teachers, temperature=2.5)
    with torch.no_grad():
        logits = [one.double()(d.images.double()).numpy() for one in teachers]
    wanted = sum(softmax(z / 2.5, axis=1) for z in logits) / 2
    assert found.labels.dtype == d.images.dtype and found.label_kind == "soft"
    assert torch.allclose(found.labels.double(), torch.from_numpy(wanted), atol=1e-6)
    assert found.origin["labels_of"] == {"teachers": 2, "temperature": 2.5}
    assert torch.equal(found.images, d.images) and d.label_kind == "hard"


def test_a_hot_teacher_says_nothing_and_a_cold_one_its_class(data):
    d, teacher = distilled(data), net(0)
    even = dd.relabel(d, teacher, temperature=1e6).labels
    assert torch.allclose(even, torch.full_like(even, 0.1), atol=1e-4)
    sure = dd.relabel(d, teacher, temperature=1e-6).labels
    assert torch.equal(sure.argmax(1), teacher(d.images).argmax(1)) and bool(
        (sure.max(1)[0] > 0.99).all()
    )


def test_a_teacher_answers_in_evaluation_mode_and_stays_as_it_was(data):
    d = distilled(data)
    teacher = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 10))
    teacher[2].eval()
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    first = dd.relabel(d, teacher)
    assert torch.equal(first.labels, dd.relabel(d, teacher).labels)
    assert [m.training for m in teacher] == [True, True, False, True] and teacher.training
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    logits = teacher.eval()(d.images) / 4
    assert torch.allclose(first.labels, logits.softmax(1), atol=1e-6)


def test_all_nets_of_a_pool_are_teachers(data):
    d = distilled(data)
    found = dd.relabel(d, pool(data))
    assert torch.equal(found.labels, dd.relabel(d, [net(n) for n in range(3)]).labels)
    said = found.origin["labels_of"]
    assert (said["teachers"], said["net"], said["pool"]) == (3, "mlp", pool(data).fingerprint)


def test_the_set_goes_through_a_file_with_its_decoder(data, tmp_path):
    d = distilled(data)
    decoder = Mosaic(2)
    mosaic = dd.DistilledDataset(
        None,
        torch.arange(40) % 10,
        d.step_sizes,
        [torch.arange(40)] * 2,
        classes=d.classes,
        normalization=d.normalization,
        net=d.net,
        update=d.update,
        decoder=decoder,
        coded={"mosaics": d.images},
    )
    mosaic.accuracies = {"test": {"accuracy_mean": 50.0}}
    found = dd.relabel(mosaic, net(0))
    found.save(tmp_path / "a.safetensors")
    back = dd.DistilledDataset.load(tmp_path / "a.safetensors")
    assert back.labels.shape == (40, 10) and torch.equal(back.labels, found.labels)
    assert back.decoder == decoder and torch.equal(back.images, mosaic.images)
    assert found.accuracies == {} and back.origin == found.origin
    assert found.bytes - mosaic.bytes == 40 * 10 * 4 - 40 * 8


def test_real_images_beside_a_set_get_labels_of_the_same_teachers(data):
    d, teachers = distilled(data), pool(data)
    how = {"protocol": SHORT, "nets": 2, "data": data, "before": False, **CPU}
    ours, real = evaluate_across(
        d, beside=["random-real"], sets=1, teachers=teachers, temperature=2.0, **how
    )
    chosen = coreset(d, random_real, data.train, 0, 0)
    assert ours.evaluations[0] == dd.evaluate(dd.relabel(d, teachers, temperature=2.0), **how)
    assert real.evaluations[0] == dd.evaluate(dd.relabel(chosen, teachers, temperature=2.0), **how)
    assert real.values != evaluate_across(d, beside=["random-real"], sets=1, **how)[1].values


OTHER = Normalization((0.5,), (0.5,), size=8, channels=1)
REFUSED = {
    "no teacher": ({}, lambda data: [], {}, "no teacher"),
    "cold": ({}, lambda data: net(0), {"temperature": 0}, "temperature is 0"),
    "not finite": ({}, lambda data: net(0), {"temperature": math.inf}, "temperature is inf"),
    "an attack": ({"attack": Attack(0, 1, 10)}, lambda data: net(0), {}, "attacks nets"),
    "other classes": (
        {},
        lambda data: pool(data, classes=tuple("abcdefghij")),
        {},
        "know the classes",
    ),
    "other pixels": ({}, lambda data: pool(data, normalization=OTHER), {}, "another normalization"),
    "own modules": (
        {},
        lambda data: dd.Pool.of([net(n) for n in range(3)], data=data),
        {},
        "pass the modules",
    ),
    "too few logits": (
        {},
        lambda data: nn.Sequential(nn.Flatten(), nn.Linear(64, 7)),
        {},
        r"\(10, 7\)",
    ),
    "no logits": ({}, lambda data: nn.Identity(), {}, "wanted logits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_label_is_refused(data, name):
    changes, teachers, how, words = REFUSED[name]
    with pytest.raises((UsageError, DataError), match=words):
        dd.relabel(distilled(data, **changes), teachers(data), **how)


def test_raw_labels_and_infinite_logits_are_refused(data):
    d = distilled(data)
    raw = d._replace(labels=torch.zeros(10, 10), loss="squared-error")
    with pytest.raises(UsageError, match="squared-error"):
        dd.relabel(raw, net(0))
    broken = net(0)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    with pytest.raises(DataError, match="not finite"):
        dd.relabel(d, broken)


# --- the commands


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("relabel")
    distilled(data).save(folder / "set.safetensors")
    pool(data).save(folder / "pool.safetensors")
    return folder


def test_the_command_writes_a_copy(files, capsys):
    argv = [
        "relabel",
        str(files / "set.safetensors"),
        "--teachers",
        str(files / "pool.safetensors"),
    ]
    assert main([*argv, "--json"]) == 0
    out = files / "set-relabelled.safetensors"
    found = json.loads(capsys.readouterr().out)
    assert found["out"] == str(out) and found["teachers"] == 3
    d = dd.DistilledDataset.load(files / "set.safetensors")
    wanted = dd.relabel(d, dd.Pool.load(files / "pool.safetensors")).labels
    assert torch.equal(dd.DistilledDataset.load(out).labels, wanted)
    assert main(argv) == 2 and "exists already" in capsys.readouterr().err
    assert main([*argv, "--out", argv[1]]) == 2 and "would be lost" in capsys.readouterr().err
    assert main(argv[:2]) == 2 and "no teachers were given" in capsys.readouterr().err


def test_evaluate_takes_teachers(files, capsys):
    argv = ["evaluate", str(files / "set.safetensors"), "--protocol", "plain", "--epochs", "2"]
    argv += ["--nets", "1", "--split", "validation"]
    pooled = [*argv, "--teachers", str(files / "pool.safetensors")]
    assert main([*pooled, "--temperature", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    d = dd.DistilledDataset.load(files / "set.safetensors")
    d = dd.relabel(d, dd.Pool.load(files / "pool.safetensors"), temperature=2.0)
    again = dd.evaluate(d, protocol="plain", epochs=2, nets=1, split="validation")
    assert found["values"] == list(again.values) and found["teachers"] == 3
    assert main([*pooled, "--save"]) == 2 and "--teachers" in capsys.readouterr().err
    assert main([*argv, "--temperature", "2"]) == 2 and "no teachers" in capsys.readouterr().err


def test_commands_have_the_temperature_of_the_library():
    assert {TEMPERATURE} == {Evaluate(Path()).temperature, Relabel(Path()).temperature}


def test_agreement_counts_the_likeliest_classes(data):
    d = distilled(data)
    other = d.with_labels(torch.arange(10).roll(1))
    assert agreement(d, other) == 0 and agreement(d, d.with_labels(torch.eye(10))) == 100
