"""What a table's folder keeps: its own record, and rows that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datadistill.errors import UsageError
from datadistill.reproduce.plan import Plan
from datadistill.reproduce.results import Measured
from datadistill.runs.canonical import canonical_json, parse_json
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.regular import read_run_file


def kept(path: Path, again: str) -> str:
    """What is said where a signal stops the work, and how to go on."""
    return f"stopped; what was done is kept in {path}; go on with: {again}"


def begun(path: Path) -> bool:
    """Whether a run was started in this folder."""
    return (path / "config.json").exists()


def stored_rows(path: Path, key: Mapping[str, Any]) -> tuple[list[Measured], dict[str, Any]] | None:
    """Rows and environment of a measurement that was made with this very key; None where it must be made."""
    try:
        stored = parse_json(read_run_file(path))
        if canonical_json(stored["key"]) != canonical_json(key):
            return None
        return [Measured.from_dict(row) for row in stored["rows"]], stored["environment"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # damaged: measured again
        return None


def open_folder(path: Path, plan: Plan, seed: int) -> RunFolder:
    """OUT, new or come back to.

    Raises:
        UsageError: it holds another table, scale or seed, or something else.
    """
    config = {"table": plan.table, "scale": plan.scale, "seed": seed}
    if not begun(path):
        return RunFolder.create(path, config, environment(), "reproduce")
    folder = RunFolder.open(path, kind="reproduce")
    if folder.config != config:
        held = " ".join(f"{k} {v}" for k, v in folder.config.items())
        raise UsageError(f"{path} holds {held}; choose another --out")
    return folder
