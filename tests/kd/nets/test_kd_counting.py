"""Parameters and multiplications against arithmetic and against what the papers print."""

import itertools

import pytest
import torch
from torch import nn

import kd_baselines.nets as kd
from datadistill.errors import UsageError
from kd_baselines.nets.fitnets import DEPTH_STUDY, FITNETS


def make(name, **args):
    with torch.device("meta"):
        return kd.KD_NETS[name](**args)


def rounded(number, unit, digits):
    return round(number / unit, digits)


def by_hand(blocks, fc_pieces=2):
    """Weights, biases, multiplications of the convolutions and of the linear layers, of a 32 px
    FitNet."""
    weights = biases = conv = 0
    inputs, side = 3, 32
    for block in blocks:
        for units in block:
            weights += 2 * 9 * inputs * units
            conv += 2 * side * side * 9 * inputs * units
            biases += 2 * units
            inputs = units
        side //= 2
    linear = fc_pieces * inputs * 500 + 500 * 10
    return weights + linear, biases + fc_pieces * 500 + 10, conv, linear


@pytest.mark.parametrize("fc_pieces", [2, 5])
@pytest.mark.parametrize("name", FITNETS)
def test_fitnets_against_the_arithmetic(name, fc_pieces):
    weights, biases, conv, linear = by_hand(FITNETS[name], fc_pieces)
    net = make(name, fc_pieces=fc_pieces)
    assert kd.parameters(net, biases=False) == weights
    assert kd.parameters(net) == weights + biases
    assert kd.multiplications(net, (3, 32, 32), linear=False) == conv
    assert kd.multiplications(net, (3, 32, 32)) == conv + linear


# millions and thousands: convolutions, all; weights, with biases; weights with 5 pieces
FITNET_COUNTS = {
    "fitnet1": (30.08, 30.15, 249.6, 251.2, 346),
    "fitnet2": (107.64, 107.78, 861.9, 864.1, 1054),
    "fitnet4": (381.62, 381.75, 2544.7, 2548.6, 2737),
}


@pytest.mark.parametrize("name", FITNET_COUNTS)
def test_fitnets_against_the_printed_counts(name):
    net, five = make(name), make(name, fc_pieces=5)
    found = (
        rounded(kd.multiplications(net, (3, 32, 32), linear=False), 1e6, 2),
        rounded(kd.multiplications(net, (3, 32, 32)), 1e6, 2),
        rounded(kd.parameters(net, biases=False), 1e3, 1),
        rounded(kd.parameters(net), 1e3, 1),
        rounded(kd.parameters(five, biases=False), 1e3, 0),
    )
    assert found == FITNET_COUNTS[name]
    printed = {"fitnet1": (250e3, 30e6), "fitnet2": (862e3, 108e6), "fitnet4": (2.5e6, 382e6)}[name]
    assert kd.parameters(net, biases=False) == pytest.approx(printed[0], rel=0.02)
    assert kd.multiplications(net, (3, 32, 32)) == pytest.approx(printed[1], rel=0.006)
    assert kd.parameters(five, biases=False) > 1.07 * printed[0]


def test_fitnet3s_printed_row_cannot_be_had_from_its_layers():
    for fc_pieces in (1, 2, 5):
        net = make("fitnet3", fc_pieces=fc_pieces)
        multiplications = kd.multiplications(net, (3, 32, 32))
        assert abs(multiplications / 392e6 - 1) > 0.15  # printed: ~392M
    assert rounded(kd.multiplications(make("fitnet3"), (3, 32, 32), linear=False), 1e6, 1) == 323.8
    assert rounded(kd.parameters(make("fitnet3"), biases=False), 1e6, 2) == 1.50  # printed: ~1.6M


@pytest.mark.parametrize(
    ("budget", "printed"),
    [("30M", [27.1, 29.2, 29.8, 30.1]), ("107M", [101.4, 104.4, 106.2, 107.6])],
)
def test_nets_of_the_depth_study_cost_the_same(budget, printed):
    found = []
    for layers in (5, 7, 9, 11):
        net = make("fitnet-depth", layers=layers, budget=budget)
        assert len(net.convs) + 2 == layers == sum(map(len, DEPTH_STUDY[budget][layers])) + 2
        found.append(kd.multiplications(net, (3, 32, 32), linear=False))
        assert found[-1] == by_hand(DEPTH_STUDY[budget][layers])[2]
    assert [rounded(n, 1e6, 1) for n in found] == printed


