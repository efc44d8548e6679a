"""`datadistill show FILE_OR_DIR`: draw a set's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datadistill.cli.options import SetPath, parse
from datadistill.cli.printing import Output
from datadistill.errors import UsageError
from datadistill.runs.folder import SET_FILE


@dataclass(frozen=True)
class Show:
    """Draw the figures of a distilled set or a run: images, step sizes, curves."""

    set_: SetPath
    """The file of a distilled set, or a run folder."""
    out: Path | None = None
    """Folder to write into; default: `figures` in the run folder, or beside the file."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse, draw, say where."""
    args = parse(Show, argv, "datadistill show")
    output = Output(args.json)
    from datadistill.runs.file_kinds import read_kind

    if (kind := read_kind(args.set_)) in ("pool", "net", "reproduce"):
        raise UsageError(
            f"{args.set_} holds a {kind}, which has no such figures; type datadistill "
            f"inspect {args.set_}"
        )
    from datadistill.unfinished import unfinished_set
    from datadistill.visualize.run_figures import write_figures

    with output.redirect_prints():
        stopped = unfinished_set(args.set_)
        written = write_figures(args.set_, args.out)
    if stopped is not None:
        done = stopped.origin["iterations"]
        output.say(
            f"{args.set_} has not finished: drawn as its checkpoint of iteration {done} has it"
        )
    following = f"inspect {args.set_}" if stopped is None else f"distill --resume {args.set_}"
    has_set = args.set_.is_file() or (args.set_ / SET_FILE).exists()
    if not any(path.name == "images.png" for path in written):
        output.say(
            "no images.png: the set is one of features, and of features no picture can be drawn"
            if has_set
            else "no images.png before the run has finished: its checkpoint does not hold the "
            "tensors of the images' normalization"
        )
    output.say(*(f"wrote {path}" for path in written), f"next: datadistill {following}")
    output.result({"figures": [str(path) for path in written]})
    return 0
