"""Truncated backpropagation through time with a teacher at each step: gradients, states, rates,
going on."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

import kd_baselines.language.loop as loop_module
from datadistill.errors import DataError, NumericalError, UsageError
from datadistill.runs.state import flatten_state, unflatten_state
from datadistill.streams import global_stream
from kd_baselines.language.loop import LanguageFit
from kd_baselines.language.model import LanguageModel
from kd_baselines.language.nets import build_language
from kd_baselines.language.plan import LanguagePlan

WORDS = tuple("abcde")
TEXT = torch.randint(5, (95,), generator=torch.Generator().manual_seed(0))
FREE = 1e30  # no gradient is clipped


def lstm(seed=0, dropout=0.0, **args):
    return build_language(
        "lstm", WORDS, seed=seed, **{"width": 4, "dropout": dropout, "init_range": 0.8, **args}
    )


def plan(**changes):
    return LanguagePlan(
        **{"epochs": 2, "batch": 3, "unroll": 7, "lr": 0.3, "clip": FREE, **changes}
    )


def run(fit):
    lines = []
    while not fit.is_done:
        line = fit.advance()
        lines += [] if line is None else [line]
    return lines


def tensors(net):
    return {name: p.detach().clone() for name, p in net.state_dict().items()}


def by_hand(logits, taught, targets, label_weight):
    """The loss of a word, from its definition."""
    log_q = logits - logits.exp().sum(-1, keepdim=True).log()
    ce = -log_q.gather(-1, targets.unsqueeze(-1)).mean()
    if taught is None:
        return ce
    p = taught.exp() / taught.exp().sum(-1, keepdim=True)
    return -(p * log_q).sum(-1).mean() + label_weight * ce


CASES = [(False, 1.0), (True, 0.0), (True, 0.5), (True, 1.0)]


@pytest.mark.parametrize(("taught", "weight"), CASES)
def test_the_gradient_of_a_window_is_that_of_its_words_summed(taught, weight):
    """Against central differences of the loss by hand; mean over columns, sum over the window."""
    net, teacher = lstm().double(), lstm(1).double() if taught else None
    before = tensors(net)
    fit = LanguageFit(net, TEXT, plan(lr=1.0), teacher=teacher, label_weight=weight)
    fit.advance()
    moved = {name: before[name] - p for name, p in tensors(net).items()}
    cols = TEXT[:93].view(3, 31).T
    v = None if teacher is None else teacher(cols[:7])[0].detach()

    def loss(step, direction):
        other = lstm().double()
        other.load_state_dict({name: before[name] + step * d for name, d in direction.items()})
        return 7 * by_hand(other(cols[:7])[0].detach(), v, cols[1:8], weight).item()

    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        direction = {
            n: torch.randn(p.shape, generator=draw, dtype=p.dtype) for n, p in before.items()
        }
        slope = (loss(1e-5, direction) - loss(-1e-5, direction)) / 2e-5
        told = sum((moved[name] * d).sum() for name, d in direction.items())
        assert told.item() == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize(("taught", "weight"), CASES)
def test_two_epochs_are_those_of_a_loop_by_hand(taught, weight):
    """States are carried, detached, and zero at an epoch's start; the last window is shorter;
    gradients are clipped; the teacher reads along with a state of its own."""
    clip, rate = 2.0, 0.3
    net, teacher = lstm().double(), lstm(1).double() if taught else None
    fit = LanguageFit(net, TEXT, plan(clip=clip, lr=rate), teacher=teacher, label_weight=weight)
    lines = run(fit)
    other, cols, clipped, means = lstm().double(), TEXT[:93].view(3, 31).T, 0, []
    for _ in range(2):
        state = seen = None
        total = 0.0
        for start in range(0, 30, 7):
            stop = min(start + 7, 30)
            logits, state = other(cols[start:stop], state)
            v = None
            if teacher is not None:
                v, seen = teacher(cols[start:stop], seen)
                v, seen = v.detach(), tuple(s.detach() for s in seen)
            loss = by_hand(logits, v, cols[start + 1 : stop + 1], weight)
            total += loss.item() * 3 * (stop - start)
            grads = torch.autograd.grad(loss * (stop - start), list(other.parameters()))
            norm = torch.cat([g.flatten() for g in grads]).norm().item()
            clipped += norm > clip
            for p, g in zip(other.parameters(), grads, strict=True):
                p.data -= rate * min(1, clip / norm) * g
            state = tuple(s.detach() for s in state)
        means.append(total / 90)
    assert 0 < clipped < 10 and fit.steps == 10
    for name, p in tensors(other).items():
        torch.testing.assert_close(tensors(net)[name], p, rtol=1e-10, atol=1e-12)
    assert [line["loss"] for line in lines] == pytest.approx(means, rel=1e-10)
    assert [(line["epoch"], line["lr"]) for line in lines] == [
        (1, rate),
        (2, rate),
    ] and not net.training


def test_no_update_is_longer_than_the_clip():
    net = lstm().double()
    fit = LanguageFit(net, TEXT, plan(clip=1e-3, lr=0.5))
    before = torch.cat([p.flatten() for p in net.parameters()])
    fit.advance()
    moved = torch.cat([p.flatten() for p in net.parameters()]) - before
    assert moved.norm().item() == pytest.approx(0.5e-3, rel=1e-9)


class NextLetter(LanguageModel):
    """Is sure that b follows a, c follows b, and a follows e."""

    def forward(self, tokens, state=None):
        return 1e4 * F.one_hot((tokens + 1) % len(self.words), len(self.words)).double(), ()

    def initial_state(self, batch, device=None):
        return ()


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_a_teacher_sure_of_the_right_word_is_one_more_label(weight):
    text = torch.arange(60) % 5
    plain, taught = lstm().double(), lstm().double()
    a = LanguageFit(plain, text, plan(epochs=1, lr=0.3 * (1 + weight)))
    b = LanguageFit(taught, text, plan(epochs=1), teacher=NextLetter(WORDS), label_weight=weight)
    (first,), (second,) = run(a), run(b)
    assert second["loss"] == pytest.approx((1 + weight) * first["loss"], rel=1e-10)
    for name, p in tensors(plain).items():
        torch.testing.assert_close(tensors(taught)[name], p, rtol=1e-10, atol=1e-12)


def test_the_teacher_is_in_evaluation_mode_and_stays_as_it_is():
    teacher = lstm(1, dropout=0.5)
    before = tensors(teacher)
    nets = [lstm(), lstm()]
    for net, training in zip(nets, (True, False), strict=True):
        run(LanguageFit(net, TEXT, plan(), teacher=teacher.train(training)))
        assert teacher.training == training
    assert all(torch.equal(p, before[name]) for name, p in teacher.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(p, tensors(nets[1])[name]) for name, p in tensors(nets[0]).items())


def test_dropout_is_of_the_step_and_the_seed():
    def weights(seed, draws=0):
        net = lstm(dropout=0.5)
        torch.rand(draws)  # the global generator is not read
        run(LanguageFit(net, TEXT, plan(), seed=seed))
        return torch.cat([p.flatten() for p in net.parameters()])

    assert torch.equal(weights(0), weights(0, draws=7)) and not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("after", [1, 4, 5, 7, 14])
def test_it_goes_on_from_any_step_to_the_same_bytes(after):
    """In the middle of an epoch too: the states of both nets are kept."""

    def fresh():
        return LanguageFit(
            lstm(dropout=0.3), TEXT, plan(epochs=3), validation=TEXT[:40], teacher=lstm(1), seed=4
        )

    whole = fresh()
    lines = run(whole)
    first, second = fresh(), fresh()
    told = [first.advance() for _ in range(after)]
    kept, json = flatten_state(first.state())
    second.load(unflatten_state({name: tensor.clone() for name, tensor in kept.items()}, json))
    assert [line for line in told if line] + run(second) == lines
    assert all(torch.equal(p, tensors(whole.net)[name]) for name, p in tensors(second.net).items())


def test_a_checkpoint_is_not_changed_by_the_steps_after_it():
    fit = LanguageFit(lstm(), TEXT, plan(), teacher=lstm(1))
    fit.advance()
    state = fit.state()["state_of_net"]
    before = [s.clone() for s in state]
    fit.advance()
    assert all(torch.equal(a, b) for a, b in zip(state, before, strict=True))


@pytest.mark.parametrize(
    ("below", "rates"),
    [(0.0, [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]), (0.5, [1.0, 1.0, 1.0, 0.5, 0.25, 0.125])],
)
def test_the_rate_falls_after_an_epoch_that_improved_too_little(below, rates, monkeypatch):
    """Held against the epoch before, and not against the best."""
    found = iter([100.0, 90.0, 95.0, 94.5, 94.5, 80.0])
    monkeypatch.setattr(loop_module, "perplexity", lambda net, text: next(found))
    fit = LanguageFit(
        lstm(),
        TEXT,
        plan(epochs=6, lr=1.0, decay_factor=0.5, decay_below=below, clip=1e-6),
        validation=TEXT,
    )
    lines = run(fit)
    assert [line["lr"] for line in lines] == rates
    assert [line["perplexity"] for line in lines] == [100.0, 90.0, 95.0, 94.5, 94.5, 80.0]


def test_the_perplexity_after_an_epoch_is_that_of_the_net_then():
    net = lstm(dropout=0.5)
    fit = LanguageFit(net, TEXT, plan(epochs=2), validation=TEXT[:50])
    lines = run(fit)
    assert lines[-1]["perplexity"] == fit.last == loop_module.perplexity(net, TEXT[:50])


def test_frozen_layers_stay():
    net = lstm(tied=False)
    net.embedding.weight.requires_grad_(False)
    before = tensors(net)
    run(LanguageFit(net, TEXT, plan()))
    same = {name for name, p in tensors(net).items() if torch.equal(p, before[name])}
    assert same == {"embedding.weight"}


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unroll": 31}, "unroll is 31"),
        ({"batch": 48}, "batch is 48"),
        ({"batch": 96}, "batch is 96"),
    ],
)
def test_a_text_that_is_too_short_is_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        LanguageFit(lstm(), TEXT, plan(**changes))


def test_nets_that_do_not_fit_are_refused():
    other = build_language("lstm", WORDS[:4], seed=0, width=4)
    with pytest.raises((DataError, UsageError), match="4"):
        LanguageFit(lstm(), TEXT % 4, plan(), teacher=other)
    net = lstm()
    with pytest.raises(UsageError, match="teacher is the net itself"):
        LanguageFit(net, TEXT, plan(), teacher=net)
    LanguageFit(net, TEXT, plan(), teacher=copy.deepcopy(net))
    with pytest.raises(UsageError, match="nothing to train"):
        LanguageFit(net.requires_grad_(False), TEXT, plan())


def test_a_loss_that_is_not_finite_updates_nothing():
    net = lstm()
    net.bias.data[0] = math.nan
    before = tensors(net)
    with pytest.raises(
        NumericalError, match=r"step 0 of 10, learning rate 0.3: the loss became nan"
    ):
        LanguageFit(net, TEXT, plan()).advance()
    assert all(torch.equal(p, before[n]) or n == "bias" for n, p in tensors(net).items())


def test_a_gradient_that_is_not_finite_updates_nothing(monkeypatch):
    net = lstm()
    fit = LanguageFit(net, TEXT, plan())
    before = tensors(net)
    loss = fit._loss
    monkeypatch.setattr(
        fit,
        "_loss",
        lambda x, y: ((found := loss(x, y))[0] + (net.bias * 0).sqrt().sum(), found[1]),
    )
    with pytest.raises(NumericalError, match=r"gradient's norm became (nan|inf)"):
        fit.advance()
    assert all(torch.equal(p, before[n]) for n, p in tensors(net).items()) and fit.step == 0


def test_the_first_weights_are_of_the_seed():
    with global_stream(1, "elsewhere"):
        a = lstm(3)
    assert torch.equal(a.embedding.weight, lstm(3).embedding.weight)
    assert not torch.equal(a.embedding.weight, lstm(4).embedding.weight)


def test_a_layer_that_was_frozen_stays_in_evaluation_mode():
    net = build_language("lstm", ["a", "b", "c"], seed=0, width=4, dropout=0.5)
    frozen = next(m for m in net.modules() if isinstance(m, torch.nn.Dropout)).eval()
    LanguageFit(
        net, torch.tensor([0, 1, 2]).repeat(20), LanguagePlan(epochs=1, batch=2, unroll=5)
    ).advance()
    assert (net.training, frozen.training) == (True, False)
