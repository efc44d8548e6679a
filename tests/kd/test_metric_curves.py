"""Metrics of runs by epoch: what is read, drawn and refused; and the gradient's parts among
them."""

import json
import math

import pytest

from datadistill.data import load
from datadistill.errors import UsageError
from kd_baselines.cli import main
from kd_baselines.config import KdConfig
from kd_baselines.studies.metric_curves import metrics_figure, read_metrics
from kd_baselines.training import train

FOUR = ["dark_knowledge", "ground_truth", "least_weight", "most_weight"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    net = {"net": "mlp", "net_args": {"width": 4, "depth": 1}}
    teacher = {f"teacher_{name}": value for name, value in net.items() if name == "net"}
    config = KdConfig(
        dataset="digits", method="born-again", epochs=2, teacher_epochs=1, per_class=5, **net
    )
    config = config.with_changes(**teacher, teacher_args=net["net_args"])
    folder = tmp_path_factory.mktemp("runs")
    for log in (True, False):
        changed = config.with_changes(method_args={"log_gradient": log}, arm=f"log-{log}")
        train(changed, data=load("digits"), out=folder / f"log-{log}")
    return folder


def test_metrics_of_each_epoch_have_the_four_numbers(run):
    text = (run / "log-True" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 2 and all(math.isfinite(line[k]) for line in lines for k in FOUR)
    assert 0 < lines[0]["least_weight"] < 1 < lines[0]["most_weight"]


def test_a_logged_training_is_the_same_training(run):
    found = read_metrics([run], ["loss", "accuracy"])
    assert found["log-True"] == found["log-False"]


def test_curves_have_a_panel_for_each_metric(run):
    found = read_metrics([run], FOUR)
    assert list(found) == ["log-True"]  # the other has none of them
    assert [ax.get_ylabel() for ax in metrics_figure("BAN", found).axes] == FOUR


@pytest.mark.parametrize(
    ("names", "said"),
    [(["ground_truths"], "no run has a metric 'ground_truths'; did you mean ground_truth")],
)
def test_curves_of_what_is_not_there_are_refused(run, names, said):
    with pytest.raises(UsageError, match=said):
        read_metrics([run], names)
    with pytest.raises(UsageError, match="holds no run with metrics"):
        read_metrics([run / "log-True" / "checkpoints"])


def test_the_command_draws_one_picture(run, tmp_path, capsys):
    out = tmp_path / "curves.png"
    words = ["curves", str(run / "log-True"), "--metrics", "loss", "accuracy", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert list(found["last"]["log-True"]) == ["loss", "accuracy"]
    assert main(words) == 2  # the picture is there already
    assert main([*words[:-1], str(tmp_path / "x.jpg")]) == 2
    assert main([*words[:-1], str(tmp_path / "x.png"), "--arms", "own"]) == 2
