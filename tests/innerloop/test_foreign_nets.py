"""Nets of the user's own: the result of an ordinary torch loop in float64, whatever they do in their pass."""

import collections
import copy
import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from datadistill.errors import UsageError
from datadistill.innerloop import FullUnroll, Higher, StepReplay, unroll, unroll_with_buffers
from datadistill.streams import global_stream

T, ETA = 6, 0.3
IMAGES = torch.randn(12, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


class Flat(nn.Module):
    """Two layers whose hidden block a subclass runs in its own way."""

    def __init__(self, norm=False):
        super().__init__()
        self.a, self.b = nn.Linear(16, 8), nn.Linear(8, 3)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()

    def block(self, x):
        return torch.tanh(self.norm(self.a(x)))

    def forward(self, x):
        return self.b(self.block(x.flatten(1)))


class Checkpointed(Flat):
    def forward(self, x):
        return self.b(checkpoint(self.block, x.flatten(1), use_reentrant=False))


class Reentrant(Flat):
    def forward(self, x):
        return self.b(checkpoint(self.block, x.flatten(1), use_reentrant=True))


class Sequential(Flat):
    def forward(self, x):
        parts = nn.Sequential(nn.Flatten(), self.a, nn.Tanh(), self.b)
        return checkpoint_sequential(parts, 2, x, use_reentrant=False)


class Counter(Flat):
    """Uses a buffer that it counts in, so that every step is another function."""

    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x):
        self.n += 1
        return super().forward(x) / self.n


class Replaced(Flat):
    """Puts a new tensor in the place of its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        y = super().forward(x)
        self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        return y - self.mean


class InPlace(Replaced):
    """Writes into its buffer."""

    def forward(self, x):
        y = Flat.forward(self, x)
        self.mean.mul_(0.9).add_(0.1 * y.detach().mean(0))
        return y - self.mean


class Keeps(Flat):
    """Keeps tensors of its pass, and grows a list."""

    def __init__(self):
        super().__init__()
        self.seen, self.calls = [], 0

    def forward(self, x):
        self.features = self.block(x.flatten(1))
        self.seen.append(self.features)
        self.calls += 1
        return self.b(self.features)


class Branch(Flat):
    def forward(self, x):
        y = super().forward(x)
        return 2 * y if y.mean().item() > 0 else y


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.r, self.o = kind(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.o(self.r(x[:, 0])[0][:, -1])


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


class OwnFunction(Flat):
    def block(self, x):
        return Relu.apply(self.a(x))


def frozen(norm):
    """A norm layer of the user's in evaluation mode, inside a net in training mode."""
    net = Flat()
    net.norm = norm.eval()
    nn.init.uniform_(norm.running_mean)
    return net


def legacy_weight_norm():
    net = Flat()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(net.a)
    return net


def legacy_spectral_norm():
    net = Flat()
    nn.utils.spectral_norm(net.a)
    return net


def pruned():
    net = Flat()
    prune.l1_unstructured(net.a, "weight", 0.5)
    return net


class Counts(Flat):
    """Computes with a counter that is neither parameter nor buffer; has a buffer that it does not use."""

    def __init__(self):
        super().__init__()
        self.n = 0
        self.register_buffer("unused", torch.ones(2))

    def forward(self, x):
        self.n += 1
        return super().forward(x) * (1 + 0.1 * self.n)


