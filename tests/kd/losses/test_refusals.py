"""What the losses and their terms refuse, and in which words."""

import math
from functools import partial

import pytest
import torch
from loss_cases import affine, labels, logits, normal, seen, seen_by, smooth_conv
from torch import nn

import datadistill as dd
import kd_baselines as kd
from datadistill.data import Split
from datadistill.errors import UsageError
from kd_baselines import losses
from kd_baselines.losses.hints import hint_loss
from kd_baselines.losses.noisy_logits import noisy_logits
from kd_baselines.losses.soft_targets import soft_cross_entropy

(Z, V), Y = logits(), labels()
X, HEAD = (
    normal(5, 4),
    seen(None, V, student_features={"body": torch.zeros(6, 3, 2, 2), "head": V[:, :3]}),
)
MAPS = normal(5, 3, 4, 6)
PAIR = {"a": "b"}


def fitnets(y=Y, T=3.0, lam=1.0):
    return losses.fitnets_kd_loss(Z, V, y, T, lam)


def attention(*args, **kwargs):
    return losses.attention_transfer_loss(*args, **kwargs)


LOGITS = [
    (lambda: losses.soft_target_loss(Z, V[:, :3], 4.0), "the student has 5 classes, the teacher 3"),
    (lambda: losses.soft_target_loss(Z, V[:4], 4.0), "of 6 samples, the teacher of 4"),
    (lambda: losses.soft_target_loss(Z[0], V, 4.0), "the student's logits are (5,)"),
    (
        lambda: losses.soft_target_loss(Z, V.long(), 4.0),
        "the teacher's logits are (6, 5) torch.int64",
    ),
    (lambda: losses.soft_target_loss(Z[:0], V[:0], 4.0), "1 or more of each"),
    (
        lambda: losses.soft_target_loss(Z, V, 0),
        "the temperature is 0; give a finite number above 0",
    ),
    (lambda: soft_cross_entropy(Z, V, math.nan), "the temperature is nan"),
    (lambda: soft_cross_entropy(Z, V, 2.0, student_temperature=0.0), "the temperature is 0.0"),
    (lambda: fitnets(lam=-1.0), "a weight is -1.0"),
    (
        lambda: fitnets(Y + 1),
        "labels go from 1 to 5 and the net has 5 logits; number the classes 0 to 4",
    ),
    (lambda: fitnets(Y - 1), "labels go from -1 to 3"),
    (lambda: fitnets(Y[:4]), "labels are (4,) torch.int64 for 6 samples"),
    (lambda: fitnets(Y.double()), "torch.float64 for 6 samples"),
    (lambda: losses.logit_regression_loss(Z, V[:, :3]), "the student has 5 classes, the teacher 3"),
    (
        lambda: losses.logit_regression_loss(Z[:1], V[:1], True),
        "one sample has no standard deviation",
    ),
    (lambda: losses.logit_regression_loss(Z, V, True, mean=1.0), "only one of mean and std"),
    (lambda: losses.logit_regression_loss(Z, V, mean=1.0, std=1.0), "standardize is off"),
    (lambda: losses.logit_regression_loss(Z, V, True, mean=0.0, std=0.0), "not above 0"),
    (
        lambda: losses.logit_regression_loss(Z, V, True, mean=0.0, std=[1.0, math.nan, 1, 1, 1]),
        "not above 0",
    ),
    (
        lambda: losses.logit_regression_loss(Z, V, True, mean=V.mean(), std=V.std(0)[:3]),
        "std is (3,) for 5 classes",
    ),
    (
        lambda: losses.noisy_logit_loss(Z[:, :2], V, 0.1, 1.0),
        "the student has 2 classes, the teacher 5",
    ),
    (lambda: losses.noisy_logit_loss(Z, V, -0.1, 1.0), "sigma is -0.1"),
    (lambda: losses.noisy_logit_loss(Z, V, math.nan, 1.0), "sigma is nan"),
    (lambda: losses.noisy_logit_loss(Z, V, 0.1, 1.5), "alpha is 1.5"),
    (lambda: losses.noisy_logit_loss(Z, V, 0.1, math.nan), "alpha is nan"),
    (
        lambda: noisy_logits(V.to("meta"), 0.1, 1.0, torch.Generator()),
        "draws on cpu, the logits are on meta",
    ),
    (lambda: losses.born_again_loss(Z, V[:, :3]), "the student has 5 classes, the teacher 3"),
    (lambda: losses.born_again_loss(Z[:4], V), "of 4 samples, the teacher of 6"),
    (lambda: losses.born_again_loss(Z, V, Y, -1.0), "a weight is -1.0"),
    (lambda: losses.born_again_loss(Z, V, Y + 1), "labels go from 1 to 5"),
    (lambda: losses.gradient_parts(Z, V[:, :3], Y), "the student has 5 classes, the teacher 3"),
    (lambda: losses.gradient_parts(Z, V, Y[:3]), "labels are (3,)"),
    (lambda: losses.cwtm_loss(Z, V[:, :3], Y), "the student has 5 classes, the teacher 3"),
    (lambda: losses.cwtm_loss(Z, V, Y - 1), "labels go from -1 to 3"),
    (lambda: losses.cwtm_weights(V[0]), "the teacher's logits are (5,)"),
    (lambda: losses.cwtm_weights(V.long()), "torch.int64; pass floats"),
    (lambda: losses.dkpp_targets(V[:0]), "the teacher's logits are (0, 5)"),
    (
        lambda: losses.dkpp_targets(V[:, :1]),
        "1 class, so no other probability to permute; give at least 2",
    ),
    (lambda: losses.dkpp_targets(V, keys=V), "keys are (6, 5) for logits (6, 5); give (6, 4)"),
    (lambda: losses.dkpp_targets(V, torch.Generator(), keys=V[:, 1:]), "give one of them"),
    (
        lambda: losses.dkpp_targets(V.to("meta"), torch.Generator()),
        "draws on cpu, the logits are on meta",
    ),
    *(
        (lambda of=of: of(Z, V[:, :3]), "the student has 5 classes, the teacher 3")
        for of in (lambda z, v: losses.dkd_loss(z, v, Y), losses.dist_loss)
    ),
    (lambda: losses.dkd_loss(Z, V, Y + 1), "labels go from 1 to 5"),
    (lambda: losses.dkd_loss(Z, V, Y, -1.0), "a weight is -1.0"),
    (lambda: losses.dkd_loss(Z, V, Y, 1.0, math.nan), "a weight is nan"),
    (lambda: losses.dkd_loss(Z, V, Y, temperature=0), "the temperature is 0"),
    (lambda: losses.dist_loss(Z, V, -1.0), "a weight is -1.0"),
    (lambda: losses.dist_loss(Z, V, 1.0, math.inf), "a weight is inf"),
    (lambda: losses.dist_loss(Z, V, temperature=-1.0), "the temperature is -1.0"),
    (lambda: losses.dist_loss(Z[:1], V[:1]), "one sample has no correlation with others"),
    (lambda: losses.standardize_logits(Z[0]), "the logits are (5,) torch.float64"),
    (lambda: losses.standardize_logits(Z[:, :1]), "one logit has no standard deviation"),
    (lambda: losses.standardize_logits(Z.long()), "the logits are (6, 5) torch.int64"),
]

