"""DKPP: what is permuted, how often, and by whom; permutations that are redrawn and that are
kept."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from loss_cases import close, gradient, logits, seen
from torch import nn

from datadistill.data import Split
from datadistill.errors import UsageError
from datadistill.streams import generator
from datadistill.training.fit_plan import FitPlan
from kd_baselines.distiller import Distiller
from kd_baselines.losses import DKPP, dkpp_targets
from kd_baselines.stage_loop import fit
from kd_baselines.stages import Stage
from kd_baselines.teachers import Teacher

B, K = 6, 5


# --- targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_argmax_and_multiset_of_10_000_rows(dtype):
    v = logits(8, 10_000, 100, dtype=dtype)[1]
    p, found = F.softmax(v, 1), dkpp_targets(v, torch.Generator().manual_seed(0))
    assert torch.equal(found.argmax(1), v.argmax(1)) and torch.equal(found.amax(1), p.amax(1))
    assert torch.equal(found.sort(1).values, p.sort(1).values)  # to the bit
    stayed = (found == p).sum(1).double()
    # the argmax, and of a random permutation one on average (variance 1)
    assert abs(float(stayed.mean()) - 2) < 5 / math.sqrt(10_000)
    assert not torch.equal(found[0].argsort(), found[1].argsort())


def test_one_permutation_a_sample_and_not_one_for_all():
    v = logits(9, 1, 8)[1].expand(500, 8)
    found = dkpp_targets(v, torch.Generator().manual_seed(0))
    assert len(found.unique(dim=0)) > 450


def test_permutations_are_uniform_and_their_mean_is_smoothing():
    """By enumeration: all (K-1)! orders, once each, have the mean of label smoothing exactly."""
    v = torch.tensor([[0.3, -1.0, 2.0, 0.9, -0.2]], dtype=torch.float64)
    p = F.softmax(v, 1)[0]
    orders = torch.tensor(list(itertools.permutations(range(4))))
    found = dkpp_targets(v.expand(24, 5), keys=orders)
    assert len(found.unique(dim=0)) == 24
    smooth = ((1 - p[2]) / 4).repeat(5)
    smooth[2] = p[2]
    close(found.mean(0), smooth)
    # and what is really drawn: the variance of one entry is that of a draw from the other four
    n = 20_000
    drawn = dkpp_targets(v.expand(n, 5), torch.Generator().manual_seed(1))
    others = p[[0, 1, 3, 4]]
    assert (drawn.mean(0) - smooth).abs().max() < 5 * math.sqrt(float(others.var(correction=0)) / n)
    close(drawn[:, 2], p[2].expand(n), 1e-14)
    ranks = drawn[:, [0, 1, 3, 4]].argsort(1) @ torch.tensor([64, 16, 4, 1])
    counts = ranks.unique(return_counts=True)[1]
    assert len(counts) == 24 and (counts - n / 24).abs().max() < 5 * math.sqrt(n / 24 * 23 / 24)


def test_keys_say_which_comes_first():
    v = torch.tensor([[0.1, 0.5, 0.25, 0.15]], dtype=torch.float64).log()
    p = F.softmax(v, 1)
    found = dkpp_targets(v, keys=torch.tensor([[0.9, 0.1, 0.5]]))
    assert torch.equal(found[0], p[0, [2, 1, 3, 0]])
    assert torch.equal(dkpp_targets(v, keys=torch.zeros(1, 3)), p), "equal keys change nothing"


def test_two_classes_ties_and_zeros():
    v = logits(10, 50, 2)[1]
    assert torch.equal(dkpp_targets(v), F.softmax(v, 1))
    tied = torch.tensor([[1.0, 2.0, 2.0, 0.0]]).expand(200, 4)
    p, found = F.softmax(tied, 1), dkpp_targets(tied, torch.Generator().manual_seed(0))
    assert (found[:, 1] == p[:, 1]).all() and torch.equal(found.sort(1).values, p.sort(1).values)
    torch.testing.assert_close(found.gather(1, tied.argmax(1, keepdim=True))[:, 0], found.amax(1))
    # logits tell apart what the probabilities no longer do
    near = torch.tensor([[0.0, 1e-9, -3.0]]).expand(50, 3)
    p, found = F.softmax(near, 1), dkpp_targets(near, torch.Generator().manual_seed(0))
    assert p[0, 0] == p[0, 1] and (found[:, 1] == p[:, 1]).all() and len(found.unique(dim=0)) == 2
    sure = torch.tensor([[-200.0, 0.0, -300.0, -math.inf]])
    assert torch.equal(dkpp_targets(sure), F.softmax(sure, 1))


def test_permutations_come_from_the_generator_alone():
    v, state = logits(11)[1], torch.get_rng_state()
    first, again = (dkpp_targets(v, generator(0, "a")) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, dkpp_targets(v, generator(1, "a")))
    assert torch.equal(torch.get_rng_state(), state)


# --- the term


def test_the_term_draws_from_the_steps_stream_or_keeps_rows():
    z, v = logits(12)
    targets = dkpp_targets(v, generator(3, "dkpp"))
    log_q = F.log_softmax(z, 1)
    close(DKPP()(seen(z, v)), -(targets * log_q).sum() / B)
    found = gradient(lambda z: DKPP()(seen(z, v)), z)
    close(found, (log_q.exp() - targets) / B)
    by_seed = generator(0, "dkpp", 0)  # a kept one: row i of its chunk's stream
    order = torch.rand(1024, K - 1, generator=by_seed, dtype=torch.float64).argsort(
        dim=1, stable=True
    )
    term = DKPP(redraw=False)
    found = term(seen(z, v, index=torch.arange(B) + 7))
    wanted = F.cross_entropy(z, dkpp_targets(v, keys=order[7 : 7 + B]))
    close(found, wanted)


def kept(seed=0, z=None, v=None):
    """A prepared DKPP that keeps its permutations."""
    term = DKPP(redraw=False)
    z, v = logits(15) if v is None else (z, v)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = seen(z[:2], v[:2])
        term.prepare(first)
        term(first)
    return term


def test_a_kept_permutation_is_the_images_own():
    """Of one image: the same in any order, batch, step and epoch, and after any other images."""
    term, n = kept(), 3000  # three chunks
    v = logits(16, 1, K)[1].expand(n, K)
    z = torch.zeros(n, K, dtype=torch.float64).requires_grad_()

    def targets(term, index, **more):
        batch = seen(z[: len(index)], v[: len(index)], index=index, **more)
        return (
            F.softmax(z[: len(index)], 1)
            - len(index) * torch.autograd.grad(term(batch), z)[0][: len(index)]
        )

    whole = targets(term, torch.arange(n))
    assert len(whole.mul(1e9).round().unique(dim=0)) == 24  # all (K-1)!
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:64]
    for again, more in (
        (term, {"epoch": 3, "noise": lambda name: generator(9, name)}),
        (kept(), {}),
    ):
        torch.testing.assert_close(targets(again, order, **more), whole[order], rtol=0, atol=1e-12)
    assert (targets(kept(seed=1), order) - whole[order]).abs().max() > 1e-3
    assert list(term.state_dict()) == ["seed"] and not list(term.parameters())
    loaded = kept(seed=1)
    loaded.load_state_dict(term.state_dict())  # as going on from a checkpoint does
    torch.testing.assert_close(targets(loaded, order), whole[order], rtol=0, atol=1e-12)


def test_kept_or_redrawn_between_steps_and_epochs():
    z, v = logits(17)
    index = torch.arange(B)
    for term, same in ((kept(), True), (DKPP(), False)):
        found = [
            term(seen(z, v, index=index, noise=lambda name, s=step: generator(0, name, s)))
            for step in (0, 1)
        ]
        assert (found[0] == found[1]) == same


def net(width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3))


def test_in_ones_own_loop_the_places_are_wanted():
    distiller = Distiller(net(), DKPP(redraw=False), Teacher(net()))
    images, y = torch.randn(8, 1, 2, 2), torch.arange(8) % 3
    with pytest.raises(
        UsageError, match=r"dkpp keeps a permutation for each image.*pass \(images, labels, pl"
    ):
        distiller.step((images, y))
    with pytest.raises(UsageError, match="places"):
        distiller.step((images, y))
    found = [distiller.step((images, y, torch.arange(8)), step=s)["dkpp"] for s in (0, 5)]
    assert found[0] == found[1]
    backwards = distiller.step((images.flip(0), y.flip(0), torch.arange(8).flip(0)))["dkpp"]
    torch.testing.assert_close(backwards, found[0])
    stage = Stage("s", DKPP(redraw=False), FitPlan(epochs=2, batch=3))
    fit(net(), Split(images, y), stage, Teacher(net()))
    for wrong in (torch.arange(7), torch.arange(8) - 1, torch.zeros(8)):
        with pytest.raises(UsageError, match="the places are"):
            distiller.step((images, y, wrong))
