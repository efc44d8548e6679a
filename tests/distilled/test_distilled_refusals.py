"""Files with a checksum that holds and content that makes no sense: each is refused for its own reason."""

import math

import pytest
import torch
from distilled_cases import assert_same_set, distilled, parts, write

from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError

BASES = {
    "fixed": {"fixed": True},
    "soft": {"soft": True},
    "per tensor": {"fixed": True, "per_tensor": True},
    "quantized": {"bits": 8},
}


def tensor(name, change):
    def edit(tensors, meta):
        tensors[name] = change(tensors[name].clone())

    return edit


def put(index, value):
    def change(x):
        x[index] = value
        return x

    return change


def entry(key, *path_and_value):
    *path, value = path_and_value

    def edit(tensors, meta):
        place, last = meta, key
        for part in path:
            place, last = place[last], part
        place[last] = value

    return edit


def without(name):
    def edit(tensors, meta):
        del (tensors if name in tensors else meta)[name]

    return edit


def extra_tensor(tensors, meta):
    tensors["stowaway"] = torch.zeros(1)


def without_theta_0_bias(tensors, meta):
    del tensors["theta_0.layers.0.bias"]
    meta["theta_0"].remove("layers.0.bias")


def theta_0_of_another_net(tensors, meta):
    tensors["theta_0.conv.weight"] = torch.zeros(2)
    meta["theta_0"].append("conv.weight")


