"""What `datadistill.keep_freed_memory` saves: a step of training and a forward pass in a process
that gives freed memory back to the kernel, as is usual, and in one that keeps it.

Each measurement is a process of its own; the two take turns, and a ratio is that of the medians.
Peak memory is the process's.

    OMP_NUM_THREADS=1 python benchmarks/kept_memory.py [--repeats 5] [--clock cpu]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F

from datadistill import keep_freed_memory
from datadistill.nets import build

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CASES = {
    "convnet, width 128": ("convnet", {"width": 128, "first_padding": 3}),
    "convnet, width 32": ("convnet", {"width": 32, "first_padding": 3}),
    "resnet18": ("resnet18", {}),
    "lenet": ("lenet", {}),
}
STEPS = 4


def measure(name: str, keep: bool, clock: str) -> dict[str, float]:
    """Seconds of a step on 100 images and of a forward pass on 500, and peak memory in MB."""
    if keep:
        assert keep_freed_memory(), "needs glibc, and no MALLOC_... variables"
    kind, args = CASES[name]
    now = CLOCKS[clock]
    torch.manual_seed(0)
    net = build(kind, channels=1, size=28, classes=10, **args)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x, y = torch.randn(500, 1, 28, 28), torch.arange(500) % 10
    seconds: dict[str, list[float]] = {"step": [], "forward": []}
    for _ in range(STEPS):
        began = now()
        optimizer.zero_grad()
        F.cross_entropy(net(x[:100]), y[:100]).backward()
        optimizer.step()
        seconds["step"].append(now() - began)
        began = now()
        with torch.no_grad():
            net(x)
        seconds["forward"].append(now() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**{k: statistics.median(v[1:]) for k, v in seconds.items()}, "memory": peak}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="cpu")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        name, how = args.only
        print(json.dumps(measure(name, how == "keep", args.clock)))
        return
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    print("| net | step, 100 images | ratio | forward, 500 images | ratio | peak memory, MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in CASES:
        found: dict[str, list[dict[str, float]]] = {"leave": [], "keep": []}
        for _ in range(args.repeats):
            for how, results in found.items():
                command = [sys.executable, __file__, "--clock", args.clock, "--only", name, how]
                ran = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
                results.append(json.loads(ran.stdout))
        cells = []
        for what in ("step", "forward"):
            default, kept = (
                statistics.median(r[what] for r in results) for results in found.values()
            )
            cells += [f"{1000 * default:.0f} -> {1000 * kept:.0f} ms", f"{kept / default:.2f}"]
        memory = " -> ".join(
            f"{statistics.median(r['memory'] for r in results):.0f}" for results in found.values()
        )
        print("|", " | ".join([name, *cells, memory]), "|", flush=True)


if __name__ == "__main__":
    main()
