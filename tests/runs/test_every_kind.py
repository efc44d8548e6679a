"""Every kind of run, stopped, died, finished and refused; the driver alone is tested in
test_driver."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import datadistill as dd
from datadistill.config import DistillConfig, RunOptions
from datadistill.errors import DatadistillError, Interrupted
from datadistill.training.fit_loop import Fit
from datadistill.training.outer import OuterLoop
from datadistill.training.pool_loop import PoolLoop
from kd_baselines.config import KdConfig
from kd_baselines.language.config import LanguageConfig
from kd_baselines.language.loop import LanguageFit
from kd_baselines.language.training import train_language
from kd_baselines.training import train

MLP = {"dataset": "digits", "net": "mlp", "device": "cpu"}
SMALL = {**MLP, "net_args": {"width": 6, "depth": 1}, "batch": 32, "epochs": 2, "validate_nets": 2}
# everything a run can remember: momentum in the inner loop, soft labels, clipping, a schedule, the
# best so far
MIXED = DistillConfig(
    **SMALL,
    theta_0="random",
    nets=2,
    ipc=2,
    steps=2,
    labels="soft",
    step_sizes="per-tensor",
    update="momentum",
    update_args={"beta": 0.5},
    images_from="real",
    schedule="cosine",
    warmup=2,
    clip=1.1,
    validate_every=2,
    keep="best",
    iterations=5,
    augment=("crop", "flip"),
    lr_images=0.3,
    lr_step_sizes=0.3,
)
FIXED = DistillConfig(**SMALL, theta_0="fixed", iterations=4, validate_every=3, step_sizes="shared")
POOL = dd.PoolConfig(
    **MLP,
    net_args={"width": 12, "depth": 1},
    nets=2,
    validation_nets=1,
    held_out=2,
    epochs=2,
    batch=400,
    lr=0.05,
)
KD = KdConfig(
    dataset="digits",
    epochs=2,
    lr=0.01,
    batch=64,
    per_class=30,
    teacher_epochs=1,
    teacher_lr=0.01,
    teacher_batch=64,
    net="thin-cnn",
    net_args={"width": 4, "depth": 4, "pools": 2},
    teacher_net="wide-cnn",
    teacher_args={"width": 4, "norm": "batch", "dropout": 0.5},
    method="fitnets",
    method_args={"guided": "convs.1", "hint": "convs.1", "hint_epochs": 1},
)
# layers shared with a teacher of another family, whose kept permutations are drawn once
SHARING = KdConfig(
    dataset="digits",
    method="dkpp",
    method_args={"redraw": False},
    per_class=10,
    epochs=2,
    batch=50,
    lr=0.01,
    weight_decay=0.1,
    net="mlp",
    net_args={"width": 16, "depth": 3},
    shared=("layers.0", "layers.6:layers.4"),
    teacher_net="mlp",
    teacher_args={"width": 16, "depth": 2},
    teacher_epochs=1,
    teacher_batch=256,
)
TEXT = LanguageConfig(net_args={"width": 5, "dropout": 0.3}, epochs=3, batch=4, unroll=10, lr=0.5)
SENTENCES = ("the cat sat on the mat\n", "a dog ran\n", "the dog sat\n", "<unk> cat ran on a mat\n")


@dataclass(frozen=True)
class Case:
    """A small run of one kind.

    Args:
        run: the function that carries it out.
        config: of the run.
        loop: whose `advance` is one step.
        at: the numbers of the steps that it is stopped in.
        result: the file that it leaves.
        field, value: what another config has in a field.
        data: the argument for the data, which a fixture of that name gives.
    """

    run: Callable[..., Any]
    config: Any
    loop: type
    at: tuple[int, ...]
    result: str
    field: str = "lr"
    value: Any = 0.25
    data: str = "data"


SET, NETS, STUDENT = "distilled.safetensors", "pool.safetensors", "student.safetensors"
CASES = {
    "distill": Case(dd.distill, MIXED, OuterLoop, (0, 1, 2, 3, 4), SET, "lr_images", 0.5),
    "distill, fixed start": Case(dd.distill, FIXED, OuterLoop, (0, 2, 3), SET, "ipc", 5),
    # 4 steps an epoch, 8 a net: in the first net, at its end, in the second, in the last
    "pretrain": Case(dd.pretrain, POOL, PoolLoop, (2, 7, 12, 38), NETS),
    "pretrain, two at once": Case(
        dd.pretrain, replace(POOL, at_once=2), PoolLoop, (2, 12), NETS, "nets", 9
    ),
    # in the teacher, in the hints, in the student, and right between
    "kd train": Case(train, KD, Fit, (0, 3, 24, 27, 33), STUDENT),
    "kd train, shared layers": Case(train, SHARING, Fit, (2, 7), STUDENT),
    "language": Case(train_language, TEXT, LanguageFit, (0, 2, 6, 15), STUDENT, data="corpus"),
}
STOPS = [(name, at) for name, case in CASES.items() for at in case.at]
QUIET = RunOptions(quiet=True, checkpoint_every="1000")


@pytest.fixture(scope="module")
def data():
    return dd.load("digits")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    from kd_baselines.language.corpus import make_corpus

    text = "".join(SENTENCES[int(n)] for n in 4 * "0120312302")
    part = "".join(SENTENCES[int(n)] for n in "0213021303")
    return make_corpus(text, part, part)


@pytest.fixture
def carry_out(request):
    """Carry out a case, with what its kind is given."""

    def call(case, config, out, **options):
        given = {case.data: request.getfixturevalue(case.data)}
        return case.run(config, out=out, **{"options": QUIET, **given, **options})

    return call


def bytes_of(folder, case):
    assert (folder / case.result).exists()
    names = [*folder.glob("*.safetensors"), folder / "metrics.jsonl", folder / "config.json"]
    return {path.name: path.read_bytes() for path in names}


def contents(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Folders of runs that nobody interrupted, and of runs that were stopped in their first step to
    stop at."""
    return tmp_path_factory.mktemp("kept"), {}