class WritesLater(Counter):
    """Writes its buffer from the third pass on."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls > 2:
            self.n += 1
        return Flat.forward(self, x) / (1 + self.n)


class Stateful(Flat):
    """Keeps a hidden state, which the next pass starts from, and a queue of features."""

    def __init__(self):
        super().__init__()
        self.h, self.queue = None, collections.deque(maxlen=2)

    def forward(self, x):
        z = self.block(x.flatten(1))
        z = z if self.h is None else z + 0.5 * self.h
        self.h = z.detach()
        self.queue.append({"h": [z]})
        return self.b(z if z.mean().item() > -9 else -z)


class FirstInPlace(Flat):
    """Writes into the images it is given."""

    def forward(self, x):
        return super().forward(x.relu_())


def with_parametrization(register):
    net = Flat()
    register(net.a)
    return net


def instance_norm():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True), nn.Flatten(), nn.Linear(16, 3)
    )


NETS = {
    "checkpoint": Checkpointed,
    "checkpoint, BatchNorm": lambda: Checkpointed(norm=True),
    "checkpoint, reentrant": Reentrant,
    "checkpoint_sequential": Sequential,
    "counter": Counter,
    "buffer replaced": Replaced,
    "buffer in place": InPlace,
    "keeps tensors": Keeps,
    "branch": Branch,
    "counter in Python": Counts,
    "buffer written later": WritesLater,
    "hidden state": Stateful,
    "first layer in place": FirstInPlace,
    "frozen BatchNorm": lambda: frozen(nn.BatchNorm1d(8)),
    "LSTM": Recurrent,
    "GRU": lambda: Recurrent(nn.GRU),
    "RNN": lambda: Recurrent(nn.RNN),
    "own function": OwnFunction,
    "weight_norm": lambda: with_parametrization(parametrizations.weight_norm),
    "spectral_norm": lambda: with_parametrization(parametrizations.spectral_norm),
    "orthogonal": lambda: with_parametrization(parametrizations.orthogonal),
    "older weight_norm": legacy_weight_norm,
    "older spectral_norm": legacy_spectral_norm,
    "pruned": pruned,
    "InstanceNorm": instance_norm,
}


def made(name, seed=0):
    with global_stream(seed, "net"):
        return NETS[name]().double()


def theta_of(net):
    return {k: p.detach().clone() for k, p in net.named_parameters()}


def torch_loop(net):
    """T steps of torch.optim.SGD on the net itself, without checkpointing (which writes BatchNorm's statistics
    twice, and leaves a layer untrained whose input has no gradient)."""
    if isinstance(net, Checkpointed | Reentrant | Sequential):
        net.__class__ = Flat
    optimizer = torch.optim.SGD(net.parameters(), ETA)
    for _ in range(T):
        optimizer.zero_grad()
        F.cross_entropy(net(IMAGES.clone()), LABELS).backward()
        optimizer.step()
    return net


FULL = FullUnroll()


def ours(net, theta, images=IMAGES, adjoint=FULL, **kwargs):
    step_sizes = torch.full((T,), ETA, dtype=torch.float64)
    return unroll_with_buffers(net, theta, [(images, LABELS)] * T, step_sizes, adjoint=adjoint, **kwargs)


def theta_T_of(net, images, adjoint=FULL):
    found = ours(net, theta_of(net), images, adjoint)
    return {k: found[k] for k in theta_of(net)}


def cubes(theta):
    return sum((p**3).sum() for p in theta.values())


def state_of(net):
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


@pytest.mark.parametrize("name", NETS)
def test_steps_are_those_of_an_ordinary_loop(name):
    wanted = state_of(torch_loop(made(name)))
    for norm in ("batch", "track"):
        net = made(name)
        found = ours(net, theta_of(net), norm=norm)
        assert set(theta_of(net)) <= set(found)
        for k, value in found.items():
            torch.testing.assert_close(value.detach(), wanted[k].detach(), rtol=1e-9, atol=1e-11, msg=k)


@pytest.mark.parametrize("name", NETS)
def test_nothing_of_the_pass_stays_in_the_net(name):
    net = made(name)
    before = [(m, dict(m.__dict__), m.training) for m in net.modules()]
    values = {k: x.detach().clone() for k, x in state_of(net).items()}
    seen = list(getattr(net, "seen", []))
    images = IMAGES.clone()
    ours(net, theta_of(net), images, StepReplay())
    for k, x in state_of(net).items():
        assert torch.equal(x, values[k]), k
    for m, attributes, training in before:
        assert m.training == training
        assert all(m.__dict__[k].grad_fn is None for k in m.__dict__.keys() - attributes.keys())
        assert all(m.__dict__[k] is v for k, v in attributes.items())
    assert getattr(net, "seen", []) == seen
    assert torch.equal(images, IMAGES)


OF_THEIR_OWN = {"counter in Python", "buffer written later", "hidden state"}  # state that no step is given


@pytest.mark.parametrize("name", sorted(OF_THEIR_OWN))
def test_a_state_that_no_step_is_given_is_not_replayed(name):
    images = IMAGES.clone().requires_grad_()
    with pytest.raises(UsageError, match="came out otherwise"):
        cubes(theta_T_of(made(name), images, StepReplay())).backward()


@pytest.mark.parametrize("name", sorted(NETS.keys() - OF_THEIR_OWN))
def test_replayed_gradients_are_those_of_the_full_unroll(name):
    gradients = []
    for adjoint in (FullUnroll(), StepReplay()):
        net, images = made(name), IMAGES.clone().requires_grad_()
        theta_T = theta_T_of(net, images, adjoint)
        gradients += torch.autograd.grad(cubes(theta_T), images)
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-11)
    assert float(gradients[0].norm()) > 1e-6


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint, reentrant", "checkpoint_sequential"])
def test_hypergradients_through_checkpoints_are_the_plain_nets(name):
    plain, gradients = Flat().double(), []
    plain.load_state_dict(made(name).state_dict())
    for net in (plain, made(name)):
        images = IMAGES.clone().requires_grad_()
        found = ours(net, theta_of(net), images)
        gradients += torch.autograd.grad(cubes(found), images)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_checkpointing_is_back_after_a_pass():
    import torch.utils.checkpoint as module

    before = dict(vars(module))
    net = made("checkpoint")
    ours(net, theta_of(net))
    assert all(vars(module)[k] is v for k, v in before.items())


@pytest.mark.parametrize("name", NETS)
def test_stacked_nets_train_as_each_alone(name):
    net, thetas = made(name), [theta_of(made(name, seed)) for seed in range(3)]
    alone = [ours(net, theta) for theta in thetas]
    together = ours(net, {k: torch.stack([theta[k] for theta in thetas]) for k in thetas[0]})
    assert together.keys() == alone[0].keys()
    for k, value in together.items():
        wanted = torch.stack([one[k] for one in alone])
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-11, msg=k)


class Noisy(Flat):
    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        return self.b(self.block(x.flatten(1)) + 0.3 * self.noise())


NOISE = {
    "numpy": lambda: torch.from_numpy(np.random.randn(8)),
    "random": lambda: random.random(),
    "torch": lambda: torch.randn(8, dtype=torch.float64),
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_of_a_stream_is_replayed(name):
    gradients = []
    for adjoint in (FullUnroll(), StepReplay()):
        net, images = Noisy(NOISE[name]).double(), IMAGES.clone().requires_grad_()
        theta = {k: torch.full_like(p, 0.1) for k, p in theta_of(net).items()}
        before = random.getstate(), np.random.get_state()[2], torch.get_rng_state()
        found = ours(net, theta, images, adjoint, stream=3)
        gradients += torch.autograd.grad(cubes(found), images)
        assert random.getstate() == before[0] and np.random.get_state()[2] == before[1]
        assert torch.equal(torch.get_rng_state(), before[2])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NOISE)
def test_noise_without_a_stream_is_not_replayed(name):
    net = Noisy(NOISE[name]).double()
    images = IMAGES.clone().requires_grad_()
    with pytest.raises(UsageError, match="drew random numbers"):
        ours(net, theta_of(net), images, StepReplay())


def own_generator():
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(8, dtype=torch.float64, generator=generator)


def own_numpy_generator():
    generator = np.random.default_rng(0)
    return lambda: torch.from_numpy(generator.standard_normal(8))


def calls():
    made = []
    return lambda: (made.append(1), len(made))[1]


@pytest.mark.parametrize("noise", [own_generator, own_numpy_generator, calls])
def test_a_replay_that_is_another_step_is_refused(noise):
    net, images = Noisy(noise()).double(), IMAGES.clone().requires_grad_()
    found = ours(net, theta_of(net), images, StepReplay(), stream=1)
    with pytest.raises(UsageError, match="came out otherwise"):
        cubes(found).backward()


def sometimes():
    """Noise of numpy's from the third pass on."""
    made = []
    return lambda: np.random.randn() if made.append(1) or len(made) > 2 else 0.0


