"""A payload: bytes to the byte, and what the receiver has of it is what was stored."""

import pytest
import safetensors.torch
import torch

from datadistill.data import Normalization
from datadistill.distilled import DistilledDataset
from datadistill.errors import DatadistillError, UsageError
from datadistill.innerloop import adam, momentum, sgd
from datadistill.nets.spec import NetSpec
from datadistill.quantization import Quantization
from kd_baselines.ledger.payload import Payload
from kd_baselines.ledger.worth import images_a_class_worth

TEN = tuple("0123456789")
NORM = Normalization((0.5,), (0.5,), size=8, channels=1)
COLOUR = Normalization((0.5,) * 3, (0.5,) * 3, size=32, channels=3)
MLP = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10, "width": 6, "depth": 1})
CONVNET = {"channels": 3, "size": 32, "classes": 10, "depth": 3, "width": 128}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=20, c=1, size=8, seed=0):
    return torch.randn(n, c, size, size, generator=stream(seed)) * 3


def of_images(x=None, y=None, **changes):
    x = images() if x is None else x
    y = torch.arange(len(x)) % 10 if y is None else y
    given = {"classes": TEN, "normalization": NORM if x.shape[1] == 1 else COLOUR}
    return Payload.of_images(x, y, **{**given, **changes})


def of_net(net, spec, **changes):
    return Payload.of_net(net, spec, **{"classes": TEN, "normalization": COLOUR, **changes})


def distilled(order=None, step_sizes=None, **changes):
    order = list(torch.arange(20).split(10)) * 3 if order is None else order
    step_sizes = torch.linspace(0.01, 0.1, len(order)) if step_sizes is None else step_sizes
    given = {"classes": TEN, "normalization": NORM, "net": MLP, "update": sgd()}
    return DistilledDataset(
        images(), torch.arange(20) % 10, step_sizes, order, **{**given, **changes}
    )


def drawn(spec, seed=0):
    """A net with values everywhere, running statistics too."""
    net = spec.build()
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.1, 2.0, generator=stream(seed))
    return net


def in_file(path):
    tensors = safetensors.torch.load_file(path)
    return sum(t.numel() * t.element_size() for t in tensors.values())


# --- to the byte


def test_cifar10_at_ten_images_a_class(tmp_path):
    x, y = images(100, 3, 32), torch.arange(100) % 10
    assert of_images(x, y).parts == {"images": 307_200, "range": 8, "labels": 100}
    assert of_images(x, y, storage="float32").parts == {"images": 1_228_800, "labels": 100}
    assert of_images(x, torch.full((100, 10), 0.1)).parts == {
        "images": 307_200,
        "range": 8,
        "soft labels": 4000,
    }


def test_the_convnet_of_the_reference_and_where_it_is_cheaper():
    spec = NetSpec("convnet", CONVNET)
    net = spec.build()
    sizes = {
        storage: of_net(net, spec, storage=storage) for storage in ("float32", "float16", "int8")
    }
    assert sizes["float32"].parts == {"weights": 1_280_040}
    assert sizes["float16"].parts == {"weights": 640_020}
    whole = sum(p.numel() for p in net.parameters() if p.dim() > 1)
    assert sizes["int8"].parts == {"weights": whole + 4 * (320_010 - whole), "scales": 4 * 4}
    assert images_a_class_worth(1_280_040, (3, 32, 32), "uint8", classes=10) == 42
    assert images_a_class_worth(1_280_040, (3, 32, 32), "float32", classes=10) == 11


@pytest.mark.parametrize("storage", ["uint8", "float32"])
@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_images_worth_is_the_smallest_number(storage, labels):
    def bytes_of(m):
        y = torch.arange(10).repeat(m)
        y = torch.full((10 * m, 10), 0.1) if labels == "soft" else y
        return of_images(images(10 * m), y, storage=storage).bytes

    for size in (bytes_of(3), bytes_of(3) + 1):
        found = images_a_class_worth(size, (1, 8, 8), storage, classes=10, labels=labels)
        assert bytes_of(found) >= size > bytes_of(found - 1)
    assert images_a_class_worth(0, (1, 8, 8), storage, classes=10) == 0


