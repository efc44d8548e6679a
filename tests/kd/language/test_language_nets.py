"""Language models and their perplexity, against long forwards, numpy loops, differences and hand
counts."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datadistill.errors import NumericalError, UsageError
from datadistill.streams import global_stream
from kd_baselines.language.nets import (
    LANGUAGE_NETS,
    LanguageModel,
    build_language,
    language_arguments,
)
from kd_baselines.language.perplexity import Ensemble, perplexity

WORDS = ["a", "of", "cat", "<eos>", "elephants", "É"]
SMALL = {
    "lstm": {"width": 5, "layers": 2},
    "cnn-lstm": {"char_width": 3, "widths": 4, "filters": 2, "most_filters": 5, "width": 4},
}
NAMES = sorted(SMALL)


def make(name, seed=0, **args):
    net = build_language(name, WORDS, seed=seed, init_range=0.8, **{**SMALL[name], **args})
    return net.double()


def text(n, seed=0):
    return torch.randint(len(WORDS), (n,), generator=torch.Generator().manual_seed(seed))


class Table(LanguageModel):
    """The same logits for every next word."""

    def __init__(self, logits):
        super().__init__([str(i) for i in range(len(logits))])
        self.logits = torch.tensor(logits, dtype=torch.float64)

    def forward(self, tokens, state=None):
        return self.logits.expand(*tokens.shape, -1), ()

    def initial_state(self, batch, device=None):
        return ()


def test_equal_logits_have_the_number_of_words_as_perplexity():
    assert perplexity(
        Table([3.0] * 7), torch.arange(7).repeat(9), batch=4, unroll=5
    ) == pytest.approx(7, rel=1e-14)


def test_a_unigram_table_by_hand():
    net = Table([math.log(0.5) + 4, math.log(0.25) + 4, math.log(0.25) + 4])
    # asked for: 0 0 1 2, so 1 + 1 + 2 + 2 bits over four words
    assert perplexity(net, torch.tensor([2, 0, 0, 1, 2]), batch=1) == pytest.approx(
        2**1.5, rel=1e-14
    )
    # columns 2 0 | 0 1, the last 2 is left out: 0 and 1 are asked for, 1 + 2 bits
    assert perplexity(net, torch.tensor([2, 0, 0, 1, 2]), batch=2) == pytest.approx(
        2**1.5, rel=1e-14
    )
    assert perplexity(net, torch.tensor([2, 0, 0, 0, 2]), batch=2) == pytest.approx(2, rel=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_a_carried_state_equals_one_long_forward(name):
    net, tokens = make(name).eval(), text(24).reshape(12, 2)
    whole, last = net(tokens)
    state, parts = net.initial_state(2), []
    for window in tokens.split(5):
        logits, state = net(window, state)
        parts.append(logits)
    assert torch.allclose(torch.cat(parts), whole, rtol=1e-10, atol=0)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=0) for a, b in zip(state, last, strict=True))
    alone = net(tokens[:, 1:])[0]  # columns do not touch one another
    assert torch.allclose(alone, whole[:, 1:], rtol=1e-10, atol=0)
    fresh = net(tokens[5:], None)[0]
    assert not torch.allclose(fresh, whole[5:], rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("unroll", [1, 4, 100])
def test_perplexity_of_one_column_is_that_of_one_long_forward(name, unroll):
    net, tokens = make(name), text(30)
    net.layers.eval()  # a mode of one layer is put back too
    with torch.no_grad():
        logits = make(name).eval()(tokens[:-1, None])[0][:, 0]
    wanted = math.exp(F.cross_entropy(logits, tokens[1:]).item())
    assert perplexity(net, tokens, batch=1, unroll=unroll) == pytest.approx(wanted, rel=1e-10)
    assert net.training and net.dropout.training and not net.layers.training
    assert all(p.grad is None for p in net.parameters())


def test_perplexity_over_columns_is_over_their_texts():
    net, tokens = make("lstm").eval(), text(32)
    sums = [math.log(perplexity(net, tokens[10 * j : 10 * j + 10], batch=1)) for j in range(3)]
    assert perplexity(net, tokens, batch=3) == pytest.approx(math.exp(sum(sums) / 3), rel=1e-12)


def test_a_tied_weight_has_the_gradient_of_both_uses():
    tied, free = make("lstm").eval(), make("lstm", tied=False).eval()
    assert sorted(free.state_dict()) == sorted([*tied.state_dict(), "output"])
    weights = {**tied.state_dict(), "output": tied.embedding.weight.detach()}
    free.load_state_dict(weights)
    tokens, targets = text(8).reshape(4, 2), text(8, 1)

    def loss(net):
        return F.cross_entropy(net(tokens)[0].flatten(0, 1), targets)

    assert loss(tied).item() == pytest.approx(loss(free).item(), rel=1e-14)
    (found,) = torch.autograd.grad(loss(tied), [tied.embedding.weight])
    both = torch.autograd.grad(loss(free), [free.embedding.weight, free.output])
    assert torch.allclose(found, both[0] + both[1], rtol=1e-10, atol=1e-14)
    assert all(part.abs().max() > 1e-3 for part in both)
    weight, eps = tied.embedding.weight.detach(), 1e-6
    for i, j in ((0, 0), (2, 3), (5, 4)):
        values = []
        for sign in (1, -1):
            weight[i, j] += sign * eps
            values.append(loss(tied).item())
            weight[i, j] -= sign * eps
        assert (values[0] - values[1]) / (2 * eps) == pytest.approx(
            found[i, j].item(), rel=1e-6, abs=1e-9
        )


def test_the_characters_of_one_word_against_a_loop_in_numpy():
    net = make("cnn-lstm", widths=7)
    cnn = net.cnn
    letters = cnn.embedding.weight.detach().numpy()
    for word in ("a", "cat", "elephants"):
        ids = [0, *(2 + cnn.characters.index(c) for c in word), 1]
        vectors = [letters[i] for i in ids] + [np.zeros(3)] * max(0, 7 - len(ids))
        wanted = []
        for w, convolution in enumerate(cnn.convolutions, start=1):
            weight, bias = (p.detach().numpy() for p in convolution.parameters())
            for filter_, b in zip(weight, bias, strict=True):
                starts = range(max(len(ids) - w, 0) + 1)
                sums = [b + sum(filter_[:, k] @ vectors[i + k] for k in range(w)) for i in starts]
                wanted.append(max(np.tanh(s) for s in sums))
        y = np.array(wanted)
        found = cnn(torch.tensor([WORDS.index(word)]))[0].detach().numpy()
        np.testing.assert_allclose(found, y, rtol=1e-10)
        for layer in net.highway:
            h, t = (
                (m.weight.detach().numpy(), m.bias.detach().numpy())
                for m in (layer.transform, layer.gate)
            )
            gate = 1 / (1 + np.exp(-(t[0] @ y + t[1])))
            assert np.all(t[1] == -2)
            y = gate * np.maximum(h[0] @ y + h[1], 0) + (1 - gate) * y
        whole = net.vectors(torch.tensor([[1, 4], [WORDS.index(word), 0]]))[1, 0]
        np.testing.assert_allclose(whole.detach().numpy(), y, rtol=1e-10)


def test_each_different_word_goes_through_the_convolutions_once():
    net, tokens = make("cnn-lstm").train(), text(20).reshape(10, 2)
    seen = []
    handle = net.cnn.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    vectors = net.vectors(tokens)
    handle.remove()
    assert seen == [len(tokens.unique())]
    direct = net.highway(net.cnn(tokens.flatten())).reshape(10, 2, -1)
    assert torch.allclose(vectors, direct, rtol=1e-12, atol=0)
    once = torch.autograd.grad(vectors.square().sum(), list(net.cnn.parameters()))
    every = torch.autograd.grad(direct.square().sum(), list(net.cnn.parameters()))
    assert all(
        torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(once, every, strict=True)
    )


def test_gradients_of_the_character_net_by_differences():
    net, tokens, targets = make("cnn-lstm").eval(), text(6).reshape(3, 2), text(6, 1)
    named = dict(net.named_parameters())

    def loss(*values):
        logits, _ = torch.func.functional_call(
            net, dict(zip(named, values, strict=True)), (tokens,)
        )
        return F.cross_entropy(logits.flatten(0, 1), targets)

    assert torch.autograd.gradcheck(loss, tuple(named.values()), fast_mode=True)


def lstm_parameters(v, w, layers, tied):
    return v * w * (1 if tied else 2) + layers * (8 * w * w + 8 * w) + v


def test_parameters_of_the_lstm():
    for layers, tied, printed in (
        (1, True, 33_022_000),
        (2, True, 51_034_000),
        (1, False, 48_022_000),
    ):
        net = build_language(
            "lstm", [f"w{i}" for i in range(100)], width=15, layers=layers, tied=tied
        )
        assert sum(p.numel() for p in net.parameters()) == lstm_parameters(100, 15, layers, tied)
        assert lstm_parameters(10_000, 1500, layers, tied) == printed


def test_parameters_of_the_character_net():
    net = build_language("cnn-lstm", [f"w{i}" for i in range(10_000)])
    # characters here: w and ten digits; Penn Treebank has 48, which makes 19,373,150
    assert sum(p.numel() for p in net.parameters()) == 19_373_150 - 15 * (48 - 11)


@pytest.mark.parametrize("name", NAMES)
def test_saving_by_state_dict(name):
    net, other = (
        make(name),
        build_language(name, ["act" if w == "cat" else w for w in WORDS], **SMALL[name]),
    )
    other.double().load_state_dict(net.state_dict())
    tokens = text(12).reshape(6, 2)
    # the characters are saved with it
    assert torch.equal(net.eval()(tokens)[0], other.eval()(tokens)[0])


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_dropout_follow_their_seeds(name):
    one, same, other = make(name), make(name), make(name, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.layers.lstms[0].weight_hh_l0, other.layers.lstms[0].weight_hh_l0)
    with global_stream(3, "own"):
        drawn = build_language(name, WORDS)
    assert (
        max(p.abs().max().item() for n, p in drawn.named_parameters() if ".gate." not in n)
        < 0.050001
    )
    tokens, outs = text(12).reshape(6, 2), []
    for step in (0, 0, 1):
        with global_stream(0, "dropout", step):
            outs.append(one(tokens)[0])
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])
    training, evaluation = make(name, dropout=0.0)(tokens)[0], make(name).eval()(tokens)[0]
    torch.testing.assert_close(training, evaluation, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name, widths", [("lstm", [5, 5, 5, 5]), ("cnn-lstm", [4, 4, 4])])
def test_places_of_dropout(name, widths):
    net, seen = make(name, layers=3), []
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[-1]))
    net(text(12).reshape(6, 2))
    assert seen == widths  # the embedding (lstm only), two between three layers, the last output


@pytest.mark.parametrize("average", ["arithmetic", "geometric"])
def test_an_ensemble_against_numpy(average):
    nets = [make("lstm", seed) for seed in range(2)] + [make("cnn-lstm")]
    ensemble, tokens = Ensemble(*nets, average=average), text(25)
    with torch.no_grad():
        each = np.stack([net.eval()(tokens[:-1, None])[0][:, 0].softmax(1).numpy() for net in nets])
    q = each.mean(0) if average == "arithmetic" else np.prod(each, 0) ** (1 / 3)
    q /= q.sum(1, keepdims=True)
    wanted = math.exp(-np.log(q[range(24), tokens[1:].numpy()]).mean())
    assert perplexity(ensemble, tokens, batch=1, unroll=7) == pytest.approx(wanted, rel=1e-10)
    if average == "arithmetic":  # the logits are log probabilities
        assert torch.allclose(
            ensemble.eval()(tokens[:, None])[0].exp().sum(2), torch.ones(25, 1).double()
        )
    twin = Ensemble(nets[0], nets[0], average=average)
    assert perplexity(twin, tokens, batch=2) == pytest.approx(
        perplexity(nets[0], tokens, batch=2), rel=1e-12
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9])
def test_a_perplexity_that_is_not_finite_is_refused(value):
    with pytest.raises(NumericalError, match="not finite"):
        perplexity(Table([value, 0.0]), torch.tensor([0, 0, 1, 0, 1]), batch=1)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: build_language("lstn", WORDS), "called 'lstn'; did you mean lstm"),
        (
            lambda: build_language("cnn-lstm", WORDS, tied=True),
            "cnn-lstm has no argument called 'tied'",
        ),
        (lambda: build_language("lstm", WORDS, widht=3), "did you mean width"),
        (lambda: build_language("lstm", WORDS, width=0), "width is 0"),
        (lambda: build_language("lstm", WORDS, width=2, layers=0), "layers is 0"),
        (lambda: build_language("lstm", WORDS, width=2, dropout=1.0), "dropout is 1.0"),
        (lambda: build_language("lstm", WORDS, width=2, init_range=0.0), "init_range is 0.0"),
        (lambda: build_language("cnn-lstm", WORDS, filters=0), "filters is 0"),
        (lambda: build_language("lstm", []), r"words is \[\]"),
        (lambda: build_language("lstm", "abc"), "words is 'abc'"),
        (lambda: build_language("lstm", ["a", "b", "a"]), "'a' is twice"),
        (lambda: language_arguments("gru"), "known: cnn-lstm, lstm"),
        (lambda: make("lstm")(torch.zeros(3, dtype=torch.int64)), r"tokens are \(3,\)"),
        (lambda: make("cnn-lstm")(torch.zeros(3, 2)), "float32"),
        (lambda: make("lstm")(text(4)[:, None], make("lstm").initial_state(2)), "1 columns want"),
        (
            lambda: perplexity(make("lstm"), torch.arange(9), batch=1),
            "tokens are 0 to 8, the model has 6 words",
        ),
        (lambda: perplexity(make("lstm"), text(9)), "batch is 10, but the text has 9 words"),
        (lambda: perplexity(make("lstm"), text(9), batch=1, unroll=0), "unroll is 0"),
        (lambda: Ensemble(), "no model"),
        (
            lambda: Ensemble(Table([0.0] * 6), make("lstm")),
            "not the same; give models of one vocabulary",
        ),
        (lambda: Ensemble(make("lstm"), average="mean"), "average is 'mean'"),
        (
            lambda: Ensemble(make("lstm"))(text(4)[:, None], (torch.zeros(1),)),
            "1 tensors, but the ensemble's has 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, said):
    with pytest.raises(UsageError, match=said):
        call()


def test_every_model_is_tried_here():
    assert sorted(LANGUAGE_NETS) == NAMES