@pytest.fixture
def straight(kept, carry_out, monkeypatch):
    def of(name):
        folder, known = kept
        if name not in known:
            steps = count_steps(monkeypatch, CASES[name].loop)
            carry_out(CASES[name], CASES[name].config, folder / name)
            monkeypatch.undo()
            known[name] = folder / name, len(steps)
        return known[name]

    return of


@pytest.fixture
def stopped(kept, carry_out, monkeypatch):
    """A copy of a folder whose run was stopped, of its own for each test."""

    def of(name, out):
        folder, known = kept
        case, key = CASES[name], f"{name}, stopped"
        if key not in known:
            stop_at(monkeypatch, carry_out, case, case.at[-1], folder / key)
            known[key] = folder / key
        shutil.copytree(known[key], out)
        return out

    return of


def count_steps(monkeypatch, loop, at=None, happens=None):
    """A list that grows by one with each step; `happens` is called before step number `at`."""
    advance, steps = loop.advance, []

    def counted(self):
        if len(steps) == at:
            happens()
        steps.append(1)
        return advance(self)

    monkeypatch.setattr(loop, "advance", counted)
    return steps


def stop_at(monkeypatch, carry_out, case, at, out):
    steps = count_steps(monkeypatch, case.loop, at, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted, match=r"(saved at|are kept).*; go on with: .*resume") as stop:
        carry_out(case, case.config, out)
    assert stop.value.exit_code == 143 and not (out / case.result).exists()
    monkeypatch.undo()
    return len(steps)


# --- the same bytes


@pytest.mark.parametrize(("name", "at"), STOPS, ids=lambda value: str(value).replace(" ", "-"))
def test_stopped_and_resumed_to_the_same_bytes(
    tmp_path, monkeypatch, carry_out, straight, name, at
):
    case, (whole, total) = CASES[name], straight(name)
    before = stop_at(monkeypatch, carry_out, case, at, tmp_path / "run")
    after = count_steps(monkeypatch, case.loop)
    carry_out(case, None, tmp_path / "run", resume=True)
    # no step is done twice, but for its test of a net, which the signal breaks off
    assert total <= before + len(after) <= total + 1
    assert bytes_of(tmp_path / "run", case) == bytes_of(whole, case)


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_died_resumes_to_the_same_bytes(
    tmp_path, monkeypatch, carry_out, straight, name
):
    case, (whole, total) = CASES[name], straight(name)
    often = RunOptions(quiet=True, checkpoint_every="2")

    def dies():
        raise KeyboardInterrupt  # no chance to save anything

    before = count_steps(monkeypatch, case.loop, total - 1, dies)
    with pytest.raises(KeyboardInterrupt):
        carry_out(case, case.config, tmp_path / "run", options=often)
    monkeypatch.undo()
    after = count_steps(monkeypatch, case.loop)
    carry_out(case, None, tmp_path / "run", resume=True, options=often)
    assert total <= len(before) + len(after) <= total + 2
    assert bytes_of(tmp_path / "run", case) == bytes_of(whole, case)