@pytest.mark.parametrize("adjoint", [FullUnroll(), StepReplay()])
def test_noise_that_comes_late_is_of_the_stream(adjoint):
    found = []
    for seed in (0, 1):
        np.random.seed(seed)
        net = Noisy(sometimes()).double()
        theta = {k: torch.full_like(p, 0.1) for k, p in theta_of(net).items()}
        # once the net is known to draw from numpy, every step draws from the stream
        ours(net, theta, stream=3)
        found.append(ours(net, theta, IMAGES.clone().requires_grad_(), adjoint, stream=3))
    for k in found[0]:
        torch.testing.assert_close(found[0][k], found[1][k], rtol=1e-12, atol=0)


class Clamps(Flat):
    def forward(self, x):
        self.a.weight.data.clamp_(-0.1, 0.1)
        return super().forward(x)


class Renormed(Flat):
    def forward(self, x):
        self.a.weight.data = torch.renorm(self.a.weight.data, 2, 0, 0.5)
        return super().forward(x)


@pytest.mark.parametrize("make", [Clamps, Renormed])
def test_a_net_that_writes_its_parameters_is_refused(make):
    net = make().double()
    before = theta_of(net)
    with pytest.raises(UsageError, match=r"writes its parameter a\.weight"):
        ours(net, {k: p.detach() for k, p in net.named_parameters()})
    assert all(torch.equal(p, before[k]) for k, p in net.named_parameters())


