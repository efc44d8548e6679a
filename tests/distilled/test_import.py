"""The results.pth of the authors' own code: what it says comes back to the bit, the rest is an
argument."""

import hashlib

import pytest
import torch

from datadistill.data.normalization import Normalization
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError, UsageError
from datadistill.export.wang import import_results, read_test_results
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec
from datadistill.objectives import Attack
from datadistill.starts import Start

MLP = {"net": "mlp", "net_args": {"width": 5, "depth": 1}}
OWN = {"mean": (0.25,), "std": (0.5,)}


def digits_set(*, soft=False, fixed=False, epochs=3):
    """A set of 2 steps with 10 images of 8x8 pixels each."""
    g = torch.Generator().manual_seed(3)
    spec = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 5, "depth": 1})
    theta_0 = {
        k: 0.3 * torch.randn(p.shape, generator=g) for k, p in spec.build().named_parameters()
    }
    return DistilledDataset(
        torch.randn(20, 1, 8, 8, generator=g),
        torch.randn(20, 10, generator=g).softmax(1) if soft else torch.arange(20) % 10,
        0.05 + torch.rand(2 * epochs, generator=g),
        [torch.arange(10), torch.arange(10, 20)] * epochs,
        classes=tuple(map(str, range(10))),
        normalization=Normalization((0.25,), (0.5,), size=8, channels=1),
        net=spec,
        update=sgd(),
        theta_0=theta_0 if fixed else None,
    )


def entries(d):
    """A set as the authors' code keeps it: step sizes are one-element views of one tensor."""
    return [
        (x, y, lr) for (x, y), lr in zip(d.steps(), d.step_sizes.view(-1, 1).unbind(), strict=True)
    ]


def saved(tmp_path, content, **how):
    torch.save(content, tmp_path / "results.pth", **how)
    return tmp_path / "results.pth"


