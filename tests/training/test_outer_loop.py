"""One outer iteration and what surrounds it: what moves, clipping, schedules, numbers that are not
finite."""

import math
import warnings

import pytest
import torch
from training_cases import CONVNET, frozen, leaves, loop

from datadistill.errors import NumericalError
from datadistill.training import learning
from datadistill.training.schedule import learning_rate_factor

# --- what moves


@pytest.mark.parametrize("form", ["per-step", "shared", "per-tensor"])
@pytest.mark.parametrize("theta_0", ["fixed", "random"])
def test_images_labels_and_step_sizes_all_move(digits, form, theta_0):
    studied = loop(digits, theta_0=theta_0, labels="soft", step_sizes=form)
    before, set_before = leaves(studied), studied.snapshot()
    studied.advance()
    after, set_after = leaves(studied), studied.snapshot()
    assert list(before) == ["images", "labels", "step_sizes"]
    for name in before:
        assert (before[name] != after[name]).double().mean() > 0.5, name
    for name in ("images", "labels", "step_sizes"):
        assert not torch.allclose(getattr(set_before, name), getattr(set_after, name)), name
    assert set_after.step_sizes.shape == {"per-tensor": (2, 4)}.get(form, (2,))
    if form == "shared":
        assert len(set_after.step_sizes.unique()) == 1


def test_hard_labels_and_a_rate_of_zero_stay(digits):
    studied = loop(digits, lr_images=0.0)
    before = leaves(studied)
    studied.advance()
    assert list(before) == ["images", "step_sizes"]
    assert torch.equal(leaves(studied)["images"], before["images"])
    assert torch.equal(studied.snapshot().labels, torch.arange(10))


def test_a_rate_of_zero_is_no_part_of_the_gradients_norm(digits):
    learned, kept = loop(digits), loop(digits, lr_step_sizes=0.0)
    _, (images, rho) = learned.loop.gradients(0)
    _, (alone, zeros) = kept.loop.gradients(0)
    assert torch.equal(alone, images)
    assert bool((rho != 0).all())
    assert not bool(zeros.any())
    kept.advance()
    assert kept.loop.gradient_norm == pytest.approx(float(images.norm()))
    still = loop(digits, lr_step_sizes=0.0, lr_images=0.0)
    before = leaves(still)
    still.advance()
    assert all(torch.equal(before[name], leaf) for name, leaf in leaves(still).items())


