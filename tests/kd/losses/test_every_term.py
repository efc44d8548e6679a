"""Every term is its function of what it declares to read, and of nothing else."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from loss_cases import (
    MATCHING,
    NORMS,
    Maps,
    close,
    norm_conv,
    normal,
    same_state,
    seen_by,
    smooth_conv,
    states,
)

from kd_baselines import losses
from kd_baselines.features import Reading, read
from kd_baselines.losses import Needs
from kd_baselines.losses.hints import hint_loss
from kd_baselines.losses.soft_targets import soft_cross_entropy

Y = torch.tensor([2, 0, 1, 1])
BOTH = Needs(student_logits=True, teacher_logits=True)
SECOND = Needs(student_features=frozenset({"5"}), teacher_logits=True)
LAYERS = Needs(student_features=frozenset({"3"}), teacher_features=frozenset({"3"}))
PASSES = Needs(
    student_input_gradients=True, teacher_input_gradients=True, student=True, teacher=True
)
PAIR = {"3": "3"}
MAP_3 = Reading("3", "attention map, p = 3.0", lambda z: losses.attention_map(z, 3))


def at_3(s):
    return s.student_features["3"], s.teacher_features["3"]


def of_both(s):
    return s.student_logits, s.teacher_logits


def matching(output, form, normalize, layer=None):
    term = losses.JacobianMatching(output, form, normalize=normalize, projections=2, logits=layer)
    return (
        term,
        (BOTH if layer is None else SECOND) | PASSES,
        lambda s: losses.jacobian_matching_loss(
            s.student,
            s.teacher,
            s.images,
            s.labels,
            output,
            form=form,
            normalize=normalize,
            projections=2,
            generator=s.noise("jacobian_projection"),
        ),
    )


def penalty(output, form):
    needs = Needs(student_logits=True, student_input_gradients=True, student=True)
    return (
        losses.JacobianNorm(output, form),
        needs,
        lambda s: losses.jacobian_norm_penalty(
            s.student,
            s.images,
            s.labels,
            output,
            form=form,
            generator=s.noise("jacobian_projection"),
        ),
    )


def noisy(match, both):
    term = losses.InputNoise(0.3, match, 2.0, samples=2, teacher_noisy=both)
    needs = Needs(student=True, teacher=both, teacher_logits=not both)
    return (
        term,
        needs,
        lambda s: losses.input_noise_loss(
            s.student,
            s.teacher,
            s.images,
            0.3,
            match,
            2.0,
            2,
            teacher_noisy=both,
            generator=s.noise("input_noise"),
        ),
    )


TERMS = {  # name -> a term, what it reads, and its value as a function of that
    "CE": (
        losses.CE(),
        Needs(student_logits=True),
        lambda s: F.cross_entropy(s.student_logits, s.labels),
    ),
    "KD": (
        losses.KD(T=4.0),
        BOTH,
        lambda s: losses.soft_target_loss(s.student_logits, s.teacher_logits, 4.0),
    ),
    "FitNetsKD": (
        losses.FitNetsKD(T=3.0),
        BOTH,
        lambda s: soft_cross_entropy(s.student_logits, s.teacher_logits, 3.0),
    ),
    "FitNetsKD, student at 1": (
        losses.FitNetsKD(T=3.0, student_T=1.0),
        BOTH,
        lambda s: soft_cross_entropy(
            s.student_logits, s.teacher_logits, 3.0, student_temperature=1.0
        ),
    ),
    "LogitRegression": (
        losses.LogitRegression(True, mean=[1.0, 2.0, 3.0], std=2.0),
        BOTH,
        lambda s: losses.logit_regression_loss(
            s.student_logits, (s.teacher_logits - torch.tensor([1.0, 2.0, 3.0])) / 2
        ),
    ),
    "LogitRegression of a layer": (
        losses.LogitRegression(True, output="5"),
        SECOND,
        lambda s: losses.logit_regression_loss(s.student_features["5"], s.teacher_logits, True),
    ),
    "NoisyLogits": (
        losses.NoisyLogits(0.5, alpha=0.5, shared=True),
        BOTH,
        lambda s: losses.noisy_logit_loss(
            s.student_logits, s.teacher_logits, 0.5, 0.5, s.noise("noisy_logits"), shared=True
        ),
    ),
    "NoisyLogits of a layer": (
        losses.NoisyLogits(0.0, output="5"),
        SECOND,
        lambda s: losses.logit_regression_loss(s.student_features["5"], s.teacher_logits),
    ),
    "BornAgain": (
        losses.BornAgain(),
        BOTH,
        lambda s: losses.born_again_loss(s.student_logits, s.teacher_logits),
    ),
    "CWTM": (
        losses.CWTM(),
        BOTH,
        lambda s: losses.cwtm_loss(s.student_logits, s.teacher_logits, s.labels),
    ),
    "DKPP": (
        losses.DKPP(),
        BOTH,
        lambda s: F.cross_entropy(
            s.student_logits, losses.dkpp_targets(s.teacher_logits, s.noise("dkpp"))
        ),
    ),
    "KD, z-scores": (
        losses.KD(T=2.0, z_score=True),
        BOTH,
        lambda s: losses.soft_target_loss(*map(losses.standardize_logits, of_both(s)), 2.0),
    ),
    "DKD": (
        losses.DKD(0.5, 2.0, 3.0),
        BOTH,
        lambda s: losses.dkd_loss(*of_both(s), s.labels, 0.5, 2.0, 3.0),
    ),
    "DKD, z-scores": (
        losses.DKD(z_score=True),
        BOTH,
        lambda s: losses.dkd_loss(*map(losses.standardize_logits, of_both(s)), s.labels),
    ),
    "DIST": (
        losses.DIST(1.0, 2.0, 4.0),
        BOTH,
        lambda s: losses.dist_loss(*of_both(s), 1.0, 2.0, 4.0),
    ),
    "RKDDistance": (
        losses.RKDDistance(PAIR),
        LAYERS,
        lambda s: losses.rkd_distance_loss(*at_3(s)),
    ),
    "RKDAngle": (losses.RKDAngle(PAIR), LAYERS, lambda s: losses.rkd_angle_loss(*at_3(s))),
    "SimilarityPreserving": (
        losses.SimilarityPreserving(PAIR),
        LAYERS,
        lambda s: losses.similarity_loss(*at_3(s)),
    ),
    "Hint": (losses.Hint(PAIR, identity=True), LAYERS, lambda s: hint_loss(*at_3(s))),
    "AttentionTransfer": (
        losses.AttentionTransfer(PAIR, "jm", 3),
        Needs(student_features=frozenset({"3"}), teacher_features=frozenset({MAP_3})),
        lambda s: losses.attention_transfer_loss(*at_3(s), "jm", p=3),
    ),
    "AttentionTransfer of features": (
        losses.AttentionTransfer(PAIR, "at_code", 1, "features"),
        LAYERS,
        lambda s: losses.attention_transfer_loss(*at_3(s), "at_code", p=1, pool="features"),
    ),
    "AttentionJacobian": (
        losses.AttentionJacobian(PAIR),
        LAYERS | PASSES,
        lambda s: losses.attention_jacobian_loss(
            Maps(s.student[:4]), Maps(s.teacher[:4]), s.images
        ),
    ),
    "GradientAttention": (
        losses.GradientAttention(),
        BOTH | PASSES,
        lambda s: losses.gradient_attention_loss(s.student, s.teacher, s.images, s.labels),
    ),
    "JacobianMatching of a layer": matching("full", "squared", False, "5"),
    **{f"JacobianMatching {c}": matching(*c) for c in MATCHING},
    **{f"JacobianNorm {c}": penalty(*c) for c in NORMS},
    **{f"InputNoise {c}": noisy(*c) for c in itertools.product(("kd", "logits"), (True, False))},
}


def only(seen, needs):
    """What a term declared, and nothing else of the nets."""
    for name in ("student_logits", "teacher_logits", "student", "teacher"):
        if not getattr(needs, name):
            setattr(seen, name, None)
    seen.student_features = {name: seen.student_features[name] for name in needs.student_features}
    seen.teacher_features = read(seen.teacher_features, needs.teacher_features)
    return seen


@pytest.mark.parametrize("name", TERMS)
def test_a_term_is_its_function_of_what_it_declares(name):
    term, needs, function = TERMS[name]
    student, teacher = smooth_conv(0), smooth_conv(1)
    head = "5" if "layer" in name else "3"
    batch = seen_by(student, teacher, normal(4, 1, 4, 4), Y % 3, head)
    wanted = function(batch)
    assert term.needs == needs
    term.prepare(only(batch, needs))
    passes = []
    hook = student.register_forward_hook(lambda *_: passes.append(1))
    found = term(batch)
    hook.remove()
    close(found, wanted)
    assert len(passes) == (2 if "InputNoise" in name else 0), (
        "no second pass but that of noisy images"
    )
    (found + term(batch)).backward()  # a second term reads the same graphs
    assert student[0].weight.grad.abs().max() > 0 and all(
        p.grad is None for p in teacher.parameters()
    )


@pytest.mark.parametrize("name", [n for n in TERMS if "Jacobian" in n or "Gradient" in n])
def test_terms_of_input_gradients_take_batchnorm_per_sample(name):
    term, _, function = TERMS[name]
    student, teacher = norm_conv(0), smooth_conv(1)
    batch = seen_by(student, teacher, normal(4, 1, 4, 4), Y % 3, "5" if "layer" in name else "3")
    before = states(student)  # after the step's own pass, which mixes the samples
    found = term(batch)
    assert same_state(before, states(student))
    batch.student = copy.deepcopy(student).eval()
    close(found, function(batch))


def test_the_table_has_every_term():
    names = {name.split()[0].rstrip(",") for name in TERMS}
    found = {n for n in losses.__all__ if isinstance(getattr(losses, n), type)}
    terms = {n for n in found if issubclass(getattr(losses, n), losses.Term) and n != "Term"}
    # the values of the others depend on what they own: test_contrastive, test_mutual, test_review;
    # or train nothing: test_gradient_log
    assert names | {"CRD", "DeepMutual", "ReviewKD", "GradientLog"} == terms
