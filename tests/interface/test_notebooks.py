"""Each notebook runs from top to bottom as it is, and what it claims is true of what it computes.

A notebook runs in a temporary folder, in a kernel of this very interpreter and with IPython
settings of its own. After its last cell the kernel is asked for the variables that its text makes
claims about.

To store new outputs in the notebooks, cleaned as `test_stored_notebook_is_clean` wants them:

    python tests/interface/test_notebooks.py
"""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
FIRST = "01_first_distilled_set"
LOOK = "02_look_at_the_images"
ADAPT = "03_adapt_a_pretrained_net"
DISTILLATION = "06_knowledge_distillation_baselines"
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:home|Users|root|tmp|var|usr|opt|mnt|work)/|[A-Z]:\\\\|ipykernel_\d"
)


def first_distilled_set(v):
    assert v["accuracy_fixed"] >= 60, "the set does not train its own initialization"
    assert v["accuracy_before"] <= 35, "theta_0 is already trained"
    assert abs(v["accuracy_by_hand"] - v["accuracy_fixed"]) < 0.5, (
        "steps by hand are not those of train()"
    )
    assert v["largest_difference"] < 1e-4, "steps by hand are not those of train()"
    assert len(v["accuracies_fresh"]) == 5
    assert max(v["accuracies_fresh"]) <= 35, "the set is said to fail on other initializations"
    assert "one fixed initialization" in v["str(said[0].message)"]
    assert v["mean_random"] >= 60, "the second set does not train fresh nets"
    assert len(set(v["accuracies_random"])) > 1, "the fresh nets are one and the same"
    assert v["measured.accuracy_mean"] >= 60
    assert v["measured_small.accuracy_mean"] >= v["measured.accuracy_mean"] - 5
    assert v["small.bytes"] == v["reusable.bytes"] - 3 * 10 * 8 * 8, "8 bits are a quarter of 32"
    assert v["torch.equal(again.images, reusable.images)"] is True
    assert v["max(votes, key=votes.count)"] in v["again.classes"]


