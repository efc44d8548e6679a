"""ReviewKD: its loss in numpy, its fusion written out, and what it trains."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, normal, seen

import kd_baselines as kd
from datadistill.errors import UsageError
from kd_baselines.losses import ReviewKD, hierarchical_context_loss

S, T = normal(3, 2, 8, 8, seed=1), normal(3, 2, 8, 8, seed=2)
STUDENT = {"shallow": normal(3, 2, 8, 8), "deep": normal(3, 5, 4, 4), "vector": normal(3, 6)}
TEACHER = {"shallow": normal(3, 4, 6, 6), "deep": normal(3, 3, 4, 4), "vector": normal(3, 7)}
LAYERS = {name: name for name in STUDENT}


def batch(student=STUDENT, teacher=TEACHER):
    return seen(normal(3, 3), student_features=student, teacher_features=teacher)


def prepared(layers=LAYERS, **given):
    term = ReviewKD(layers, **given)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        term.prepare(batch())
    return term


def test_the_pyramid_in_numpy():
    d = (S - T).numpy()
    levels = [d] + [
        d.reshape(3, 2, side, 8 // side, side, 8 // side).mean((3, 5)) for side in (4, 2, 1)
    ]
    wanted = np.average([np.mean(level**2) for level in levels], weights=[1, 1 / 2, 1 / 4, 1 / 8])
    close(hierarchical_context_loss(S, T), torch.as_tensor(wanted), 1e-12)


def test_levels_as_large_as_the_map_are_left_out():
    s, t = S[..., :4, :4], T[..., :4, :4]
    two, one = (F.mse_loss(*(F.avg_pool2d(x, side) for x in (s, t))) for side in (2, 4))
    wanted = (F.mse_loss(s, t) + two / 2 + one / 4) / 1.75
    close(hierarchical_context_loss(s, t), wanted)
    close(
        hierarchical_context_loss(s[..., :1, :1], t[..., :1, :1]),
        (s - t)[..., 0, 0].square().mean(),
    )


def test_the_fusion_is_that_of_the_table():
    """From the deepest layer on, each fused map is resized to the next."""
    term = prepared()
    found = term(batch())

    def convolve(block, x):
        made = F.conv2d(x, block[0].weight, padding=block[0].padding)
        return F.batch_norm(made, None, None, block[1].weight, block[1].bias, training=True)

    maps = {name: x if x.dim() == 4 else x[..., None, None] for name, x in STUDENT.items()}
    wanted, fused = 0.0, None
    for fusion, name in reversed(list(zip(term.fusions, maps, strict=True))):
        target = TEACHER[name] if TEACHER[name].dim() == 4 else TEACHER[name][..., None, None]
        own = convolve(fusion.enter, maps[name])
        if fused is not None:
            fused = F.interpolate(fused, own.shape[2:])
            both = F.conv2d(torch.cat([own, fused], 1), fusion.attend.weight, fusion.attend.bias)
            a, b = both.sigmoid().unbind(1)
            own = a[:, None] * own + b[:, None] * fused
        fused = F.interpolate(own, target.shape[2:])
        wanted = wanted + hierarchical_context_loss(convolve(fusion.leave, fused), target)
    close(found, wanted, 1e-10)
    assert [fusion.attend is None for fusion in term.fusions] == [False, False, True]
    assert term.fusions[0].enter[0].out_channels == 6  # of the student's deepest layer
    assert prepared(middle=3).fusions[0].enter[0].out_channels == 3


def test_every_layer_and_every_fusion_learns():
    student = {name: x.clone().requires_grad_() for name, x in STUDENT.items()}
    teacher = {name: x.clone().requires_grad_() for name, x in TEACHER.items()}
    term = prepared()
    term(batch(student, teacher)).backward()
    assert all(x.grad.abs().max() > 0 for x in (*student.values(), *term.parameters()))
    assert all(x.grad is None for x in teacher.values())
    assert term.needs.student_features == term.needs.teacher_features == set(LAYERS)


REFUSED = [
    (lambda: hierarchical_context_loss(S, T[:, :1]), "are (3, 2, 8, 8) and the teacher's (3, 1"),
    (lambda: hierarchical_context_loss(S[0], T[0]), "give (samples, channels, height, width)"),
    (lambda: hierarchical_context_loss([S], []), "1 layers of the student and 0 of the teacher"),
    (lambda: kd.ReviewKD(LAYERS, middle=0), "middle is 0; give a number of channels"),
    (lambda: kd.ReviewKD(LAYERS)(batch()), "call prepare(seen) once before training"),
    (
        lambda: kd.ReviewKD({"deep": "flat"}).prepare(
            batch(teacher={"flat": torch.zeros(3, 4, 5)})
        ),
        "the teacher's layer 'flat' makes (3, 4, 5)",
    ),
    (
        lambda: prepared({"vector": "vector"})(
            batch({"vector": STUDENT["vector"][:1]}, {"vector": TEACHER["vector"][:1]})
        ),
        "one sample has no batch statistics",
    ),
]


@pytest.mark.parametrize("call, sentence", REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(UsageError) as refused:
        call()
    assert sentence in str(refused.value)
