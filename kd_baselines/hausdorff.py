"""The reach of a teacher's knowledge of source data: a bound on target data by the Hausdorff
distance.

Notation: T teacher, S student (its source head), D_src and D_tgt sets of images, K a Lipschitz
constant of T - S, and the asymmetric Hausdorff distance

    H_a(A, B) = sup_{a in A} inf_{b in B} ||a - b||_2

Then

    max_{x in D_src} ||T(x) - S(x)||  <=  max_{x in D_tgt} ||T(x) - S(x)||  +  K H_a(D_src, D_tgt)

as each source image has a target image within H_a, and T - S changes by at most K times the way
there. The right side holds with the maximum over D_tgt, and is false with a mean in its place. H_a
falls when source images far from the target are dropped (`choose_source`), and does not grow when
images are added to the target, noisy copies say: H_a(A, B') <= H_a(A, B) for B inside B'.

Reference: Srinivas and Fleuret, Knowledge transfer with Jacobian matching, 2018,
https://arxiv.org/abs/1803.00443, section 5
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from datadistill.errors import UsageError

__all__ = [
    "asymmetric_hausdorff",
    "choose_source",
    "lipschitz_bound",
    "nearest",
    "nearest_distances",
    "source_bound",
]


@torch.no_grad()
def nearest(
    a: Float[Tensor, "n ..."], b: Float[Tensor, "m ..."], *, chunk: int = 1024
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """inf_b ||a - b||_2 of each point of A, (n,), and the place in B of a nearest point, (n,).

    Args:
        a: n points of any shape, 1 or more.
        b: m points of the same shape, 1 or more.
        chunk: points of either set at a time; chunk^2 distances are in memory.
    """
    if a.ndim < 2 or b.ndim < 2 or not len(a) or not len(b) or a.shape[1:] != b.shape[1:]:
        raise UsageError(
            f"the distance of sets of shapes {tuple(a.shape)} and {tuple(b.shape)} was asked for; "
            "wanted (points, ...) each, at least one point, the same shape behind it"
        )
    if chunk < 1:
        raise UsageError(f"chunk is {chunk}; give at least 1")
    dtype = torch.promote_types(a.dtype, b.dtype)
    x, y = (
        points.flatten(1).to(dtype if dtype.is_floating_point else torch.float32)
        for points in (a, b)
    )
    # differences and not the product form, which loses half the digits of a small distance
    distances, places = [], []
    for part in x.split(chunk):
        found = [
            torch.cdist(part, other, compute_mode="donot_use_mm_for_euclid_dist").min(1)
            for other in y.split(chunk)
        ]
        least = torch.stack([one.values for one in found]).min(0)
        inside = torch.stack([one.indices for one in found]).gather(0, least.indices[None])[0]
        distances.append(least.values)
        places.append(least.indices * chunk + inside)
    return torch.cat(distances), torch.cat(places)


def nearest_distances(
    a: Float[Tensor, "n ..."], b: Float[Tensor, "m ..."], *, chunk: int = 1024
) -> Float[Tensor, " n"]:
    """The distances of `nearest`, with its arguments."""
    return nearest(a, b, chunk=chunk)[0]


def asymmetric_hausdorff(
    a: Float[Tensor, "n ..."], b: Float[Tensor, "m ..."], *, chunk: int = 1024
) -> Float[Tensor, ""]:
    """H_a(A, B) = sup_a inf_b ||a - b||_2; not the same as H_a(B, A). Arguments as of
    `nearest_distances`.

    >>> a, b = torch.tensor([[0.0], [5.0]]), torch.tensor([[0.0]])
    >>> asymmetric_hausdorff(a, b).item(), asymmetric_hausdorff(b, a).item()
    (5.0, 0.0)
    """
    return nearest_distances(a, b, chunk=chunk).amax()


def choose_source(
    source: Float[Tensor, "n ..."], target: Float[Tensor, "m ..."], keep: int, *, chunk: int = 1024
) -> Int[Tensor, " keep"]:
    """The places of the `keep` source points nearest to the target, nearest first; of equally near
    ones the first. No other subset of this size has a smaller H_a to the target.

    >>> choose_source(torch.tensor([[9.0], [1.0], [4.0]]), torch.tensor([[0.0]]), keep=2)
    tensor([1, 2])
    """
    distances = nearest_distances(source, target, chunk=chunk)
    if not 1 <= keep <= len(distances):
        raise UsageError(
            f"{keep} of {len(distances)} source points are to be kept; give 1 to {len(distances)}"
        )
    return distances.sort(stable=True).indices[:keep]


def source_bound(
    target_gaps: float | Float[Tensor, " m"], lipschitz: float, distance: float | Tensor
) -> float:
    """max over the target of ||T - S||, plus K H_a(D_src, D_tgt): no source point has a larger gap.

    Args:
        target_gaps: ||T(x) - S(x)||_2 of each target point, or the largest of them; never their
            mean.
        lipschitz: K of T - S, 0 or more; K_T + K_S will do (`lipschitz_bound` of each).
        distance: `asymmetric_hausdorff(source, target)`, in this order.
    """
    gaps = torch.as_tensor(target_gaps, dtype=torch.float64)
    if not gaps.numel():
        raise UsageError(
            "the bound was asked for without a gap on the target; give at least one ||T(x) - S(x)||"
        )
    largest = float(gaps.max())
    for what, value in (
        ("gap", largest),
        ("Lipschitz constant", lipschitz),
        ("distance", float(distance)),
    ):
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"the {what} is {value}; a bound wants finite numbers, 0 or more")
    return largest + lipschitz * float(distance)


@torch.no_grad()
def lipschitz_bound(net: nn.Module) -> float:
    """An upper bound K of a net's Lipschitz constant, ||net(x) - net(y)||_2 <= K ||x - y||_2: a
    product over layers.

    Linear: the largest singular value. Conv2d: the largest singular value of the kernel as a matrix
    (C_out, C_in k k), times the root of the number of patches a pixel is in (exact where patches do
    not overlap; an upper bound otherwise). Pooling likewise. ReLU, LeakyReLU, Tanh, Softplus: 1;
    Sigmoid: 1/4. The product over layers can be far above the net's own constant.

    Args:
        net: Sequential of these, Flatten, Identity, Dropout and BatchNorm in evaluation mode, or
            one of them.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
        >>> lipschitz_bound(nn.Sequential(layer, nn.ReLU(), layer))
        9.0
    """
    if type(net) is nn.Sequential:
        return math.prod(lipschitz_bound(layer) for layer in net)
    if isinstance(net, nn.Linear):
        return _largest_singular_value(net.weight)
    if isinstance(net, nn.Conv2d) and net.padding_mode == "zeros":
        kernels = net.weight.flatten(1).chunk(net.groups)  # groups see channels of their own
        shares = _shares(net.kernel_size, net.stride, net.dilation)
        return max(map(_largest_singular_value, kernels)) * math.sqrt(shares)
    if isinstance(net, nn.MaxPool2d):
        return math.sqrt(_shares(net.kernel_size, net.stride, net.dilation))
    if isinstance(net, nn.AvgPool2d) and net.divisor_override is None:
        # the mean of n numbers is at most their norm / sqrt(n), and n is k k but at borders that
        # are cut off
        cut = net.ceil_mode or (not net.count_include_pad and net.padding not in (0, (0, 0)))
        n = 1 if cut else math.prod(_pair(net.kernel_size))
        return math.sqrt(_shares(net.kernel_size, net.stride, 1) / n)
    if (
        isinstance(net, nn.modules.batchnorm._BatchNorm)
        and not net.training
        and net.running_var is not None
    ):
        scale = (net.running_var + net.eps).rsqrt()
        return float((scale if net.weight is None else scale * net.weight.abs()).max())
    if isinstance(net, nn.Dropout) and (not net.training or net.p == 0):
        return 1.0
    if isinstance(net, nn.LeakyReLU):
        return max(1.0, abs(net.negative_slope))
    if isinstance(net, nn.Sigmoid):
        return 0.25
    if isinstance(net, nn.AdaptiveAvgPool2d) and net.output_size in (1, (1, 1)):
        return 1.0
    if isinstance(net, (nn.ReLU, nn.Tanh, nn.Softplus, nn.Flatten, nn.Identity)):
        return 1.0
    raise UsageError(
        "no Lipschitz bound is known for "
        f"{str(net).splitlines()[0]}{' in training mode' if net.training else ''}; pass a "
        "Sequential of linear, convolution, pooling and activation layers in evaluation mode"
    )


def _largest_singular_value(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix.double(), ord=2))


def _shares(
    kernel: int | tuple[int, ...], stride: int | tuple[int, ...], dilation: int | tuple[int, ...]
) -> int:
    """The largest number of patches that hold one pixel: ceil(kernel gcd(dilation, stride) /
    stride) at most in each direction, the taps i with dilation * i congruent modulo the stride."""
    sizes = zip(_pair(kernel), _pair(stride), _pair(dilation), strict=True)
    return math.prod(-(-k * math.gcd(d, s) // s) for k, s, d in sizes)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
