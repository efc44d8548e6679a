"""What the outer loop learns: images, label logits and step sizes, and how they start.

Image j belongs to step j // B of an epoch, where B = K ipc / steps is a step's batch, and to class j % K:
every step sees every class equally often. Soft labels are softmax(logits), started at probability 0.9 on the
class. Step sizes are softplus(rho) (innerloop/step_sizes.py).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datadistill.config import DistillConfig
from datadistill.data import RealData
from datadistill.errors import DataError
from datadistill.innerloop import step_sizes
from datadistill.innerloop.steps import Pair
from datadistill.streams import derive, generator

SOFT_START = 0.9


class Learned:
    """The leaves that the outer optimizer changes.

    Args:
        config: sizes and starting values.
        data: classes, shape and, unless images start from noise, real images.
        tensors: P, the number of parameter tensors of the net.
    """

    def __init__(self, config: DistillConfig, data: RealData, tensors: int) -> None:
        k, device = len(data.classes), data.device
        self.config = config
        self.classes = torch.arange(k * config.ipc, device=device) % k
        if config.objective == "attack":  # images in the place of class K carry label T
            self.classes[self.classes == config.attack_class] = config.target_class
        self.images = start_images(config, data).to(device).requires_grad_()
        rho = step_sizes.init(config.step_sizes, config.step_size, config.inner_steps, tensors)
        self.rho = rho.to(device).requires_grad_()
        self.logits: Tensor | None = None
        if config.labels == "soft":
            # softmax gives p on the class and (1 - p) / (K - 1) elsewhere for a logit of log(p (K-1) / (1-p))
            height = math.log(SOFT_START * (k - 1) / (1 - SOFT_START))
            start = torch.nn.functional.one_hot(self.classes, k).float() * height
            self.logits = start.to(device).requires_grad_()
        per_step = k * config.ipc // config.steps
        index = torch.arange(k * config.ipc).split(per_step)
        self.order = [index[t % config.steps] for t in range(config.inner_steps)]

    def parameters(self) -> dict[str, Tensor]:
        """name -> leaf, in a fixed order."""
        named = {"images": self.images, "labels": self.logits, "step_sizes": self.rho}
        return {k: p for k, p in named.items() if p is not None}

    def labels(self) -> Tensor:
        """(N,) integers or (N, K) probabilities."""
        return self.classes if self.logits is None else self.logits.softmax(1)

    def steps(self) -> list[Pair]:
        """T pairs, differentiable; one slice for each step of an epoch, used again in every epoch."""
        s = self.config.steps
        per_step = len(self.classes) // s
        pairs = list(zip(self.images.split(per_step), self.labels().split(per_step), strict=True))
        return pairs * self.config.epochs

    def step_sizes(self) -> Tensor:
        """(T,) or (T, P), differentiable."""
        # softplus underflows to 0 for rho < -103: a step size stays above 0
        eta = step_sizes.expand(self.rho, self.config.inner_steps)
        return eta.clamp_min(torch.finfo(eta.dtype).tiny)


def start_images(config: DistillConfig, data: RealData) -> Tensor:
    """(K ipc, C, H, W) on the data's device; see `DistillConfig.images_from`.

    Raises:
        DataError: a class has fewer images than `ipc` asks for.
    """
    k, ipc = len(data.classes), config.ipc
    if config.images_from == "noise":
        return torch.randn(k * ipc, *data.shape, generator=generator(config.seed, "start_images"))
    of_class = [data.train.of_class(c) for c in range(k)]
    short = [(data.classes[c], len(s)) for c, s in enumerate(of_class) if len(s) < ipc]
    if short:
        raise DataError(
            f"class {short[0][0]} has {short[0][1]} training images, but ipc is {ipc} and images start from "
            f"{config.images_from}; lower ipc, or start from noise (--images-from noise)"
        )
    parts = []
    for c, split in enumerate(of_class):
        if config.images_from == "kmeans":
            parts.append(_centres(split.images, ipc, derive(config.seed, "start_images", c)))
            continue
        order = torch.randperm(len(split), generator=generator(config.seed, "start_images", c))
        images = split.images[order.to(split.images.device)]
        # a mean is that of its own part of the class, so that no two images start equal
        parts.append(images[:ipc] if config.images_from == "real" else _means(images, ipc))
    return torch.stack(parts, dim=1).flatten(0, 1).contiguous()  # image-major: classes run fastest


def _means(images: Tensor, parts: int) -> Tensor:
    return torch.stack([part.mean(0) for part in images.tensor_split(parts)])


def _centres(images: Tensor, count: int, seed: int) -> Tensor:
    from sklearn.cluster import KMeans

    flat = images.flatten(1).cpu().numpy()
    centres = KMeans(count, n_init=1, random_state=seed % 2**32).fit(flat).cluster_centers_
    return torch.from_numpy(centres).float().view(count, *images.shape[1:]).to(images.device)