FEATURES = [
    *(
        case
        for of in (losses.rkd_distance_loss, losses.rkd_angle_loss, losses.similarity_loss)
        for case in (
            (lambda of=of: of([MAPS], []), "got 1 layers of the student and 0 of the teacher"),
            (lambda of=of: of(MAPS, MAPS[:4]), "has 5 samples and the teacher's 4"),
            (lambda of=of: of(MAPS[:1], MAPS[:1]), "one sample has no relation to others"),
            (lambda of=of: of(MAPS, MAPS[:, 0, 0, 0]), "the teacher's layer gives (5,)"),
            (lambda of=of: of(MAPS.long(), MAPS), "the student's layer gives (5, 3, 4, 6) torch.i"),
        )
    ),
    (lambda: hint_loss(torch.zeros(2, 3), torch.zeros(2, 4)), "gives (2, 3) for a hint of (2, 4)"),
    (lambda: hint_loss(torch.zeros(2, 3), torch.zeros(1, 3)), "gives (2, 3) for a hint of (1, 3)"),
    (lambda: hint_loss(torch.zeros(0, 3), torch.zeros(0, 3)), "gives (0, 3)"),
    (
        lambda: losses.Regressor((3, 8, 8), (3, 16, 16)),
        "maps of 16x16, larger than the student's 8x8",
    ),
    (lambda: losses.Regressor((3, 8, 4), (3, 4, 8)), "maps of 4x8, larger than the student's 8x4"),
    (lambda: losses.Regressor((3, 8, 8), (3,)), "layer gives (3, 8, 8) a sample, the hint is (3,)"),
    (lambda: losses.Regressor((3, 8), (3, 8)), "(channels, height, width), or both vectors"),
    (lambda: losses.Regressor((3,), (3,), activation="rellu"), "did you mean relu?"),
    (lambda: losses.attention_map(torch.zeros(2, 3)), "shape (2, 3); wanted (batch, channels"),
    (lambda: losses.attention_map(MAPS, 0.5), "p of an attention map is 0.5; give 1 or more"),
    (lambda: losses.attention_map(MAPS, math.nan), "is nan"),
    (lambda: attention(MAPS, MAPS, "paper"), "form is 'paper'; did you mean at_paper"),
    (lambda: attention(MAPS, MAPS, pool="maps"), "pool is 'maps'; did you mean map"),
    (lambda: attention([MAPS], []), "1 layers of the student and 0 of the teacher"),
    (lambda: attention(MAPS, MAPS[:4]), "5 images and the teacher's 4"),
    (lambda: attention(MAPS, torch.zeros(5, 9)), "shape (5, 9)"),
]


