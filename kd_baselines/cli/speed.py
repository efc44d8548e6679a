"""`kd-baselines speed RUN_OR_FILE [RUN_OR_FILE ...]`: accuracy of nets against what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from datadistill.cli.options import MachineOptions, open_output, parse
from datadistill.cli.printing import percent
from datadistill.errors import UsageError

if TYPE_CHECKING:
    from kd_baselines.netfile import SavedNet
    from kd_baselines.speed import NetCost

NetPaths = Annotated[
    tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_FILE [RUN_OR_FILE ...]")
]
COLUMNS = (
    "net",
    "parameters",
    "multiplications",
    "us an image",
    "compression",
    "speed-up",
    "accuracy (%)",
)


@dataclass(frozen=True)
class Speed:
    """Set the accuracy of trained nets beside their parameters, multiplications and seconds.

    Of a run folder its teacher comes first, then its student. Compression and speed-up are those
    over the first net, so give the teacher or a run that has one first.
    """

    runs: NetPaths
    """Run folders, or files of nets."""
    batch: int = 100
    """Images at once while it is timed; 1: the time until a single image is answered."""
    passes: int = 10
    """Passes that are timed; the fastest counts."""
    threads: int | None = 1
    """CPU threads of torch."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse, measure, print."""
    args = parse(Speed, argv, "kd-baselines speed")
    machine = MachineOptions(device=args.device, threads=args.threads, json=args.json)
    output = open_output(machine)
    if not args.runs:
        raise UsageError("no net is named; give run folders or files of nets")
    import torch

    from datadistill.device import resolve
    from kd_baselines.speed import measure_cost

    device = resolve(args.device)
    rows: list[tuple[str, SavedNet, NetCost]] = []
    for name, saved in _find_nets(args.runs):
        made = [saved.net(n).to(device) for n in range(len(saved.states))]
        known = saved.spec.args
        shape = (known["channels"], known["size"], known["size"])
        accuracy = None if saved.scores is None else float(saved.scores["accuracy"])
        cost = measure_cost(made, shape, batch=args.batch, passes=args.passes, accuracy=accuracy)
        rows.append((name, saved, cost))
    first = rows[0][2]
    output.table(COLUMNS, [_format(name, cost, first) for name, _, cost in rows], right=range(1, 7))
    threads = torch.get_num_threads()
    where = (
        f"{device}, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else f"{device}"
    )
    output.say(
        f"compression and speed-up over {rows[0][0]}; the fastest of {args.passes} passes of "
        f"{args.batch} images on {where}; accuracy on the test images of each net's own data",
        f"next: kd-baselines evaluate {args.runs[-1]}",
    )
    output.result(
        {
            "batch": args.batch,
            "passes": args.passes,
            "device": str(device),
            "rows": [_record(name, saved, cost, first) for name, saved, cost in rows],
        }
    )
    return 0


def _find_nets(paths: Sequence[Path]) -> Iterator[tuple[str, SavedNet]]:
    """Each net with a name for its row: of a folder the teacher, unless it was there already, and
    the student."""
    from kd_baselines.netfile import TEACHER, SavedNet

    seen: set[str] = set()
    for path in paths:
        if path.is_dir() and (path / TEACHER).exists():
            teacher = SavedNet.load(path / TEACHER)
            if teacher.fingerprint not in seen:
                yield f"{path.name}, teacher", teacher
            seen.add(teacher.fingerprint)
        saved = SavedNet.load(path)
        seen.add(saved.fingerprint)
        yield path.name if path.is_dir() else str(path), saved


def _format(name: str, cost: NetCost, first: NetCost) -> tuple[str, ...]:
    accuracy = "-" if cost.accuracy is None else percent(cost.accuracy)
    return (
        name,
        f"{cost.parameters:,}",
        f"{cost.multiplications:,}",
        f"{1e6 * cost.seconds:.1f}",
        f"{cost.compression(first):.2f}",
        f"{cost.speed_up(first):.2f}",
        accuracy,
    )


def _record(name: str, saved: SavedNet, cost: NetCost, first: NetCost) -> dict[str, Any]:
    return {
        "name": name,
        "net": saved.spec.title,
        "nets": len(saved.states),
        "fingerprint": saved.fingerprint,
        **cost.as_dict(),
        "compression": cost.compression(first),
        "speed_up": cost.speed_up(first),
    }
