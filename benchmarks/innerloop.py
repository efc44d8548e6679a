"""Time and peak memory of the outer gradient, ours against `higher` and TorchOpt, as ratios of one
run.

The problem: LeNet on 28-pixel images, T inner steps of gradient descent on the same 10 distilled
images with learned soft labels and step sizes, the loss of theta_T on 32 others, and its gradient
in images, labels and step sizes; float32 on the CPU. All four compute the same gradient, which is
checked first.

Time: repeats take the four in turn; a ratio is the median over repeats of the ratio within a
repeat, so that a machine that slows down slows all alike; `--clock cpu` counts the processor's time
instead, for a machine that others are using too. Peak memory: each in a process of its own, the
growth of its largest resident size over that of a run of one step.

    OMP_NUM_THREADS=2 python benchmarks/innerloop.py --steps 3 10 30 100 --repeats 7
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from datadistill.innerloop import Adjoint, FullUnroll, StepReplay, unroll
from datadistill.nets import build

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracles"))
import higher_oracle
import torchopt_oracle

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
OTHERS = ("higher", "TorchOpt")
OURS: dict[str, Adjoint] = {"FullUnroll": FullUnroll(), "StepReplay": StepReplay()}


def gradient_of(method: str, T: int, batch: int) -> Callable[[], tuple[Tensor, ...]]:
    """A function that computes the outer gradient once; every method gets the same numbers."""
    torch.manual_seed(0)
    net = build("lenet", channels=1, size=28, classes=10)
    theta_0 = {k: p.detach().clone().requires_grad_() for k, p in net.named_parameters()}
    images = torch.randn(batch, 1, 28, 28, requires_grad=True)
    logits = torch.randn(batch, 10, requires_grad=True)
    step_sizes = torch.full((T,), 0.02, requires_grad=True)
    real, classes = torch.randn(32, 1, 28, 28), torch.arange(32) % 10

    def run() -> tuple[Tensor, ...]:
        pairs = [(images, logits.softmax(1))] * T
        if method == "higher":
            theta_T = higher_oracle.train(net, theta_0, pairs, step_sizes)
        elif method == "TorchOpt":
            theta_T = torchopt_oracle.train(net, theta_0, pairs, step_sizes, torchopt_oracle.sgd())
        else:
            theta_T = unroll(net, theta_0, pairs, step_sizes, adjoint=OURS[method])
        outer = F.cross_entropy(functional_call(net, theta_T, (real,)), classes)
        return torch.autograd.grad(outer, [images, logits, step_sizes])

    return run


def check(T: int, batch: int) -> None:
    """All methods give one gradient, to float32 rounding."""
    expected = gradient_of("FullUnroll", T, batch)()
    for method in ("StepReplay", *OTHERS):
        for found, x in zip(gradient_of(method, T, batch)(), expected, strict=True):
            error = float((found - x).abs().max() / x.abs().max())
            assert error < 1e-3, f"{method} differs from FullUnroll by {error:.1e} at T = {T}"


def times(T: int, batch: int, repeats: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each repeat; the methods take turns."""
    runs = {method: gradient_of(method, T, batch) for method in (*OURS, *OTHERS)}
    seconds: dict[str, list[float]] = {method: [] for method in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for method, run in runs.items():
            start = clock()
            run()
            seconds[method].append(clock() - start)
    return seconds


def peak_here(method: str, T: int, batch: int) -> int:
    """Bytes by which T steps raise this process' largest resident size over that of one step."""
    gradient_of(method, 1, batch)()
    before = largest_resident()
    gradient_of(method, T, batch)()
    return largest_resident() - before


def largest_resident() -> int:
    """Bytes of this process' largest resident size so far."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux ru_maxrss starts at the parent's size, VmHWM does not
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def peak(method: str, T: int, batch: int) -> int:
    command = [sys.executable, __file__, "--peak", method, "--steps", str(T), "--batch", str(batch)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def ratio(a: float, b: float) -> str:
    return f"{a / b:.2f}" if b else "-"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[3, 10, 30, 100], help="inner steps T"
    )
    parser.add_argument("--batch", type=int, default=10, help="distilled images a step")
    parser.add_argument("--repeats", type=int, default=7, help="timed repeats of each method")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what time is counted")
    parser.add_argument(
        "--no-memory", action="store_true", help="skip the processes that measure memory"
    )
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak_here(args.peak, args.steps[0], args.batch))
        return
    threads = torch.get_num_threads()
    print(
        f"torch {torch.__version__}, threads: {threads}, {args.repeats} repeats, {args.clock} clock"
    )
    print(f"{'T':>4}  {'method':<11}{'ms':>8}  {'time: /higher':>13}{'/TorchOpt':>10}", end="")
    print(f"  {'MiB':>7}  {'memory: /higher':>15}{'/TorchOpt':>10}")
    for T in args.steps:
        check(T, args.batch)
        seconds = times(T, args.batch, args.repeats, CLOCKS[args.clock])
        memory = {} if args.no_memory else {m: peak(m, T, args.batch) for m in seconds}
        for method, own in seconds.items():
            against = [
                statistics.median(a / b for a, b in zip(own, seconds[other], strict=True))
                for other in OTHERS
            ]
            row = f"{T:>4}  {method:<11}{1000 * statistics.median(own):>8.1f}"
            row += f"  {against[0]:>13.2f}{against[1]:>10.2f}"
            if memory:
                mine = memory[method]
                row += f"  {mine / 2**20:>7.1f}"
                row += f"  {ratio(mine, memory['higher']):>15}{ratio(mine, memory['TorchOpt']):>10}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