def matching(student=None, teacher=None, x=X, **given):
    nets = affine(0) if student is None else student, affine(1) if teacher is None else teacher
    return losses.jacobian_matching_loss(*nets, x, **given)


def gradients(student=None, teacher=None, x=X, labels=Y[:5] % 3):
    nets = affine(0) if student is None else student, affine(1) if teacher is None else teacher
    return losses.gradient_attention_loss(*nets, x, labels)


def penalty(student=None, x=X, **given):
    return losses.jacobian_norm_penalty(affine(0) if student is None else student, x, **given)


def input_noise(sigma=0.3, teacher=None, **given):
    return losses.input_noise_loss(
        affine(0), affine(1) if teacher is None else teacher, X, sigma, **given
    )


def channel(x):
    return x[:, 0]


def without_gradient(x):
    return x[:, 0].detach()


IMAGES = normal(4, 2, 6, 6)
NO_STATISTICS = nn.BatchNorm1d(4, track_running_stats=False).double()


def maps(student, teacher, x=IMAGES):
    return losses.attention_jacobian_loss(student, teacher, x)


NETS = [
    (lambda: matching(teacher=affine(0, 4, 4)), "student has 3 classes, the teacher 4"),
    (lambda: matching(output="best"), "output is 'best'"),
    (lambda: matching(form="kl"), "form is 'kl'"),
    (lambda: matching(output="label"), "there are no labels"),
    (lambda: matching(output="label", labels=Y[:2]), "labels are"),
    (
        lambda: matching(output="label", labels=torch.tensor([0, 1, 2, 3, 0])),
        "labels go from 0 to 3",
    ),
    (lambda: matching(output="projected", projections=0), "projections is 0"),
    (lambda: matching(form="cross-entropy", normalize=True), "normalize=True"),
    (lambda: matching(x=X.long()), "floating point"),
    (
        lambda: matching(teacher=lambda x: affine(1)(x).detach()),
        "teacher's logits have no gradient",
    ),
    (
        lambda: matching(student=lambda x: affine(1)(x.detach())),
        "student's logits have no gradient",
    ),
    (lambda: matching(student=lambda x: x[:, None] * 2), "student's logits"),
    (lambda: matching(student=NO_STATISTICS), "running statistics"),
    (lambda: matching(teacher=NO_STATISTICS), "running statistics"),
    (lambda: gradients(teacher=affine(0, 4, 4)), "student has 3 classes, the teacher 4"),
    (lambda: gradients(labels=Y[:2]), "labels are"),
    (lambda: gradients(labels=torch.arange(5)), "labels go from 0 to 4"),
    (lambda: gradients(x=X.long()), "floating point"),
    (lambda: gradients(teacher=lambda x: affine(1)(x).detach()), "teacher's logits have no grad"),
    (lambda: gradients(student=lambda x: affine(1)(x.detach())), "student's logits have no grad"),
    (lambda: gradients(student=NO_STATISTICS), "running statistics"),
    (lambda: gradients(teacher=NO_STATISTICS), "running statistics"),
    (lambda: penalty(output="best"), "output is 'best'"),
    (lambda: penalty(form="kl"), "form is 'kl'"),
    (lambda: penalty(output="projected", form="cross-entropy"), '"projected" does not go'),
    (lambda: penalty(output="top", form="fisher"), '"top" does not go'),
    (lambda: penalty(output="label"), "there are no labels"),
    (lambda: penalty(form="cross-entropy"), "there are no labels"),
    (lambda: penalty(x=X.long()), "floating point"),
    (lambda: penalty(lambda x: affine(1)(x.detach())), "no gradient to the images"),
    (lambda: penalty(NO_STATISTICS), "running statistics"),
    (lambda: penalty(lambda x: affine(1)(x[:3])), "5 images"),
    (lambda: input_noise(-1.0), "sigma is -1.0"),
    (lambda: input_noise(math.nan), "sigma is nan"),
    (lambda: input_noise(loss="kl"), "loss is 'kl'"),
    (lambda: input_noise(T=0.0), "temperature is 0"),
    (lambda: input_noise(samples=0), "samples is 0"),
    (lambda: input_noise(teacher=affine(1, 4, 4)), "3 classes, the teacher 4"),
    (lambda: maps(lambda x: x, channel), "student's maps are of shape (4, 2, 6, 6) for 4 images"),
    (
        lambda: maps(channel, lambda x: x[:2, 0]),
        "teacher's maps are of shape (2, 6, 6) for 4 images",
    ),
    (lambda: maps(without_gradient, channel), "student's maps do not depend on the images"),
    (
        lambda: maps(lambda x: torch.ones(4, 2, 2, requires_grad=True), channel),
        "student's maps do not depend",
    ),
    (lambda: maps(channel, without_gradient), "teacher's maps do not depend"),
    (lambda: maps(channel, channel, IMAGES.long()), "torch.int64"),
]

