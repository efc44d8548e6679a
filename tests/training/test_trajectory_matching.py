"""Trajectory matching and TESLA: losses and gradients by hand, runs, and what is refused."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from oracles.finite_differences import check_entries
from torch import nn
from training_cases import assert_resumes, config

import datadistill as dd
from datadistill.cli import main
from datadistill.data.normalization import Normalization
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import FullUnroll, StepReplay, step_sizes, unroll
from datadistill.innerloop.losses import squared_error
from datadistill.methods import Tesla, TrajectoryMatching
from datadistill.pool import Pool
from datadistill.starts import Start
from datadistill.streams import derive
from datadistill.synthetic import Pixels, Schedule, Synthetic
from datadistill.training.outer import OuterLoop

CLASSES, N = 3, 5


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        body = [nn.Flatten(), nn.Linear(18, 4), nn.Tanh(), nn.Linear(4, CLASSES)]
        return nn.Sequential(*body).double()


def synthetic(rates="shared", labels="soft", schedule=None):
    n = 2 * CLASSES
    logits = None if labels == "hard" else drawn(n, CLASSES, seed=2)
    return Synthetic(
        Pixels(),
        {"images": drawn(n, 2, 3, 3, seed=1)},
        torch.arange(n) % CLASSES,
        logits,
        schedule or Schedule.shuffled(n, 4, epochs=3, augment=("flip",)),
        step_sizes.init(rates, 0.3, N, 4).double(),
        "raw" if labels == "raw" else "soft",
    )


def experts(net, nets=2, epochs=3):
    """Random walks."""
    each = enumerate(net.named_parameters())
    return {k: 0.3 * drawn(nets, epochs + 1, *p.shape, seed=9 + i) for i, (k, p) in each}


def method(kind=TrajectoryMatching, **changes):
    net = small_net()
    arguments = {"steps": N, "expert_epochs": 2, "max_start": 2, "experts": experts(net)}
    return kind(net, **{**arguments, **changes})


def steps_by_hand(m, s, i):
    """The pairs of an iteration's steps."""
    return list(s.steps(N, stream=derive(m.seed, "matched_steps", i, 0)))


def gradient_by_hand(net, theta, pair, loss):
    theta = {k: p.detach().requires_grad_() for k, p in theta.items()}
    found = loss(torch.func.functional_call(net, theta, (pair[0],)), pair[1])
    gradients = torch.autograd.grad(found, list(theta.values()), create_graph=True)
    return dict(zip(theta, gradients, strict=True))


def flat(theta):
    return torch.cat([p.flatten() for p in theta.values()])


# --- losses


@pytest.mark.parametrize("kind", [TrajectoryMatching, Tesla])
def test_a_set_that_reaches_the_expert_has_no_loss(kind):
    s, m = synthetic(), method(kind, max_start=1, expert_epochs=1)
    theta_0 = {k: p[0, 0] for k, p in m.experts.items()}
    steps = s.steps(N, stream=derive(m.seed, "matched_steps", 0, 0))
    noise = derive(m.seed, "dropout", 0, 0)
    reached = unroll(m.net, theta_0, steps, s.step_sizes(N), stream=noise)
    m.experts = {k: torch.stack([p, reached[k].detach()])[None] for k, p in theta_0.items()}
    loss = m.loss(s, 0)
    gradients = torch.autograd.grad(loss, list(s.leaves().values()))
    assert float(loss.detach()) == 0 and all(not g.any() for g in gradients)


LOSSES = {"soft": F.cross_entropy, "hard": F.cross_entropy, "raw": squared_error}


@pytest.mark.parametrize("labels", LOSSES)
@pytest.mark.parametrize("kind", [TrajectoryMatching, Tesla])
def test_the_loss_is_the_distance_after_plain_gradient_descent(kind, labels):
    s, m = synthetic(labels=labels), method(kind, nets=2, inner_loss=LOSSES[labels])
    wanted = []
    for n in range(2):
        theta, target = m.draw(7, n)
        start = flat(theta)
        for pair in s.steps(N, stream=derive(m.seed, "matched_steps", 7, n)):
            g = gradient_by_hand(m.net, theta, pair, LOSSES[labels])
            theta = {k: p - 0.3 * g[k].detach() for k, p in theta.items()}
        gap = flat(theta) - flat(target)
        wanted.append(gap @ gap / (start - flat(target)).norm() ** 2)
    torch.testing.assert_close(m.loss(s, 7), sum(wanted) / 2)