@pytest.mark.parametrize("theta_0", ["fixed", "random"])
def test_the_loss_falls(digits, theta_0):
    studied = loop(
        digits,
        theta_0=theta_0,
        iterations=40,
        batch=128,
        schedule="constant",
        lr_images=0.1,
        nets=4,
        epochs=5,
        net_args={"width": 16, "depth": 1},
        step_size=0.5,
    )
    losses = [studied.advance() for _ in range(40)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_fixed_run_keeps_its_draw_and_carries_it(digits):
    studied = loop(digits, theta_0="fixed", nets=3)
    first = studied.loop.method.start.draw(0)
    studied.advance()
    assert all(torch.equal(p, studied.loop.method.start.draw(5)[k]) for k, p in first.items())
    carried = studied.snapshot().theta_0
    assert all(torch.equal(p, first[k]) for k, p in carried.items())
    assert loop(digits).snapshot().theta_0 is None
    other = loop(digits, theta_0="fixed", seed=1).loop.method.start.draw(0)
    assert not torch.equal(other["layers.0.weight"], first["layers.0.weight"])


def test_every_iteration_has_a_net_and_a_batch_of_its_own(digits, monkeypatch):
    batches = []
    studied = loop(digits)
    real = studied.loop.method.objective
    monkeypatch.setattr(
        studied.loop.method, "objective", lambda *args: batches.append(args[2]) or real(*args)
    )
    nets = [studied.loop.method.start.draw(i)["layers.0.weight"] for i in range(3)]
    for _ in range(3):
        studied.advance()
    for some in (nets, batches):
        assert not any(torch.equal(a, b) for i, a in enumerate(some) for b in some[:i])
    assert all(len(b) == 32 for b in batches)


# --- Adam, clipping, schedules


def with_gradients(studied, monkeypatch, *norms):
    """Let the next iterations have gradients of these norms, all of them in the first pixel."""
    remaining = iter(norms)

    def gradients(i):
        found = [torch.zeros_like(p) for p in studied.loop.synthetic.leaves().values()]
        found[0].view(-1)[0] = next(remaining)
        return 1.0, found

    monkeypatch.setattr(studied.loop, "gradients", gradients)


def test_the_gradient_is_limited_by_its_running_mean(digits, monkeypatch):
    studied = loop(digits, clip=2.0)
    with_gradients(studied, monkeypatch, 1.0, 1.5, 100.0, 0.5)
    mean, seen = None, []
    for norm in (1.0, 1.5, 100.0, 0.5):
        studied.advance()
        found = float(studied.loop.synthetic.tensors["images"].grad.norm())
        limited = norm if mean is None else min(norm, 2.0 * mean)
        mean = norm if mean is None else 0.95 * mean + 0.05 * limited
        seen.append(found)
        assert found == pytest.approx(limited)
        assert studied.loop.gradient_norm == pytest.approx(mean)
    assert seen[2] < 3


def test_clip_0_limits_nothing(digits, monkeypatch):
    studied = loop(digits, clip=0.0)
    with_gradients(studied, monkeypatch, 1.0, 1e6)
    studied.advance(), studied.advance()
    assert float(studied.loop.synthetic.tensors["images"].grad.norm()) == pytest.approx(1e6)


def test_the_norm_is_that_of_all_gradients_together(digits):
    studied = loop(digits, labels="soft", clip=0.0)
    _, gradients = studied.loop.gradients(0)
    studied.advance()
    expected = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    assert studied.loop.gradient_norm == pytest.approx(expected)
    for (_, leaf), g in zip(studied.loop.synthetic.leaves().items(), gradients, strict=True):
        assert torch.equal(leaf.grad, g)


def test_it_is_torchs_adam_with_a_rate_for_each(digits):
    studied = loop(
        digits,
        labels="soft",
        clip=0.0,
        lr_images=0.1,
        lr_labels=0.2,
        lr_step_sizes=0.3,
        schedule="constant",
        beta1=0.5,
        beta2=0.9,
    )
    mine = {k: p.clone().requires_grad_() for k, p in leaves(studied).items()}
    rates = {"images": 0.1, "labels": 0.2, "step_sizes": 0.3}
    adam = torch.optim.Adam(
        [{"params": [p], "lr": rates[k]} for k, p in mine.items()], betas=(0.5, 0.9)
    )
    for i in range(3):
        _, gradients = studied.loop.gradients(i)
        for p, g in zip(mine.values(), gradients, strict=True):
            p.grad = g
        adam.step()
        studied.advance()
        for k, p in leaves(studied).items():
            torch.testing.assert_close(p, mine[k].detach())


def test_schedules():
    def factors(name, warmup=0):
        return [learning_rate_factor(name, i, 4, warmup) for i in range(4)]

    assert factors("constant") == [1, 1, 1, 1]
    assert factors("linear") == pytest.approx([1, 0.75, 0.5, 0.25])
    assert factors("cosine") == pytest.approx(
        [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]
    )
    assert factors("constant", warmup=2) == [0.5, 1, 1, 1]
    assert factors("linear", warmup=4) == pytest.approx([0.25, 0.5 * 0.75, 0.75 * 0.5, 0.25])


def test_the_schedule_scales_every_rate(digits):
    studied = loop(
        digits,
        labels="soft",
        lr_images=0.1,
        lr_labels=0.2,
        lr_step_sizes=0.4,
        iterations=4,
        warmup=2,
    )
    for expected in (0.5, 0.75, 0.5, 0.25):
        studied.advance()
        rates = [group["lr"] for group in studied.loop.optimizer.param_groups]
        assert rates == pytest.approx([0.1 * expected, 0.2 * expected, 0.4 * expected])


# --- step sizes at the edge


@pytest.mark.parametrize("direction", [-1e4, 1e4])
def test_step_sizes_stay_positive_and_are_warned_of(digits, direction):
    studied = loop(digits)
    with torch.no_grad():
        studied.loop.synthetic.rho += direction
    with pytest.warns(
        UserWarning, match=r"outer iteration 0: the step sizes reach .*wanted within 1e-06 to 100"
    ):
        record = studied.validate()
    assert (studied.snapshot().step_sizes > 0).all()
    assert all(0 < eta < math.inf for eta in record["step_sizes"])


def test_usual_step_sizes_are_not_warned_of(digits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop(digits).validate()


# --- not finite


def crafted(kind):
    def objective(net, theta, *batch):
        loss = next(iter(theta.values())).sum()
        return {
            "nan": loss * math.nan,
            "inf": loss + math.inf,
            # value 1, derivative infinite times 0
            "gradient": 1.0 + (loss - loss.detach()).abs().sqrt(),
        }[kind]

    return objective


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (
            {**CONVNET, "step_size": 1e6, "epochs": 3},
            None,
            r"loss nan; the parameters .* at inner step \d",
        ),
        ({"step_size": 1e30}, None, r"the parameters stop being finite at inner step \d"),
        (
            {"step_size": 1e30, "nets": 2},
            None,
            r"the parameters stop being finite at inner step \d",
        ),
        ({}, "nan", r"loss nan; the parameters reach .* at inner step \d"),
        ({}, "inf", r"loss inf; "),
        ({}, "gradient", r"gradient norm (nan|inf) \(loss 1\)"),
    ],
    ids=["step size 1e6", "step size 1e30", "two nets", "loss nan", "loss inf", "gradient alone"],
)
def test_what_is_not_finite_is_refused_before_anything_moves(
    digits, monkeypatch, changes, kind, words
):
    studied = loop(digits, labels="soft", **{"step_size": 0.1, **changes})
    with monkeypatch.context() as sound:  # Adam has a state to lose
        sound.setattr(
            studied.loop.synthetic,
            "step_sizes",
            lambda: torch.full((studied.loop.synthetic.schedule.steps,), 0.1),
        )
        studied.advance()
    before = frozen(studied)
    if kind:
        monkeypatch.setattr(studied.loop.method, "objective", crafted(kind))
    with pytest.raises(NumericalError, match=words) as refusal:
        studied.advance()
    assert frozen(studied) == before
    assert studied.iteration == 1
    message = str(refusal.value)
    size = changes.get("step_size", 0.1)
    assert "outer iteration 1:" in message
    assert (
        f"step size {size:.4g}" in message
        or 0.08 < float(message.split("step size ")[1].split(";")[0]) < 0.12
    )
    assert "nothing was updated" in message
    assert "lr_step_sizes" in message
    assert "on_nan" in message
    assert refusal.value.exit_code == 4