LOW = {"low": normal(4, 3, 6, 6), "narrow": normal(4, 3, 6, 3)}
HINTS = {"early": normal(4, 5, 4, 4), "late": normal(4, 8)}


def hints(student, teacher, prepare=True):
    term = losses.Hint({student: teacher})
    batch = seen(normal(4, 3), None, student_features=LOW, teacher_features=HINTS)
    return term.prepare(batch) if prepare else term(batch)


def mixing(teacher):
    """A term of input gradients whose teacher's images are not told apart."""
    batch = seen_by(smooth_conv(0), smooth_conv(1), normal(4, 1, 4, 4), Y[:4], "3")
    batch.teacher = teacher
    return batch


def bare_norm(term):
    """A step of a student whose BatchNorm has no running statistics."""
    student = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()
    )
    return term(seen_by(student.double(), smooth_conv(1), normal(4, 1, 4, 4), Y[:4] % 2, "0"))


class Loss(losses.Term):
    """A class that is called as the sum is."""


WEIGHED = [
    kd.CE,
    kd.KD,
    kd.BornAgain,
    kd.CWTM,
    kd.DKPP,
    kd.LogitRegression,
    kd.JacobianMatching,
    kd.JacobianNorm,
    partial(kd.InputNoise, 0.3),
    partial(kd.NoisyLogits, 0.1),
    partial(kd.Hint, PAIR),
    partial(kd.AttentionTransfer, PAIR),
    partial(kd.AttentionJacobian, PAIR),
    kd.DKD,
    kd.DIST,
    partial(kd.RKDDistance, PAIR),
    partial(kd.RKDAngle, PAIR),
    partial(kd.SimilarityPreserving, PAIR),
    partial(kd.CRD, PAIR),
    kd.GradientAttention,
    partial(kd.ReviewKD, PAIR),
    kd.DeepMutual,
]
MEAN = kd.Teacher(affine(), mode="batch_stats")
TERMS = [
    *((lambda make=make: make(weight=-1.0), "a weight is -1.0") for make in WEIGHED),
    *(
        (lambda w=w: kd.CE(weight=w), "a weight is")
        for w in (-1.0, math.nan, math.inf, "1", None, len)
    ),
    *(
        (lambda w=w: kd.Linear(1.0, w, 3), "a weight is")
        for w in (-1.0, math.nan, math.inf, "1", None, len)
    ),
    *(
        (lambda T=T: kd.KD(T=T), "the temperature is")
        for T in (0, -1.0, math.nan, math.inf, "4", None)
    ),
    (lambda: kd.KD(3.0, T=4.0), "two names of one number"),
    (lambda: kd.KD(weight=0.5, alpha=0.9), "two names of one number"),
    (lambda: kd.FitNetsKD(T=-3.0), "the temperature is -3.0"),
    (lambda: kd.FitNetsKD(student_T=0.0), "the temperature is 0.0"),
    (lambda: kd.FitNetsKD(lam=-1.0), "a weight is -1.0"),
    (lambda: kd.FitNetsKD(lam=2.0, weight=3.0), "two names of one number"),
    (lambda: kd.LogitRegression(mean=1.0, std=1.0), "standardize is off"),
    (lambda: kd.LogitRegression(output="body")(HEAD), "'body' gives (6, 3, 2, 2)"),
    (lambda: kd.NoisyLogits(0.1, output="head")(HEAD), "the student has 3 classes, the teacher 5"),
    (lambda: kd.NoisyLogits(-1.0), "sigma is -1.0"),
    (lambda: kd.NoisyLogits(1.0, alpha=2.0), "alpha is 2.0"),
    *(
        (lambda make=make: make()(seen(Z[:, :3], V)), "the student has 3 classes, the teacher 5")
        for make in (
            *(kd.KD, kd.FitNetsKD, kd.LogitRegression, kd.BornAgain, kd.CWTM, kd.DKPP),
            *(kd.DKD, kd.DIST, partial(kd.KD, z_score=True)),
        )
    ),
    (lambda: kd.DKD(alpha=-1.0), "a weight is -1.0"),
    (lambda: kd.DKD(beta=-1.0), "a weight is -1.0"),
    (lambda: kd.DKD(temperature=0.0), "the temperature is 0.0"),
    (lambda: kd.DIST(beta=-1.0), "a weight is -1.0"),
    (lambda: kd.DIST(gamma=-1.0), "a weight is -1.0"),
    (lambda: kd.DIST(temperature=0.0), "the temperature is 0.0"),
    *(
        (lambda make=make: make({}), "the layers are {}")
        for make in (kd.RKDDistance, kd.RKDAngle, kd.SimilarityPreserving, kd.ReviewKD)
    ),
    (lambda: kd.InputNoise(-1.0), "sigma is -1.0"),
    (lambda: kd.InputNoise(0.3, loss="kl"), "loss is 'kl'"),
    (lambda: kd.InputNoise(0.3, T=0.0), "temperature is 0"),
    (lambda: kd.InputNoise(0.3, samples=0), "samples is 0"),
    (lambda: kd.Hint(PAIR, activation="tanh"), "activation is 'tanh'"),
    (lambda: kd.Hint({}), "the layers are {}"),
    (lambda: kd.Hint("layer3"), "the layers are 'layer3'"),
    (lambda: hints("low", "early", prepare=False), "call prepare(seen) once before training"),
    (
        lambda: hints("narrow", "early"),
        "hint 'early' for 'narrow': the hint has maps of 4x4, larger than the",
    ),
    (
        lambda: hints("low", "late"),
        "hint 'late' for 'low': the student's layer gives (3, 6, 6) a sample",
    ),
    (lambda: kd.AttentionTransfer({}), "the layers are {}; name pairs of layers"),
    (lambda: kd.AttentionTransfer(PAIR, form="rms"), "form is 'rms'"),
    (lambda: kd.AttentionTransfer(PAIR, p=0), "is 0; give 1 or more"),
    (
        lambda: kd.AttentionTransfer({"low": "late"}).prepare(
            seen(normal(4, 3), None, student_features=LOW, teacher_features=HINTS)
        ),
        "teacher's layer 'late' makes (4, 8)",
    ),
    (lambda: kd.AttentionJacobian({}), "name pairs of layers"),
    (
        lambda: kd.AttentionJacobian(PAIR, p=1.5),
        "p is 1.5, of which |z|^p has no second derivative at 0",
    ),
    (lambda: kd.JacobianMatching(output="best"), "output is 'best'"),
    (lambda: kd.JacobianMatching(form="kl"), "form is 'kl'"),
    (lambda: kd.JacobianMatching(projections=0), "projections is 0"),
    (lambda: kd.JacobianNorm(output="best"), "output is 'best'"),
    (lambda: kd.JacobianNorm(form="kl"), "form is 'kl'"),
    (lambda: kd.JacobianNorm("top", "fisher"), '"top" does not go'),
    *(
        (lambda make=make, teacher=teacher: make().prepare(mixing(teacher)), said)
        for make in (
            *(kd.JacobianMatching, kd.GradientAttention),
            lambda: kd.AttentionJacobian({"3": "3"}),
        )
        for teacher, said in (
            (MEAN, "batch_stats"),
            (kd.Teacher(NO_STATISTICS), "running statistics"),
        )
    ),
    (lambda: bare_norm(kd.JacobianMatching()), "running statistics"),
    (lambda: bare_norm(kd.GradientAttention()), "running statistics"),
    (lambda: bare_norm(kd.AttentionJacobian({"0": "0"})), "running statistics"),
    (Loss, "another name"),
    (lambda: kd.Objective(), "an objective has no term"),
    (lambda: kd.Objective(len), "is no term; add terms such as"),
]

