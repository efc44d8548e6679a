"""A net of the kinds of layers that timm's have: BatchNorm, in-place SiLU, dropout, attention by
torch's function."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class ConvNormAct(nn.Sequential):
    """A convolution, BatchNorm and SiLU in place."""

    def __init__(self, inputs, outputs, side, stride=1, groups=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(inplace=True),
        )


class SqueezeExcite(nn.Module):
    """Channels weighted by a function of their means."""

    def __init__(self, width):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        weights = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * weights.sigmoid()


class InvertedResidual(nn.Module):
    """Widening, a depthwise convolution, squeeze and excitation, narrowing; plus the input."""

    def __init__(self, width, factor=3):
        super().__init__()
        inner = factor * width
        self.layers = nn.Sequential(
            ConvNormAct(width, inner, 1),
            ConvNormAct(inner, inner, 3, groups=inner),
            SqueezeExcite(inner),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return x + self.layers(x)


class Attention(nn.Module):
    """Self-attention with dropout of its output."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.proj_drop = nn.Dropout(dropout)

    def forward(self, x):
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj_drop(self.proj(mixed.transpose(1, 2).reshape(n, tokens, width)))


class TimmLike(nn.Module):
    """A stem, an inverted residual block, an attention block and a classifier, as timm names
    them. 34,218 parameters for 2 classes."""

    def __init__(self, classes=2, width=32, dropout=0.1):
        super().__init__()
        self.stem = nn.Sequential(ConvNormAct(3, 16, 3, 2), ConvNormAct(16, width, 3, 2))
        self.block = InvertedResidual(width)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, 4, dropout)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.head_drop, self.head = nn.Dropout(dropout), nn.Linear(width, classes)

    def forward(self, x):
        x = self.block(self.stem(x)).flatten(2).transpose(1, 2) + self.pos_embed
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return self.head(self.head_drop(x.mean(1)))