# base, edit, words of the message: the tensor, what was found, what was wanted
CASES = {
    "3 channels": ("fixed", tensor("images", lambda x: x.repeat(1, 3, 1, 1)), ["images have 3 channels", "1"]),
    "7 pixels": ("fixed", tensor("images", lambda x: torch.zeros(8, 1, 7, 7)), ["images are 1x7x7", "1x6x6"]),
    "flat images": ("fixed", tensor("images", lambda x: x.flatten(1)), ["images are (8, 36)", "(N, C, H, W)"]),
    "no image": ("fixed", tensor("images", lambda x: x[:0]), ["images are (0, 1, 6, 6)", "N >= 1"]),
    "codes without a range": ("fixed", tensor("images", lambda x: x.byte()), ["images are torch.uint8"]),
    "range without codes": ("quantized", tensor("images", lambda x: x.float()), ["images are torch.float32"]),
    "NaN pixel": ("fixed", tensor("images", put((2, 0, 1, 5), math.nan)), ["'images' is nan", "(2, 0, 1, 5)"]),
    "infinite pixel": (
        "fixed",
        tensor("images", put((7, 0, 0, 0), math.inf)),
        ["'images' is inf", "(7, 0, 0, 0)"],
    ),
    "no images": ("fixed", without("images"), ["holds the tensors", "wanted", "'images'"]),
    "one tensor more": ("fixed", extra_tensor, ["holds the tensors", "stowaway", "wanted"]),
    "a label short": ("fixed", tensor("labels", lambda x: x[:-1]), ["labels are (7,)", "8 int64"]),
    "label 4 of 4 classes": ("fixed", tensor("labels", put(0, 4)), ["labels reach", "4", "wanted 0..3"]),
    "label -1": ("fixed", tensor("labels", put(0, -1)), ["labels reach -1", "wanted 0..3"]),
    "small integers": ("fixed", tensor("labels", lambda x: x.int()), ["torch.int32", "int64"]),
    "3 columns of labels": ("soft", tensor("labels", lambda x: x[:, :3]), ["labels are (8, 3)", "(8, 4)"]),
    "negative label": (
        "soft",
        tensor("labels", lambda x: torch.tensor([-0.5, 1.5, 0, 0]).repeat(8, 1)),
        ["labels are not probabilities", "0 or more"],
    ),
    "labels that sum to 2": (
        "soft",
        tensor("labels", lambda x: 2 * x),
        ["labels are not probabilities", "sum to 1"],
    ),
    "NaN label": ("soft", tensor("labels", put((1, 2), math.nan)), ["'labels' is nan", "(1, 2)"]),
    "3 step sizes": (
        "fixed",
        tensor("step_sizes", lambda x: x[:3]),
        ["step_sizes are (3,) for 4 steps", "(4,)"],
    ),
    "step size 0": ("fixed", tensor("step_sizes", put(1, 0.0)), ["step_sizes has 0.0", "positive"]),
    "negative step size": (
        "per tensor",
        tensor("step_sizes", put((1, 2), -0.5)),
        ["step_sizes has -0.5", "positive"],
    ),
    "infinite step size": ("fixed", tensor("step_sizes", put(3, math.inf)), ["'step_sizes' is inf", "finite"]),
    "step sizes in a cube": (
        "fixed",
        tensor("step_sizes", lambda x: x.view(4, 1, 1)),
        ["step_sizes are (4, 1, 1)"],
    ),
    "3 columns of step sizes": (
        "per tensor",
        tensor("step_sizes", lambda x: x[:, :3].clone()),
        ["step_sizes has 3 columns", "4 tensor names"],
    ),
    "image 8 of 8": (
        "fixed",
        entry("order", [[0, 8], [1], [2], [3]]),
        ["order of step 0 is [0, 8]", "8 images"],
    ),
    "image -1": ("fixed", entry("order", [[0], [1], [-1], [3]]), ["order of step 2 is [-1]", "8 images"]),
    "empty step": ("fixed", entry("order", [[0], [1], [], [3]]), ["order of step 2 is []", "8 images"]),
    "a step short": ("fixed", entry("order", [[0], [1], [2]]), ["step_sizes are (4,) for 3 steps"]),
    "half an image": ("fixed", entry("order", [[0.5], [1], [2], [3]]), ["order is [[0.5]", "whole numbers"]),
    "true for an image": (
        "fixed",
        entry("order", [[True], [1], [2], [3]]),
        ["order is [[True]", "whole numbers"],
    ),
    "no order": ("fixed", entry("order", None), ["order is None", "whole numbers"]),
    "3 classes": ("fixed", entry("classes", ["a", "b", "c"]), ["labels reach", "wanted 0..2"]),
    "5 classes": ("fixed", entry("classes", ["a", "b", "c", "d", "e"]), ["net has 4 outputs for 5 classes"]),
    "two classes of one name": (
        "fixed",
        entry("classes", ["a", "b", "c", "a"]),
        ["classes has 'a' twice", "different names"],
    ),
    "classes that are no names": (
        "fixed",
        entry("classes", [1, 2, 3, 4]),
        ["classes are [1, 2, 3, 4]", "names"],
    ),
    "no classes": ("fixed", entry("classes", None), ["classes are None"]),
    "theta_0 transposed": (
        "fixed",
        tensor("theta_0.layers.0.weight", lambda x: x.T),
        ["theta_0 'layers.0.weight' is floats (36, 5)", "wanted floats (5, 36)"],
    ),
    "theta_0 of another net": (
        "fixed",
        theta_0_of_another_net,
        ["theta_0 'conv.weight' is floats (2,)", "wanted none of the net mlp"],
    ),
    "theta_0 without a tensor": (
        "fixed",
        without_theta_0_bias,
        ["'layers.0.bias' is missing", "wanted"],
    ),
    "theta_0 not stored": (
        "fixed",
        without("theta_0.layers.0.bias"),
        ["holds the tensors", "theta_0.layers.0.bias"],
    ),
    "theta_0 in integers": (
        "fixed",
        tensor("theta_0.layers.0.bias", lambda x: x.long()),
        ["theta_0 'layers.0.bias' is torch.int64"],
    ),
    "NaN in theta_0": (
        "fixed",
        tensor("theta_0.layers.0.bias", put(3, math.nan)),
        ["'theta_0.layers.0.bias' is nan", "(3,)"],
    ),
    "unknown net": ("fixed", entry("net", "name", "mpl"), ["'mpl'", "mlp"]),
    "unknown argument of the net": ("fixed", entry("net", "args", "widht", 5), ["widht", "width"]),
    "a word for the width": ("fixed", entry("net", "args", "width", "wide"), ["width", "wide"]),
    "no size": ("fixed", entry("net", "args", {}), ["images are 1x6x6"]),
    "unknown initialization": ("fixed", entry("net", "init", "xavir"), ["'xavir'", "xavier"]),
    "unknown update rule": ("fixed", entry("update", {"name": "sdg"}), ["'sdg'", "sgd"]),
    "an argument of the rule missing": (
        "fixed",
        entry("update", {"name": "sgd"}),
        ["update lacks ['weight_decay']"],
    ),
    "momentum of 2": (
        "fixed",
        entry("update", {"name": "momentum", "beta": 2.0, "nesterov": False, "weight_decay": 0.0}),
        ["beta is 2"],
    ),
    "norm it cannot replay": ("fixed", entry("norm", "track"), ["norm is 'track'", "batch or frozen"]),
    "deviation 0": ("fixed", entry("normalization", "std", [0.0]), ["std", "above 0"]),
    "nine bits": ("quantized", entry("quantization", "bits", 9), ["bits is 9", "1 to 8"]),
    "falling range": ("quantized", entry("quantization", "low", 1e9), ["range is 1000000000.0 to"]),
    "origin that is a number": ("fixed", entry("origin", 5), ["origin is 5", "an object"]),
    "origin in pairs": ("fixed", entry("origin", [["seed", 0]]), ["origin is [['seed', 0]]"]),
    "recipe that is a list": ("fixed", entry("origin", "recipe", ["a"]), ["origin.recipe is ['a']", "a text"]),
    "true for the seed": ("fixed", entry("origin", "seed", True), ["origin.seed is True", "whole number"]),
    "attack on class 9": ("fixed", entry("origin", "attack", [0, 9]), ["origin.attack is [0, 9]", "0..3"]),
    "accuracy of 101": ("fixed", entry("accuracies", "test", 101), ["accuracies.test is 101", "0 to 100"]),
    "accuracy in words": (
        "fixed",
        entry("accuracies", {"accuracy_mean": "high"}),
        ["accuracies.accuracy_mean is 'high'", "finite number"],
    ),
    "accuracies that are a list": ("fixed", entry("accuracies", [1.0]), ["accuracies is [1.0]", "an object"]),
    "half a net": ("fixed", entry("accuracies", {"nets": 0.5}), ["accuracies.nets is 0.5", "whole number"]),
    "update rule in words": ("fixed", entry("update", "sgd"), ["update rule is 'sgd'", "name and arguments"]),
    "a word for beta": (
        "fixed",
        entry("update", {"name": "momentum", "beta": "big"}),
        ["update rule momentum: beta is 'big'", "a number"],
    ),
    "true for beta": ("fixed", entry("update", {"name": "momentum", "beta": True}), ["beta is true"]),
    "names of tensors twice": ("per tensor", entry("tensors", ["a"] * 4), ["tensors has a name twice"]),
    "a number for a name": ("per tensor", entry("tensors", [1, 2, 3, 4]), ["tensors is [1, 2, 3, 4]", "names"]),
    "a list for an argument": (
        "fixed",
        entry("net", "args", "width", [5]),
        ["net.args.width is [5]", "number or a text"],
    ),
    "true for the bits": ("quantized", entry("quantization", "bits", True), ["bits is True"]),
    "a word for the range": ("quantized", entry("quantization", "low", "a"), ["quantization.low is 'a'"]),
    "a code beyond its bits": ("quantized", entry("quantization", "bits", 7), ["has the code 255", "7 bits"]),
    "half a surrogate pair": (
        "fixed",
        entry("classes", ["\ud800", "b", "c", "d"]),
        ["classes[0]", "surrogate pair"],
    ),
    "a number beyond 64 bits": ("fixed", entry("origin", "seed", 2**64), ["origin.seed is 1844", "64 bits"]),
    "names of tensors missing": (
        "per tensor",
        entry("tensors", ["a"]),
        ["step_sizes has 4 columns and 1 tensor"],
    ),
}


@pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
def test_the_unedited_parts_load(base, tmp_path):
    d = distilled(**base)
    assert_same_set(DistilledDataset.load(write(tmp_path / "whole", *parts(d))), d)


@pytest.mark.parametrize(("base", "edit", "words"), CASES.values(), ids=CASES.keys())
def test_refused(base, edit, words, tmp_path):
    tensors, meta = parts(distilled(**BASES[base]))
    edit(tensors, meta)
    path = write(tmp_path / "crafted", tensors, meta)
    for verify in (True, False):
        with pytest.raises(DataError) as refusal:
            DistilledDataset.load(path, verify=verify)
        message = str(refusal.value)
        assert str(path) in message
        assert [w for w in words if w not in message] == [], message
        assert refusal.value.exit_code == 3


def test_the_constructor_refuses_the_same_way():
    d = distilled()
    with pytest.raises(DataError, match=r"step_sizes has 0\.0"):
        DistilledDataset(
            d.images, d.labels, d.step_sizes * 0, d.order,
            classes=d.classes, normalization=d.normalization, net=d.net, update=d.update,
        )  # fmt: skip
    with pytest.raises(DataError, match="images: image 3 has values that are not finite"):
        DistilledDataset(
            put((3, 0, 0, 0), math.nan)(d.images.clone()), d.labels, d.step_sizes, d.order,
            classes=d.classes, normalization=d.normalization, net=d.net, update=d.update,
        )  # fmt: skip
