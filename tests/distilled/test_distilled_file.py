"""The file of a distilled set: saving and loading is the identity, and what was damaged is
refused."""

import json

import pytest
import safetensors.torch
import torch
from distilled_cases import VARIANTS, assert_same_set, distilled, parts, write

from datadistill.cli import main
from datadistill.distilled import DistilledDataset
from datadistill.distilled_file import identity
from datadistill.errors import DataError, UsageError
from datadistill.innerloop.update_rules import Sgd
from datadistill.runs.canonical import canonical_json


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def each(request):
    return request.param


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "set.safetensors"
    distilled(fixed=True).save(path)
    return path


def test_saving_and_loading_is_the_identity(each, tmp_path):
    d = distilled(**each)
    d.save(tmp_path / "a")
    loaded = DistilledDataset.load(tmp_path / "a")
    assert_same_set(loaded, d)
    loaded.save(tmp_path / "b")
    distilled(**each).save(tmp_path / "c")
    assert (
        (tmp_path / "a").read_bytes()
        == (tmp_path / "b").read_bytes()
        == (tmp_path / "c").read_bytes()
    )


def test_the_metadata_is_one_key_of_canonical_json(saved):
    with safetensors.safe_open(saved, "pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["datadistill"]
    document = json.loads(metadata["datadistill"])
    assert canonical_json(document) == metadata["datadistill"]
    assert document["schema"] == 4
    assert document["classes"] == ["ant", "bee", "cat", "dog"]
    assert set(document) == {
        "schema",
        "checksum",
        "what",
        "classes",
        "normalization",
        "net",
        "update",
        "norm",
        "schedule",
        "tensors",
        "theta_0",
        "start",
        "objective",
        "data",
        "origin",
        "accuracies",
        "quantization",
    }


# --- damage


def test_edited_metadata_is_refused_and_read_only_on_request(saved, tmp_path):
    data = saved.read_bytes()
    edited = data.replace(b'\\"cat\\"', b'\\"cow\\"')
    assert edited != data
    (tmp_path / "edited").write_bytes(edited)
    with pytest.raises(DataError, match="damaged or was edited"):
        DistilledDataset.load(tmp_path / "edited")
    read = DistilledDataset.load(tmp_path / "edited", verify=False)
    assert read.classes == ("ant", "bee", "cow", "dog")


def test_one_flipped_bit_of_an_accuracy_is_refused(saved, tmp_path):
    edited = saved.read_bytes().replace(rb"\"test\":12.5", rb"\"test\":13.5")
    assert edited != saved.read_bytes()
    (tmp_path / "edited").write_bytes(edited)
    with pytest.raises(DataError, match="damaged or was edited"):
        DistilledDataset.load(tmp_path / "edited")


def test_the_identity_is_the_same_whatever_was_measured(saved):
    d, measured = distilled(fixed=True), distilled(fixed=True)
    measured.accuracies = {"test": 50.0}
    assert identity(d) == identity(measured)
    assert identity(d) != identity(distilled(fixed=True, seed=1))


# --- folders


class Own(Sgd):
    """A rule that no file can describe."""


def test_a_set_whose_file_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(UsageError, match="update rule is Own"):
        distilled(update=Own()).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        ({"width": 10**12}, "width is "),
        ({"depth": 10**12}, "depth is "),
        ({"width": 10**6, "depth": 3}, "theta_0 .* wanted floats"),  # 8 TB of weights
        (
            {"width": 10**6},
            r"theta_0 'layers\.0\.bias' is floats \(5,\), wanted floats \(1000000,\)",
        ),
        ({"depth": 2000}, r"has more tensors than there can be \(208\)"),
    ],
)
def test_nothing_is_allocated_for_the_net_that_a_file_claims(tmp_path, claim, found):
    tensors, meta = parts(distilled(fixed=True))
    meta["net"]["args"].update(claim)
    with pytest.raises(DataError, match=found):
        DistilledDataset.load(write(tmp_path / "huge", tensors, meta))


def test_the_constructor_does_not_keep_a_graph():
    leaf = torch.ones(8, 1, 6, 6, requires_grad=True)
    d = distilled()
    again = DistilledDataset(
        leaf * 2,
        d.labels,
        d.step_sizes,
        d.order,
        classes=d.classes,
        normalization=d.normalization,
        net=d.net,
        update=d.update,
    )
    assert not again.images.requires_grad


@pytest.mark.parametrize(
    "accuracies",
    [{"test": 12.5}, {"accuracy_mean": 90.0}, {"test": {"accuracy_mean": 90.0}}, {"note": "none"}],
)
def test_inspect_tells_of_accuracies_of_any_form(accuracies, tmp_path, capsys):
    d = distilled()
    d.accuracies = accuracies
    d.save(tmp_path / "set")
    assert main(["inspect", str(tmp_path / "set")]) == 0
    assert next(iter(accuracies)) in capsys.readouterr().out


@pytest.mark.parametrize(
    "use",
    [
        lambda d: d,
        lambda d: d.quantized(),
        lambda d: d.to("cpu"),
        lambda d: DistilledDataset(
            *d.as_tensor_dataset().tensors, d.step_sizes, d.order, **about(d)
        ),
    ],
)
def test_a_set_read_in_inference_mode_can_be_trained_on(use, saved):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            d = use(DistilledDataset.load(saved))
            pairs, net = d.steps(), d.build()
    finally:
        torch.set_default_dtype(torch.float32)
    for x, y in [*pairs, d.as_tensor_dataset().tensors]:
        torch.nn.functional.cross_entropy(net(x), y).backward()
    assert all(p.grad is not None for p in net.parameters()) and d.images.dtype is torch.float32


def about(d):
    return {k: getattr(d, k) for k in ("classes", "normalization", "net", "update", "theta_0")}


@pytest.mark.parametrize(
    ("nets", "shown"), [(1, "40.00 over 1 net (test)"), (2, "40.00 ± 0.00 over 2 nets")]
)
def test_one_net_has_no_deviation(nets, shown, saved, capsys):
    d = DistilledDataset.load(saved)
    d.accuracies = {
        "accuracy_before_mean": 10.0,
        "accuracy_mean": 40.0,
        "accuracy_std": 0.0,
        "nets": nets,
        "split": "test",
    }
    d.save(saved)
    assert main(["inspect", str(saved)]) == 0
    assert shown in capsys.readouterr().out