def look_at_the_images(v):
    assert v["as_learned"] >= 75 and v["as_learned_fixed"] >= 60, "the sets do not train"
    for name in ("fixed", "reusable"):
        low, high = v["ranges_of"][name]["real images"]
        assert v["ranges_of"][name]["images"][0] < low and v["ranges_of"][name]["images"][1] > high
        assert v["ranges_of"][name]["pixels()"] == [0, 1]
    assert v["on_pixels_fixed"] <= 30 and v["on_pixels"] <= v["as_learned"] - 2, (
        "pixels() are to be looked at"
    )
    assert v["last_epoch"] > 1.5 * v["first_epoch"], "steps are said to be larger later"

    like, kept = v["like"], v["noise_kept"]
    assert abs(like["start"]) < 0.1
    assert like["random"] > like["fixed"] + 0.15 > 0.3, (
        "random is said to be nearer to the class means"
    )
    assert kept["fixed"] > kept["random"] + 0.1, "random is said to have kept less of the noise"
    assert v["kept_mnist"] > v["like_mnist"] + 0.15, (
        "the LeNet's images are said to be more noise than class"
    )

    assert min(v["own_share.tolist()"]) > 0.8, "labels are said to name their class"
    assert abs(v["accuracy_hardened"] - v["as_learned"]) < 4
    worth, fixed = v["worth"], v["worth_fixed"]
    assert worth["steps shuffled"] > worth["as learned"] - 4, "another order is said to cost little"
    assert worth["step sizes shuffled"] < worth["steps shuffled"], (
        "step sizes are said to matter more"
    )
    assert worth["the first epoch alone"] < 60, "all epochs are said to be needed"
    assert worth["ordinary loop"] > worth["as learned"] - 1
    assert fixed["step sizes all the same"] < fixed["as learned"] - 8, "said to cost a good part"
    assert fixed["step sizes reversed"] < 0.6 * fixed["as learned"], "said to cost half or more"
    assert fixed["twice the step sizes"] < 25, "said to cost nearly all"
    assert fixed["ordinary loop"] < fixed["as learned"] - 5

    assert abs(v["accuracy_small"]["8"] - v["as_learned"]) < 2
    assert abs(v["accuracy_small_fixed"]["8"] - v["as_learned_fixed"]) < 2
    assert v["small_fixed[8].bytes"] == v["fixed.bytes"] - 3 * 10 * 28 * 28, (
        "8 bits are a quarter of 32"
    )
    assert v["accuracy_small_fixed"]["2"] < v["as_learned_fixed"] - 12, (
        "said to lose a good part, or most"
    )
    assert v["accuracy_small"]["2"] > 0.8 * v["as_learned"]

    rank, bound = v["rank"], v["bound"]
    assert rank < v["D"] == 64 and len(bound) == rank - 1, "some pixels are said to be constant"
    assert min(v["before.tolist()"]) > 1 and max(v["after.tolist()"]) < 1e-8, (
        "the optimum from anywhere"
    )
    assert all(b <= e for b, e in zip(bound, v["on_eigenvectors"], strict=True)), (
        "the bound is beaten"
    )
    assert all(e < 1.02 * b for b, e in zip(bound[: rank // 2], v["on_eigenvectors"], strict=False))
    assert all(r > e for r, e in zip(v["on_random"], v["on_eigenvectors"], strict=True))
    assert v["on_random"][-1] > 0.1
    assert abs(v["sampled"] / v["on_eigenvectors"][9] - 1) < 0.05
    assert (
        v["four_steps"] < 1e-8
        and abs(v["four_epochs"] / v["on_eigenvectors"][v["M"] - 1] - 1) < 1e-6
    )
    assert v["one_image.tolist()"][0] < 1e-8 < 1 < min(v["one_image.tolist()"][1:])


def adapt_a_pretrained_net(v):
    assert v["tuned.accuracy_after"] > v["tuned.accuracy_before"] + 30
    assert v["tuned.accuracy_after"] > v["tuned.accuracy_same_steps"]
    assert v["tuned.accuracy_end"] > v["tuned.accuracy_after"], "all images go further in the end"
    assert v["(folder / 'own.safetensors').stat().st_size"] < 20_000
    assert "values of a net of your own" in v["said_without"]
    if (rows := v["with_squeezenet"]) is not None:  # its weights and the pictures were at hand
        assert rows["adapted"] > rows["random-real"] + 15, "one picture a class is said to do less"
        assert rows["adapted"] > rows["k-means"] + 3, "so are the mean features"
        assert rows["adapted"] > rows["all"] - 8, "said to come close to all pictures"
    assert min(v["on_source"]) > 90, "the pool is said to read its source"
    assert min(v["on_target"]) > 10 and max(v["on_target"]) < 50, (
        "badly, though better than guessing"
    )
    assert abs(v["measured.accuracy_before_mean"] - sum(v["on_target"]) / 4) < 0.5
    learned = v["measured.accuracy_mean"]
    assert learned > v["at_start.accuracy_mean"] + 5, "nothing was learned"
    rows = v["{row.name: row.accuracy_mean for row in comparison.rows}"]
    assert abs(rows["distilled"] - learned) < 1e-6 and rows["no-adaptation"] < learned - 30
    real = [rows[name] for name in ("random-real", "optimized-real", "average-real")]
    assert max(real) < learned - 2, "said to be ahead of real images and of class averages"
    assert abs(rows["k-means"] - learned) < 10, "k-means centres are said to come close"
    assert rows["k-means"] > v["at_start.accuracy_mean"] + 3, (
        "step sizes are a good part of what was learned"
    )
    assert rows["knn-k-means"] > learned, "the nearest centre is said to do better"
    assert min(v["small.labels.max(1).values.tolist()"]) > 0.8, "labels are said to show little"

    assert v["tuning.steps"] == 10 and v["tuning.accuracy_after"] > v["tuning.accuracy_before"] + 30
    assert v["tuning.steps_ordinary"] >= 10
    assert abs(v["accuracy(mine, target)"] - v["tuning.accuracy_after"]) < 0.2, (
        "the file holds another net"
    )
    assert v["small.bytes"] < 100_000
    assert v["after_on_source"] < v["on_source"][0] - 20, "said to have given up much of the source"
    fresh = v["fresh_on_target"]
    assert sum(fresh) / len(fresh) < learned - 5, "the set is said to need a pretrained net"
    assert len(set(fresh)) > 1, "each to another place"
    assert "pretrained on digits" in v["str(said[0].message)"]

    before, after = v["attack"]["before"], v["attack"]["after"]
    assert before["attacked_to_target_mean"] < 5 and after["attacked_to_target_mean"] > 65
    assert after["attacked_accuracy_mean"] < 10 < 90 < before["attacked_accuracy_mean"]
    assert after["others_accuracy_mean"] > before["others_accuracy_mean"] - 8, (
        "others suffer little"
    )
    assert 7 < before["accuracy_mean"] - after["accuracy_mean"] < 16, (
        "by little more than the threes"
    )
    counts = [v["poison.labels.tolist()"].count(k) for k in (3, 8)]
    assert counts == [0, 4]
    scores = v["{row.name: row.attack_mean.as_dict() for row in beside.rows}"]
    for name in ("random-real", "k-means"):
        assert scores[name]["attacked_to_target"] > 10, "wrong labels alone do some of it"
        for what in ("attacked_to_target", "modified_accuracy"):
            assert scores["distilled"][what] > scores[name][what] + 1


def knowledge_distillation_baselines(v):
    mean = {name: sum(found) / len(found) for name, found in v["table"].items()}
    assert v["accuracy_teacher"] > 88
    assert all(len(set(found)) > 1 for found in v["table"].values()), "each with its own images"
    assert mean["labels and soft targets"] > mean["labels"] + 1, (
        "soft targets are said to add knowledge"
    )
    assert all(0.02 < doubt < 0.6 for doubt in v["doubts"]), "said to be right, not without doubt"
    assert v["to_others"]["4"] > 2 * v["to_others"]["1"], (
        "a higher temperature is said to bring it out"
    )
    assert v["fours.tolist()"][9] > 1.5 * v["fours.tolist()"][0], (
        "nines are said to be more like fours"
    )

    assert v["apart"]["by labels and attention"] < 0.6 * v["apart"]["by labels"], (
        "where the teacher looks"
    )
    assert v["hint_losses"][-1] < 0.85 * v["hint_losses"][0]
    assert v["changed"] == ["0.weight", "0.bias", "3.weight", "3.bias"], (
        "layers up to the guided one"
    )
    assert v["accuracy_stage_one"] < 40 < 60 < v["accuracy_hinted"], (
        "stage one is said not to classify"
    )

    assert mean["labels, logits, Jacobians"] > mean["labels and logits"] + 1 > mean["labels"] + 3
    cosines = v["cosines"]
    assert cosines["with Jacobians"] > max(cosines["labels"], cosines["labels and logits"]) + 0.08

    soft, hard = v["softly.scores.as_dict()"], v["hardly.scores.as_dict()"]
    soft_three, hard_three = soft["missing"]["3"], hard["missing"]["3"]
    assert hard_three["accuracy"] < 3 and soft_three["accuracy"] > 50, "none and most"
    assert 0 <= soft_three["shift"] < hard_three["shift"] / 3, "it takes little, or none"
    more = soft_three["accuracy_after"] - soft_three["accuracy"]
    assert more > 3 or more == soft_three["shift"] == 0, "reads more of them"
    assert hard_three["overall_after"] < hard["accuracy"] + 2.5, "of little use"
    assert hard_three["accuracy_after"] < soft_three["accuracy"]

    assert v["asked_by"] == {"online": 1002, "cached": 102} and v["asked_again"] == 0
    for online, cached in zip(v["loss_of"]["online"], v["loss_of"]["cached"], strict=True):
        assert abs(online - cached) < 1e-4 * online
    assert v["refused"].startswith("100 of 100 images are not those")

    assert len(v["single"]) == 4 and max(v["single"]) < 20, "a generation has learned nothing"
    assert len(set(v["single"])) > 1, "the generations are one and the same"
    assert v["bane"]["3"] < sum(v["single"][1:]) / 3 + 1, "the ensemble is far behind its members"
    assert v["largest_gap"] < 1e-6 and 0.01 < v["share"] < 0.6, (
        "dark knowledge is said to be a part"
    )
    p, shuffled = v["p[row].tolist()"], v["shuffled[row].tolist()"]
    assert p != shuffled and sorted(p) == sorted(shuffled) and max(p) == shuffled[p.index(max(p))]
    sent = v["{f'{e.row} {e.storage}': [e.bytes, e.accuracy.mean] for e in ledger.entries}"]
    assert sent["real-hard uint8"][0] == 100 * 28 * 28 + 8 + 100
    assert sent["real-soft float32"][0] == 4 * 100 * 28 * 28 + 4 * 100 * 10
    assert sent["student float16"][0] < sent["real-hard uint8"][0], "said to take fewer bytes"
    assert sent["student float16"][1] > sent["real-hard uint8"][1] + 5, (
        "said to be a strong competitor"
    )
    assert sent["distilled uint8"][1] > 50


# NAME: (what to read in the kernel after the last cell, what must be true of it)
CLAIMS = {
    FIRST: (
        [
            "accuracy_before",
            "accuracy_fixed",
            "accuracy_by_hand",
            "largest_difference",
            "accuracies_fresh",
            "str(said[0].message)",
            "accuracies_random",
            "mean_random",
            "measured.accuracy_mean",
            "measured_small.accuracy_mean",
            "small.bytes",
            "reusable.bytes",
            "again.classes",
            "torch.equal(again.images, reusable.images)",
            "max(votes, key=votes.count)",
        ],
        first_distilled_set,
    ),
    LOOK: (
        [
            "as_learned",
            "as_learned_fixed",
            "ranges_of",
            "on_pixels",
            "on_pixels_fixed",
            "first_epoch",
            "last_epoch",
            "like",
            "noise_kept",
            "like_mnist",
            "kept_mnist",
            "own_share.tolist()",
            "accuracy_hardened",
            "worth",
            "worth_fixed",
            "accuracy_small",
            "accuracy_small_fixed",
            "fixed.bytes",
            "small_fixed[8].bytes",
            "rank",
            "D",
            "before.tolist()",
            "after.tolist()",
            "bound",
            "on_eigenvectors",
            "on_random",
            "sampled",
            "four_steps",
            "four_epochs",
            "M",
            "one_image.tolist()",
        ],
        look_at_the_images,
    ),
    ADAPT: (
        [
            "tuned.accuracy_before",
            "tuned.accuracy_after",
            "tuned.accuracy_same_steps",
            "tuned.accuracy_end",
            "(folder / 'own.safetensors').stat().st_size",
            "said_without",
            "with_squeezenet",
            "on_source",
            "on_target",
            "measured.accuracy_before_mean",
            "measured.accuracy_mean",
            "at_start.accuracy_mean",
            "{row.name: row.accuracy_mean for row in comparison.rows}",
            "small.labels.max(1).values.tolist()",
            "tuning.steps",
            "tuning.accuracy_before",
            "tuning.accuracy_after",
            "tuning.steps_ordinary",
            "accuracy(mine, target)",
            "small.bytes",
            "after_on_source",
            "fresh_on_target",
            "str(said[0].message)",
            "attack",
            "poison.labels.tolist()",
            "{row.name: row.attack_mean.as_dict() for row in beside.rows}",
        ],
        adapt_a_pretrained_net,
    ),
    DISTILLATION: (
        [
            "accuracy_teacher",
            "table",
            "doubts",
            "to_others",
            "fours.tolist()",
            "apart",
            "hint_losses",
            "changed",
            "accuracy_stage_one",
            "accuracy_hinted",
            "cosines",
            "softly.scores.as_dict()",
            "hardly.scores.as_dict()",
            "asked_by",
            "asked_again",
            "loss_of",
            "refused",
            "single",
            "bane",
            "largest_gap",
            "share",
            "p[row].tolist()",
            "shuffled[row].tolist()",
            "{f'{e.row} {e.storage}': [e.bytes, e.accuracy.mean] for e in ledger.entries}",
        ],
        knowledge_distillation_baselines,
    ),
}


def executed(path, folder, expressions):
    """The notebook after it ran in `folder`, and the values of `expressions` then."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # what is stored must not be taken for the result
            cell.outputs, cell.execution_count = [], None
    pairs = ", ".join(f"{e!r}: {e}" for e in expressions)
    question = nbformat.v4.new_code_cell(f"import json; print(json.dumps({{{pairs}}}))")
    notebook.cells.append(question)
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(
            kernel_dirs=[]
        ),  # no installed kernel: ipykernel of sys.executable
        connection_file=str(folder / "kernel.json"),
    )
    work = folder / "work"
    work.mkdir()
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=900,
        startup_timeout=300,
        record_timing=False,
        resources={"metadata": {"path": str(work)}},
    )
    try:
        client.execute(env={**os.environ, "IPYTHONDIR": str(folder / "ipython")})
    finally:  # a manager that was passed is not the client's to shut down
        run_sync(manager.shutdown_kernel)(now=True)
    notebook.cells.pop()
    return notebook, json.loads(question.outputs[0].text), sorted(p.name for p in work.iterdir())


def test_there_are_notebooks():
    assert FIRST in [path.stem for path in NOTEBOOKS]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_keeps_its_word(path, tmp_path):
    expressions, claims = CLAIMS.get(path.stem, ([], lambda values: None))
    notebook, values, left = executed(path, tmp_path, expressions)
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert left == [], "the notebook leaves files beside itself"
    claims(values)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_is_clean(path):
    """Cell names that stay, no clock, no path, no error: a change shows as a small diff."""
    text = path.read_text(encoding="utf-8")
    assert len(text) < 400_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.id for cell in notebook.cells] == [
        f"cell-{n:02d}" for n in range(1, len(notebook.cells) + 1)
    ]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    for cell in code:
        for output in cell.outputs:
            shown = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
            assert not MACHINE_PATH.search(shown), shown


@pytest.mark.parametrize("root", [".", "nowhere"])
def test_without_weights_and_pictures_a_cell_says_so(root, tmp_path, monkeypatch):
    monkeypatch.setenv("DATADISTILL_DATA", str(tmp_path / root))
    notebook = nbformat.read(FOLDER / f"{ADAPT}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    notebook.cells = [code[0], next(c for c in code if "torchvision.models.squeezenet" in c.source)]
    nbformat.write(notebook, tmp_path / "cells.ipynb")
    ran, values, _ = executed(tmp_path / "cells.ipynb", tmp_path, ["with_squeezenet"])
    said = ran.cells[1].outputs[0].text
    assert values == {"with_squeezenet": None} and len(ran.cells[1].outputs) == 1
    assert "VOCdevkit/VOC2012" in said and "squeezenet1_0/NAME.pt" in said
    assert said.count("\n") == 1 and not MACHINE_PATH.search(said)


def test_a_failing_cell_is_not_passed_over(tmp_path):
    cells = [nbformat.v4.new_code_cell("1 + 1"), nbformat.v4.new_code_cell("1 / 0")]
    path = tmp_path / "broken.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        executed(path, tmp_path, [])


def test_the_kernel_is_this_interpreter(tmp_path):
    path = tmp_path / "where.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys")]), path)
    _, values, _ = executed(path, tmp_path, ["sys.executable"])
    assert values["sys.executable"] == sys.executable


def store(path, folder):
    """Run a notebook and write it back with its outputs, cells numbered, without clock or
    machine."""
    notebook, *_ = executed(path, folder, [])
    for n, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{n:02d}", {}
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": spec, "language_info": {"name": "python"}}
    nbformat.write(notebook, path)


def test_storing_cleans(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("6 * 7", metadata={"tags": ["x"]})]
    )
    path = tmp_path / "one.ipynb"
    nbformat.write(notebook, path)
    store(path, tmp_path)
    test_stored_notebook_is_clean(path)
    assert nbformat.read(path, as_version=4).cells[0].outputs[0].data["text/plain"] == "42"


if __name__ == "__main__":
    for notebook_path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as scratch:
            store(notebook_path, Path(scratch))
        print(f"wrote {notebook_path.relative_to(FOLDER.parent)}")
