"""The table of methods: which terms each adds up, with which weights, over which parameters."""

import contextlib
import itertools

import pytest
import torch
from torch import nn

from datadistill.errors import UsageError
from datadistill.training.fit_plan import FitPlan
from kd_baselines.distiller import Distiller
from kd_baselines.heads import two_headed
from kd_baselines.losses import Linear, Objective
from kd_baselines.losses.schedules import weight_at
from kd_baselines.methods import METHODS, arguments, stages_of
from kd_baselines.methods.combining import layer_pairs
from kd_baselines.nets import KD_NETS
from kd_baselines.stages import Stage, groups_of
from kd_baselines.teachers import Teacher

PLAN = FitPlan(epochs=7, batch=4, optimizer="sgd", lr=0.5)
NEEDED = {
    "fitnets": {"guided": "convs.2", "hint": "convs.1"},
    "fitnets-one-stage": {"guided": "convs.2", "hint": "convs.1"},
    "attention": {"layers": "convs.2:convs.1"},
    "rkd": {"layers": "classifier:in=classifier:in"},
    "similarity-preserving": {"layers": "convs.2:convs.1"},
    "reviewkd": {"layers": "convs.1:convs.0,convs.2:convs.1"},
    "crd": {"layers": "classifier:in=classifier:in", "negatives": 8, "dimension": 4},
    "attention-jacobian": {"layers": "convs.2:convs.1"},
    "lwf": {"jacobian_weight": 0.1, "attention_weight": 1.0, "layers": "convs.2:convs.1"},
}
WEIGHTS = [
    (name, a)
    for name in METHODS
    for a in arguments(name)
    if "weight" in a or a in ("beta", "gamma", "lam_start")
]


def stages(method, **args):
    return stages_of(method, PLAN, {**NEEDED.get(method, {}), **args})


def objective(stage):
    return stage.objective if isinstance(stage.objective, Objective) else Objective(stage.objective)


def weights(stage):
    return {
        type(term).__name__: weight_at(term.weight, 0)
        for term in objective(stage).named_terms.values()
    }


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def student():
    return KD_NETS["thin-cnn"](channels=1, size=8, classes=3, width=4, depth=4, pools=2).double()


def teacher(classes=3):
    return Teacher(KD_NETS["wide-cnn"](channels=1, size=8, classes=classes, width=3).double())


def batch():
    return torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.arange(6) % 3


def trained(stage, net):
    names = {id(p): name for name, p in net.named_parameters()}
    groups = groups_of(stage, net, objective(stage))
    return {names[id(p)]: g["lr"] for g in groups for p in g["params"] if id(p) in names}


# --- every method


@pytest.mark.parametrize("name", METHODS)
def test_the_table_tells_whether_there_must_be_a_teacher(name):
    needs = [objective(stage).needs.is_teacher_needed for stage in stages(name)]
    assert any(needs) == METHODS[name].teacher
    assert METHODS[name].about and METHODS[name].source
    assert stages(name)[-1].plan == PLAN


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_the_weighted_sum_and_reaches_every_weight(name):
    net = student()
    if METHODS[name].two_headed:
        net = two_headed(net, 5).double()
    whom = teacher(classes=5 if METHODS[name].two_headed else 3)
    data = batch()
    for stage in stages(name):
        own = whom if METHODS[name].teacher else None
        distiller = Distiller(net, stage.objective, own, sample=data)
        out = distiller.step((*data, torch.arange(6)), epoch=2)
        terms = distiller.objective.named_terms
        total = sum(weight_at(term.weight, 2) * out[key] for key, term in terms.items())
        torch.testing.assert_close(out["loss"], total, rtol=1e-12, atol=0)
        out["loss"].backward()
        for path in trained(stage, net):
            if path.endswith("weight"):
                assert net.get_parameter(path).grad.abs().max() > 0, path
        net.zero_grad()