@pytest.mark.parametrize("name", CASES)
def test_a_finished_run_resumes_to_itself(monkeypatch, carry_out, straight, name):
    case, (whole, _) = CASES[name], straight(name)
    before = bytes_of(whole, case)
    steps = count_steps(monkeypatch, case.loop)
    carry_out(case, None, whole, resume=True)
    assert bytes_of(whole, case) == before and not steps


@pytest.mark.parametrize("name", CASES)
def test_how_often_it_is_saved_and_where_it_runs_do_not_matter(tmp_path, carry_out, straight, name):
    case, (whole, _) = CASES[name], straight(name)
    torch.manual_seed(99)
    carry_out(
        case,
        case.config,
        tmp_path / "run",
        options=RunOptions(quiet=True, checkpoint_every="0.001s"),
    )
    assert bytes_of(tmp_path / "run", case) == bytes_of(whole, case)
    found = carry_out(case, case.config, None)
    found = getattr(found, "saved", found)
    found.save(tmp_path / "in memory")
    assert (tmp_path / "in memory").read_bytes() == (whole / case.result).read_bytes()


# --- refusals


def edit_json(name, *place_and_value):
    """A function that puts a value into a JSON file of the folder; `...` stands for the case's
    own."""
    *place, value = place_and_value

    def edit(folder, case):
        document = json.loads((folder / name).read_text())
        *path, last = [case.field if key is ... else key for key in place]
        inner = document
        for key in path:
            inner = inner[key]
        inner[last] = case.value if value is ... else value
        (folder / name).write_text(json.dumps(document))

    return edit


def remove(name):
    return lambda folder, case: (folder / name).unlink()


def leave(folder, case):
    """Edit nothing."""


def resumed(carry_out, case, folder):
    carry_out(case, None, folder, resume=True)


def begun(carry_out, case, folder):
    carry_out(case, case.config, folder)


def changed(carry_out, case, folder):
    carry_out(case, replace(case.config, **{case.field: case.value}), folder, resume=True)


def allowed(carry_out, case, folder):
    options = RunOptions(quiet=True, resume_with_changes=True)
    carry_out(
        case, replace(case.config, **{case.field: case.value}), folder, resume=True, options=options
    )


# an edit of the stopped run's folder, a call, the exit code and words of its refusal
CONFIG, ENVIRONMENT = "config.json", "environment.json"
REFUSALS = {
    "occupied": (leave, begun, 2, "already holds a run of {kind}; resume it"),
    "no config": (
        leave,
        lambda c, case, run: c(case, None, run / "new"),
        2,
        "no config was given; pass ",
    ),
    "no folder": (
        leave,
        lambda c, case, run: c(case, None, None),
        2,
        "cannot be resumed; pass out=FOLDER",
    ),
    "no run": (leave, lambda c, case, run: resumed(c, case, run / "new"), 2, "holds no run"),
    "words": (
        leave,
        lambda c, case, run: c(case, "small", run / "new"),
        2,
        "config is 'small', wanted a",
    ),
    "another config": (leave, changed, 2, "another config: {field} .* -> {value}"),
    "no such change": (leave, allowed, 2, "another config: {field} .* -> {value}"),
    "an edited config": (
        edit_json(CONFIG, "config", ..., ...),
        resumed,
        2,
        "{field} .* -> {value}",
    ),
    "a hostile config": (
        edit_json(CONFIG, "config", "sede", 1),
        resumed,
        2,
        "'sede'; did you mean seed",
    ),
    "a config gone": (remove(CONFIG), resumed, 2, "config.json is missing"),
    "a newer config": (
        edit_json(CONFIG, "schema", 9),
        resumed,
        2,
        "by schema 9, this reads up to 1",
    ),
    "another kind": (
        edit_json(CONFIG, "kind", "house"),
        resumed,
        2,
        "a run of house, wanted one of {kind}",
    ),
    "other data": (
        edit_json(ENVIRONMENT, "data", "0" * 64),
        resumed,
        3,
        "was started on other data",
    ),
}


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("name", CASES)
def test_refusals_change_nothing(tmp_path, carry_out, stopped, name, what):
    case, folder = CASES[name], stopped(name, tmp_path / "run")
    edit, call, code, words = REFUSALS[what]
    kind = json.loads((folder / "config.json").read_text())["kind"]
    edit(folder, case)
    before = contents(folder)
    with pytest.raises(
        DatadistillError, match=words.format(kind=kind, field=case.field, value=case.value)
    ) as refusal:
        call(carry_out, case, folder)
    assert refusal.value.exit_code == code
    assert contents(folder) == before and [p.name for p in tmp_path.iterdir()] == ["run"]
