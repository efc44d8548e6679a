"""Folders of random pictures, one sub-folder a class."""

import torch
from PIL import Image


def write_pictures(folder, count, size, levels=100):
    """`count` PNG files each of "cat", dark, and "dog", bright: (size, size, 3), with values from
    100 k to 100 k + levels - 1 for class k. Returns the folder."""
    generator = torch.Generator().manual_seed(0)
    for k, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = torch.randint(100 * k, 100 * k + levels, (size, size, 3), generator=generator)
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / name / f"{i}.png")
    return folder
