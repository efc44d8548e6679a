"""CRD: the authors' formula, negatives, and banks, which a resumed run has as they were."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from loss_cases import close, normal, seen_by, smooth_conv
from torch import nn

import kd_baselines as kd
from datadistill.config import RunOptions
from datadistill.data import Split, load
from datadistill.errors import UsageError
from datadistill.streams import generator
from kd_baselines.losses import CRD, crd_loss
from kd_baselines.student_setup import Setup
from kd_baselines.teacher_runs import build_untrained

LABELS = torch.tensor([2, 0, 1, 1, 0, 2, 2, 1, 0])
PLACES = torch.tensor([7, 0, 3, 5])
PAIR = {"3": "3"}


def batch(places=PLACES, labels=LABELS):
    x = normal(len(places), 1, 4, 4)
    seen = seen_by(smooth_conv(0), smooth_conv(1), x, labels[places], "3")
    seen.index, seen.split_labels = places, labels
    return seen


def prepared(seen, **given):
    term = CRD(PAIR, **{"negatives": 6, "dimension": 4, "temperature": 0.5, **given})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        term.prepare(seen)
    return term


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def authors(term, seen):
    """e^(s t / tau) over a constant Z, then P / (P + N / M) for the same image and (N / M) / (P + N
    / M) for the others; Z is M times the mean over the first batch, and 1 in the paper."""
    vectors = {}
    for side, head, features in zip(
        ("student", "teacher"), term.heads, seen_features(seen), strict=True
    ):
        w, b = (p.detach().numpy() for p in (head.weight, head.bias))
        vectors[side] = unit(features @ w.T + b)
    others = term._draw(seen.index, generator(3, "crd_negatives")).numpy()
    images, n = len(seen.split_labels), term.negatives
    places = np.concatenate([seen.index.numpy()[:, None], others], 1)
    total = 0.0
    for side, other in (("student", "teacher"), ("teacher", "student")):
        bank = term.get_buffer(f"{other}_bank").numpy()[places]
        p = np.exp(np.einsum("bd,bnd->bn", vectors[side], bank) / term.temperature)
        p = p / (p.mean() * images if term.normalize else 1.0)
        log_d1 = np.log(p[:, 0] / (p[:, 0] + n / images))
        log_d0 = np.log(n / images / (p[:, 1:] + n / images))
        total -= (log_d1.sum() + log_d0.sum()) / len(p)
    return total, vectors


def seen_features(seen):
    sides = (seen.student_features["3"], seen.teacher_features["3"])
    return [features.detach().flatten(1).numpy() for features in sides]


@pytest.mark.parametrize("normalize", [True, False])
def test_the_authors_formula_and_the_rows_of_the_banks(normalize):
    seen = batch()
    term = prepared(seen, normalize=normalize)
    wanted, vectors = authors(term, seen)
    before = {side: term.get_buffer(f"{side}_bank").clone() for side in vectors}
    close(term(seen).detach(), torch.tensor(wanted), 1e-10)
    for side, old in before.items():
        new = term.get_buffer(f"{side}_bank")
        mixed = unit(0.5 * old[PLACES].numpy() + 0.5 * vectors[side])
        close(new[PLACES], torch.as_tensor(mixed), 1e-10)
        untouched = torch.ones(len(LABELS), dtype=torch.bool).index_fill(0, PLACES, False)
        assert torch.equal(new[untouched], old[untouched])


def test_the_first_batch_sets_the_balance_and_later_ones_keep_it():
    seen = batch()
    term = prepared(seen)
    term(seen)
    found = [float(term.get_buffer(f"{side}_mean")) for side in ("student", "teacher")]
    term(batch(PLACES - 1 + (PLACES == 0).long()))
    assert found == [float(term.get_buffer(f"{side}_mean")) for side in ("student", "teacher")]
    assert all(value > 0 for value in found)


def test_a_term_in_evaluation_mode_writes_nothing():
    seen = batch()
    term = prepared(seen).eval()
    before = copy.deepcopy(term.state_dict())
    term(seen)
    assert all(torch.equal(value, before[name]) for name, value in term.state_dict().items())


def test_negatives_are_all_images_of_other_classes():
    term = prepared(batch(), negatives=500)
    drawn = term._draw(PLACES, generator(0, "n"))
    for place, row in zip(PLACES, drawn, strict=True):
        others = (LABELS[place] != LABELS).nonzero().flatten()
        assert torch.equal(row.unique(), others)
        counts = torch.bincount(row)[others] / 500
        assert float((counts - 1 / len(others)).abs().max()) < 0.07


def test_heads_and_student_learn_and_the_teacher_does_not():
    seen = batch()
    term = prepared(seen)
    term(seen).backward()
    assert all(p.grad.abs().max() > 0 for p in term.parameters())
    assert seen.student[0].weight.grad.abs().max() > 0
    assert all(p.grad is None for p in seen.teacher.parameters())


CONFIG = kd.KdConfig(
    dataset="digits",
    per_class=10,
    epochs=2,
    batch=25,
    lr=0.01,
    net="thin-cnn",
    net_args={"width": 4, "depth": 3, "pools": 1},
    teacher_net="wide-cnn",
    teacher_args={"width": 4, "norm": "batch"},
    method="crd",
    method_args={"layers": "classifier:in=classifier:in", "negatives": 16, "dimension": 8},
)


def test_a_resumed_run_has_its_banks():
    data, options = load("digits"), RunOptions()

    def start():
        return Setup(CONFIG, data, build_untrained(CONFIG, data, options), options).loop()

    straight, stopped, resumed = start(), start(), start()
    for _ in range(5):
        stopped.advance()
    resumed.load(copy.deepcopy(stopped.state()))
    for _ in range(3):
        resumed.advance()
    while not straight.is_done:
        straight.advance()
    assert resumed.is_done
    found = resumed.fit.tensors
    assert {"objective.terms.1.student_bank", "objective.terms.1.teacher_mean"} < set(found)
    for name, value in straight.fit.tensors.items():
        assert torch.equal(value, found[name]), name


def test_the_cache_changes_nothing():
    losses = {}
    for cache in (True, False):
        config, data, options = replace(CONFIG, cache=cache), load("digits"), RunOptions()
        loop = Setup(config, data, build_untrained(config, data, options), options).loop()
        losses[cache] = [float(loop.fit.advance()) for _ in range(3)]
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)


SPLIT = Split(normal(9, 1, 4, 4), LABELS)


def distiller(labels=LABELS, sample=True, **given):
    objective = CRD(PAIR, **{"negatives": 6, "dimension": 4, **given})
    split = Split(SPLIT.images, labels)
    teacher = kd.Teacher(smooth_conv(1))
    return kd.Distiller(smooth_conv(0), objective, teacher, sample=split if sample else None)


def test_preparing_writes_no_row():
    made = distiller()
    (term,) = made.objective.terms
    norms = term.get_buffer("student_bank").norm(dim=1)
    assert float((norms - 1).abs().min()) > 1e-6 and float(term.get_buffer("student_mean")) == 0
    assert term.training
    made.step((SPLIT.images[:3], LABELS[:3], torch.arange(3)))
    assert torch.allclose(term.get_buffer("student_bank")[:3].norm(dim=1), torch.ones(3).double())


REFUSED = [
    (lambda: distiller(sample=False).step((SPLIT.images, LABELS)), "sample=split"),
    (lambda: distiller().step((SPLIT.images, LABELS)), "places of the images in the split are not"),
    (
        lambda: distiller().step((SPLIT.images[:2], LABELS[:2], torch.tensor([3, 9]))),
        "go from 3 to 9, and CRD was made for a split of 9",
    ),
    (lambda: distiller(0 * LABELS), "all images are of one class"),
    (lambda: distiller(nn.functional.one_hot(LABELS) / 2.0 + 0.1), "one class number an image"),
    (lambda: distiller(negatives=0), "negatives is 0"),
    (lambda: distiller(dimension=0), "dimension is 0"),
    (lambda: distiller(temperature=0.0), "the temperature is 0.0"),
    (lambda: distiller(momentum=1.0), "momentum is 1.0; give a number from 0 to below 1"),
    (lambda: CRD({"a": "b", "c": "d"}), "there are 2 pairs"),
    (lambda: CRD({}), "the layers are {}"),
    (lambda: CRD(PAIR)(batch()), "call prepare(seen) once before training"),
    (lambda: crd_loss(torch.zeros(3), torch.zeros(2, 4), 1.0), "the products are (3,) and (2, 4)"),
    (lambda: crd_loss(torch.zeros(3), torch.zeros(3, 4), 0.0), "noise is 0.0"),
    (lambda: crd_loss(torch.zeros(3), torch.zeros(3, 4), float("nan")), "noise is nan"),
    (lambda: crd_loss(torch.zeros(3), torch.zeros(3, 4), 1.0, -1.0), "the temperature is -1.0"),
]


@pytest.mark.parametrize("call, sentence", REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(UsageError) as refused:
        call()
    assert sentence in str(refused.value)
