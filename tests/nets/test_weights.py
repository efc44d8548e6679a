"""Pretrained weights: what fits, what does not and why, and files that want to run code."""

import hashlib
import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import nn

from datadistill.errors import DataError, Unavailable, UsageError
from datadistill.nets import AlexNet, build
from datadistill.nets.weights import Weights, last_layer, read_weights
from datadistill.runs.tensors import checksum, pack

HERE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
PLACES = [
    Path(part) for part in os.environ.get("DATADISTILL_DATA", "").split(os.pathsep) if part
] + [HERE]
SQUEEZENET = "squeezenet1_0/squeezenet1_0_imagenet.pt"


def small(classes=2, width=3):
    """A net with a norm and a last layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 4, classes),
    )


@pytest.fixture
def source():
    """Tensors of a net for 7 classes, as if it had been trained."""
    torch.manual_seed(0)
    net = small(7)
    net[1].running_mean.uniform_()
    net[1].num_batches_tracked.fill_(5)
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def written(path, tensors):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_what_was_written_comes_back_but_for_the_last_layer(tmp_path, source, name):
    net = small()
    before = {k: t.clone() for k, t in net.state_dict().items()}
    weights = read_weights(written(tmp_path / name, source), net)
    theta, buffers, fresh = weights.fit(net)
    assert fresh == ("4.weight", "4.bias")
    assert [*theta, *fresh] == [k for k, _ in net.named_parameters()]
    assert set(buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    for k, tensor in {**theta, **buffers}.items():
        assert torch.equal(tensor, source[k]) and tensor.dtype == source[k].dtype
    assert all(torch.equal(t, before[k]) for k, t in net.state_dict().items())
    assert weights.fingerprint == checksum(source)


def test_the_result_shares_no_memory_with_the_file(source):
    weights = Weights("here", source, "")
    theta, _, _ = weights.fit(small())
    theta["0.weight"].zero_()
    assert source["0.weight"].abs().max() > 0


def test_the_last_layer_is_fresh_even_where_it_fits(source):
    assert Weights("here", source, "").fit(small(7))[2] == ("4.weight", "4.bias")


def test_without_a_fresh_last_layer_everything_must_fit(source):
    theta, _, fresh = Weights("here", source, "").fit(small(7), fresh_last=False)
    assert fresh == () and torch.equal(theta["4.weight"], source["4.weight"])
    with pytest.raises(DataError, match=r"4.weight is \(7, 12\), wanted \(2, 12\)"):
        Weights("here", source, "").fit(small(2), fresh_last=False)


def test_the_file_may_lack_the_last_layer_and_counts_of_batches(source):
    for name in ("4.weight", "4.bias", "1.num_batches_tracked"):
        del source[name]
    theta, buffers, fresh = Weights("here", source, "").fit(small())
    assert len(theta) == 4 and len(fresh) == 2 and "1.num_batches_tracked" not in buffers


def test_types_follow_the_net(source):
    half = {k: t.half() if t.is_floating_point() else t for k, t in source.items()}
    theta, buffers, _ = Weights("here", half, "").fit(small())
    assert {t.dtype for t in theta.values()} == {torch.float32}
    assert torch.equal(theta["0.weight"], half["0.weight"].float())
    assert buffers["1.num_batches_tracked"].dtype == torch.int64
    assert Weights("here", half, "").fit(small().double())[0]["0.weight"].dtype == torch.float64


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "model._orig_mod."])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".safetensors"])
def test_tensors_under_a_key_and_behind_a_prefix(tmp_path, source, key, prefix, suffix):
    if key is not None and suffix == ".safetensors":
        pytest.skip("such a file has no keys")
    named = {prefix + name: tensor for name, tensor in source.items()}
    content = named if key is None else {"epoch": 3, "callbacks": {}, key: named}
    weights = read_weights(written(tmp_path / f"w{suffix}", content), small())
    assert torch.equal(weights.fit(small())[0]["0.weight"], source["0.weight"])
    assert weights.fingerprint == checksum(source)


def test_a_prefix_that_the_net_has_too_stays(tmp_path, source):
    net = nn.ModuleDict({"model": small(7)})
    own = dict(net.state_dict())
    for prefix in ("", "module."):
        path = written(tmp_path / "w.pt", {prefix + k: t for k, t in own.items()})
        assert read_weights(path, net).tensors.keys() == own.keys()


def test_a_prefix_that_some_tensors_have_is_named(tmp_path, source):
    named = {f"model.{k}": t for k, t in source.items()} | {"loss.weight": torch.ones(7)}
    with pytest.raises(DataError, match=r"0 fit.*alone whose names begin with model\."):
        read_weights(written(tmp_path / "w.ckpt", {"state_dict": named}), small(7)).fit(small(7))


def test_names_that_fit_in_two_ways_are_refused(tmp_path):
    net = nn.Module()
    net.weight, net.model = nn.Parameter(torch.ones(1)), nn.ParameterDict({"weight": torch.ones(1)})
    path = written(tmp_path / "w.pt", {"model.weight": torch.ones(1)})
    with pytest.raises(DataError, match=r"more than one way \(as they are and without model\."):
        read_weights(path, net)
    two = written(tmp_path / "two.pt", {"model": {"a": torch.ones(1)}, "state_dict": {}})
    with pytest.raises(DataError, match="under state_dict and under model"):
        read_weights(two, small())


def test_a_checkpoint_with_other_objects_says_what_to_do(tmp_path, source):
    content = {"state_dict": source, "hyper_parameters": SimpleNamespace(lr=1)}
    path = written(tmp_path / "last.ckpt", content)
    with pytest.raises(DataError, match=r'weights_only=False\)\["state_dict"\], "weights.pt"'):
        read_weights(path, small())


def test_weights_that_fit_half_are_counted(source):
    wider = small(7, width=5)
    sentence = "of 9 tensors of the net and 9 of the file, 2 fit; 7 of another shape"
    with pytest.raises(DataError, match=sentence):
        Weights("w.pt", source, "").fit(wider, fresh_last=False)


def test_a_head_of_other_classes_is_named(source):
    with pytest.raises(DataError, match=r"7 fit; 2 of.*its last layer 4 was trained for other"):
        Weights("w.pt", source, "").fit(small(2), fresh_last=False)


def test_older_names_of_densenet(tmp_path):
    path = written(
        tmp_path / "w.pt", {"features.denseblock1.denselayer1.norm.1.weight": torch.ones(2)}
    )
    found = read_weights(path, small()).tensors
    assert list(found) == ["features.denseblock1.denselayer1.norm1.weight"]


def rename(tensors):
    tensors.clear()
    tensors.update({f"x{i}": torch.ones(1) for i in range(9)})


MISFITS = [
    (rename, "9 unexpected (x0, x1, x2, x3, x4, ...)"),
    (rename, "6 missing (0.weight, 0.bias, 1.weight, 1.bias, 1.running_mean, ...)"),
    (lambda t: t.pop("0.weight"), "1 missing (0.weight)"),
    (
        lambda t: t.update({f"extra{i}": torch.ones(1) for i in range(7)}),
        "7 unexpected (extra0, extra1, extra2, ",
    ),
    (
        lambda t: t.update({"0.bias": torch.ones(9)}),
        "1 of another shape or kind (0.bias is (9,), wanted (3,))",
    ),
    (
        lambda t: t.update({"0.bias": torch.ones(3, dtype=torch.int64)}),
        "(0.bias is int64 (3,), wanted (3,))",
    ),
    (lambda t: t["0.bias"].fill_(float("nan")), "NaN or infinite value in 0.bias"),
]


@pytest.mark.parametrize(("change", "sentence"), MISFITS, ids=[s for _, s in MISFITS])
def test_what_does_not_fit_is_named(source, change, sentence):
    change(source)
    with pytest.raises(DataError) as caught:
        Weights("w.pt", source, "").fit(small())
    assert sentence in str(caught.value) and "w.pt" in str(caught.value)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "how", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))]
)
def test_a_file_that_runs_code_is_refused_unrun(tmp_path, source, how):
    canary = tmp_path / "canary"
    how({**source, "0.bias": Canary(canary)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"nothing in it was run"):
        read_weights(tmp_path / "w.pt", small())
    assert not canary.exists()
    # the canary does sing where it is let out
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()


def own_file(path, source, kind="net", prefix="", **more):
    meta = {"schema": 1, "kind": kind, **more}
    path.write_bytes(pack({prefix + k: t for k, t in source.items()}, meta))
    return path


def flip(path, place):
    """Flip a bit of a byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def flip_in_archive(path, source):
    place = written(path, source).read_bytes().index(source["0.weight"].numpy().tobytes())
    flip(path, place)


