"""A bridge from start to end on tiny images: cells, resuming, bytes against the ledger's own, and
what is refused."""

import json

import pytest
import torch

import kd_baselines as kd
from datadistill import DistilledDataset
from datadistill.data import RealData
from datadistill.errors import DataError, UsageError
from datadistill.stats import paired_difference
from kd_baselines.cli import main
from kd_baselines.features import run
from kd_baselines.image_source import find_source
from kd_baselines.ledger.payload import Payload
from kd_baselines.losses import attention_map
from kd_baselines.netfile import SavedNet
from kd_baselines.studies import bridge_cells, compare
from kd_baselines.studies.bridge import make_bridge
from kd_baselines.studies.bridge_bytes import Bytes, count_outputs
from kd_baselines.studies.bridge_plans import BRIDGES, SetPlan

KNOWLEDGE = ("labels", "soft", "jacobian", "attention")
G = torch.Generator().manual_seed(0)
LABELS = torch.arange(90) % 3
CENTRES = torch.rand(3, 1, 8, 8, generator=G)
IMAGES = (CENTRES[LABELS] + 0.3 * torch.randn(90, 1, 8, 8, generator=G)).clamp(0, 1)
DATA = RealData.from_tensors(IMAGES, LABELS, test_images=IMAGES, test_labels=LABELS, validation=12)
ASKED = {"ipc": (2,), "images": ("herding", "dm"), "steps": 3, "data": DATA}