@pytest.mark.parametrize(
    ("changes", "named", "absent"),
    [
        ({}, ["lr_images=0.005, lr_step_sizes=0.005)"], ["lr_labels", "clip"]),
        ({"labels": "soft", "clip": 0.0}, ["lr_labels=0.005", "limit of the gradient (clip=2"], []),
        ({"lr_step_sizes": 0.0}, ["(lr_images=0.005)"], ["lr_step_sizes"]),
        (
            {**CONVNET, "method": "gradient-matching", "lr_images": 0.1},
            ["(lr_images=0.025)"],
            ["lr_step_sizes"],
        ),
    ],
)
def test_the_advice_names_rates_that_the_run_has(digits, monkeypatch, changes, named, absent):
    studied = loop(digits, **changes)
    loss = studied.loop.method.loss
    monkeypatch.setattr(studied.loop.method, "loss", lambda s, i: loss(s, i) * math.nan)
    with pytest.raises(NumericalError, match="Try smaller learning rates") as refusal:
        studied.advance()
    message = str(refusal.value)
    assert all(words in message for words in named)
    assert not any(words in message for words in absent)


def test_the_net_that_diverges_is_found_among_several(digits):
    """Only the second net of the two blows up: the step it does so at is named all the same."""
    studied = loop(digits, nets=2, step_size=0.1)
    one = type(studied.loop.method.start).one

    class OneBad(type(studied.loop.method.start)):
        def one(self, iteration, n):
            theta = one(self, iteration, n)
            return {k: p * 1e30 for k, p in theta.items()} if n == 1 else theta

    studied.loop.method.start = OneBad(studied.net, "xavier", 0)
    with pytest.raises(NumericalError, match=r"stop being finite at inner step 0, step size 0\.1;"):
        studied.advance()


