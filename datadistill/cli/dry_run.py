"""`datadistill distill RECIPE --dry-run`: what a run would work with."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from datadistill.cli.printing import Output, shape_of, size_of
from datadistill.config import DistillConfig, RunOptions


def try_out(
    output: Output, config: DistillConfig, options: RunOptions, argv: Sequence[str]
) -> None:
    """Make a dry run, and print what it found. `argv` are the words after the command."""
    from datadistill.device import resolve
    from datadistill.runs.signals import StopFlag, interruptible
    from datadistill.training.dry_run import dry_run

    with (
        StopFlag(),
        interruptible("stopped; nothing of the run was written"),
        output.redirect_prints(),
    ):
        found = dry_run(config, options=options)
    steps = found.differentiated_steps
    through = f", differentiated through {steps} steps" if steps else ""
    memory = "" if found.memory is None else f", {size_of(found.memory)} of memory so far"
    loss = "not finite" if found.loss is None else f"{found.loss:.4g}"
    size = f"{found.images[0]} images {shape_of(found.images[1:])}, {size_of(found.set_bytes)}"
    rows = [
        ("real images", f"{found.real_images}, and {found.validation_images} for validation"),
        ("net", f"{config.net}, {found.parameters} trained numbers"),
        ("set", f"{size} with labels and step sizes, {found.steps} steps"),
        ("iteration", f"the first of {found.iterations}: loss {loss}{through}"),
        ("it took", f"{found.seconds:.1f} s on {resolve(config.device).type}{memory}"),
    ]
    output.table(("", ""), rows)
    if found.note is not None:
        output.say(found.note)
    rest = [word for word in argv if word not in ("--dry-run", "--dry_run")]
    output.say(
        "nothing of the run was written", f"next: {shlex.join(['datadistill', 'distill', *rest])}"
    )
    output.result({"recipe": config.recipe, "run_seed": config.seed, **found.as_dict()})