REFUSED = [  # method, arguments, the sentence
    *((name, {argument: -0.5}, "0 or more") for name, argument in WEIGHTS),
    *(
        (name, {"temperature": 0.0}, "temperature")
        for name in METHODS
        if "temperature" in arguments(name)
    ),
    ("soft-targets", {"soft_weight": 0.0, "label_weight": 0.0}, r"every weight .* is 0"),
    ("logits", {"weight": 0.0}, r"every weight .* is 0"),
    (
        "jacobian",
        dict.fromkeys(("label_weight", "activation_weight", "jacobian_weight"), 0.0),
        "every weight",
    ),
    ("attention", {"beta": 0.0, "label_weight": 0.0}, r"every weight .* is 0"),
    ("dkd", {"alpha": 0.0, "beta": 0.0, "label_weight": 0.0}, r"every weight .* is 0"),
    ("dkd", {"alpha": -0.5}, "0 or more"),
    *(
        (name, {"warmup_epochs": -1}, "warmup_epochs is -1; give a number of epochs, 0 or more")
        for name in ("dkd", "reviewkd")
    ),
    ("dist", {"beta": 0.0, "gamma": 0.0, "label_weight": 0.0}, r"every weight .* is 0"),
    ("soft-targets", {"temprature": 3.0}, "no argument 'temprature'; did you mean temperature"),
    ("plain", {"temperature": 3.0}, "it takes none"),
    ("fitnets", {"hint_epochs": 2.5}, r"hint_epochs is 2.5; give a whole number"),
    *((name, {"guided": ""}, "guided is empty") for name in ("fitnets", "fitnets-one-stage")),
    *((name, {"hint": ""}, "hint is empty") for name in ("fitnets", "fitnets-one-stage")),
    ("lwf", {"output": "label"}, "the labels are target classes"),
    ("lwf", {"layers": ""}, "layers is ''"),
    ("attention-jacobian", {"layers": "a:b", "p": 1.5}, "no second derivative"),
    *(
        (name, {"layers": wrong}, "layers is")
        for name in (
            "attention",
            "attention-jacobian",
            "rkd",
            "similarity-preserving",
            "crd",
            "reviewkd",
        )
        for wrong in ("", "a:", ":b", "a:b:c", "a:b,", "a:b,a:c", "a=b=c", "a=")
    ),
]


@pytest.mark.parametrize(("name", "args", "sentence"), REFUSED, ids=str)
def test_what_does_not_fit_is_refused(name, args, sentence):
    with pytest.raises(UsageError, match=sentence):
        stages(name, **args)


def test_an_unknown_method_gets_the_nearest():
    with pytest.raises(UsageError, match="no method 'fitnet'; did you mean fitnets"):
        arguments("fitnet")


@pytest.mark.parametrize("name, argument", [(n, a) for n in METHODS for a in arguments(n)])
@pytest.mark.parametrize("value", ["abc", None, (1, 2), True, -1, 2.5])
def test_a_value_of_another_type_is_refused_in_a_sentence(name, argument, value):
    """Or it is taken, but no other error comes out."""
    with contextlib.suppress(UsageError):
        stages(name, **{argument: value})


def test_a_layer_whose_name_is_a_number_may_be_typed_as_one():
    first, _ = stages_of("fitnets", PLAN, {"guided": 0, "hint": 2, "lam_start": 4})
    assert first.until == "0" and first.objective.layers == {"0": "2"}


# --- which terms

