"""Tables and figures of a paper, made again: `datadistill reproduce table1 --scale cpu`.

    plan = plan_of("table1", "smoke")    what is made and measured, as data (plan.py); no torch
    reproduce("table1", "smoke")         do it (reproduction.py): Markdown, CSV and a figure

Three scales: `smoke` takes two minutes on data that come with the dependencies and proves the path,
no number; `cpu` is sized for two cores and at most 90 minutes; `full` has the paper's sizes. A new
table is a file here with a function from a scale to a plan, and a line in `TABLES`.

Reference: Wang et al., Dataset Distillation, 2018, https://arxiv.org/abs/1811.10959
"""

from __future__ import annotations

from collections.abc import Callable

from datadistill.errors import UsageError, suggest
from datadistill.reproduce import attack, figures, methods, table1, table2, table3
from datadistill.reproduce.plan import SCALES, Plan, Scale

__all__ = ["SCALES", "TABLES", "Plan", "Scale", "plan_of"]

TABLES: dict[str, Callable[[Scale], Plan]] = {
    "table1": table1.plan,
    "table2": table2.plan,
    "table3": table3.plan,
    "attack": attack.plan,
    "figure4": figures.figure4,
    "figure5": figures.figure5,
    "methods": methods.plan,
}


def plan_of(table: str, scale: str) -> Plan:
    """The plan of a table, a key of `TABLES`, at a scale: smoke, cpu or full.

    >>> [part.name for part in plan_of("table1", "full").parts]
    ['mnist', 'cifar10']
    """
    if table not in TABLES:
        raise UsageError(f"there is no table {table!r}; {suggest(table, TABLES)}")
    for known in SCALES:
        if known == scale:
            return TABLES[table](known)
    raise UsageError(f"there is no scale {scale!r}; {suggest(scale, SCALES)}")
