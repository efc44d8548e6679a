"""The nets of RepDistiller: as many parameters as its own, and tensors of its names and shapes."""

import pytest
import torch

import kd_baselines.nets as kd
from datadistill.errors import DataError
from datadistill.nets.weights import read_weights

PARAMETERS = {  # of its nets with 100 classes, counted with its code at commit b84f547
    "resnet8": 83_892,
    "resnet14": 181_108,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet44": 667_188,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "vgg8": 3_965_028,
    "cifar-vgg11": 9_277_284,
    "vgg13": 9_462_180,
    "vgg16": 14_774_436,
    "vgg19": 20_086_692,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "MobileNetV2": 812_836,
    "ShuffleV1": 949_258,
    "ShuffleV2": 1_355_528,
}
TENSORS = {  # some of its names, with their shapes
    "resnet20": {
        "layer2.0.downsample.0.weight": (32, 16, 1, 1),
        "layer3.2.bn2.running_var": (64,),
        "fc.weight": (100, 64),
    },
    "vgg13": {"block2.3.weight": (256, 256, 3, 3), "classifier.bias": (100,)},
    "MobileNetV2": {
        "conv1.0.weight": (16, 3, 3, 3),
        "blocks.2.0.conv.3.weight": (72, 1, 3, 3),
        "classifier.0.weight": (100, 1280),
    },
    "ShuffleV1": {"layer1.0.conv1.weight": (54, 24, 1, 1), "linear.weight": (100, 960)},
    "ShuffleV2": {"layer3.0.conv5.weight": (232, 232, 1, 1), "conv2.weight": (1024, 464, 1, 1)},
}
WIDE = {  # its names of a wide residual net's tensors -> those here
    "conv1.weight": "conv1.weight",
    "block1.layer.0.bn1.weight": "group1.0.norm1.weight",
    "block2.layer.0.convShortcut.weight": "group2.0.shortcut.weight",
    "block3.layer.1.conv2.weight": "group3.1.conv2.weight",
    "bn1.running_mean": "norm.running_mean",
    "fc.bias": "classifier.bias",
}


def build(name):
    with torch.device("meta"):
        return kd.KD_NETS[name](channels=3, size=32, classes=100)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_in_the_published_code(name):
    assert kd.parameters(build(name)) == PARAMETERS[name]


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_have_the_published_names_and_shapes(name):
    found = build(name).state_dict()
    assert {key: tuple(found[key].shape) for key in TENSORS[name]} == TENSORS[name]


def test_names_of_wide_residual_nets_become_those_here():
    net = build("wrn_16_2")
    for theirs, own in WIDE.items():
        assert net.to_own_name(theirs) == own == net.to_own_name(own)
        assert own in net.state_dict()


def to_repdistiller(name):
    """The published name of a tensor here."""
    if name.startswith("group"):
        group, number, rest = name.split(".", 2)
        rest = rest.replace("norm", "bn").replace("shortcut", "convShortcut")
        return f"{group.replace('group', 'block')}.layer.{number}.{rest}"
    return name.replace("norm.", "bn1.").replace("classifier.", "fc.")


def test_a_checkpoint_of_a_wide_residual_net_loads(tmp_path):
    source = kd.build("wrn_16_1", channels=3, size=32, classes=100)
    with torch.no_grad():
        for p in source.parameters():
            p.normal_()
    tensors = {to_repdistiller(name): tensor for name, tensor in source.state_dict().items()}
    assert "block3.layer.0.convShortcut.weight" in tensors and "fc.weight" in tensors
    # what its training writes beside the net
    torch.save({"epoch": 240, "best_acc": 75.6, "model": tensors}, tmp_path / "wrn.pth")
    net = kd.build("wrn_16_1", channels=3, size=32, classes=100)
    theta, buffers, fresh = read_weights(tmp_path / "wrn.pth", net).fit(net, fresh_last=False)
    net.load_state_dict({**theta, **buffers})
    assert not fresh
    for name, tensor in source.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor)
    other = kd.build("wrn_16_2", channels=3, size=32, classes=100)
    with pytest.raises(DataError, match="does not fit the net"):
        read_weights(tmp_path / "wrn.pth", other).fit(other)
