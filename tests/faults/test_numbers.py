"""Faults 24 to 28: numbers that are not finite, memory that is not there, devices likewise."""

import pytest
import torch
from small_run import SMALL

from datadistill import DistilledDataset, objectives
from datadistill.cli import main
from datadistill.config import RunOptions
from datadistill.errors import NumericalError
from datadistill.evaluation import held_out
from datadistill.methods import unrolled
from datadistill.recipes import recipe
from datadistill.runs.folder import RunFolder
from datadistill.training import outer
from datadistill.training.learning_from_config import learning_of


def tensors(loop):
    state = loop.state()
    adam = [v for s in state["optimizer"]["state"].values() for v in s.values()]
    return [t.clone() for t in [*state["learned"].values(), *adam]]


def poisoned(monkeypatch, spoil, when):
    """From call number `when` on (or at it alone, as a tuple), the outer loss is spoilt."""
    real, calls = objectives.classification, []

    def loss(net, theta, *batch):
        calls.append(1)
        found = real(net, theta, *batch)
        hit = len(calls) in when if isinstance(when, tuple) else len(calls) >= when
        return spoil(found, next(iter(theta.values()))) if hit else found

    monkeypatch.setattr(objectives, "classification", loss)


SPOILS = {
    "loss nan": lambda loss, p: loss * float("nan"),
    # 0, with a gradient of inf * 0
    "gradient norm": lambda loss, p: loss + torch.sqrt(p.sum() * 0),
}


@pytest.mark.parametrize("what", SPOILS)
def test_nothing_is_updated_by_a_bad_iteration(monkeypatch, what):
    config = recipe("digits-random").with_changes(
        net="mlp", net_args={"width": 8}, nets=1, epochs=2, batch=16, labels="soft"
    )
    poisoned(monkeypatch, SPOILS[what], 3)
    loop = learning_of(config, RunOptions(), None, None)
    loop.advance()
    loop.advance()
    before = tensors(loop)
    with pytest.raises(NumericalError, match=f"outer iteration 2: {what}"):
        loop.advance()
    assert loop.iteration == 2
    assert all(torch.equal(a, b) for a, b in zip(tensors(loop), before, strict=True))


def test_a_step_size_that_explodes(tmp_path, capsys):
    argv = [*SMALL, "--step-size", "1e30", "--out", str(tmp_path / "run")]
    assert main(["distill", *argv]) == 4
    said = capsys.readouterr().err
    assert "outer iteration 0" in said and "inner step" in said and "step size 1e+30" in said
    assert "--lr-step-sizes" in said and "--on-nan skip:3" in said


def test_the_last_good_checkpoint_is_kept(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        poisoned(patch, SPOILS["loss nan"], 26)
        assert main(["distill", *SMALL, "--out", str(run)]) == 4
    folder = RunFolder.open(run)
    assert folder.checkpoints.load_latest().iteration == 20 and not folder.distilled.exists()
    with monkeypatch.context() as patch:
        poisoned(patch, SPOILS["loss nan"], (6, 7))
        changes = ["--on-nan", "skip:3", "--resume-with-changes", "--no-evaluate", "--no-figures"]
        assert main(["distill", "--resume", str(run), *changes]) == 0
    assert folder.read_metrics()[-1]["skipped"] == 2


def test_no_memory(tmp_path, monkeypatch, capsys):
    run, real, calls = tmp_path / "run", unrolled.unroll_with_buffers, []

    def hungry(*args, **options):
        calls.append(1)
        if len(calls) > 30:
            torch.empty(2**55, dtype=torch.uint8)  # more than any address space has
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(unrolled, "unroll_with_buffers", hungry)
        assert main(["distill", *SMALL, "--out", str(run)]) == 5
    said = capsys.readouterr().err
    assert "out of memory: 2 inner steps" in said and "--adjoint step-replay" in said
    assert "Traceback" not in said
    assert RunFolder.open(run).checkpoints.load_latest().iteration > 0


@pytest.mark.parametrize(
    "said", ["CUDA out of memory. Tried to allocate 2.00 GiB", "HIP out of memory"]
)
def test_no_memory_on_a_gpu_keeps_the_checkpoint(tmp_path, monkeypatch, capsys, said):
    run, advance = tmp_path / "run", outer.OuterLoop.advance

    def full(loop):
        if loop.iteration == 25:
            raise torch.OutOfMemoryError(said)  # what torch raises for a GPU
        return advance(loop)

    monkeypatch.setattr(outer.OuterLoop, "advance", full)
    assert main(["distill", *SMALL, "--out", str(run)]) == 5
    told = capsys.readouterr().err
    assert said in told and "--adjoint step-replay" in told and "Traceback" not in told
    assert RunFolder.open(run).checkpoints.load_latest().iteration == 20


def test_no_memory_while_a_set_is_measured_leaves_its_file(tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    assert main(["distill", *SMALL, "--iterations", "1", "--out", str(run)]) == 0
    before = (run / "distilled.safetensors").read_bytes()

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(held_out, "measure_training", full)
    assert main(["evaluate", str(run), "--save"]) == 5
    said = capsys.readouterr().err
    assert "out of memory (CUDA out of memory); use fewer nets" in said and "Traceback" not in said
    assert (run / "distilled.safetensors").read_bytes() == before


def test_a_huge_rate_of_the_step_sizes_leaves_them_positive(tmp_path, capsys):
    run = tmp_path / "run"
    argv = [
        *SMALL,
        "--iterations",
        "10",
        "--lr-step-sizes",
        "1000",
        "--step-size",
        "1e-5",
        "--out",
        str(run),
    ]
    assert main(["distill", *argv]) == 0
    assert "wanted within 1e-06 to 100; try a smaller --lr-step-sizes" in capsys.readouterr().err
    sizes = DistilledDataset.load(run).step_sizes
    assert (sizes > 0).all() and torch.isfinite(sizes).all()


def test_a_device_that_is_not_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["distill", *SMALL, "--device", "cuda", "--out", str(tmp_path / "run")]) == 6
    assert "device cuda is not on this machine, which has cpu" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(["distill", *SMALL, "--device", "gpu", "--out", str(tmp_path / "run")]) == 2


def test_auto_says_what_it_took(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["distill", *SMALL, "--iterations", "1", "--out", str(tmp_path / "run")]) == 0
    assert "1 iterations on cpu" in capsys.readouterr().out