def test_on_nan_skip_passes_over_and_counts(digits, monkeypatch):
    studied = loop(digits, on_nan="skip:3", iterations=8)
    sound = studied.loop.method.objective
    seen = []
    for i in range(6):
        bad = i in (1, 2, 4)
        monkeypatch.setattr(studied.loop.method, "objective", crafted("nan") if bad else sound)
        before = frozen(studied)
        loss = studied.advance()
        assert studied.iteration == i + 1
        assert math.isnan(loss) == bad
        assert (frozen(studied) == before) == bad
        seen.append(studied.loop.skipped)
    assert seen == [0, 1, 2, 2, 3, 3]
    record = studied.validate()
    assert record["skipped"] == 3
    assert math.isfinite(record["loss"])
    monkeypatch.setattr(studied.loop.method, "objective", crafted("nan"))
    with pytest.raises(NumericalError, match="outer iteration 6"):
        studied.advance()


# --- looking at it


def test_a_record_says_what_happened_since_the_last(digits):
    studied = loop(digits, step_sizes="per-tensor")
    losses = [studied.advance() for _ in range(3)]
    record = studied.validate()
    assert record["iteration"] == 3
    assert record["loss"] == pytest.approx(sum(losses) / 3)
    assert 0 <= record["accuracy"] <= 100
    by_hand = studied.snapshot().step_sizes.double().prod(1).pow(1 / 4)
    assert record["step_sizes"] == pytest.approx(by_hand.tolist())
    later = studied.advance()
    again = studied.validate()
    assert again["loss"] == pytest.approx(later)
    assert studied.validate()["loss"] is None


def test_a_look_changes_nothing_and_finds_the_same_twice(digits):
    studied = loop(digits)
    studied.advance()
    before, state = frozen(studied)[:2], torch.get_rng_state()
    first, second = studied.validate(), studied.validate()
    assert frozen(studied)[:2] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert {**first, "loss": None} == second


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_set_that_is_kept(digits, monkeypatch, keep):
    studied = loop(digits, keep=keep, iterations=3)
    accuracies = iter([[20.0], [70.0, 50.0], [60.0, 59.0]])
    monkeypatch.setattr(learning, "measure_training", lambda *a, **k: ([], next(accuracies)))
    images = []
    for _ in range(3):
        studied.advance()
        studied.validate()
        images.append(studied.snapshot().images)
    assert studied.best == ((60.0, 2) if keep == "best" else None)
    assert torch.equal(studied.result().images, images[1 if keep == "best" else 2])


def test_last_is_kept_where_a_resumed_run_wants_no_best(digits):
    studied = loop(digits, keep="best")
    studied.advance()
    studied.validate()
    later = loop(digits, keep="last")
    later.load(studied.state())
    later.advance()
    images = later.snapshot().images
    assert torch.equal(later.result().images, images)
