"""Sets of real images to compare a distilled set with.

    random-real      real images of each class, drawn at random
    k-means          the centres of each class's k-means clusters
    herding          real images of each class whose mean is the class's, as nearly as can be
    average-real     the mean image of each class

Herding takes image after image: with m the mean of the class and x_1 .. x_t those taken,
x_{t+1} is the image, of those left, for which |m - (x_1 + .. + x_{t+1}) / (t + 1)| is smallest. So
its first images are the herding of a smaller set.

References: Wang et al. 2018, section 4, https://arxiv.org/abs/1811.10959; Welling, Herding
dynamical weights to learn, 2009, https://doi.org/10.1145/1553374.1553517
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datadistill.data import Split
from datadistill.distilled import DistilledDataset
from datadistill.errors import DataError
from datadistill.evaluation.attack import get_attack
from datadistill.runs.signals import poll
from datadistill.streams import derive, generator

Maker = Callable[[Split, int, int, int, int], Tensor]


def random_real(
    split: Split, classes: int, ipc: int, seed: int, draw: int
) -> Float[Tensor, "k ipc c h w"]:
    """Real images of each class, without repetition: set number `draw` of the stream.

    Example:
        >>> split = Split(torch.arange(6.0).view(6, 1, 1, 1), torch.tensor([0, 0, 0, 1, 1, 1]))
        >>> random_real(split, classes=2, ipc=3, seed=0, draw=0).flatten(1).sort().values
        tensor([[0., 1., 2.],
                [3., 4., 5.]])
    """
    parts = []
    for k, index in enumerate(index_by_class(split, classes, ipc)):
        order = torch.randperm(len(index), generator=generator(seed, "random_real", draw, k))
        parts.append(split.images[index[order[:ipc].to(index.device)]])
    return torch.stack(parts)


def k_means(
    split: Split, classes: int, ipc: int, seed: int, draw: int
) -> Float[Tensor, "k ipc c h w"]:
    """Centres of `ipc` k-means clusters of each class.

    Example:
        >>> split = Split(
        ...     torch.tensor([0.0, 2.0, 8.0, 10.0]).view(4, 1, 1, 1), torch.zeros(4).long()
        ... )
        >>> k_means(split, classes=1, ipc=2, seed=0, draw=0).flatten().sort().values
        tensor([1., 9.])
    """
    from sklearn.cluster import KMeans

    parts = []
    for k, index in enumerate(index_by_class(split, classes, ipc)):
        poll()
        images = split.images[index]
        clusters = KMeans(ipc, n_init=1, random_state=derive(seed, "k_means", draw, k) % 2**32)
        centres = torch.from_numpy(clusters.fit(images.flatten(1).cpu().numpy()).cluster_centers_)
        parts.append(centres.float().view(ipc, *images.shape[1:]).to(images.device))
    return torch.stack(parts)


def average_real(
    split: Split, classes: int, ipc: int = 1, seed: int = 0, draw: int = 0
) -> Float[Tensor, "k 1 c h w"]:
    """The mean image of each class: one, whatever `ipc` is, and nothing is drawn."""
    return torch.stack(
        [split.images[index].mean(0, keepdim=True) for index in index_by_class(split, classes, 1)]
    )


def herding(
    split: Split, classes: int, ipc: int, seed: int = 0, draw: int = 0
) -> Float[Tensor, "k ipc c h w"]:
    """`ipc` images of each class by herding on their pixels: nothing is drawn.

    Example:
        >>> # the mean is 4: first 4, then 3 (a mean of 3.5), then 8 (5)
        >>> split = Split(
        ...     torch.tensor([1.0, 3.0, 4.0, 8.0]).view(4, 1, 1, 1), torch.zeros(4).long()
        ... )
        >>> herding(split, classes=1, ipc=3).flatten()
        tensor([4., 3., 8.])
    """
    parts = []
    for index in index_by_class(split, classes, ipc):
        images = split.images[index]
        x = images.flatten(1).double()
        m, taken, sums = x.mean(0), [], torch.zeros_like(x[0])
        left = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for t in range(ipc):
            poll()
            distances = (x - ((t + 1) * m - sums)).square().sum(1)
            taken.append(int(distances.masked_fill(~left, torch.inf).argmin()))
            left[taken[-1]] = False
            sums = sums + x[taken[-1]]
        parts.append(images[taken])
    return torch.stack(parts)


BASELINES: dict[str, Maker] = {
    "random-real": random_real,
    "k-means": k_means,
    "herding": herding,
    "average-real": average_real,
}
"""Name -> maker(split, classes, ipc, seed, draw) -> images (K, ipc, C, H, W)."""
DETERMINISTIC = ("herding", "average-real")
"""Those of which there is only one set."""


def index_by_class(split: Split, classes: int, wanted: int) -> list[Tensor]:
    """Indices of the images of each class."""
    parts = [(split.labels == k).nonzero().flatten() for k in range(classes)]
    short = [(k, len(index)) for k, index in enumerate(parts) if len(index) < wanted]
    if short:
        raise DataError(
            f"class {short[0][0]} has {short[0][1]} training images, but the baselines take "
            f"{wanted} of each class, as many as the distilled set has; leave these baselines out"
        )
    return parts


def classes_of(d: DistilledDataset) -> Int[Tensor, " n"]:
    """The class that each image of a set stands for.

    That of a hard label. An image with a learned label has the class it started with: j % K for
    image j. In an attacked set whose images of class K carry label T, the images with label T are
    of T and of K in turn.
    """
    n, k = len(d.images), len(d.classes)
    if d.labels.is_floating_point():
        return torch.arange(n, device=d.images.device) % k
    classes, pair = d.labels.clone(), get_attack(d)
    if pair is not None and not bool((classes == pair[0]).any()):
        both = (classes == pair[1]).nonzero().flatten()
        # in the lower class first, as classes run from 0 to K - 1 in each step
        classes[both] = torch.tensor(sorted(pair), device=classes.device)[
            torch.arange(len(both), device=classes.device) % 2
        ]
    return classes


def count_images(d: DistilledDataset) -> Int[Tensor, " k"]:
    """The number of real images of each class that a set is compared with: as many as it has; where
    a decoder makes its images, as many as its tensors have the bytes of, at least one. The bytes of
    learned labels are not counted."""
    classes = len(d.classes)
    counts = torch.bincount(classes_of(d), minlength=classes)
    if d.coded is None:
        return counts
    stored = sum(x.numel() * x.element_size() for x in d.coded.values())
    one_of_each = classes * d.images[0].numel() * d.images.element_size()
    return torch.full_like(counts, max(1, stored // one_of_each))


def coreset(
    d: DistilledDataset, maker: Maker, split: Split, seed: int, draw: int
) -> DistilledDataset:
    """Real images in the place of a distilled set's, with hard labels, all in one step; see
    `count_images`.

    Args:
        d: the set.
        maker: a value of `BASELINES`.
        split: the training images, on the device of the set.
        seed, draw: the stream, and which set of it.
    """
    wanted = count_images(d)
    found = maker(split, len(d.classes), int(wanted.max()), seed, draw)
    images = [found[k, : int(count)] for k, count in enumerate(wanted)]
    labels = [torch.full((len(of_class),), k) for k, of_class in enumerate(images)]
    return d.with_images(torch.cat(images), torch.cat(labels).to(d.images.device))
