"""A text cut into columns that are read side by side, and those into windows for truncated
backpropagation."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Int
from torch import Tensor

from datadistill.errors import UsageError
from datadistill.nets.layers import check_whole

__all__ = ["columns", "windows"]


def columns(tokens: Int[Tensor, " n"], batch: int) -> Int[Tensor, "t b"]:
    """A text cut into columns of equal length: (T,B), row i holds word i of every column.

    Column j is the stretch of the text from word j t on, t = n // batch. The at most batch - 1
    words at the end that fill no row are dropped. A column wants 2 words, one to read and one to
    predict.

    >>> import torch
    >>> columns(torch.arange(7), 2).tolist()
    [[0, 3], [1, 4], [2, 5]]
    """
    check_whole("batch", batch)
    if tokens.dim() != 1 or tokens.is_floating_point():
        raise UsageError(
            f"tokens are {tuple(tokens.shape)} {tokens.dtype}; pass whole numbers of one text, (n,)"
        )
    length = len(tokens) // batch
    if length < 2:
        most = len(tokens) // 2
        way = f"lower batch to at most {most}" if most else "give a longer text"
        raise UsageError(
            f"batch is {batch}, but the text has {len(tokens)} words, and a column wants "
            f"2 or more; {way}"
        )
    return tokens[: batch * length].reshape(batch, length).T


def windows(
    cols: Int[Tensor, "t b"], unroll: int
) -> Iterator[tuple[Int[Tensor, "u b"], Int[Tensor, "u b"]]]:
    """The windows of truncated backpropagation through time, in order: words (U,B), and the words
    after them.

    Together they ask for every word of a column but its first. The last window may be shorter.

    >>> import torch
    >>> [
    ...     (x.flatten().tolist(), y.flatten().tolist())
    ...     for x, y in windows(torch.arange(4)[:, None], 2)
    ... ]
    [([0, 1], [1, 2]), ([2], [3])]
    """
    check_whole("unroll", unroll)
    pairs = len(cols) - 1
    if unroll > pairs:
        raise UsageError(
            f"unroll is {unroll}, but a column has {len(cols)} words, {max(pairs, 0)} of them with "
            "a next one; lower unroll or batch, or give a longer text"
        )
    return (
        (cols[i : min(i + unroll, pairs)], cols[i + 1 : min(i + unroll, pairs) + 1])
        for i in range(0, pairs, unroll)
    )