@pytest.mark.parametrize("soft", [False, True], ids=["hard labels", "soft labels"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old pickle"])
def test_the_same_steps_and_the_same_net(tmp_path, soft, zipped):
    d = digits_set(soft=soft)
    path = saved(tmp_path, entries(d), _use_new_zipfile_serialization=zipped)
    found = import_results(path, "digits", **MLP, **OWN)
    assert torch.equal(found.step_sizes, d.step_sizes)
    for (x, y), (x_, y_) in zip(found.steps(), d.steps(), strict=True):
        assert torch.equal(x, x_) and torch.equal(y, y_) and y.dtype == y_.dtype
    for p, q in zip(found.train(seed=1).parameters(), d.train(seed=1).parameters(), strict=True):
        assert torch.equal(p, q)
    assert (
        found.net == d.net and found.normalization == d.normalization and found.classes == d.classes
    )


def test_images_of_later_epochs_are_stored_once(tmp_path):
    d = digits_set()
    copies = [(x.clone(), y.clone(), lr.clone()) for x, y, lr in entries(d)]
    found = import_results(saved(tmp_path, copies), "digits", **MLP, **OWN)
    assert len(found.images) == 20 and len(found.order) == 6 and found.passes == 3
    assert [i.tolist() for i in found.order] == [i.tolist() for i in d.order]


def test_images_that_differ_in_one_pixel_or_one_label_are_two(tmp_path):
    x, y, lr = entries(digits_set())[0]
    other, swapped = x.clone(), y.flip(0)
    other[9, 0, 7, 7] += 1e-3
    found = import_results(
        saved(tmp_path, [(x, y, lr), (other, y, lr), (x, swapped, lr)]), "digits", **MLP, **OWN
    )
    assert len(found.images) == 30
    assert torch.equal(found.steps()[1][0], other) and torch.equal(found.steps()[2][1], swapped)


def test_other_forms_of_the_same(tmp_path):
    d = digits_set()
    one_hot = [
        [x.double(), torch.nn.functional.one_hot(y, 10).int(), float(lr)] for x, y, lr in entries(d)
    ]
    found = import_results(saved(tmp_path, tuple(one_hot)), "digits", **MLP, **OWN)
    assert torch.equal(found.images, d.images) and torch.equal(found.labels, d.labels)
    assert torch.equal(found.step_sizes, d.step_sizes)


def test_what_it_came_from_is_noted_and_no_path(tmp_path):
    path = saved(tmp_path, entries(digits_set()))
    found = import_results(path, "digits", source="mnist5k", attack=(3, 5), **MLP, **OWN)
    assert found.origin["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.origin["recipe"] == "imported" and found.origin["dataset"] == "digits"
    assert found.start == Start("pool", source="mnist5k") and found.objective == Attack(3, 5, 10)
    assert found.data == DataReference("digits")
    assert str(tmp_path) not in str(found.origin)
    found.save(tmp_path / "set")
    assert DistilledDataset.load(tmp_path / "set").origin == found.origin


def test_a_fixed_initialization_is_an_argument(tmp_path):
    d = digits_set(fixed=True)
    path = saved(tmp_path, entries(d))
    assert import_results(path, "digits", **MLP, **OWN).theta_0 is None
    found = import_results(path, "digits", theta_0=d.theta_0, **MLP, **OWN)
    for p, q in zip(found.train().parameters(), d.train().parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_fixed_initialization_from_a_file(tmp_path):
    from safetensors.torch import save_file

    d = digits_set(fixed=True)
    save_file(d.theta_0, tmp_path / "w.safetensors")
    found = import_results(
        saved(tmp_path, entries(d)), "digits", theta_0=tmp_path / "w.safetensors", **MLP, **OWN
    )
    assert all(torch.equal(p, d.theta_0[k]) for k, p in found.theta_0.items())
    wrong = dict(d.theta_0)
    wrong["layers.2.weight"] = torch.zeros(10, 6)
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(DataError, match=r"layers\.2\.weight"):
        import_results(
            tmp_path / "results.pth", "digits", theta_0=tmp_path / "wrong.safetensors", **MLP, **OWN
        )


@pytest.mark.parametrize(
    ("dataset", "shape", "net", "mean", "std"),
    [
        ("mnist", (1, 28), "lenet", (0.1307,), (0.3081,)),
        ("usps", (1, 28), "lenet", (0.1597,), (0.2573,)),
        ("svhn", (3, 32), "lenet", (0.4379, 0.4440, 0.4729), (0.1980, 0.2010, 0.1970)),
        # over all pixels, unlike our own source's
        ("cifar10", (3, 32), "alexcifarnet", (0.4914, 0.4822, 0.4465), (0.2470, 0.2430, 0.2610)),
    ],
)
def test_the_authors_own_settings(tmp_path, dataset, shape, net, mean, std):
    channels, size = shape
    step = (torch.randn(10, channels, size, size), torch.arange(10), torch.tensor([0.02]))
    found = import_results(saved(tmp_path, [step]), dataset)
    assert (found.net.name, found.net.init) == (net, "xavier")
    assert found.normalization == Normalization(mean, std, size, channels)
    assert found.update == sgd()


def test_grey_in_three_channels(tmp_path):
    step = (torch.randn(10, 3, 32, 32), torch.arange(10), torch.tensor([0.02]))
    found = import_results(saved(tmp_path, [step]), "mnist", channels=3)
    assert found.normalization == Normalization((0.1307,) * 3, (0.3081,) * 3, 32, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"dataset": "mnst"}, "did you mean mnist"),
        ({"dataset": "digits", "source": "mnst"}, "unknown source 'mnst'"),
        ({"dataset": "digits"}, "no published numbers are known for digits"),
        ({"dataset": "digits", "mean": (0.5,)}, "pass both"),
        ({"dataset": "digits", "attack": (3, 3)}, r"attack is \(3, 3\)"),
        ({"dataset": "digits", "attack": (3, 10)}, "0..9"),
        ({"dataset": "digits", **OWN, "net": "mpl"}, "mlp"),
    ],
)
def test_arguments_that_are_wrong(tmp_path, arguments, said):
    path = saved(tmp_path, entries(digits_set()))
    with pytest.raises(UsageError, match=said):
        import_results(path, **arguments)


# --- the test phase's file


def test_measured_accuracies(tmp_path):
    content = (
        torch.tensor([0, 30]),
        torch.tensor([[0.1, 0.2], [0.75, 0.85]]).double(),
        torch.ones(2, 2),
    )
    found = read_test_results(saved(tmp_path, content))
    assert found.steps == (0, 30) and found.nets == 2
    assert found.accuracy_mean == pytest.approx((15, 80)) and found.accuracy_std == pytest.approx(
        (5, 5)
    )
    with pytest.raises(DataError, match=r"results\.pth of the training phase"):
        import_results(tmp_path / "results.pth", "mnist")


def test_accuracies_of_an_attack_begin_with_the_overall_one(tmp_path):
    accuracies = torch.rand(2, 3, 13)
    found = read_test_results(saved(tmp_path, (torch.tensor([0, 1]), accuracies, torch.ones(2, 3))))
    assert found.accuracy_mean == pytest.approx(
        (100 * accuracies[..., 0].double().mean(1)).tolist()
    )


def test_three_entries_are_a_set_and_no_measurement(tmp_path):
    path = saved(tmp_path, entries(digits_set())[:3])
    assert read_test_results(path) is None
    assert len(import_results(path, "digits", **MLP, **OWN).order) == 3


def test_accuracies_out_of_range(tmp_path):
    with pytest.raises(DataError, match=r"0\.\.1"):
        read_test_results(
            saved(tmp_path, (torch.tensor([0]), torch.tensor([[80.0]]), torch.ones(1, 1)))
        )


def test_a_set_imported_in_inference_mode_has_ordinary_tensors(tmp_path):
    path = saved(tmp_path, entries(digits_set()))
    with torch.inference_mode():
        found = import_results(path, "digits", **MLP, **OWN)
    assert not any(
        t.is_inference() for t in (found.images, found.labels, found.step_sizes, *found.order)
    )
