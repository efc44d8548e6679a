"""`kd-baselines <command>`: parsing and printing. A command is a file here and a line in
`COMMANDS`.

Habits, exit codes and run folders are those of `datadistill`.
"""

from __future__ import annotations

from collections.abc import Sequence

from datadistill.cli.dispatch import Program

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, tuple[str, str]] = {
    "train": (
        "train",
        "train a student and, where it needs one, its teacher: a recipe, or --resume DIR",
    ),
    "evaluate": (
        "evaluate",
        "test a trained net, also under noise and on classes that it never saw",
    ),
    "compare": (
        "compare",
        "train the arms of a recipe with several seeds, and hold them against one",
    ),
    "born-again": (
        "born_again",
        "train generations, each net taught by the one before, and test their ensembles",
    ),
    "speed": ("speed", "set the accuracy of nets beside parameters, multiplications, seconds"),
    "curves": ("curves", "draw the metrics of runs by epoch, over the seeds of each arm"),
    "export": ("export", "write a trained net for other programs: weights, or its graph"),
    "ledger": ("ledger", "bytes that are sent against accuracy: images, distilled sets, nets"),
    "bridge": (
        "bridge",
        "few images, real or distilled, crossed with kinds of a teacher's knowledge",
    ),
    "bound": ("bound", "how far a student may be from its teacher on the teacher's images"),
    "recipes": ("recipes", "list the recipes and their arms, or show one"),
    "methods": ("methods", "list the methods, or show one with its arguments"),
}
"""Command: its module in this folder, and one line about it."""

PROGRAM = Program(
    "kd-baselines",
    "kd_baselines.cli",
    COMMANDS,
    "Train a student network on what a teacher network knows, by the methods of the literature.",
    "kd-baselines train mnist5k-few-images",
    ("compare",),
)


def main(argv: Sequence[str] | None = None) -> int:
    """`kd-baselines COMMAND ...`; see `Program.main`."""
    return PROGRAM.main(argv)
