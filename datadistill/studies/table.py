"""Tables of studies, and how they are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["to_csv"]


def to_csv(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """Records as CSV, one line each: floats with four decimals, lists with a space between their numbers.

    >>> to_csv(("arm", "values"), [{"arm": "own", "values": [1.0, 2.5]}])
    'arm,values\\nown,1.0000 2.5000\\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({name: _cell(value) for name, value in record.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return " ".join(str(_cell(one)) for one in value)
    return f"{value:.4f}" if isinstance(value, float) else value
