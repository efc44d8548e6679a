"""Outer steps a second, and seconds to test many nets, of one process and of ranks that share out
the nets of an iteration.

The recipe is mnist-random (LeNet, 30 steps of Adam, two nets an iteration), without tests between
iterations; the test is that of `evaluate` by the set's own steps. Repeats take the settings in
turn; a ratio is the median over repeats of the ratio to the first setting within a repeat. What it
takes to start processes is left out.

    python benchmarks/scaling.py --data-root FOLDER --settings 1x2 1x1 2x1 --repeats 3

A setting is processes x threads. `--dataset mnist5k` needs no folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import datadistill as dd
from datadistill.config import RunOptions
from datadistill.recipes import recipe
from datadistill.runs.ranks import join


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Outer steps a second, and seconds to test the nets, of this process and its ranks."""
    options = RunOptions(quiet=True, data_root=args.data_root)
    config = recipe("mnist-random").with_changes(
        dataset=args.dataset,
        nets=args.nets,
        iterations=args.iterations,
        validate_every=args.iterations,
        validate_nets=1,
    )
    dd.distill(config.with_changes(iterations=2, validate_every=2), options=options)  # warms up
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        d = dd.distill(config, out=out, options=options)
        if (timing := out / "timing.jsonl").exists():  # rank 0 has it
            lines = [json.loads(line) for line in timing.read_text().splitlines()]
            seconds = lines[-1]["seconds"] - lines[-1].get("validation", 0.0)
        else:
            seconds = float("nan")
    began = time.perf_counter()
    dd.evaluate(d, nets=args.tested, plain_nets=0, data_root=args.data_root)
    return {"steps": args.iterations / seconds, "test": time.perf_counter() - began}


def start(processes: int, threads: int, arguments: list[str]) -> dict[str, float]:
    """The measurement in processes of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    head = [sys.executable]
    if processes > 1:
        head += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*head, __file__, "--worker", *arguments]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(found.stderr)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--settings", nargs="+", default=["1x2", "1x1", "2x1"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dataset", default="mnist5k")
    parser.add_argument("--data-root")
    parser.add_argument("--nets", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--tested", type=int, default=200)
    parser.add_argument("--out", type=Path, help="a JSON file of all numbers")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        with join() as ranks:
            found = measure(args)
            if ranks.writes:
                print(json.dumps(found), flush=True)
        return
    arguments = [f"--dataset={args.dataset}", f"--nets={args.nets}"]
    arguments += [f"--iterations={args.iterations}", f"--tested={args.tested}"]
    if args.data_root:
        arguments.append(f"--data-root={args.data_root}")
    rows: dict[str, list[dict[str, float]]] = {setting: [] for setting in args.settings}
    for _ in range(args.repeats):
        for setting, found in rows.items():
            processes, threads = map(int, setting.split("x"))
            found.append(start(processes, threads, arguments))
    first = rows[args.settings[0]]
    print(f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores")
    print("processes x threads   outer steps/s   ratio   s to test   ratio")
    for setting, found in rows.items():
        steps, test = (statistics.median(one[k] for one in found) for k in ("steps", "test"))
        more = statistics.median(a["steps"] / b["steps"] for a, b in zip(found, first, strict=True))
        less = statistics.median(b["test"] / a["test"] for a, b in zip(found, first, strict=True))
        print(f"{setting:22}{steps:10.3f}{more:12.2f}{test:12.1f}{less:8.2f}")
    if args.out:
        args.out.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