@pytest.mark.parametrize(
    ("classes", "width"), [(2, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 4)]
)
def test_labels_are_as_narrow_as_the_classes_allow(tmp_path, classes, width):
    y = torch.tensor([0, 1, classes // 2, classes - 1])
    payload = of_images(images(4), y, classes=tuple(map(str, range(classes))))
    assert payload.parts["labels"] == 4 * width
    payload.save(tmp_path / "p")
    assert torch.equal(Payload.load(tmp_path / "p").labels(), y)


ORDERS = {
    "consecutive": (list(torch.arange(20).split(10)) * 3, 0),
    "consecutive, last smaller": (list(torch.arange(20).split(8)) * 2, 0),
    "all at once": ([torch.arange(20)] * 4, 0),
    "shuffled, repeated": (list(torch.randperm(20, generator=stream()).split(5)) * 3, 20),
    "shuffled, uneven": (list(torch.randperm(20, generator=stream()).split(8)), 20 + 3),
    "some only": ([torch.tensor([3, 3]), torch.tensor([4, 0])], 4),
    "broken off": ([*torch.arange(20).split(10), torch.arange(10)], 30),
}


@pytest.mark.parametrize("name", ORDERS)
def test_order_costs_what_is_stored_and_comes_back(tmp_path, name):
    order, size = ORDERS[name]
    d = distilled(order)
    payload = of_images(d.images, d.labels, schedule=d)
    expected = {
        "images": 1280,
        "range": 8,
        "labels": 20,
        "step sizes": 4 * len(order),
        "order": size,
    }
    assert payload.parts == expected
    payload.save(tmp_path / "p")
    assert in_file(tmp_path / "p") == payload.bytes
    back = Payload.load(tmp_path / "p").to_distilled()
    assert [i.tolist() for i in back.order] == [i.tolist() for i in order]


def payloads():
    soft = torch.rand(20, 10, generator=stream()).softmax(1)
    d, vgg = distilled(update=momentum(0.9), norm="frozen"), NetSpec("vgg11", {**SMALL})
    own = distilled(theta_0=dict(drawn(MLP).named_parameters()), update=adam())
    columns = distilled(step_sizes=torch.rand(6, 4, generator=stream()) + 0.1)
    made = {
        "hard": of_images(),
        "float": of_images(storage="float32", note="a note"),
        "soft": of_images(y=soft),
        "schedule": of_images(d.images, d.labels, schedule=d),
        "schedule, other labels": of_images(d.images, soft, schedule=d, storage="float32"),
        "its own start": of_images(own.images, own.labels, schedule=own),
        "a step size a tensor": of_images(columns.images, columns.labels, schedule=columns),
    }
    nets = {s: of_net(drawn(vgg), vgg, storage=s) for s in ("float32", "float16", "int8")}
    return {**made, **nets}


SMALL = {"channels": 3, "size": 32, "classes": 10}
KINDS = [
    "hard",
    "float",
    "soft",
    "schedule",
    "schedule, other labels",
    "its own start",
    "a step size a tensor",
    "float32",
    "float16",
    "int8",
]


@pytest.fixture(scope="module")
def made():
    return payloads()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_exact_bytes_is_loaded_as_it_was(tmp_path, made, kind):
    payload = made[kind]
    payload.save(tmp_path / "a")
    assert in_file(tmp_path / "a") == payload.bytes == sum(payload.parts.values())
    assert (tmp_path / "a").stat().st_size == payload.file_bytes > payload.bytes
    back = Payload.load(tmp_path / "a")
    back.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert back.parts == payload.parts and list(back.parts) == list(payload.parts)
    assert back.stored.keys() == payload.stored.keys()
    assert all(torch.equal(t, back.stored[name]) for name, t in payload.stored.items())
    for field in ("kind", "storage", "classes", "normalization", "spec", "schedule", "note"):
        assert getattr(back, field) == getattr(payload, field)


# --- what the receiver has


def test_images_are_those_after_rounding_to_their_own_range():
    x = images(seed=3)
    before = x.clone()
    payload = of_images(x)
    assert torch.equal(payload.images(), Quantization.of(x, 8).round(x))
    assert not torch.equal(payload.images(), x) and torch.equal(x, before)
    assert float((payload.images() - x).abs().max()) <= float(x.max() - x.min()) / 255 / 2 * (
        1 + 1e-5
    )
    assert torch.equal(of_images(payload.images()).images(), payload.images())
    assert torch.equal(of_images(x, storage="float32").images(), x)
    assert torch.equal(
        of_images(torch.full((3, 1, 8, 8), 0.7)).images(), torch.full((3, 1, 8, 8), 0.7)
    )


def test_labels_come_back():
    y, soft = torch.arange(20) % 7, torch.rand(20, 10, generator=stream()).softmax(1)
    assert of_images(y=y).labels().dtype == torch.int64 and torch.equal(of_images(y=y).labels(), y)
    assert torch.equal(of_images(y=soft.double()).labels(), soft)


def test_what_is_received_shares_no_memory():
    payload = of_images(storage="float32")
    payload.images().zero_()
    assert payload.images().abs().max() > 0


def test_a_distilled_set_comes_back_as_its_quantized_copy():
    d = distilled(update=momentum(0.9), theta_0=dict(drawn(MLP).named_parameters()))
    payload = of_images(d.images, d.labels, schedule=d)
    back = payload.to_distilled()
    assert torch.equal(back.images, d.quantized(8).images) and torch.equal(
        back.step_sizes, d.step_sizes
    )
    assert (back.update, back.norm, back.net, back.classes) == (d.update, d.norm, d.net, d.classes)
    assert all(torch.equal(p, back.theta_0[name]) for name, p in d.theta_0.items())
    assert payload.parts["initial net"] == d.bytes_theta_0
    assert of_images().to_distilled() is None


def test_weights_in_float16_are_the_nets_rounded(made):
    spec = made["float32"].spec
    net = drawn(spec)
    for storage in ("float32", "float16"):
        got = made[storage].net()
        assert not got.training
        for name, w in net.state_dict().items():
            if w.is_floating_point():
                wanted = w if storage == "float32" else w.half().float()
                assert torch.equal(got.state_dict()[name], wanted), name
    floats = sum(w.numel() for w in net.state_dict().values() if w.is_floating_point())
    # running statistics too, counts of batches not
    assert made["float32"].parts == {"weights": 4 * floats}
    assert made["float16"].parts == {"weights": 2 * floats}


def test_int8_is_within_half_a_step_and_keeps_vectors(made):
    net = drawn(made["int8"].spec)
    got = made["int8"].net().state_dict()
    for name, w in net.state_dict().items():
        if w.is_floating_point() and w.dim() > 1:
            assert float((got[name] - w).abs().max()) <= float(w.abs().max()) / 254 * (1 + 1e-5)
            assert not torch.equal(got[name], w)
        elif w.is_floating_point():
            assert torch.equal(got[name], w)
    zero = torch.nn.Module.state_dict(MLP.build())
    zero = {name: torch.zeros_like(w) for name, w in zero.items()}
    back = of_net(zero, MLP, storage="int8", normalization=NORM).net().state_dict()
    assert all(torch.equal(w, back[name]) for name, w in zero.items())


# --- refused


def refuse_images():
    d = distilled()
    nan = images()
    nan[3, 0, 1, 1] = float("nan")
    return {
        "finite": lambda: of_images(nan),
        "wanted normalized floats": lambda: of_images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)),
        "N >= 1": lambda: of_images(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)),
        "1 channels": lambda: of_images(normalization=COLOUR),
        "labels are": lambda: of_images(y=torch.zeros(19, dtype=torch.int64)),
        "labels reach": lambda: of_images(y=torch.full((20,), 10)),
        "int64": lambda: of_images(y=torch.zeros(20, dtype=torch.int32)),
        "sum to 1": lambda: of_images(y=torch.full((20, 10), 0.2)),
        "one class a column": lambda: of_images(y=torch.full((20, 9), 1 / 9)),
        "two or more different": lambda: of_images(classes=("a",) * 10),
        "stored as": lambda: of_images(storage="int8"),
        "schedule is for 20": lambda: of_images(images(10), schedule=d),
        "no net": lambda: of_images().net(),
        "no images": lambda: of_net(drawn(MLP), MLP, normalization=NORM).images(),
        "no labels|no images": lambda: of_net(drawn(MLP), MLP, normalization=NORM).labels(),
        "needs": lambda: Payload("net", "float32", {}, TEN, NORM),
        "of kind": lambda: Payload("nets", "float32", {}, TEN, NORM),
        "your own": lambda: of_images(schedule=distilled(update=Own())),
        "storage": lambda: images_a_class_worth(3, (1, 8, 8), "int8", classes=10),
        "C, H, W": lambda: images_a_class_worth(3, (8, 8), classes=10),
    }


class Own:
    """An update rule of the user's own."""

    def init(self, theta):
        return {}

    def step(self, theta, grads, state, eta):
        return theta, state


@pytest.mark.parametrize("words", refuse_images())
def test_what_does_not_fit_is_refused(words):
    with pytest.raises(DatadistillError, match=words):
        refuse_images()[words]()


def test_nets_that_do_not_fit_are_refused():
    state = drawn(MLP).state_dict()
    first = next(iter(state))
    cases = {
        "lacks": {k: v for k, v in state.items() if k != first},
        "does not have": {**state, "another": torch.zeros(1)},
        "wanted \\(": {**state, first: torch.zeros(2)},
        "finite": {**state, first: torch.full_like(state[first], float("inf"))},
        "65504": {**state, first: torch.full_like(state[first], 7e4)},
    }
    for words, found in cases.items():
        with pytest.raises(UsageError, match=words):
            of_net(found, MLP, storage="float16", normalization=NORM)
    with pytest.raises(UsageError, match="outputs for"):
        of_net(state, MLP, classes=TEN[:9], normalization=NORM)