TERMS = [  # method, arguments, the terms of its last stage with their weights in the first epoch
    ("plain", {}, {"CE": 1.0}),
    ("soft-targets", {}, {"CE": 0.1, "KD": 0.9}),
    ("fitnets-kd", {}, {"CE": 1.0, "FitNetsKD": 4.0}),
    ("fitnets-kd", {"lam_start": 0.0, "lam_end": 0.0}, {"CE": 1.0}),
    ("fitnets", {}, {"CE": 1.0, "FitNetsKD": 4.0}),
    ("fitnets-one-stage", {"hint_weight": 0.25}, {"CE": 1.0, "Hint": 0.25}),
    ("logits", {}, {"LogitRegression": 1.0}),
    ("noisy-logits", {"label_weight": 0.5}, {"CE": 0.5, "NoisyLogits": 1.0}),
    ("attention", {"form": "at_paper", "beta": 10.0}, {"CE": 1.0, "AttentionTransfer": 5.0}),
    ("attention", {"form": "at_code", "beta": 10.0}, {"CE": 1.0, "AttentionTransfer": 10.0}),
    ("attention", {"form": "jm", "beta": 10.0}, {"CE": 1.0, "AttentionTransfer": 10.0}),
    ("attention", {"soft_weight": 0.5}, {"CE": 1.0, "KD": 0.5, "AttentionTransfer": 10.0}),
    ("attention-jacobian", {}, {"CE": 1.0, "AttentionJacobian": 1.0}),
    (
        "attention-jacobian",
        {"weight": 0.5, "attention_weight": 2.0},
        {"CE": 1.0, "AttentionJacobian": 0.5, "AttentionTransfer": 2.0},
    ),
    ("jacobian-norm", {"weight": 0.1}, {"CE": 1.0, "JacobianNorm": 0.1}),
    ("input-noise", {"weight": 0.3}, {"CE": 1.0, "InputNoise": 0.3}),
    ("born-again", {}, {"BornAgain": 1.0}),
    ("born-again", {"label_weight": 0.3}, {"CE": 0.3, "BornAgain": 1.0}),
    ("cwtm", {}, {"CWTM": 1.0}),
    ("dkpp", {}, {"DKPP": 1.0}),
    ("dkd", {}, {"CE": 1.0, "DKD": 1 / 20}),
    ("dkd", {"warmup_epochs": 0}, {"CE": 1.0, "DKD": 1.0}),
    ("dkd", {"alpha": 0.0, "beta": 0.0}, {"CE": 1.0}),
    ("dist", {}, {"CE": 1.0, "DIST": 1.0}),
    ("dist", {"beta": 0.0, "gamma": 0.0}, {"CE": 1.0}),
    ("logit-standardization", {}, {"CE": 0.1, "KD": 9.0}),
    ("rkd", {}, {"CE": 1.0, "RKDDistance": 25.0, "RKDAngle": 50.0}),
    ("similarity-preserving", {}, {"CE": 1.0, "SimilarityPreserving": 3000.0}),
    ("reviewkd", {}, {"CE": 1.0, "ReviewKD": 5.0 / 20}),
    ("reviewkd", {"warmup_epochs": 0, "weight": 0.6}, {"CE": 1.0, "ReviewKD": 0.6}),
    ("mutual", {"peers": 2}, {"CE": 1.0, "DeepMutual": 1.0}),
    ("gradient-attention", {"beta": 0.5}, {"CE": 1.0, "GradientAttention": 0.25}),
    ("crd", {}, {"CE": 1.0, "CRD": 0.8}),
    ("crd", {"soft_weight": 1.0}, {"CE": 1.0, "KD": 1.0, "CRD": 0.8}),
]


@pytest.mark.parametrize(("name", "args", "wanted"), TERMS, ids=str)
def test_terms_and_weights(name, args, wanted):
    assert weights(stages(name, **args)[-1]) == wanted


def test_every_method_is_in_the_table():
    assert {name for name, _, _ in TERMS} | {"jacobian", "lwf"} == set(METHODS)


@pytest.mark.parametrize("on", [on for on in itertools.product((0.0, 0.5), repeat=3) if any(on)])
def test_labels_activations_and_jacobian_in_every_combination(on):
    (stage,) = stages(
        "jacobian", label_weight=on[0], activation_weight=on[1], jacobian_weight=on[2]
    )
    names = ("CE", "LogitRegression", "JacobianMatching")
    assert weights(stage) == {name: 0.5 for name, weight in zip(names, on, strict=True) if weight}
    # without the Jacobian nothing of its cost remains
    assert objective(stage).needs.teacher_input_gradients == bool(on[2])


@pytest.mark.parametrize("on", list(itertools.product((0.0, 0.5), repeat=4)))
def test_two_heads_with_every_combination_of_terms(on):
    names = (
        "activation_weight",
        "jacobian_weight",
        "attention_weight",
        "attention_jacobian_weight",
    )
    (stage,) = stages("lwf", **dict(zip(names, on, strict=True)))
    terms = ("LogitRegression", "JacobianMatching", "AttentionTransfer", "AttentionJacobian")
    wanted = {name for name, weight in zip(terms, on, strict=True) if weight} | {"CE"}
    assert set(weights(stage)) == wanted


def test_pairs_of_layers():
    assert layer_pairs("a.1:b, c : d,e") == {"a.1": "b", "c": "d", "e": "e"}
    assert layer_pairs("a:in=b:in, c=d#2") == {"a:in": "b:in", "c": "d#2"}


