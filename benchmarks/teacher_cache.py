"""Time of an epoch of distillation with a cached teacher, as a ratio to a plain epoch in the same
run.

LeNet learns the 5,000 MNIST images that come offline: by labels (plain), by labels and soft targets
of a cached teacher, and of the same teacher asked at every step (online). Repeats take the three in
turn; a ratio is the median over repeats of the ratio within a repeat. The losses of the cached and
the online epochs are compared. Making the cache is timed once, and its share of 1, 10 and 30 epochs
told.

    OMP_NUM_THREADS=1 python benchmarks/teacher_cache.py --repeats 9 [--clock cpu] [--net mlp]
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from datadistill.data import load
from datadistill.training.fit_plan import FitPlan
from kd_baselines import CE, KD, CachedTeacher, Stage, Teacher
from kd_baselines.nets import build
from kd_baselines.stage_loop import stage_fit

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--net", default="lenet")
    parser.add_argument("--batch", type=int, default=128)
    args = parser.parse_args()
    clock, split = CLOCKS[args.clock], load("mnist5k").train
    teacher = Teacher(build("wide-cnn", channels=1, size=28, classes=10, width=32))
    began = clock()
    cached = CachedTeacher(teacher, split)
    cached.outputs(split.images[:1], index=torch.tensor([0]))
    making = clock() - began
    plan = FitPlan(epochs=args.repeats + 1, batch=args.batch)
    ways = {
        "plain": (CE(), None),
        "cached": (CE(weight=0.1) + KD(T=4.0, weight=0.9), cached),
        "online": (CE(weight=0.1) + KD(T=4.0, weight=0.9), teacher),
    }
    fits, parts = {}, {name: {} for name in ways}
    for name, (objective, known) in ways.items():
        torch.manual_seed(0)
        net = build(args.net, channels=1, size=28, classes=10)
        fits[name] = stage_fit(net, Stage(name, objective, plan), known, split, 0, 0, parts[name])
    times: dict[str, list[float]] = {name: [] for name in ways}
    apart = 0.0
    for repeat in range(args.repeats + 1):
        losses = {}
        for name, fit in fits.items():
            began = clock()
            losses[name] = [float(fit.advance()) for _ in range(fit.steps_per_epoch)]
            if repeat:  # the first warms up
                times[name].append(clock() - began)
        first = zip(losses["cached"], losses["online"], strict=True)
        apart = max(apart, max(abs(a - b) / abs(b) for a, b in first) if repeat == 0 else 0.0)
    plain = times["plain"]
    print(
        f"{args.net} on {len(split):,} images, batch {args.batch}, {torch.get_num_threads()} "
        f"thread(s), {args.clock} clock, torch {torch.__version__}"
    )
    for name in ways:
        ratio = statistics.median(t / p for t, p in zip(times[name], plain, strict=True))
        print(f"{name:8}{statistics.median(times[name]):8.3f} s an epoch   {ratio:.3f} x plain")
    share = ", ".join(
        f"{n}: {1 + making / (n * statistics.median(plain)):.2f}" for n in (1, 10, 30)
    )
    print(
        f"making the cache: {making:.3f} s, once; with it, times plain over so many epochs: {share}"
    )
    print(
        "largest relative difference of a loss, cached against online, in the first "
        f"epoch: {apart:.1e}"
    )


if __name__ == "__main__":
    main()