def test_experts_and_epochs_are_drawn_alike_from_all():
    m = method(max_start=2, expert_epochs=1)
    m.experts = {
        k: torch.arange(8.0).reshape(2, 4, *[1] * (p.dim() - 2)).expand_as(p)
        for k, p in m.experts.items()
    }
    found = [
        (int(a["1.bias"][0]), int(b["1.bias"][0])) for a, b in (m.draw(i, 0) for i in range(80))
    ]
    assert set(found) == {(0, 1), (1, 2), (4, 5), (5, 6)}
    assert all(10 < found.count(pair) < 35 for pair in set(found))


# --- gradients

# with step sizes of their own, as many steps as are matched
EXPLICIT = Schedule([torch.tensor([t, t + 1]) for t in range(N)])
SCHEDULES = {"shared": None, "per-step": EXPLICIT, "per-tensor": EXPLICIT}


@pytest.mark.parametrize("rates", ["shared", "per-step", "per-tensor"])
@pytest.mark.parametrize("adjoint", [FullUnroll(), StepReplay()])
def test_the_gradient_is_that_of_finite_differences(adjoint, rates):
    s, m = synthetic(rates, schedule=SCHEDULES[rates]), method(adjoint=adjoint)
    leaves = s.leaves()
    found = dict(zip(leaves, torch.autograd.grad(m.loss(s, 3), list(leaves.values())), strict=True))

    def loss(tensors):
        s.set(tensors)
        return m.loss(s, 3)

    start = {name: leaf.detach().clone() for name, leaf in leaves.items()}
    check_entries(loss, start, found, torch.Generator().manual_seed(0), entries=10)


@pytest.mark.parametrize("rates", ["shared", "per-step"])
def test_teslas_gradient_is_its_formula(rates):
    s, m = synthetic(rates, schedule=SCHEDULES[rates]), method(Tesla)
    theta_0, target = m.draw(3, 0)
    # theta_N = theta_0 - sum_j alpha_j g_j; each g_j is differentiable in its images and labels
    # alone, for theta_j is a constant
    alpha, theta, moved = s.step_sizes(N), theta_0, torch.zeros_like(flat(theta_0))
    for t, pair in enumerate(steps_by_hand(m, s, 3)):
        g = gradient_by_hand(m.net, theta, pair, F.cross_entropy)
        moved = moved + alpha[t] * flat(g)
        theta = {k: (p - alpha[t] * g[k]).detach() for k, p in theta.items()}
    back, D = flat(target) - flat(theta_0), (flat(theta_0) - flat(target)).square().sum()
    # 2 / D (alpha (target - theta_0) + alpha^2 sum_j g_j) . g_i, and the same for each alpha_i
    formula = 2 / D * ((back + moved).detach() @ moved)
    leaves = list(s.leaves().values())
    wanted = torch.autograd.grad(formula, leaves, retain_graph=True)
    found = torch.autograd.grad(2 * m.loss(s, 3), leaves)  # a factor reaches the backward pass
    for a, b in zip(found, wanted, strict=True):
        assert b.abs().max() > 1e-4
        torch.testing.assert_close(a, 2 * b)


# --- whole runs

EXPERTS = dd.PoolConfig(
    dataset="digits",
    net="mlp",
    net_args={"width": 6, "depth": 1},
    device="cpu",
    nets=3,
    validation_nets=1,
    held_out=1,
    epochs=4,
    batch=64,
    optimizer="sgd",
    lr=0.1,
    momentum=0.0,
    keep="every-epoch",
)
ARGUMENTS = {"steps": 8, "expert_epochs": 2, "max_start": 2}
CHANGES = {
    "method": "trajectory-matching",
    "method_args": ARGUMENTS,
    "step_sizes": "shared",
    "images_from": "real",
    "ipc": 2,
    "minibatch": 10,
    "epochs": 20,
    "optimizer": "sgd",
    "lr_images": 10.0,
    "lr_step_sizes": 0.01,
    "clip": 0.0,
    "validate_every": 15,
}
RUN = config(**CHANGES, iterations=30)