# --- FitNets


def test_lambda_falls_by_equal_steps_over_the_epochs():
    (stage,) = stages("fitnets-kd")
    weight = list(objective(stage).named_terms.values())[1].weight
    assert isinstance(weight, Linear)
    assert [weight(epoch) for epoch in range(8)] == [4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 1.0]


def test_dkd_warms_up_by_equal_steps():
    (stage,) = stages("dkd", warmup_epochs=4)
    weight = list(objective(stage).named_terms.values())[1].weight
    assert [weight(epoch) for epoch in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_first_stage_trains_the_guided_layers_on_the_hint():
    first, second = stages("fitnets", hint_epochs=2, hint_lr=0.25)
    net = student()
    below = [f"convs.{i}.0.{part}" for i in (0, 1, 2) for part in ("weight", "bias")]
    assert trained(first, net) == dict.fromkeys(below, 0.25)
    assert weights(first) == {"Hint": 1.0}
    assert (first.plan.epochs, first.plan.batch, second.plan) == (2, PLAN.batch, PLAN)
    assert trained(second, net) == dict.fromkeys((n for n, _ in net.named_parameters()), PLAN.lr)
    first, _ = stages("fitnets")
    assert first.plan == PLAN


def test_cascaded_hints_are_a_stage_for_each_pair():
    first, second, last = stages("fitnets", guided="convs.0,convs.2", hint="convs.0,convs.1")
    assert (first.name, second.name, last.plan) == ("hints-1", "hints-2", PLAN)
    net = student()
    assert {name.split(".")[1] for name in trained(first, net)} == {"0"}
    assert {name.split(".")[1] for name in trained(second, net)} == {"0", "1", "2"}
    with pytest.raises(UsageError, match="as many layers of the student as of the teacher"):
        stages("fitnets", guided="convs.0,convs.2", hint="convs.1")


def test_a_step_of_the_first_stage_leaves_the_rest_alone():
    net = student()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first, _ = stages("fitnets")
    distiller = Distiller(net, first.objective, teacher())
    distiller.step(batch())["loss"].backward()
    with torch.no_grad():
        for group in groups_of(first, net, distiller.objective):
            for p in group["params"]:
                p -= group["lr"] * p.grad
    after = net.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(trained(first, net))
    assert sum(1 for _ in distiller.objective.parameters()) == 2, "a regressor is trained with them"


def test_the_guided_layers_learn_slower_in_the_second_stage():
    net = student()
    _, second = stages("fitnets", guided_multiplier=0.1)
    rates = trained(second, net)
    assert {name for name, lr in rates.items() if lr == pytest.approx(0.05)} == {
        f"convs.{i}.0.{part}" for i in (0, 1, 2) for part in ("weight", "bias")
    }
    assert rates["convs.3.0.weight"] == rates["classifier.bias"] == 0.5
    _, second = stages("fitnets", guided_multiplier=0.0)
    assert set(trained(second, net)) == {
        "convs.3.0.weight",
        "convs.3.0.bias",
        "classifier.weight",
        "classifier.bias",
    }
    with pytest.raises(UsageError, match=r"multiplied by -1\.0; give 0 or more"):
        trained(stages("fitnets", guided_multiplier=-1.0)[1], net)


def test_a_guided_layer_without_parameters_ends_where_it_stands():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    first, second = stages("fitnets", guided="1", hint="1", guided_multiplier=0.5)
    assert trained(first, net) == {"0.weight": 0.5, "0.bias": 0.5}
    assert trained(second, net) == {
        "0.weight": 0.25,
        "0.bias": 0.25,
        "2.weight": 0.5,
        "2.bias": 0.5,
    }


def test_two_kinds_of_multipliers_are_multiplied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    stage = Stage(
        "s",
        stages("plain")[0].objective,
        PLAN,
        multipliers={"0": 0.5},
        multipliers_until={"0": 0.5},
    )
    assert trained(stage, net)["0.weight"] == 0.125
    with pytest.raises(UsageError, match="no module '7'"):
        trained(Stage("s", stage.objective, PLAN, multipliers_until={"7": 0.5}), net)
