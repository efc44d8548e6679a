"""Image transforms as pure functions of tensors, differentiable in the images.

The images are normalized ones (N,C,H,W) of any number of channels, so 0 is the mean of the training
images and not black. A parameter has one entry for all images, or one for each; it is drawn
elsewhere (see `siamese`).

A warp reads pixel p of the new image at A p of the old one, bilinearly, A a matrix (2,3) in torch's
normalized coordinates: (x, y) in [-1, 1] from the outer edge of the first pixel to that of the last
(align_corners=False). Parameters that stand for the identity give it exactly, warps up to rounding.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "n c h w"]
Each = Float[Tensor, " k"]
"""One number for all images (k = 1), or one for each."""
Pixel = Int[Tensor, " k"]
"""As `Each`, in whole pixels."""
Matrix = Float[Tensor, "k 2 3"]


def change_brightness(images: Images, shift: Each) -> Images:
    """x + shift.

    >>> change_brightness(torch.ones(1, 1, 1, 2), torch.tensor([0.5]))
    tensor([[[[1.5000, 1.5000]]]])
    """
    return images + _per_image(shift)


def change_saturation(images: Images, factor: Each) -> Images:
    """(x - m) factor + m, m the mean over the channels of a pixel. Images of one channel stay as
    they are."""
    mean = images.mean(1, keepdim=True)
    return (images - mean) * _per_image(factor) + mean


def change_contrast(images: Images, factor: Each) -> Images:
    """(x - m) factor + m, m the mean of an image."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * _per_image(factor) + mean


def mirror(images: Images, coin: Bool[Tensor, " k"]) -> Images:
    """Left to right, where the coin is true."""
    return torch.where(_per_image(coin), images.flip(-1), images)


def pick(
    images: Images, rows: Int[Tensor, "k new_h"], columns: Int[Tensor, "k new_w"]
) -> Float[Tensor, "n c new_h new_w"]:
    """Images of some rows and columns of images.

    >>> pick(torch.arange(4.0).view(1, 1, 2, 2), torch.tensor([[1, 1]]), torch.tensor([[1, 0]]))
    tensor([[[[3., 2.],
              [3., 2.]]]])
    """
    image = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def move(images: Images, down: Pixel, right: Pixel) -> Images:
    """Move images by whole pixels; zeros come in.

    >>> move(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([0]), torch.tensor([1]))
    tensor([[[[0., 1., 2.]]]])
    """
    height, width = images.shape[-2:]
    row = torch.arange(1, height + 1, device=images.device)
    column = torch.arange(1, width + 1, device=images.device)
    rows = (row - down[:, None]).clamp(0, height + 1)
    columns = (column - right[:, None]).clamp(0, width + 1)
    return pick(F.pad(images, (1, 1, 1, 1)), rows, columns)


def cut_out(images: Images, top: Pixel, left: Pixel, height: int, width: int) -> Images:
    """Zero a rectangle; what lies outside the image is cut off.

    >>> cut_out(torch.ones(1, 1, 1, 4), torch.tensor([0]), torch.tensor([-1]), 1, 3)
    tensor([[[[0., 0., 1., 1.]]]])
    """
    row = torch.arange(images.shape[-2], device=images.device)
    column = torch.arange(images.shape[-1], device=images.device)
    rows = (row >= top[:, None]) & (row < top[:, None] + height)  # (k, h)
    columns = (column >= left[:, None]) & (column < left[:, None] + width)  # (k, w)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def warp(images: Images, matrix: Matrix, padding: Literal["zeros", "border"] = "zeros") -> Images:
    """Read the images at A p, bilinearly; outside there are zeros, or the nearest pixel of the
    border."""
    shape = [len(matrix), *images.shape[1:]]
    grid = F.affine_grid(matrix.to(images.dtype), shape, align_corners=False)
    grid = grid.expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def scaling(x: Each, y: Each) -> Matrix:
    """The matrix that reads at (x p_x, y p_y): above 1 shrinks, below 1 enlarges."""
    zero = torch.zeros_like(x)
    return _matrix((x, zero, zero), (zero, y, zero))


def rotation(degrees: Each, height: int, width: int) -> Matrix:
    """The matrix of a rotation by an angle, counterclockwise. Sides that differ are allowed for, so
    that nothing is sheared."""
    angle = torch.deg2rad(degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _matrix((cosine, -sine * height / width, zero), (sine * width / height, cosine, zero))


def zoom(factor: Each, x: Each, y: Each) -> Matrix:
    """The matrix that enlarges by a factor and brings the point (x, y) / factor to the middle."""
    zero = torch.zeros_like(factor)
    return _matrix((1 / factor, zero, x / factor), (zero, 1 / factor, y / factor))


def _matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
