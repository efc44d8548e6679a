"""Nets as users have them: other types, wrapped, scripted, with more outputs; gradients switched
off."""

import copy
from collections import namedtuple
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import datadistill as dd
import kd_baselines as kd
from datadistill.data import Split
from datadistill.errors import UsageError
from datadistill.nets.trained_parameters import select_trained
from kd_baselines.features import layers, run
from kd_baselines.stages import groups_of

X = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 5
PLAN = dd.FitPlan(epochs=2, batch=6, lr=0.05, optimizer="sgd")


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)
    )


OBJECTIVES = {
    "logits": lambda: kd.CE() + kd.KD(T=4),
    "features": lambda: kd.CE() + kd.AttentionTransfer({"0": "0"}),
    "jacobian": lambda: kd.CE() + kd.JacobianMatching("top"),
    "hints": lambda: kd.Hint({"0": "0"}),
}


def fit(student, teacher, objective):
    return kd.fit(
        student, Split(X, Y), kd.Stage("s", OBJECTIVES[objective](), PLAN), kd.Teacher(teacher)
    )


def agree(found, wanted, **tolerance):
    for a, b in zip(found.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(a.to(b.dtype), b, **tolerance)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_double_student_or_teacher_trains_as_float32(objective):
    wanted = fit(net(), net(1), objective)
    agree(fit(net().double(), net(1), objective), wanted, rtol=1e-4, atol=1e-5)
    agree(fit(net(), net(1).double(), objective), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_half_precision_trains_within_its_rounding(objective, dtype):
    wanted = fit(net(), net(1), objective)
    near = {"rtol": 0.1, "atol": 20 * torch.finfo(dtype).eps}
    agree(fit(net().to(dtype), net(1), objective), wanted, **near)
    agree(fit(net(), net(1).to(dtype), objective), wanted, **near)


def inplace(module):
    module.compile(backend="eager")
    return module


WRAPPED = {
    "parallel": nn.DataParallel,
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "compiled in place": inplace,
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_wrapped_net_is_the_net_inside(objective, wrap):
    agree(fit(wrap(net()), wrap(net(1)), objective), fit(net(), net(1), objective))


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_layers_of_a_wrapped_net_have_their_plain_names(wrap):
    module = net()
    wrapped = wrap(module)
    wrapped(X)  # compiled without taps
    assert layers(wrapped) == layers(module)
    torch.testing.assert_close(run(wrapped, X, ["0"]).features["0"], module[0](X))
    assert kd.score(wrapped, (X, Y)) == kd.score(module, (X, Y))


def compiled(module, place=None):
    """A net that is compiled, as a whole or in one of its layers."""
    if place is None:
        return torch.compile(module, backend="eager")
    module[place] = torch.compile(module[place], backend="eager")
    return module


PATHS = {"train": ("0", "4"), "until": "4", "multipliers": {"0": 0.5}}
STAGE = kd.Stage("s", kd.CE(), PLAN, multipliers_until={"0": 0.1}, **PATHS)


def rates(stage, student):
    groups = groups_of(stage, student, kd.Objective(kd.CE()))
    return [([tuple(p.shape) for p in group["params"]], group["lr"]) for group in groups]


@pytest.mark.parametrize("place", [None, 0, 4])
def test_compiled_layers_are_named_as_they_were(place):
    student = compiled(net(), place)
    assert rates(STAGE, student) == rates(STAGE, net()) and len(rates(STAGE, net())) == 2
    with pytest.raises(UsageError, match=r"no module '9'; .*known: 0, 1"):
        rates(replace(STAGE, until="9"), student)
    kd.share_layers(student, compiled(net(1), place), {"0": "0"})
    assert torch.equal(next(student.parameters()), next(net(1).parameters()))
    trained = select_trained(compiled(net(), place), ["4"])
    assert [p.requires_grad for p in trained.parameters()] == [False] * 4 + [True] * 2
    heads, wanted = kd.two_headed(compiled(net(), place).eval(), 3), net().eval()
    assert {"trunk.4.target", "trunk.4.source"} <= set(layers(heads))
    torch.testing.assert_close(heads(X), wanted(X))


def test_a_scripted_net_gives_logits_and_input_gradients_only():
    scripted, teacher = torch.jit.script(net()), torch.jit.script(net(1))
    agree(fit(scripted, teacher, "logits"), fit(net(), net(1), "logits"), rtol=1e-4, atol=1e-6)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 5))
    wanted = fit(plain, net(1), "jacobian")
    agree(fit(torch.jit.script(plain), teacher, "jacobian"), wanted, rtol=1e-4, atol=1e-6)
    agree(scripted, net())
    with pytest.raises(UsageError, match="BatchNorm layer in TorchScript"):
        fit(scripted, net(1), "jacobian")
    assert kd.score(scripted, (X, Y)) == kd.score(net(), (X, Y))
    with pytest.raises(UsageError, match="'0' is TorchScript, whose forward calls no hooks"):
        fit(scripted, net(1), "features")


Named = namedtuple("Named", "logits aux")


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor


class More(nn.Module):
    def __init__(self, how, always=False):
        super().__init__()
        self.inside, self.how, self.always = net(), how, always

    def forward(self, x):
        z = self.inside(x)
        return self.how(z) if self.training or self.always else z


MORE = {
    "named tuple": lambda z: Named(z, z),
    "dataclass": lambda z: Output(z, z),
    "dictionary": lambda z: {"aux": z, "logits": z},
}


def step(student, teacher=None):
    out = kd.Distiller(
        student, kd.CE() + kd.KD(T=4), kd.Teacher(net(1) if teacher is None else teacher)
    )
    return out.step((X, Y))["loss"]


@pytest.mark.parametrize("how", MORE.values(), ids=MORE)
@pytest.mark.parametrize("always", [False, True])
def test_named_logits_are_taken_from_an_output(how, always):
    torch.testing.assert_close(step(More(how, always)), step(net()))
    torch.testing.assert_close(step(net(), More(how, always)), step(net(), net()))
    assert kd.score(More(how, always), (X, Y)) == kd.score(net(), (X, Y))


def test_a_tuple_in_training_mode_begins_with_the_logits():
    torch.testing.assert_close(step(More(lambda z: (z, 2 * z))), step(net()))
    for how in (lambda z: (z[:, :2], z), lambda z: {"out": z}, lambda z: None):
        with pytest.raises(UsageError, match=r"More returns a .*, wanted a tensor of logits"):
            step(More(how))
    with pytest.raises(UsageError, match="More returns a tuple"):
        step(More(lambda z: (z, 2 * z), always=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fit_has_gradients_where_its_caller_has_none(mode, objective):
    with mode():
        found = fit(net(), net(1), objective)
    agree(found, fit(net(), net(1), objective))
    with mode():
        assert step(net()).requires_grad is False
        assert kd.score(net(), (X, Y)).images == 12


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_default_type_of_float64_changes_nothing(objective):
    wanted, student, teacher = fit(net(), net(1), objective), net(), net(1)
    try:
        torch.set_default_dtype(torch.float64)
        agree(fit(student, teacher, objective), wanted)
        double = fit(net().float(), net(1), objective)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(bool(torch.isfinite(p).all()) for p in double.parameters())


class Keeps(nn.Module):
    """Keeps tensors of its forward, as nets for Grad-CAM and many students do."""

    def __init__(self, seed=0):
        super().__init__()
        self.inside, self.all = net(seed), []

    def forward(self, x):
        self.last = self.inside(x)
        self.all = [self.last]
        return self.last


def pruned(module):
    prune.l1_unstructured(module[0], "weight", 0.5)
    return module


def normed(module):
    module[0] = torch.nn.utils.weight_norm(module[0])
    return module


KEEPING = {
    "keeps": lambda seed: Keeps(seed),
    "pruned": lambda seed: pruned(net(seed)),
    "weight_norm": lambda seed: normed(net(seed)),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("make", KEEPING.values(), ids=KEEPING)
@pytest.mark.parametrize("objective", ["logits", "jacobian"])
def test_nets_that_keep_tensors_can_be_copied_afterwards(make, objective):
    student = make(0).eval()  # no statistics are written
    student(X)  # a graph of the caller's own
    trained = fit(student.train(), make(1), objective)
    copy.deepcopy(trained)
    agree(trained, fit(make(0), make(1), objective))
    teacher = make(1)
    kd.Distiller(make(0), OBJECTIVES[objective](), kd.Teacher(teacher)).step((X, Y))[
        "loss"
    ].backward()
    copy.deepcopy(teacher)


class Mixing(nn.Module):
    """Takes the mean of the batch from its features."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36, 5)

    def forward(self, x):
        x = x.flatten(1)
        return self.head((x - x.mean(0)).tanh())


def test_a_net_that_mixes_images_has_no_jacobians():
    for student, teacher, whose in ((Mixing(), net(), "student"), (net(), Mixing(), "teacher")):
        with pytest.raises(
            UsageError, match=f"the {whose}'s logits of an image depend on the other images"
        ):
            fit(student, teacher, "jacobian")
