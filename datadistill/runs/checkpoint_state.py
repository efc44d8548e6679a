"""The JSON state of a run's newest checkpoint, read without torch."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .canonical import parse_json
from .regular import read_run_file

_STEP = re.compile(r"step-(\d{6,})")


def newest_state(folder: Path) -> dict[str, Any] | None:
    """The JSON state of the newest checkpoint whose state is as its manifest says; None where there
    is none."""
    try:
        names = [name for name in os.listdir(folder) if _STEP.fullmatch(name)]
    except OSError:
        return None
    for name in sorted(names, key=lambda name: int(name[5:]), reverse=True):
        try:
            data = read_run_file(folder / name / "state.json")
            manifest = parse_json(read_run_file(folder / name / "manifest.json"))
            if manifest["files"]["state.json"]["sha256"] == hashlib.sha256(data).hexdigest():
                state = parse_json(data)
                return state if isinstance(state, dict) else None
        except (OSError, UsageError, ValueError, TypeError, KeyError):
            continue
    return None
