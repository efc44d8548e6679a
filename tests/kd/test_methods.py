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
from kd_baselines.losses.schedules import at
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
    "lwf": {"jacobian_weight": 0.1, "attention_weight": 1.0, "layers": "convs.2:convs.1"},
}
WEIGHTS = [
    (name, a) for name in METHODS for a in arguments(name) if "weight" in a or a in ("beta", "lam_start")
]


def stages(method, **args):
    return stages_of(method, PLAN, {**NEEDED.get(method, {}), **args})


def objective(stage):
    return stage.objective if isinstance(stage.objective, Objective) else Objective(stage.objective)


def weights(stage):
    return {type(term).__name__: at(term.weight, 0) for term in objective(stage).named_terms.values()}


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
    needs = [objective(stage).needs.any_teacher for stage in stages(name)]
    assert any(needs) == METHODS[name].teacher
    assert METHODS[name].about and METHODS[name].source
    assert stages(name)[-1].plan == PLAN


@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_the_weighted_sum_and_reaches_every_weight_that_trains(name):
    net = student()
    if METHODS[name].two_headed:
        net = two_headed(net, 5).double()
    whom = teacher(classes=5 if METHODS[name].two_headed else 3)
    for stage in stages(name):
        distiller = Distiller(net, stage.objective, whom if METHODS[name].teacher else None)
        out = distiller.step(batch(), epoch=2)
        terms = distiller.objective.named_terms
        total = sum(at(term.weight, 2) * out[key] for key, term in terms.items())
        torch.testing.assert_close(out["loss"], total, rtol=1e-12, atol=0)
        out["loss"].backward()
        for path in trained(stage, net):
            if path.endswith("weight"):
                assert net.get_parameter(path).grad.abs().max() > 0, path
        net.zero_grad()


@pytest.mark.parametrize(("name", "argument"), WEIGHTS)
def test_a_negative_weight_is_refused(name, argument):
    with pytest.raises(UsageError, match="0 or more"):
        stages(name, **{argument: -0.5})


@pytest.mark.parametrize("name", [name for name in METHODS if "temperature" in arguments(name)])
def test_a_temperature_of_zero_is_refused(name):
    used = {"loss": "kd"} if name == "input-noise" else {}
    with pytest.raises(UsageError, match=r"temperature|T is"):
        stages(name, temperature=0.0, **used)


@pytest.mark.parametrize(
    ("name", "zero"),
    [
        ("soft-targets", ("soft_weight", "label_weight")),
        ("logits", ("weight",)),
        ("jacobian", ("label_weight", "activation_weight", "jacobian_weight")),
        ("attention", ("beta", "label_weight")),
    ],
)
def test_nothing_to_minimize_is_refused(name, zero):
    with pytest.raises(UsageError, match=r"every weight .* is 0"):
        stages(name, **dict.fromkeys(zero, 0.0))


@pytest.mark.parametrize("name, argument", [(n, a) for n in METHODS for a in arguments(n)])
@pytest.mark.parametrize("value", ["abc", None, (1, 2), True, -1, 2.5])
def test_a_value_of_another_type_is_refused_in_a_sentence(name, argument, value):
    """Or it is taken, but no other error comes out."""
    with contextlib.suppress(UsageError):
        stages(name, **{argument: value})


def test_a_layer_whose_name_is_a_number_may_be_typed_as_one():
    first, _ = stages_of("fitnets", PLAN, {"guided": 0, "hint": 2, "lam_start": 4})
    assert first.until == "0" and first.objective.layers == {"0": "2"}
    with pytest.raises(UsageError, match=r"hint_epochs is 2.5; give a whole number"):
        stages_of("fitnets", PLAN, {"guided": "0", "hint": "2", "hint_epochs": 2.5})


def test_unknown_methods_and_arguments_name_the_nearest():
    with pytest.raises(UsageError, match="no method 'fitnet'; did you mean fitnets"):
        arguments("fitnet")
    with pytest.raises(UsageError, match="no argument 'temprature'; did you mean temperature"):
        stages("soft-targets", temprature=3.0)
    with pytest.raises(UsageError, match="it takes none"):
        stages("plain", temperature=3.0)


# --- which terms


@pytest.mark.parametrize("on", [on for on in itertools.product((0.0, 0.5), repeat=3) if any(on)])
def test_labels_activations_and_jacobian_in_every_combination(on):
    (stage,) = stages("jacobian", label_weight=on[0], activation_weight=on[1], jacobian_weight=on[2])
    names = ("CE", "LogitRegression", "JacobianMatching")
    assert weights(stage) == {name: 0.5 for name, weight in zip(names, on, strict=True) if weight}
    # without the Jacobian nothing of its cost remains
    assert objective(stage).needs.teacher_input_gradients == bool(on[2])


@pytest.mark.parametrize("on", list(itertools.product((0.0, 0.5), repeat=4)))
def test_two_heads_with_every_combination_of_terms(on):
    names = ("activation_weight", "jacobian_weight", "attention_weight", "attention_jacobian_weight")
    (stage,) = stages("lwf", **dict(zip(names, on, strict=True)))
    terms = ("LogitRegression", "JacobianMatching", "AttentionTransfer", "AttentionJacobian")
    wanted = {name for name, weight in zip(terms, on, strict=True) if weight} | {"CE"}
    assert set(weights(stage)) == wanted