ONE, SPLIT = normal(6, 1), Split(torch.rand(6, 1, 2, 2), Y % 2)


def one():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 1))


def step(objective, y=SPLIT.labels):
    return kd.Distiller(one(), objective, kd.Teacher(one())).step((SPLIT.images, y))


def unroll(net):
    return dd.unroll(
        net, dict(net.named_parameters()), [(SPLIT.images, SPLIT.labels)], torch.ones(1)
    )


ONE_LOGIT = {  # a softmax of one logit is always 1
    "soft targets": lambda: losses.soft_target_loss(ONE, ONE, 4.0),
    "fitnets": lambda: losses.fitnets_kd_loss(ONE, ONE, 0 * Y, 3.0, 1.0),
    "born again": lambda: losses.born_again_loss(ONE, ONE),
    "gradient parts": lambda: losses.gradient_parts(ONE, ONE, 0 * Y),
    "cwtm": lambda: losses.cwtm_loss(ONE, ONE, 0 * Y),
    "cwtm weights": lambda: losses.cwtm_weights(ONE),
    "dkd": lambda: losses.dkd_loss(ONE, ONE, 0 * Y),
    "dist": lambda: losses.dist_loss(ONE, ONE),
    "input noise": lambda: losses.input_noise_loss(one(), one(), SPLIT.images, 0.1),
    "jacobian": lambda: losses.jacobian_matching_loss(
        one(), one(), SPLIT.images, form="cross-entropy"
    ),
    "jacobian norm": lambda: losses.jacobian_norm_penalty(one(), SPLIT.images, form="fisher"),
    "CE": lambda: step(kd.CE()),
    "CE, float labels": lambda: step(kd.CE(), SPLIT.labels[:, None].float()),
    "KD": lambda: step(kd.KD()),
    "FitNetsKD": lambda: step(kd.FitNetsKD()),
    "BornAgain": lambda: step(kd.BornAgain()),
    "CWTM": lambda: step(kd.CWTM()),
    "DKPP": lambda: step(kd.DKPP()),
    "DKD": lambda: step(kd.DKD()),
    "DIST": lambda: step(kd.DIST()),
    "DeepMutual": lambda: step(kd.DeepMutual()),
    "InputNoise": lambda: step(kd.InputNoise(0.1)),
    "GradientAttention": lambda: step(kd.GradientAttention()),
    "JacobianMatching": lambda: step(kd.JacobianMatching(form="cross-entropy")),
    "JacobianNorm": lambda: step(kd.JacobianNorm(form="cross-entropy")),
    "LogitRegression": lambda: step(kd.LogitRegression(standardize=True)),
    "kd.fit": lambda: kd.fit(one(), SPLIT, kd.Stage("s", kd.CE(), dd.FitPlan(epochs=1))),
    "dd.fit": lambda: dd.fit(one(), SPLIT, dd.FitPlan(epochs=1)),
    "dd.unroll": lambda: unroll(one()),
}
REFUSED = [*LOGITS, *FEATURES, *NETS, *TERMS]


@pytest.mark.parametrize(
    "call, sentence", REFUSED, ids=[f"{i}: {s}" for i, (_, s) in enumerate(REFUSED)]
)
def test_what_does_not_fit_is_refused(call, sentence):
    with pytest.raises(UsageError) as refused:
        call()
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", ONE_LOGIT)
def test_one_logit_is_refused(name):
    with pytest.raises(UsageError, match=r"makes one logit an image, .* two"):
        ONE_LOGIT[name]()


def test_a_logit_is_regressed_without_a_softmax():
    torch.testing.assert_close(losses.logit_regression_loss(ONE, 0 * ONE), ONE.square().mean() / 2)


def test_the_pair_of_the_sentence_is_the_sigmoid():
    net = one()
    two = nn.Sequential(net, nn.ConstantPad1d((1, 0), 0.0))
    wanted = nn.functional.binary_cross_entropy_with_logits(
        net(SPLIT.images)[:, 0], SPLIT.labels.float()
    )
    torch.testing.assert_close(nn.functional.cross_entropy(two(SPLIT.images), SPLIT.labels), wanted)
