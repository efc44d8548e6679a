"""The arms of a comparison as the cells of a table, where its recipe has a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datadistill.studies.table import Score, format_difference

if TYPE_CHECKING:
    from kd_baselines.studies.comparison_table import Comparison

__all__ = ["grid_tables"]

Texts = list[str]
Laid = tuple[Texts, list[Texts]]


def grid_tables(found: Comparison, column: str) -> list[Laid]:
    """Headings and rows of two tables of a score: mean with deviation, and the paired difference to
    the base. No table without a grid; arms that were not compared leave an empty cell."""
    if found.grid is None:
        return []
    scores = {row.arm: row.score(column) for row in found.rows if row.arm in found.grid.cells}
    cells = {place: scores[arm] for arm, place in found.grid.cells.items() if arm in scores}
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(name for _, name in cells))

    def lay_out(heading: str, names: Texts, texts: dict[tuple[str, str], str]) -> Laid:
        return [heading, *names], [
            [row, *(texts.get((row, name), "") for name in names)] for row in rows
        ]

    means = {place: str(score) for place, score in cells.items()}
    differences = {place: _difference(score) for place, score in cells.items()}
    others = [name for name in columns if any(differences.get((row, name)) for row in rows)]
    tables = [lay_out(found.grid.rows, columns, means)]
    if others:
        heading = f"{found.grid.rows}; minus {found.base}"
        tables.append(lay_out(heading, others, differences))
    return tables


def _difference(score: Score) -> str:
    return "" if score.difference is None else format_difference(score)