@pytest.fixture(scope="module")
def pool():
    return dd.pretrain(EXPERTS, data=dd.load("digits"))


@pytest.mark.parametrize("kind", ["trajectory-matching", "tesla"])
def test_a_run_comes_nearer_to_the_experts(digits, pool, kind, tmp_path):
    d = dd.distill(RUN.with_changes(method=kind), data=digits, experts=pool)
    first = dd.distill(RUN.with_changes(method=kind, lr_images=0.0), data=digits, experts=pool)
    assert d.start == Start("draws") and d.origin["experts"] == pool.fingerprint
    assert float(d.step_sizes.min()) > 0 and len(set(d.step_sizes.tolist())) == 1
    after, before = (mean_loss(digits, pool, one) for one in (d, first))
    assert after < 0.95 * before
    d.save(tmp_path / "set")
    assert dd.DistilledDataset.load(tmp_path / "set").origin["experts"] == pool.fingerprint


def mean_loss(data, pool, d):
    """The mean loss of a set over the validation part's expert, which was not learned with."""
    s = Synthetic(
        Pixels(),
        {"images": d.images.clone()},
        d.labels,
        None,
        d.schedule,
        step_sizes.softplus_inverse(d.step_sizes[:1]),
    )
    m = TrajectoryMatching(d.build(), pool.trajectory("validation"), **ARGUMENTS)
    with torch.no_grad():
        return sum(float(m.loss(s, i)) for i in range(20)) / 20


@pytest.mark.parametrize("kind", ["trajectory-matching", "tesla"])
def test_a_stop_changes_no_byte(digits, pool, kind, tmp_path):
    pool.save(tmp_path / "experts")
    changes = {**CHANGES, "method": kind, "experts": str(tmp_path / "experts")}
    assert_resumes(digits, tmp_path, **changes)


def test_the_command_line_goes_all_the_way(tmp_path, capsys):
    small = ["--size", "8", "--net", "mlp", "--net-args", "width", "6", "depth", "1"]
    nets = ["--nets", "1", "--held-out", "1", "--epochs", "2", "--keep", "every-epoch"]
    experts = str(tmp_path / "experts")
    assert main(["pretrain", "digits-28-lenet-smoke", *small, *nets, "--out", experts]) == 0
    assert "--experts" in capsys.readouterr().out
    learn = [
        "digits-random",
        *small[2:],
        "--method",
        "trajectory-matching",
        "--step-sizes",
        "shared",
    ]
    learn += ["--method-args", "steps", "3", "expert_epochs", "1", "max_start", "2"]
    learn += ["--iterations", "2", "--experts", experts, "--nets-tested", "2", "--no-figures"]
    out = str(tmp_path / "run")
    assert main(["distill", *learn, "--out", out]) == 0
    assert main(["distill", "--resume", out]) == 0
    assert main(["evaluate", out, "--nets", "2"]) == 0


# --- refusals

