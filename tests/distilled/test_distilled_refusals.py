"""Files with a checksum that holds and content that makes no sense: each is refused for its own
reason."""

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


def attack(attacked, target):
    return {"name": "attack", "attacked": attacked, "target": target}


# base -> edit, words of the message: the tensor, what was found, what was wanted
REFUSED = {
    "fixed": [
        (tensor("images", lambda x: x.repeat(1, 3, 1, 1)), ["images have 3 channels", "1"]),
        (tensor("images", lambda x: torch.zeros(8, 1, 7, 7)), ["images are 1x7x7", "1x6x6"]),
        (tensor("images", lambda x: x.flatten(1)), ["images are (8, 36)", "(N, C, H, W)"]),
        (tensor("images", lambda x: x[:0]), ["images are (0, 1, 6, 6)", "N >= 1"]),
        (tensor("images", lambda x: x.byte()), ["images are torch.uint8"]),
        (tensor("images", put((2, 0, 1, 5), math.nan)), ["'images' is nan", "(2, 0, 1, 5)"]),
        (tensor("images", put((7, 0, 0, 0), math.inf)), ["'images' is inf", "(7, 0, 0, 0)"]),
        (without("images"), ["holds the tensors", "wanted", "'images'"]),
        (extra_tensor, ["holds the tensors", "stowaway", "wanted"]),
        (tensor("labels", lambda x: x[:-1]), ["labels are (7,)", "8 int64"]),
        (tensor("labels", put(0, 4)), ["labels reach", "4", "wanted 0..3"]),
        (tensor("labels", put(0, -1)), ["labels reach -1", "wanted 0..3"]),
        (tensor("labels", lambda x: x.int()), ["torch.int32", "int64"]),
        (tensor("step_sizes", lambda x: x[:3]), ["step_sizes are (3,) for 4 steps", "(4,)"]),
        (tensor("step_sizes", put(1, 0.0)), ["step_sizes has 0.0", "positive"]),
        (tensor("step_sizes", put(3, math.inf)), ["'step_sizes' is inf", "finite"]),
        (tensor("step_sizes", lambda x: x.view(4, 1, 1)), ["step_sizes are (4, 1, 1)"]),
        (entry("schedule", "batches", [[0, 8], [1]]), ["order of step 0 is [0, 8]", "8 images"]),
        (entry("schedule", "batches", [[0], [-1]]), ["order of step 1 is [-1]", "8 images"]),
        (entry("schedule", "batches", [[0], []]), ["order of step 1 is []", "8 images"]),
        (entry("schedule", "epochs", 3), ["step_sizes are (4,) for 6 steps"]),
        (
            entry("schedule", "epochs", 10**18),
            ["step_sizes are (4,) for 2000000000000000000 steps"],
        ),
        (entry("schedule", "epochs", 0), ["schedule.epochs is 0", "from 1"]),
        (entry("schedule", "name", "random"), ["schedule.name is 'random'", "explicit"]),
        (entry("schedule", [[0], [1]]), ["schedule is [[0], [1]]", "an object"]),
        (
            entry("schedule", "batches", [[0.5], [1]]),
            ["schedule.batches is [[0.5]", "whole numbers"],
        ),
        (
            entry("schedule", "batches", [[True], [1]]),
            ["schedule.batches is [[True]", "whole numbers"],
        ),
        (entry("schedule", "batches", None), ["schedule.batches is None", "whole numbers"]),
        (entry("classes", ["a", "b", "c"]), ["labels reach", "wanted 0..2"]),
        (entry("classes", ["a", "b", "c", "d", "e"]), ["net has 4 outputs for 5 classes"]),
        (entry("classes", ["a", "b", "c", "a"]), ["classes has 'a' twice", "different names"]),
        (entry("classes", [1, 2, 3, 4]), ["classes are [1, 2, 3, 4]", "names"]),
        (entry("classes", None), ["classes are None"]),
        (
            tensor("theta_0.layers.0.weight", lambda x: x.T),
            ["theta_0 'layers.0.weight' is floats (36, 5)", "wanted floats (5, 36)"],
        ),
        (
            theta_0_of_another_net,
            ["theta_0 'conv.weight' is floats (2,)", "wanted none of the net mlp"],
        ),
        (without_theta_0_bias, ["'layers.0.bias' is missing", "wanted"]),
        (without("theta_0.layers.0.bias"), ["holds the tensors", "theta_0.layers.0.bias"]),
        (
            tensor("theta_0.layers.0.bias", lambda x: x.long()),
            ["theta_0 'layers.0.bias' is torch.int64"],
        ),
        (
            tensor("theta_0.layers.0.bias", put(3, math.nan)),
            ["'theta_0.layers.0.bias' is nan", "(3,)"],
        ),
        (entry("net", "name", "mpl"), ["'mpl'", "mlp"]),
        (entry("net", "args", "widht", 5), ["widht", "width"]),
        (entry("net", "args", "width", "wide"), ["width", "wide"]),
        (entry("net", "args", {}), ["images are 1x6x6"]),
        (entry("net", "init", "xavir"), ["'xavir'", "xavier"]),
        (entry("update", {"name": "sdg"}), ["'sdg'", "sgd"]),
        (entry("update", {"name": "sgd"}), ["update lacks ['weight_decay']"]),
        (
            entry(
                "update", {"name": "momentum", "beta": 2.0, "nesterov": False, "weight_decay": 0.0}
            ),
            ["beta is 2"],
        ),
        (entry("norm", "track"), ["norm is 'track'", "batch or frozen"]),
        (entry("normalization", "std", [0.0]), ["std", "above 0"]),
        (entry("origin", 5), ["origin is 5", "an object"]),
        (entry("origin", [["seed", 0]]), ["origin is [['seed', 0]]"]),
        (entry("origin", "recipe", ["a"]), ["origin.recipe is ['a']", "a text"]),
        (entry("origin", "seed", True), ["origin.seed is True", "whole number"]),
        (entry("start", "name", "random"), ["start.name is 'random'", "draws or factory or pool"]),
        (entry("start", "one", 1), ["start.one is 1", "true or false"]),
        (entry("start", "source", 3), ["start.source is 3", "a text"]),
        (entry("start", None), ["start is None", "an object"]),
        (entry("objective", "name", "atack"), ["no objective 'atack'", "attack"]),
        (entry("objective", "target", 2), ["objective classification has no argument 'target'"]),
        (entry("objective", attack(0, 9)), ["target_class is 9", "4 classes"]),
        (entry("objective", attack(0, "1")), ["target of the objective attack is '1'"]),
        (
            entry("objective", {"name": "attack", "attacked": 0}),
            ["attack needs the argument 'target'"],
        ),
        (
            entry("objective", {"name": ["attack"]}),
            ["the objective is ['attack']", "wanted its name"],
        ),
        (entry("data", "seed", None), ["data.seed is None", "whole number"]),
        (entry("data", "holdout", -1), ["data.holdout is -1", "from 0"]),
        (entry("data", "skip_bad", 1), ["data.skip_bad is 1", "true or false"]),
        (entry("data", "parts", {"train": "AAAAAAAA"}), ["lacks train, validation or test"]),
        (without("data"), ["lacks ['data']"]),
        (entry("accuracies", "test", 101), ["accuracies.test is 101", "0 to 100"]),
        (
            entry("accuracies", {"accuracy_mean": "high"}),
            ["accuracies.accuracy_mean is 'high'", "finite number"],
        ),
        (entry("accuracies", [1.0]), ["accuracies is [1.0]", "an object"]),
        (entry("accuracies", {"nets": 0.5}), ["accuracies.nets is 0.5", "whole number"]),
        (entry("update", "sgd"), ["update rule is 'sgd'", "name and arguments"]),
        (
            entry("update", {"name": "momentum", "beta": "big"}),
            ["update rule momentum: beta is 'big'", "a number"],
        ),
        (entry("update", {"name": "momentum", "beta": True}), ["beta is true"]),
        (entry("net", "args", "width", [5]), ["net.args.width is [5]", "number or a text"]),
        (entry("classes", ["\ud800", "b", "c", "d"]), ["classes[0]", "surrogate pair"]),
        (entry("origin", "seed", 2**64), ["origin.seed is 1844", "64 bits"]),
    ],
    "quantized": [
        (tensor("images", lambda x: x.float()), ["images are torch.float32"]),
        (entry("quantization", "bits", 9), ["bits is 9", "1 to 8"]),
        (entry("quantization", "low", 1e9), ["range is 1000000000.0 to"]),
        (entry("quantization", "bits", True), ["bits is True"]),
        (entry("quantization", "low", "a"), ["quantization.low is 'a'"]),
        (entry("quantization", "bits", 7), ["has the code 255", "7 bits"]),
    ],
    "soft": [
        (tensor("labels", lambda x: x[:, :3]), ["labels are (8, 3)", "(8, 4)"]),
        (
            tensor("labels", lambda x: torch.tensor([-0.5, 1.5, 0, 0]).repeat(8, 1)),
            ["labels are not probabilities", "0 or more"],
        ),
        (tensor("labels", lambda x: 2 * x), ["labels are not probabilities", "sum to 1"]),
        (tensor("labels", put((1, 2), math.nan)), ["'labels' is nan", "(1, 2)"]),
    ],
    "per tensor": [
        (tensor("step_sizes", put((1, 2), -0.5)), ["step_sizes has -0.5", "positive"]),
        (
            tensor("step_sizes", lambda x: x[:, :3].clone()),
            ["step_sizes has 3 columns", "4 tensor names"],
        ),
        (entry("tensors", ["a"] * 4), ["tensors has a name twice"]),
        (entry("tensors", [1, 2, 3, 4]), ["tensors is [1, 2, 3, 4]", "names"]),
        (entry("tensors", ["a"]), ["step_sizes has 4 columns and 1 tensor"]),
    ],
}
CASES = [(base, *case) for base, cases in REFUSED.items() for case in cases]


@pytest.mark.parametrize("base", BASES.values(), ids=BASES.keys())
def test_the_unedited_parts_load(base, tmp_path):
    d = distilled(**base)
    assert_same_set(DistilledDataset.load(write(tmp_path / "whole", *parts(d))), d)


@pytest.mark.parametrize(("base", "edit", "words"), CASES, ids=[words[0] for *_, words in CASES])
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
            d.images,
            d.labels,
            d.step_sizes * 0,
            d.order,
            classes=d.classes,
            normalization=d.normalization,
            net=d.net,
            update=d.update,
        )
    with pytest.raises(DataError, match="images: image 3 has values that are not finite"):
        DistilledDataset(
            put((3, 0, 0, 0), math.nan)(d.images.clone()),
            d.labels,
            d.step_sizes,
            d.order,
            classes=d.classes,
            normalization=d.normalization,
            net=d.net,
            update=d.update,
        )