def make(out, seeds=2, **options):
    return make_bridge("bridge-digits", out=out, seeds=seeds, **{**ASKED, **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bridge") / "a"
    return make(folder), folder


def test_every_cell_is_there_and_differs_from_labels_by_seed(whole):
    found, folder = whole
    cells = [(cell.images, cell.knowledge) for cell in found.cells]
    assert cells == [(images, name) for images in ("herding", "dm") for name in KNOWLEDGE]
    for cell in found.cells:
        base = found.cell(cell.images, 2, "labels")
        assert cell is base or cell.difference == paired_difference(cell.values, base.values)
        for seed, value in enumerate(cell.values):
            saved = SavedNet.load(folder / f"{cell.images}-2-{cell.knowledge}-s{seed}")
            assert saved.scores["accuracy"] == value
            assert saved.record["epochs"] == 3 and saved.record["data_from_images"] == 6
    made = DistilledDataset.load(folder / "set-dm-2")
    assert made.net.name == "convnet" and made.label_kind == "hard" and len(made.images) == 6
    page, rows = ((folder / name).read_text() for name in ("table.md", "table.csv"))
    assert "2 images a class: minus labels" in page and page.count("\n| dm |") == 3
    assert len(rows.splitlines()) == 1 + len(found.cells)
    assert json.loads(json.dumps(list(found.records())))[0]["knowledge"] == "labels"


def test_bytes_are_the_ledgers(whole):
    found, folder = whole
    names = {"classes": DATA.classes, "normalization": DATA.normalization}
    teacher = SavedNet.load(folder / "teacher.safetensors")
    weights = Payload.of_net(teacher.states[0], teacher.spec, **names).bytes
    dm = DistilledDataset.load(folder / "set-dm-2")
    config = kd.recipe("bridge-digits").with_changes(data_from="herding:2")
    herded = find_source(config, DATA).split
    for images, split in (("dm", dm), ("herding", herded)):
        sent = Payload.of_images(split.images, split.labels, **names)
        # real images are what their 8-bit codes say, and distilled ones were seen so
        maps = run(teacher.net(), split.images, ("features.2", "features.5")).features
        outputs = {
            "labels": 0,
            "soft": 6 * 3 * 4,
            "jacobian": 6 * 64 * 4,
            "attention": sum(attention_map(one).numel() for one in maps.values()) * 4,
        }
        for name in KNOWLEDGE:
            cell = found.cell(images, 2, name)
            assert cell.bytes.parts == sent.parts == {"images": 384, "range": 8, "labels": 6}
            assert cell.bytes.outputs == outputs[name]
            assert cell.bytes.teacher == (0 if name == "labels" else weights)
            assert cell.bytes.total == sent.bytes + min(outputs[name], weights)


def test_knowledge_goes_by_what_takes_fewer_bytes():
    parts = {"images": 100}
    cases = {
        "labels": (Bytes(parts), 100),
        "outputs": (Bytes(parts, 40, 50), 140),
        "teacher": (Bytes(parts, 60, 50), 150),
    }
    for carrier, (found, total) in cases.items():
        assert (found.carrier, found.total) == (carrier, total)
    assert Bytes(parts, None, 50).carrier == "teacher" and Bytes(parts, None, 50).total == 150


METHODS = {
    "plain": ({}, 0),
    "soft-targets": ({}, 3),
    "logits": ({}, 3),
    "jacobian": ({"activation_weight": 0.0, "output": "full"}, 3 * 64),
    "jacobian ": ({"activation_weight": 1.0, "output": "label"}, 3 + 64),
    "input-noise": ({}, None),
}


@pytest.mark.parametrize("method", METHODS)
def test_numbers_that_a_method_reads_of_its_teacher(method, whole):
    args, wanted = METHODS[method]
    teacher = SavedNet.load(whole[1] / "teacher.safetensors")
    config = kd.KdConfig(method=method.strip(), method_args=args)
    assert count_outputs(config, DATA.train.images[:1], teacher) == wanted


def test_a_second_call_trains_what_is_missing_alone(whole, tmp_path, monkeypatch):
    found, folder = whole
    told = []
    assert make(folder, say=told.append) == found and told == []
    student = folder / "dm-2-soft-s1"
    kept = (student / "student.safetensors").read_bytes()
    (student / "student.safetensors").unlink()
    assert make(folder, say=told.append) == found
    assert told == ["dm-2-soft-s1, taught by teacher.safetensors"]
    assert (student / "student.safetensors").read_bytes() == kept

    def forbidden(*args, **options):
        raise AssertionError("a finished run was begun again")

    monkeypatch.setattr(compare, "train", forbidden)
    monkeypatch.setattr(bridge_cells, "distill", forbidden)
    some = make(folder, images=("dm",), knowledge=("labels", "soft"))
    assert [cell.knowledge for cell in some.cells] == ["labels", "soft"]
    assert some.cell("dm", 2, "soft") == found.cell("dm", 2, "soft")
    with pytest.raises(UsageError, match="another study"):
        make(folder, steps=4)


def test_students_of_a_set_that_is_no_longer_there_are_refused(tmp_path):
    out, asked = tmp_path / "a", {"images": ("dm",), "knowledge": ("labels",), "seeds": 1}
    make(out, **asked)
    d = DistilledDataset.load(out / "set-dm-2")
    d.images += 1
    d.save(out / "set-dm-2" / "distilled.safetensors")
    with pytest.raises(DataError, match="dm-2-labels-s0 holds a student of other images"):
        make(out, **asked)


REFUSED = {
    "images": ({"images": ("randm",)}, "no images 'randm'"),
    "knowledge": ({"knowledge": ("sfot",)}, "no knowledge 'sfot'"),
    "ipc": ({"ipc": (0,)}, "ipc is 0"),
    "too many": ({"ipc": (50,)}, "50 wanted of each"),
    "epochs": ({"changes": {"epochs": 3}}, "the study sets it"),
    "a field of the set": ({"distill_changes": {"ipc": 3}}, "distill_changes has ipc"),
    "an unknown field": ({"distill_changes": {"iteratons": 3}}, "iteratons"),
    "layers": ({"changes": {"net": "mlp", "net_args": {}}}, "features.2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(case, tmp_path):
    options, words = REFUSED[case]
    with pytest.raises((UsageError, DataError), match=words):
        make(tmp_path / "a", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BRIDGES)
def test_every_plan_names_sets_that_can_be_learned(name):
    plan = BRIDGES[name]
    student = kd.recipe(plan.name)
    assert plan.images == ("random", "herding", "unrolled", "dm", "frepo")
    for how in plan.sets.values():
        assert isinstance(how, SetPlan)
        for ipc in plan.ipc:
            config = how.make(student, ipc, {"iterations": 2})
            assert (config.ipc, config.dataset, config.net) == (ipc, student.dataset, student.net)
            assert config.iterations == 2


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "--ipc 1 --images random --knowledge labels soft --steps 2 --teacher-epochs 1"
    assert main(["bridge", "bridge-digits", *words.split(), "--seeds", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["knowledge"] for row in shown["rows"]] == ["labels", "soft"]
    assert shown["rows"][1]["bytes"] - shown["rows"][0]["bytes"] == 10 * 10 * 4
    assert shown["run"] == "runs/bridge/bridge-digits"
    page = (tmp_path / "runs/bridge/bridge-digits/table.md").read_text()
    assert "One seed: nothing follows" in page and "--teacher-epochs 1" in page
    assert "--distill-changes" not in page
