"""Labels, images and data sets as users hand them over: the same numbers, or one sentence."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import datadistill as dd
import kd_baselines as kd
from datadistill.data import Split
from datadistill.errors import DatadistillError
from kd_baselines.splits import as_split

X = torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 5
SOFT = F.one_hot(Y, 5) * 0.8 + 0.04


def net(seed=0, width=5):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.ReLU(), nn.Linear(8, width))


def loss(labels, objective=None, images=X):
    objective = kd.CE() + kd.KD(T=4) if objective is None else objective
    return kd.Distiller(net(), objective, kd.Teacher(net(1))).step((images, labels))["loss"]


def fit(data):
    plan = dd.FitPlan(epochs=2, batch=5, lr=0.1, optimizer="sgd")
    trained = kd.fit(
        net(), data, kd.Stage("student", kd.CE() + kd.KD(T=4), plan), kd.Teacher(net(1))
    )
    return trained.state_dict()


LABELS = {
    **{
        str(dtype): Y.to(dtype)
        for dtype in (torch.int32, torch.int16, torch.int8, torch.uint8, torch.float32)
    },
    "uint16": Y.to(torch.uint16),
    "(B,1)": Y[:, None],
    "(B,1) floats": Y[:, None].double(),
    "one-hot": F.one_hot(Y, 5),
    "a list": Y.tolist(),
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_labels_of_every_type_mean_the_same(labels):
    torch.testing.assert_close(loss(labels), loss(Y))
    torch.testing.assert_close(loss(labels, kd.CWTM()), loss(Y, kd.CWTM()))


def test_cross_entropy_takes_probabilities():
    wanted = -(SOFT * net()(X).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss(SOFT, kd.CE()), wanted)
    torch.testing.assert_close(loss(SOFT.double(), kd.CE()), wanted)


def test_double_images_are_brought_to_the_nets_type():
    torch.testing.assert_close(loss(Y, images=X.double()), loss(Y))


DATA = {
    "a data set": TensorDataset(X, Y),
    "a subset": Subset(TensorDataset(X.repeat(2, 1, 1, 1), Y.repeat(2)), range(12)),
    "a loader": DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True),
    "a list of pairs": list(zip(X, Y.tolist(), strict=True)),
    "a pair": (X, Y.float()),
    "a list of labels": (X, Y.tolist()),
    "arrays": (X.numpy(), Y.numpy()),
    "double": Split(X.double(), Y.int()),
}


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_fit_trains_alike_on_data_of_every_form(data):
    for name, value in fit(Split(X, Y)).items():
        torch.testing.assert_close(fit(data)[name], value)


def distilled(labels):
    config = dd.recipe("digits-random").with_changes(iterations=1)
    d = dd.distill(config)
    return d if labels is None else as_split((d.images, labels.repeat(len(d.images), 1)))


def test_a_distilled_set_is_a_training_set():
    d = distilled(None)
    digits = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    stage = kd.Stage(
        "student", kd.CE(), dd.FitPlan(epochs=1, batch=100, lr=0.1, optimizer="sgd", momentum=0.0)
    )
    trained = kd.fit(digits, d, stage)
    gradient = torch.autograd.grad(F.cross_entropy(digits(d.images), d.labels), digits[1].weight)[0]
    torch.testing.assert_close(trained[1].weight, digits[1].weight - 0.1 * gradient)
    for call, pattern in (
        (
            lambda: kd.score(digits, d),
            r"DistilledDataset of \d+ learned images, on which nothing is tested",
        ),
        (
            lambda: kd.train(kd.KdConfig(dataset="digits"), data=d),
            r"no test images .* data_from=",
        ),
        (
            lambda: kd.train(kd.KdConfig(dataset="digits"), data=TensorDataset(X, Y)),
            "wanted a RealData",
        ),
    ):
        with pytest.raises(DatadistillError, match=pattern):
            call()


def test_score_of_a_data_set_is_its_accuracy():
    right = net()(X).argmax(1) == Y
    found = kd.score(net(), DataLoader(TensorDataset(X, Y), batch_size=5))
    assert found.accuracy == pytest.approx(100 * right.float().mean().item())
    assert (found.images, found.errors) == (12, int((~right).sum()))


REFUSED = [
    (lambda: loss(Y + 3), "labels go from 3 to 7 and the net has 5 logits"),
    (lambda: loss(Y - 1), "labels go from -1 to 3"),
    (lambda: loss(Y + 0.5), "not all whole numbers"),
    (lambda: loss(Y * float("nan")), "not all whole numbers"),
    (lambda: loss(F.one_hot(Y, 5) * 2), "not one-hot"),
    (lambda: loss(Y[:4]), r"\(4,\) torch.int64 for 12 samples"),
    (lambda: loss(SOFT[:, :4]), r"probabilities \(2, 4\) for logits \(2, 5\)"),
    (lambda: loss(SOFT, kd.CWTM()), "reads one true class a sample; pass class numbers"),
    (lambda: loss(SOFT, kd.CE() + kd.JacobianMatching("label")), "reads one true class a sample"),
    (lambda: loss(Y, images=X.byte()), r"torch.uint8; pass floats, .*/ 255"),
    (
        lambda: loss(Y, images=X.repeat(1, 1, 2, 2).permute(0, 2, 3, 1)),
        r"does not take images \(8, 8, 1\).*permute\(0, 3, 1, 2\)",
    ),
    (lambda: loss(Y, images=X.numpy()), "images are a ndarray"),
    (lambda: fit((X, Y + 1)), "labels go from 1 to 5"),
    (lambda: fit(TensorDataset(X)), "has 1 tensors an item"),
    (lambda: fit([X[0], X[1], X[2]]), "item 0 of split is a Tensor; wanted a pair"),
    (lambda: fit([("cat.png", 1)]), "the image of item 0 of split is a str"),
    (lambda: fit([(X[0], 1), (X[1, :, :2], 1)]), r"item 1 of split has shape \(1, 2, 4\)"),
    (lambda: fit({"images": X}), "split is a dict"),
    (lambda: fit(7), "split is a int"),
    (lambda: fit([]), "has no image"),
    (lambda: kd.score(net(), (X, Y), noise=(0.1,)), "noise .* RealData"),
    (lambda: kd.score(net(), (X, SOFT)), "of which there is no accuracy"),
    (lambda: kd.Distiller(lambda x: x, kd.CE()), "the student is a function"),
]


@pytest.mark.parametrize("call, pattern", REFUSED, ids=[p for _, p in REFUSED])
def test_what_is_no_data_is_refused(call, pattern):
    with pytest.raises(DatadistillError, match=pattern):
        call()
