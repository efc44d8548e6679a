"""Inputs that a set's own run names: the folder of images and the weights it was learned with.

An option that was typed counts. Where it is absent and the set lies in its run folder, the run's
`config.json` says which folder and which weights it had; what is still there is used, and a line
says so. A set's file alone names no path.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datadistill.cli.printing import Output
from datadistill.errors import UsageError
from datadistill.runs.folder import SET_FILE, RunFolder

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset


def load_set(
    set_: Path, output: Output, weights: str | None = None, download: bool = True
) -> DistilledDataset:
    """The set, with the pretrained values that its file names where weights were typed or are
    those of its run."""
    from datadistill.distilled import DistilledDataset

    d = DistilledDataset.load(set_)
    if not d.needs_weights:
        if weights is not None:
            raise UsageError(
                "--weights are for a set whose file names pretrained values and does not hold "
                f"them, and {set_} lacks none; leave --weights out"
            )
        return d
    found = find_weights(set_, weights, output)
    return d if found is None else d.with_weights(found, download=download)


def find_folder(set_: Path, typed: Path | None, output: Output) -> Path | None:
    """The folder of images: `typed`, else that of the set's own run, where it exists."""
    if typed is not None:
        return typed
    named = _config_of(set_).get("data")
    if not isinstance(named, str) or not Path(named).is_dir():
        return None
    output.say(f"data: {named}, the folder of the set's own run (--data FOLDER takes another)")
    return Path(named)


def find_weights(set_: Path, typed: str | None, output: Output) -> str | None:
    """The weights, a file's path or "imagenet": `typed`, else those of the set's own run, where
    they are there."""
    if typed is not None:
        return typed
    named = _config_of(set_).get("weights")
    if not isinstance(named, str):
        return None
    if named != "imagenet" and not Path(named).is_file():
        output.say(f"weights: {named}, those of the set's own run, are not there any more")
        return None
    output.say(f"weights: {named}, those of the set's own run (--weights FILE takes others)")
    return named


def _config_of(set_: Path) -> dict[str, Any]:
    """The config of the run of a set, by its folder or its file in there; {} for a file elsewhere,
    or where the config cannot be read."""
    folder = set_ if set_.is_dir() else set_.parent
    if not (set_.is_dir() or set_.name == SET_FILE) or not (folder / "config.json").exists():
        return {}
    try:
        return RunFolder.open(folder, kind="distill").config
    except UsageError:
        return {}