PT, OURS = "w.pt", "w.safetensors"
REFUSED = [  # the file's name, how it is made of a path and tensors, words of the refusal
    (PT, lambda path, t: None, "does not exist"),
    (PT, lambda path, t: path.mkdir(), "is a folder"),
    (PT, lambda path, t: path.write_bytes(b""), "get it again"),
    (PT, lambda path, t: path.write_bytes(b"PK\x03\x04 no archive"), "get it again"),
    (OURS, lambda path, t: path.write_bytes(b"\xff" * 20), "get it again"),
    ("w.npz", lambda path, t: path.write_bytes(b"1"), "ends in '.npz'"),
    (PT, lambda path, t: torch.save(small(), path), r"Python object .*Sequential"),
    (PT, lambda path, t: torch.save([1, 2], path), "holds list"),
    (PT, lambda path, t: torch.save({}, path), "holds dict"),
    (PT, lambda path, t: torch.save({"a": 3}, path), "has a int under 'a'"),
    (PT, lambda path, t: torch.save({0: torch.ones(1)}, path), "has a Tensor under '0'"),
    (PT, lambda path, t: torch.save({"a": torch.ones(2, 2).to_sparse()}, path), "sparse"),
    (
        PT,
        lambda path, t: torch.save({"a": torch.ones(1).expand(10**9)}, path),
        "fewer numbers than 'a' claims",
    ),
    (
        PT,
        lambda path, t: torch.save({"a": torch.empty(3, device="meta")}, path),
        "empty tensor 'a'",
    ),
    (PT, flip_in_archive, r"its part '.*data/\d+' is not of its checksum"),
    (OURS, lambda path, t: flip(own_file(path, t), -9), "damaged or was edited"),
    (
        OURS,
        lambda path, t: own_file(path, t, "kd-net", nets=2),
        "holds 2 nets, wanted the weights of one",
    ),
    (
        OURS,
        lambda path, t: own_file(path, t, "pool"),
        "holds a pool of nets, wanted the weights of one",
    ),
    (
        OURS,
        lambda path, t: own_file(path, t, "nets"),
        "holds trained nets of an unfinished pool, wanted the w",
    ),
]