def test_maxout_teachers_have_the_printed_sizes_with_two_pieces():
    mnist = 2 * 48 * 64 + 2 * 48 * 48 * 64 + 2 * 24 * 48 * 25 + 24 * 9 * 10
    assert kd.parameters(make("maxout-mnist"), biases=False) == mnist == 360816  # printed: 361K
    assert kd.parameters(make("maxout-mnist", last_pieces=4), biases=False) == 418416

    convs = 2 * 96 * 3 * 64 + 2 * 192 * 96 * 64 + 2 * 192 * 192 * 25
    cifar = convs + 2 * 500 * 192 * 25 + 500 * 10
    assert kd.parameters(make("maxout-cifar10"), biases=False) == cifar == 9044360  # printed: 9M
    assert rounded(kd.parameters(make("maxout-cifar10", fc_pieces=5), biases=False), 1e6, 1) == 16.2
    first, second, third = 33**2 * 3 * 64 * 96, 15**2 * 96 * 64 * 192, 9**2 * 192 * 25 * 192
    found = kd.multiplications(make("maxout-cifar10"), (3, 32, 32), linear=False)
    assert found == 2 * (first + second + third)

    svhn = 2 * 25 * (3 * 64 + 64 * 128 + 128 * 128) + 2 * 400 * 128 * 36 + 400 * 10
    assert kd.parameters(make("maxout-svhn"), biases=False) == svhn


def test_fitnet_for_mnist_has_the_printed_size_with_two_pieces():
    weights = (
        2 * (16 * 25 + 16 * 16 * 9 + 16 * 16 * 25 + 16 * 16 * 9 + 16 * 12 * 9 + 12 * 12 * 9)
        + 12 * 9 * 10
    )
    assert kd.parameters(make("fitnet-mnist"), biases=False) == weights == 29944  # printed: 30K
    assert kd.parameters(make("fitnet-mnist", last_pieces=4), biases=False) == 35992


@pytest.mark.parametrize(
    ("depth", "widen", "count", "printed"),
    [
        (16, 1, 175066, 0.18),
        (16, 2, 691674, 0.69),
        (40, 1, 563930, 0.56),
        (40, 2, 2243546, 2.24),
        (28, 10, 36479194, 36.5),
    ],
)
def test_wide_resnets_have_the_published_sizes(depth, widen, count, printed):
    blocks = (depth - 4) // 6
    inputs, by_arithmetic = 16, 3 * 9 * 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        by_arithmetic += 9 * inputs * width + (2 * blocks - 1) * 9 * width * width  # 3x3
        by_arithmetic += 2 * inputs + (2 * blocks - 1) * 2 * width  # norms
        # the first group of a net that is not widened keeps its channels, so it has no projection
        by_arithmetic += inputs * width if inputs != width else 0
        inputs = width
    by_arithmetic += 2 * inputs + inputs * 10 + 10
    found = kd.parameters(make("wrn", depth=depth, widen=widen))
    assert found == by_arithmetic == count
    assert rounded(found, 1e6, 1 if printed > 10 else 2) == printed


def test_other_nets_against_the_arithmetic():
    def vgg(channels, width, stages, classes):
        widths = [channels, *(m * width for stage in stages for m in stage)]
        # bias and norm: 3 a channel
        convs = sum(9 * a * b + 3 * b for a, b in itertools.pairwise(widths))
        return convs + widths[-1] * classes + classes

    nine, four = [[1], [2], [4, 4], [8, 8], [8, 8]], [[1], [2], [8]]
    assert kd.parameters(make("vgg9", classes=100)) == vgg(3, 64, nine, 100) == 9277284
    assert kd.parameters(make("vgg4", classes=100)) == vgg(3, 64, four, 100) == 718692
    small = {"channels": 1, "size": 28, "width": 16}
    assert kd.parameters(make("vgg9", **small)) == vgg(1, 16, nine, 10) == 579498
    assert kd.parameters(make("vgg4", **small)) == vgg(1, 16, four, 10) == 43434

    thin = 9 * 16 + 16 + 11 * (9 * 16 * 16 + 16) + 16 * 3 * 3 * 10 + 10
    assert kd.parameters(make("thin-cnn")) == thin == 27130
    wide = 9 * 64 + 64 + 9 * 64 * 128 + 128 + 9 * 128 * 128 + 128 + 128 * 3 * 3 * 10 + 10
    assert kd.parameters(make("wide-cnn")) == wide == 233610
    hinton = [784 * n + n + n * n + n + n * 10 + 10 for n in (1200, 800)]
    assert (
        [kd.parameters(make("mlp-dropout", width=n)) for n in (1200, 800)]
        == hinton
        == [2395210, 1276810]
    )


def test_multiplications_count_what_a_pass_calls():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3, stride=2, groups=2)
            self.norm = nn.BatchNorm2d(6)
            self.unused = nn.Linear(3, 3)

        def forward(self, x):
            h = self.norm(self.conv(x)).flatten(2)  # 7 px -> 3 px
            return h @ h.transpose(1, 2)

    net = Net().double().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    conv, product = 9 * 9 * 2 * 6, 6 * 9 * 6
    assert kd.multiplications(net, (4, 7, 7), linear=False) == conv
    assert kd.multiplications(net, (4, 7, 7)) == conv + product
    assert net.training and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())

    shared = nn.Linear(3, 3)
    assert kd.parameters(nn.Sequential(shared, shared)) == 12
    assert kd.parameters(nn.BatchNorm2d(4), biases=False) == 0


def test_a_shape_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match=r"does not take images 1x32x32 .*pass the shape"):
        kd.multiplications(make("fitnet1"), (1, 32, 32))
