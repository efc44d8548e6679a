"""The Lipschitz-Hausdorff bound, against scipy and against nets whose constants are known."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import directed_hausdorff
from torch import nn

from datadistill.errors import UsageError
from kd_baselines.hausdorff import (
    asymmetric_hausdorff,
    choose_source,
    lipschitz_bound,
    nearest,
    nearest_distances,
    source_bound,
)

ROUNDING = 1e-14  # of a distance of a few float64 coordinates, computed in another shape


def points(seed, n=30, d=4):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("chunk", [1, 7, 1024])
@pytest.mark.parametrize("seed", range(5))
def test_scipy_agrees(seed, chunk):
    a, b = points(seed, 40), points(seed + 100, 23) + 0.3
    found = asymmetric_hausdorff(a, b, chunk=chunk)
    assert float(found) == pytest.approx(directed_hausdorff(a.numpy(), b.numpy())[0], rel=1e-14)
    assert float(found) != pytest.approx(directed_hausdorff(b.numpy(), a.numpy())[0], rel=1e-3)


def test_images_and_points_are_the_same():
    a, b = points(0, 6, 12), points(1, 5, 12)
    as_images = asymmetric_hausdorff(a.view(6, 3, 2, 2), b.view(5, 3, 2, 2))
    assert torch.equal(as_images, asymmetric_hausdorff(a, b))
    every = (a[:, None] - b[None]).square().sum(-1).sqrt()
    assert torch.allclose(nearest_distances(a, b), every.amin(1), rtol=1e-14)


@pytest.mark.parametrize("chunk", [1, 4, 1024])
def test_the_nearest_point_is_at_the_distance(chunk):
    a, b = points(0, 9), points(1, 7)
    distances, places = nearest(a, b, chunk=chunk)
    torch.testing.assert_close((a - b[places]).norm(dim=1), distances, rtol=ROUNDING, atol=0)


def test_small_distances_between_large_points_keep_their_digits():
    a = 1000 + torch.rand(50, 100, generator=torch.Generator().manual_seed(0))
    b = a.clone()
    b[:, 0] += 2**-10
    assert asymmetric_hausdorff(a, b).item() == 2**-10


def affine_draw(generator):
    """Affine T and S, a source and a target that lies elsewhere; all gaps."""

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    source, target = draw(12, 3), draw(8, 3) * 0.7 + draw(3)
    difference, bias = draw(5, 3), draw(5)
    gap = [(x @ difference.T + bias).norm(dim=1) for x in (source, target)]
    return source, target, difference, gap


def test_a_thousand_affine_draws_and_only_the_mean_violates():
    generator = torch.Generator().manual_seed(0)
    violations = means = swapped = 0
    for _ in range(1000):
        source, target, difference, (on_source, on_target) = affine_draw(generator)
        k, worst = float(torch.linalg.matrix_norm(difference, ord=2)), float(on_source.max())
        distance = asymmetric_hausdorff(source, target)
        violations += worst > source_bound(on_target, k, distance)
        means += worst > source_bound(float(on_target.mean()), k, distance)
        swapped += worst > source_bound(on_target, k, asymmetric_hausdorff(target, source))
    assert violations == 0
    assert means > 0  # with a mean over the target the statement is false
    assert swapped > 0  # and with the distance of the target from the source


def test_equality_where_source_and_target_are_the_same():
    source, _, difference, (gaps, _) = affine_draw(torch.Generator().manual_seed(1))
    k = float(torch.linalg.matrix_norm(difference, ord=2))
    assert asymmetric_hausdorff(source, source.flip(0)) == 0
    assert source_bound(gaps, k, asymmetric_hausdorff(source, source.flip(0))) == float(gaps.max())


def test_the_bound_is_attained():
    # T - S = 2 x in one dimension; target at 1, source at 4: 8 = 2 + 2 * 3
    source, target = torch.tensor([[4.0]]), torch.tensor([[1.0]])
    assert source_bound(2 * target.norm(dim=1), 2.0, asymmetric_hausdorff(source, target)) == 8.0


def test_the_bound_of_two_nets_by_the_sum_of_their_constants():
    for seed in range(20):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            nets = [
                nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
                for _ in range(2)
            ]
        source, target = points(seed), points(seed + 50, 12)
        gaps = [(nets[0](x) - nets[1](x)).detach().norm(dim=1) for x in (source, target)]
        k = lipschitz_bound(nets[0]) + lipschitz_bound(nets[1])
        assert float(gaps[0].max()) <= source_bound(
            gaps[1], k, asymmetric_hausdorff(source, target)
        )


def test_more_target_images_never_raise_the_distance():
    falls = 0
    for seed in range(50):
        a, b = points(seed), points(seed + 1000, 15)
        noisy = torch.cat([b, b + 0.5 * points(seed + 2000, 15)])
        before, after = asymmetric_hausdorff(a, b), asymmetric_hausdorff(a, noisy)
        assert after <= before * (1 + ROUNDING)
        falls += bool(after < before * (1 - ROUNDING))
    assert falls > 0


def test_choosing_the_source_lowers_the_distance_best():
    source, target = points(3, 9), points(4, 5)
    before = asymmetric_hausdorff(source, target)
    distances = []
    for keep in range(1, 10):
        kept = choose_source(source, target, keep)
        assert len(set(kept.tolist())) == keep
        distances.append(asymmetric_hausdorff(source[kept], target))
        subsets = itertools.combinations(nearest_distances(source, target), keep)
        best = min(map(max, subsets))  # of all subsets of this size
        torch.testing.assert_close(distances[-1], best, rtol=ROUNDING, atol=0)
    assert all(b >= a * (1 - ROUNDING) for a, b in itertools.pairwise(distances))
    torch.testing.assert_close(distances[-1], before, rtol=ROUNDING, atol=0)
    assert distances[0] < distances[4] < before  # not constant


def test_equally_near_points_are_taken_in_order():
    assert choose_source(
        torch.tensor([[1.0], [-1.0], [0.5], [1.0]]), torch.zeros(1, 1), 3
    ).tolist() == [
        2,
        0,
        1,
    ]


def as_matrix(layer, *shape):
    """The matrix of a layer that is linear up to a bias."""
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    basis = torch.eye(zero.numel(), dtype=torch.float64).view(-1, *shape)
    return (layer(basis) - layer(zero)).flatten(1).T


@pytest.mark.parametrize(
    ("layer", "exact"),
    [
        (nn.Linear(5, 3), True),
        (nn.Conv2d(2, 3, 1), True),
        (nn.Conv2d(2, 3, 3, stride=3), True),  # patches that do not overlap
        (nn.Conv2d(2, 3, 3, padding=1), False),
        (nn.Conv2d(2, 3, (2, 3), stride=(1, 2)), False),
        (nn.Conv2d(2, 4, 3, groups=2, stride=2), False),
        (nn.Conv2d(2, 3, 3, dilation=2, padding=2), False),
        (nn.Conv2d(2, 3, 3, dilation=2, stride=2), False),
        (nn.AvgPool2d(2), True),
        (nn.AvgPool2d(3, stride=1, padding=1), False),
        (nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), False),
        (nn.AvgPool2d(4, ceil_mode=True), False),
        (nn.AdaptiveAvgPool2d(1), False),
        (nn.BatchNorm2d(2).eval(), True),
    ],
)
def test_linear_layers_against_their_whole_matrix(layer, exact):
    layer = layer.double()
    if isinstance(layer, nn.BatchNorm2d):
        layer.running_var.copy_(torch.tensor([0.25, 4.0]))
        layer.weight.data.copy_(torch.tensor([-3.0, 1.0]))
    matrix = as_matrix(layer, *((5,) if isinstance(layer, nn.Linear) else (2, 6, 6)))
    norm, bound = float(torch.linalg.matrix_norm(matrix.detach(), ord=2)), lipschitz_bound(layer)
    assert norm <= bound * (1 + 1e-12)
    assert not exact or bound == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 1),
        nn.MaxPool2d(3, 2, 1),
        nn.Sigmoid(),
        nn.LeakyReLU(2.0),
        nn.Tanh(),
    ],
)
def test_other_layers_never_stretch_further(layer):
    generator = torch.Generator().manual_seed(0)
    stretch = 0.0
    for _ in range(200):
        x, step = (
            torch.randn(1, 1, 5, 5, dtype=torch.float64, generator=generator) for _ in range(2)
        )
        # a single bright pixel is in every patch that holds it
        if torch.rand((), generator=generator) < 0.5:
            x, step = torch.zeros_like(x), torch.zeros_like(x).index_fill_(2, torch.tensor(2), 0)
            step[0, 0, 2, 2] = 1e-3
        stretch = max(
            stretch, float((layer(x + 0.01 * step) - layer(x)).norm() / (0.01 * step).norm())
        )
    bound = lipschitz_bound(layer)
    assert 0.45 * bound < stretch <= bound * (1 + 1e-9)


def test_a_deep_net_is_bounded_by_the_product():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Flatten(),
            nn.Linear(12, 2),
        ).double()
    x, y = points(0, 200, 16).view(200, 1, 4, 4), points(1, 200, 16).view(200, 1, 4, 4)
    with torch.no_grad():
        stretch = (net(x) - net(y)).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    k = lipschitz_bound(net)
    assert float(stretch.max()) <= k
    assert k == pytest.approx(
        lipschitz_bound(net[0]) * np.linalg.norm(net[2].weight.detach().numpy(), 2)
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: asymmetric_hausdorff(torch.zeros(0, 2), torch.zeros(3, 2)),
            r"shapes \(0, 2\) and \(3, 2\)",
        ),
        (
            lambda: asymmetric_hausdorff(torch.zeros(2, 2), torch.zeros(3, 3)),
            r"the same shape behind it",
        ),
        (lambda: nearest_distances(torch.zeros(2), torch.zeros(2)), r"wanted \(points, \.\.\.\)"),
        (lambda: nearest_distances(torch.zeros(2, 1), torch.zeros(2, 1), chunk=0), r"chunk is 0"),
        (
            lambda: choose_source(torch.zeros(2, 1), torch.zeros(2, 1), 3),
            r"3 of 2 source points .* give 1 to 2",
        ),
        (lambda: choose_source(torch.zeros(2, 1), torch.zeros(2, 1), 0), r"0 of 2 source points"),
        (lambda: source_bound(-1.0, 1.0, 1.0), r"gap is -1.0"),
        (lambda: source_bound(torch.zeros(0), 1.0, 1.0), r"without a gap"),
        (lambda: source_bound(1.0, math.inf, 1.0), r"Lipschitz constant is inf"),
        (lambda: source_bound(1.0, 1.0, math.nan), r"distance is nan"),
        (lambda: lipschitz_bound(nn.Softmax(1)), r"no Lipschitz bound is known for Softmax"),
        (lambda: lipschitz_bound(nn.BatchNorm1d(2)), r"BatchNorm1d.* in training mode"),
        (lambda: lipschitz_bound(nn.Dropout(0.5)), r"Dropout.* in training mode"),
        (lambda: lipschitz_bound(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")), r"Conv2d"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(UsageError, match=words):
        call()
