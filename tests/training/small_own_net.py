"""A net of the user's own for 8x8 digits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Own(nn.Module):
    """A net with running statistics, dropout and a buffer that training does not write."""

    def __init__(self, width=6, dropout=0.2, classes=10):
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width * 16, classes)
        self.register_buffer("scale", torch.tensor(1.5))

    def forward(self, x):
        x = self.drop(F.relu(self.norm(self.first(x))) * self.scale)
        return self.last(x.flatten(1))