@pytest.mark.parametrize(("name", "make", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_holds_no_weights_is_refused(tmp_path, source, name, make, words):
    make(tmp_path / name, source)
    with pytest.raises(DataError, match=words):
        read_weights(tmp_path / name, small())


def test_last_layer_of_nets_and_of_none():
    assert last_layer(build("convnet", channels=1, size=8, classes=3)) == "classifier"
    assert last_layer(build("torchvision", channels=3, size=32, classes=3)) == "classifier.1"
    assert last_layer(nn.Linear(2, 2)) == ""
    assert Weights("", {}, "").fit(nn.Linear(2, 2))[2] == ("weight", "bias")
    with pytest.raises(UsageError, match="no last layer"):
        last_layer(nn.Sequential(nn.ReLU()))


@pytest.fixture
def published(monkeypatch, tmp_path, source):
    """A stand-in for torchvision's table: one model, whose file is named by its SHA-256."""
    file = written(tmp_path / "made.pth", source)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    entry = SimpleNamespace(url=f"https://example.org/models/small-{digest}.pth", name="V1")
    monkeypatch.setattr(
        "torchvision.models.get_model_weights", lambda model: SimpleNamespace(DEFAULT=entry)
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    return SimpleNamespace(
        file=file, cached=tmp_path / "cache" / "hub" / "checkpoints" / f"small-{digest}.pth"
    )


def test_imagenet_weights_from_the_cache(published, monkeypatch):
    fetched = []

    def fetch(url, path, digest, progress):
        fetched.append((url, digest))
        Path(path).write_bytes(published.file.read_bytes())

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    first = read_weights("imagenet", small(), model="small")
    again = read_weights("imagenet", small(), model="small", download=False)
    assert len(fetched) == 1 and fetched[0][1] in fetched[0][0]
    assert first.source == "torchvision small V1" and first.fingerprint == again.fingerprint
    published.cached.write_bytes(b"other")
    with pytest.raises(DataError, match="SHA-256 does not begin with"):
        read_weights("imagenet", small(), model="small")


def test_missing_imagenet_weights_say_where_to_put_them(published, monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    for download, words in (
        (True, "could not be fetched"),
        (False, "fetching them was not allowed"),
    ):
        with pytest.raises(Unavailable, match=words) as caught:
            read_weights("imagenet", small(), model="small", download=download)
        assert published.cached.name in str(caught.value) and str(published.cached.parent) in str(
            caught.value
        )


def test_imagenet_weights_of_nets_that_have_none():
    with pytest.raises(UsageError, match="none of its models"):
        read_weights("imagenet", small())
    with pytest.raises(UsageError, match="no ImageNet weights for 'resnet81'"):
        read_weights("imagenet", small(), model="resnet81")
    for channels, size in ((3, 32), (1, 64), (3, 64)):
        with torch.device("meta"):
            net = AlexNet(channels=channels, size=size, classes=2)
        with pytest.raises(UsageError, match="224 px and 3 channels"):
            read_weights("imagenet", net)


def test_alexnet_at_224_px_takes_torchvisions(published):
    with torch.device("meta"):
        net = AlexNet(channels=3, size=224, classes=2)
    published.cached.parent.mkdir(parents=True)
    published.cached.write_bytes(published.file.read_bytes())
    assert read_weights("imagenet", net).source == "torchvision alexnet V1"


def test_every_published_file_is_named_by_its_digest():
    import torchvision

    from datadistill.nets.torchvision_net import models

    for model in models():
        name = torchvision.models.get_model_weights(model).DEFAULT.url.rsplit("/", 1)[-1]
        assert re.fullmatch(r".+-[0-9a-f]{8,}\.pth", name), name


def test_real_squeezenet():
    place = next((p / SQUEEZENET for p in PLACES if (p / SQUEEZENET).is_file()), None)
    if place is None:
        pytest.skip(f"{SQUEEZENET} is not in $DATADISTILL_DATA nor in ../shared/data")
    net = build("torchvision", channels=3, size=64, classes=20, model="squeezenet1_0")
    theta, buffers, fresh = read_weights(place, net).fit(net)
    assert (
        len(theta) == 50 and buffers == {} and fresh == ("classifier.1.weight", "classifier.1.bias")
    )


@pytest.mark.parametrize(("kind", "prefix"), [("net", ""), ("kd-net", "0.")])
def test_weights_in_a_file_of_ours_are_read(tmp_path, source, kind, prefix):
    found = read_weights(
        own_file(tmp_path / "w.safetensors", source, kind, prefix), small()
    ).tensors
    assert found.keys() == source.keys() and all(torch.equal(found[k], source[k]) for k in source)


def test_a_torch_archive_written_without_checksums_is_read(tmp_path, source):
    former = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = written(tmp_path / "w.pt", source)
    finally:
        torch.serialization.set_crc32_options(former)
    assert torch.equal(read_weights(path, small()).tensors["0.weight"], source["0.weight"])


def test_published_weights_are_read_once(published, monkeypatch):
    published.cached.parent.mkdir(parents=True)
    published.cached.write_bytes(published.file.read_bytes())
    opened = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path) or read(path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    read_weights("imagenet", small(), model="small")
    assert opened == [published.cached]
