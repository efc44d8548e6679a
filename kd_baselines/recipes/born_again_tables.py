"""Numbers printed by Furlanello et al. (2018, https://arxiv.org/abs/1805.04770): errors in percent,
and perplexities.

Slips of the paper: DenseNet-112-33 is also called 106-33 and 116-33, with 6.3M parameters in table
1 and 6.5M in the text; DenseNet-90-60 has 16.1M in table 1 and 22.4M in table 4. CIFAR-10's errors
are said to be lower or equal in all rows; three of eight are higher. CWTM is said to gain in three
models of four; the table has two. Every number is of one run: BAN and BAN-1 are one experiment with
two seeds and differ by up to 0.66 points.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "PRE_RESNET_1001",
    "TABLE_1",
    "TABLE_2",
    "TABLE_3",
    "TABLE_4",
    "TABLE_5",
    "TABLE_6",
    "cells",
    "chain",
    "cite",
    "published_chain",
]

PAPER = "Furlanello et al. 2018"

TABLE_1 = {  # CIFAR-10: net -> errors of teacher, BAN
    "wrn-28-1": (6.69, 6.64), "wrn-28-2": (5.06, 4.86), "wrn-28-5": (4.13, 4.03),
    "wrn-28-10": (3.77, 3.86), "dense-112-33": (3.84, 3.61), "dense-90-60": (3.81, 3.5),
    "dense-80-80": (3.48, 3.49), "dense-80-120": (3.37, 3.54),
}  # fmt: skip
# CIFAR-100: net -> errors of teacher, BAN, BAN+L, CWTM, DKPP; BAN-1, -2, -3; ensembles of 2, 3
TABLE_2 = {
    # 80-120 has two generations: its ensemble of 3 is both and the teacher
    "112-33": (18.25, 16.95, 17.68, 17.84, 17.84, (17.61, 17.22, 16.59), (15.77, 15.68)),
    "90-60": (17.69, 16.69, 16.93, 17.42, 17.43, (16.62, 16.44, 16.72), (15.39, 15.74)),
    "80-80": (17.16, 16.36, 16.5, 17.16, 16.84, (16.26, 16.30, 15.5), (15.46, 15.14)),
    "80-120": (16.87, 16.00, 16.41, 17.12, 16.34, (16.13, 16.13), (15.13, 14.9)),
}
TABLE_3 = {  # CIFAR-100: widening -> errors of the Wide-ResNet, its BAN, its student DenseNet-90-60
    1: (30.05, 29.43, 24.93),
    2: (25.32, 24.38, 18.49),
    5: (20.88, 20.93, 17.52),
    10: (19.08, 18.25, 16.79),
}
# CIFAR-100, students of DenseNet-90-60 -> what differs, error
TABLE_4: dict[str, tuple[dict[str, Any], float]] = {
    "depth-0.5": ({"depth": 46, "growth": 120, "first": 120}, 16.95),
    "depth-2": ({"depth": 172, "growth": 30, "first": 120}, 16.43),
    "depth-3": ({"depth": 256, "growth": 20, "first": 120}, 16.64),
    "depth-4": ({"depth": 340, "growth": 15, "first": 120}, 16.64),
    "compression-0.5": ({"compression": 0.25}, 19.83),
    "compression-0.75": ({"compression": 0.375}, 17.3),
    "compression-1.5": ({"compression": 0.75}, 18.89),
}
TABLE_5 = {  # CIFAR-100, students of DenseNet-90-60 -> units, ratio, kind, errors of baseline, BAN
    "pre-resnet-14-0.5": (14, 0.5, "bottleneck", 20.28, 18.8),
    "pre-resnet-14-1": (14, 1.0, "bottleneck", 18.84, 17.39),
    "wrn-1-1": (1, 1.0, "wide", 20.4, 19.12),
    "match-wrn-2-1": (2, 1.0, "wide", 18.83, 17.42),
    "wrn-4-0.5": (4, 0.5, "wide", 19.63, 17.13),
    "wrn-4-1": (4, 1.0, "wide", 18.77, 17.18),
}
PRE_RESNET_1001 = 22.71  # a baseline of table 5
TABLE_6 = {  # Penn Treebank: net -> test and validation perplexity of the teacher, of BAN+L
    "lstm": ((71.87, 75.11), (68.56, 71.19)),
    "cnn-lstm": ((80.05, 83.69), (76.97, 80.27)),
}


def cite(table: int, error: float, teacher: float | None = None, more: str = "") -> str:
    """Accuracies of printed errors, in percent."""
    if teacher is None:
        return f"{100 - error:.2f} (error {error:g}; {PAPER}, table {table})"
    accuracies = f"{100 - error:.2f}, teacher {100 - teacher:.2f}{more}"
    return f"{accuracies} (errors {error:g}, {teacher:g}; {PAPER}, table {table})"


def chain(size: str) -> dict[str, tuple[float, ...]]:
    """Errors of table 2 by row of a chain of generations; BAN and BAN-1 are both its generation
    1."""
    teacher, ban, *_, later, ensembles = TABLE_2[size]
    rows: dict[str, tuple[float, ...]] = {"teacher": (teacher,), "1": (ban, later[0])}
    rows |= {str(g): (error,) for g, error in enumerate(later[1:], start=2)}
    last = len(later)
    names = (f"BANE({k})" if k <= last else f"BANE({last})+teacher" for k in (2, 3))
    return rows | {name: (error,) for name, error in zip(names, ensembles, strict=True)}


def published_chain(size: str) -> str:
    """Accuracies of a row of table 2, in percent: BAN, its teacher, and the generations and
    ensembles after."""
    (teacher,), (ban, _) = (chain(size)[row] for row in ("teacher", "1"))
    later = {
        f"BAN-{row}" if row.isdigit() else row: errors[-1] for row, errors in chain(size).items()
    }
    del later["teacher"]
    told = ", ".join(f"{name} {100 - error:.2f}" for name, error in later.items())
    return cite(2, ban, teacher, f"; {told}")


def cells(
    table: int, rows: Mapping[str, tuple[float, ...]], teacher: int | None = None
) -> dict[str, str]:
    """Printed values by row of a chain, with their source."""
    return {
        row: f"{' and '.join(f'{value:.2f}' for value in values)} "
        f"({PAPER}, table {teacher if teacher and row == 'teacher' else table})"
        for row, values in rows.items()
    }