def test_two_heads_without_labels_of_the_source():
    with pytest.raises(UsageError, match="the labels are target classes"):
        stages("lwf", output="label")
    with pytest.raises(UsageError, match="layers is ''"):
        stages_of("lwf", PLAN, {"attention_weight": 1.0})


def test_half_of_beta_in_the_papers_form_alone():
    for form, wanted in (("at_paper", 5.0), ("at_code", 10.0), ("jm", 10.0)):
        (stage,) = stages("attention", form=form, beta=10.0)
        assert weights(stage) == {"CE": 1.0, "AttentionTransfer": wanted}
    (stage,) = stages("attention", soft_weight=0.5)
    assert set(weights(stage)) == {"CE", "KD", "AttentionTransfer"}


def test_pairs_of_layers():
    assert layer_pairs("a.1:b, c : d,e") == {"a.1": "b", "c": "d", "e": "e"}
    for wrong in ("", "a:", ":b", "a:b:c", "a:b,", "a:b,a:c"):
        with pytest.raises(UsageError, match="layers is"):
            layer_pairs(wrong)


# --- FitNets


def test_soft_targets_and_the_form_without_t_squared_have_the_same_gradient():
    lam, tau = 4.0, 3.0
    net, whom, seen = student(), teacher(), batch()
    found = []
    for stage in (
        *stages("fitnets-kd", temperature=tau, lam_start=lam, lam_end=lam),
        *stages("soft-targets", temperature=tau, soft_weight=lam / tau**2, label_weight=1.0),
    ):
        loss = Distiller(net, stage.objective, whom).step(seen)["loss"]
        found.append(torch.autograd.grad(loss, list(net.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_lambda_falls_by_equal_steps_over_the_epochs():
    (stage,) = stages("fitnets-kd")
    weight = list(objective(stage).named_terms.values())[1].weight
    assert isinstance(weight, Linear)
    assert [weight(epoch) for epoch in range(8)] == [4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 1.0]
    (stage,) = stages("fitnets-kd", lam_start=0.0, lam_end=0.0)
    assert weights(stage) == {"CE": 1.0}


def test_the_first_stage_trains_the_layers_up_to_the_guided_one_on_the_hint_alone():
    first, second = stages("fitnets", hint_epochs=2, hint_lr=0.25)
    net = student()
    below = [f"convs.{i}.0.{part}" for i in (0, 1, 2) for part in ("weight", "bias")]
    assert trained(first, net) == dict.fromkeys(below, 0.25)
    assert weights(first) == {"Hint": 1.0}
    assert (first.plan.epochs, first.plan.batch, second.plan) == (2, PLAN.batch, PLAN)
    assert trained(second, net) == dict.fromkeys((n for n, _ in net.named_parameters()), PLAN.lr)
    first, _ = stages("fitnets")
    assert first.plan == PLAN


def test_a_step_of_the_first_stage_leaves_the_rest_and_the_state_dict_alone():
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
    assert trained(second, net) == {"0.weight": 0.25, "0.bias": 0.25, "2.weight": 0.5, "2.bias": 0.5}


def test_two_kinds_of_multipliers_are_multiplied():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    stage = Stage("s", stages("plain")[0].objective, PLAN, multipliers={"0": 0.5}, multipliers_until={"0": 0.5})
    assert trained(stage, net)["0.weight"] == 0.125
    with pytest.raises(UsageError, match="no module '7'"):
        trained(Stage("s", stage.objective, PLAN, multipliers_until={"7": 0.5}), net)


@pytest.mark.parametrize("name", ["fitnets", "fitnets-one-stage"])
def test_hints_want_names_of_layers(name):
    with pytest.raises(UsageError, match="guided is empty"):
        stages_of(name, PLAN, {"hint": "convs.1"})
    with pytest.raises(UsageError, match="hint is empty"):
        stages_of(name, PLAN, {"guided": "convs.1"})


def test_the_one_stage_variant_is_labels_and_a_hint_over_the_whole_student():
    (stage,) = stages("fitnets-one-stage", hint_weight=0.25)
    assert weights(stage) == {"CE": 1.0, "Hint": 0.25}
    assert len(trained(stage, student())) == len(list(student().parameters()))


def test_noise_on_inputs_tends_to_the_jacobian_term():
    """Linear nets: E (1/2)||(A - B)(x + xi)||^2 = (1/2)||(A - B) x||^2 + (sigma^2 / 2) ||A - B||^2, and the
    second half is `jacobian` with weight sigma^2 / 2."""
    sigma = 0.3
    mine, theirs = (nn.Sequential(nn.Flatten(), nn.Linear(64, 3, bias=False)).double() for _ in range(2))
    seen = batch()
    gap = mine[1].weight - theirs[1].weight
    (stage,) = stages(
        "jacobian", label_weight=0.0, activation_weight=1.0, jacobian_weight=sigma**2 / 2, output="full"
    )
    loss = Distiller(mine, stage.objective, Teacher(theirs)).step(seen)["loss"]
    clean = (seen[0].flatten(1) @ gap.T).square().sum(1).mean() / 2
    torch.testing.assert_close(loss, clean + sigma**2 / 2 * gap.square().sum(), rtol=1e-10, atol=0)
