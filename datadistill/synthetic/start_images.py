"""Start images: noise, noise of unit length, real images, class means, or k-means centres of each
class.

Image j is of class j % K, so that every batch of consecutive images sees every class equally often.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from datadistill.data import RealData
from datadistill.errors import DataError
from datadistill.streams import derive, generator

__all__ = ["start_images"]


def start_images(data: RealData, ipc: int, source: str, seed: int) -> Float[Tensor, "n c h w"]:
    """K * ipc images on the data's device, from a `source` of `DistillConfig.images_from` and the
    stream "start_images"."""
    k = len(data.classes)
    if source in ("noise", "unit-noise"):
        noise = torch.randn(k * ipc, *data.shape, generator=generator(seed, "start_images"))
        if source == "unit-noise":
            noise /= noise.flatten(1).norm(dim=1)[:, None, None, None]
        return noise.to(data.device)
    of_class = [data.train.of_class(c) for c in range(k)]
    short = [(data.classes[c], len(s)) for c, s in enumerate(of_class) if len(s) < ipc]
    if short:
        raise DataError(
            f"class {short[0][0]} has {short[0][1]} training images, but {ipc} images of each "
            f"start from {source}; lower ipc, or start from noise (--images-from noise)"
        )
    parts = []
    for c, split in enumerate(of_class):
        if source == "kmeans":
            parts.append(_find_centres(split.images, ipc, derive(seed, "start_images", c)))
            continue
        order = torch.randperm(len(split), generator=generator(seed, "start_images", c))
        images = split.images[order.to(split.images.device)]
        # a mean is that of its own part of the class, so that no two images start equal
        parts.append(images[:ipc] if source == "real" else _means(images, ipc))
    return torch.stack(parts, dim=1).flatten(0, 1).contiguous()  # image-major: classes run fastest


def _means(images: Tensor, parts: int) -> Tensor:
    return torch.stack([part.mean(0) for part in images.tensor_split(parts)])


def _find_centres(images: Tensor, count: int, seed: int) -> Tensor:
    from sklearn.cluster import KMeans

    flat = images.flatten(1).cpu().numpy()
    centres = KMeans(count, n_init=1, random_state=seed % 2**32).fit(flat).cluster_centers_
    return torch.from_numpy(centres).float().view(count, *images.shape[1:]).to(images.device)