REFUSED = {
    "no experts": ({"experts": None}, UsageError, r"matches experts, and none were given; train"),
    "no method for them": (
        {"method": "unrolled", "method_args": {}},
        UsageError,
        "unrolled matches no experts.*trajectory-matching or tesla",
    ),
    "no such step": (
        {"method_args": {**ARGUMENTS, "max_start": 4}},
        UsageError,
        "max_start 4 and expert_epochs 2 reach epoch 5, but the experts have 4",
    ),
    "zero steps": (
        {"method_args": {"steps": 0}},
        UsageError,
        "steps is 0, but it must be at least",
    ),
    "fixed start": ({"theta_0": "fixed"}, UsageError, "choose theta_0 random"),
    "an attack": ({"objective": "attack"}, UsageError, "experts were trained to classify"),
    "another net": (
        {"net_args": {"width": 7, "depth": 1}},
        UsageError,
        r"experts are nets of another kind \(mlp .*3 tensors differ",
    ),
    "another initialization": ({"init": "kaiming"}, UsageError, "choose .*init xavier"),
    "BatchNorm": (
        {"net": "convnet", "net_args": {"depth": 1, "width": 4, "norm": "batch"}},
        UsageError,
        "the net has BatchNorm",
    ),
    "step sizes of their own": (
        {"step_sizes": "per-step"},
        UsageError,
        "8 steps are matched of the set's 40.*choose .*shared",
    ),
    "tesla with momentum": (
        {"method": "tesla", "update": "momentum", "update_args": {"beta": 0.5}},
        UsageError,
        "tesla is defined for plain gradient descent.*momentum",
    ),
    "tesla with a window": (
        {"method": "tesla", "adjoint": "truncated", "window": 2},
        UsageError,
        "tesla cuts the chain at every step",
    ),
    "tesla with an adjoint": (
        {"method": "tesla", "adjoint": "step-replay"},
        UsageError,
        "adjoint is StepReplay; leave .*adjoint",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_matched_is_refused_first(digits, pool, tmp_path, what):
    changes, error, pattern = REFUSED[what]
    given = changes.get("experts", pool)
    rest = {k: v for k, v in changes.items() if k != "experts"}
    with pytest.raises(error, match=pattern):
        dd.distill(RUN.with_changes(**rest), data=digits, experts=given, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loop_refuses_a_set_that_its_method_cannot_learn():
    with pytest.raises(UsageError, match="5 steps are matched of the set's 6"):
        OuterLoop(synthetic("per-step"), method(), rates={}, iterations=1)


OTHER_POOLS = {
    "an ordinary pool": ({"keep": "last"}, {}, UsageError, "epochs are wanted; train it with"),
    "another data set": ({}, {"dataset": "mnist"}, DataError, "trained on mnist.*pass experts of"),
    "other classes": (
        {},
        {"classes": tuple("abcdefghij")},
        DataError,
        "the experts know the classes a, b, c, d",
    ),
    "another normalization": (
        {},
        {"normalization": Normalization((0.5,), (0.5,), 8, 1)},
        DataError,
        "normalized by .* pass the experts' file as .*normalization",
    ),
}


@pytest.mark.parametrize("what", OTHER_POOLS)
def test_a_pool_of_other_experts_is_refused(digits, pool, what):
    trained, changes, error, pattern = OTHER_POOLS[what]
    other = dd.pretrain(EXPERTS.with_changes(**trained), data=digits) if trained else pool
    with pytest.raises(error, match=pattern):
        dd.distill(RUN, data=digits, experts=replace(other, **changes))


def test_a_run_is_not_resumed_with_other_experts(digits, pool, tmp_path):
    out = tmp_path / "run"
    dd.distill(RUN.with_changes(iterations=1), data=digits, experts=pool, out=out)
    (out / "distilled.safetensors").unlink()
    with pytest.raises(UsageError, match="experts="):
        dd.distill(None, data=digits, out=out, resume=True)
    other = replace(pool, nets=2, held_out=2)
    with pytest.raises(UsageError, match="was started from other experts"):
        dd.distill(None, data=digits, experts=other, out=out, resume=True)
    dd.distill(None, data=digits, experts=pool, out=out, resume=True)


def test_experts_are_a_pool_or_a_file(digits, pool, tmp_path):
    with pytest.raises(UsageError, match="experts is 'p', wanted a Pool"):
        dd.distill(RUN, data=digits, experts="p")
    pool.save(tmp_path / "p")
    named = RUN.with_changes(iterations=1, experts=str(tmp_path / "p"))
    with pytest.raises(UsageError, match="experts are given, and the config names"):
        dd.distill(named, data=digits, experts=pool)
    given = dd.distill(
        RUN.with_changes(iterations=1), data=digits, experts=Pool.load(tmp_path / "p")
    )
    assert torch.equal(dd.distill(named, data=digits).images, given.images)