def test_a_gradient_hook_of_a_parameter_is_refused():
    net = Flat().double()
    net.a.weight.register_hook(lambda g: 0 * g)
    with pytest.raises(UsageError, match=r"a\.weight has a hook"):
        ours(net, theta_of(net))


def test_a_replica_wrapper_is_refused():
    net = nn.DataParallel(Flat().double())
    with pytest.raises(UsageError, match=r"net\.module"):
        ours(net, theta_of(net))


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint, BatchNorm", "weight_norm", "frozen BatchNorm"])
def test_higher_takes_the_same_steps(name):
    gradients = []
    for adjoint in (FULL, Higher()):
        images = IMAGES.clone().requires_grad_()
        theta_T = theta_T_of(made(name), images, adjoint)
        gradients += torch.autograd.grad(cubes(theta_T), images)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["spectral_norm", "buffer in place"])
def test_higher_refuses_buffers_that_are_written(name):
    net = made(name)
    with pytest.raises(UsageError, match="buffers that the net writes"):
        ours(net, theta_of(net), adjoint=Higher())


def test_a_compiled_net_runs_eagerly_in_the_loop():
    inside = made("keeps tensors")
    net = torch.compile(inside, backend="aot_eager")
    images = IMAGES.clone().requires_grad_()
    plain = IMAGES.clone().requires_grad_()
    found = torch.autograd.grad(cubes(theta_T_of(net, images)), images)[0]
    wanted = torch.autograd.grad(cubes(theta_T_of(inside, plain)), plain)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_inference_mode_trains_as_without_gradients():
    net = copy.deepcopy(made("InstanceNorm"))
    wanted = ours(net, theta_of(net))
    with torch.inference_mode():
        inference = made("InstanceNorm")
        found = ours(inference, theta_of(inference), IMAGES * 1)
    for k, value in found.items():
        assert not value.requires_grad
        torch.testing.assert_close(value, wanted[k].detach(), rtol=1e-12, atol=1e-14)


def small(width=4):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 4, 3))


class Auxiliary(Flat):
    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y


X, Y = IMAGES.float(), LABELS
REFUSED = {
    "labels of a float type": (small, X, Y.float(), r"labels are torch.float32.*labels.long\(\)"),
    "labels (B, 1)": (small, X, Y[:, None], r"labels have shape \(12, 1\)"),
    "labels past K": (small, X, Y + 1, "labels go from 1 to 3 and the net has 3 logits"),
    "labels below 0": (small, X, Y - 1, "labels go from -1"),
    "uint8 images": (small, (X * 50).to(torch.uint8), Y, "torch.uint8.*torch.float32 as its parameters"),
    "float64 images": (small, X.double(), Y, "torch.float64.*torch.float32 as its parameters"),
    "NHWC images": (small, X.permute(0, 2, 3, 1), Y, r"does not take images \(12, 4, 4, 1\)"),
    "auxiliary outputs": (Auxiliary, X, Y, "makes a tuple in training mode"),
    "one logit": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), X, Y, "one logit"),
    "TorchScript": (lambda: torch.jit.trace(small(), X), X, Y, "TorchScript"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(name):
    make, images, labels, pattern = REFUSED[name]
    net = make()
    with pytest.raises(UsageError, match=pattern):
        unroll(net, theta_of(net), [(images, labels)] * 2, torch.full((2,), 0.1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16])
def test_labels_of_every_integer_type_are_classes(dtype):
    net = small()
    found, wanted = (unroll(net, theta_of(net), [(X, y)], torch.full((1,), 0.1)) for y in (Y.to(dtype), Y))
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_one_hot_integers_are_probabilities():
    net = small()
    hot = F.one_hot(Y, 3)
    found, wanted = (unroll(net, theta_of(net), [(X, y)], torch.full((1,), 0.1)) for y in (hot, hot.float()))
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)
