"""The table of `datadistill finetune`: the set's steps beside ordinary fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from datadistill.cli.printing import Output

if TYPE_CHECKING:
    from datadistill.training.adapted_net import FineTuning


def finetuning_table(output: Output, tuning: FineTuning, batch: int, every: int) -> None:
    """Accuracy, steps and seconds of the set and of ordinary fine-tuning; the modes of both."""
    steps = f"its {tuning.steps} steps" if tuning.steps > 1 else "its one step"
    rows = [("before", tuning.accuracy_before, 0, 0.0)]
    start, whence = "the net", ""
    if tuning.accuracy_fresh is not None:
        start, whence = "a fresh last layer", ", from a fresh last layer"
        rows.append((start, tuning.accuracy_fresh, 0, 0.0))
    rows.append((f"after {steps}{whence}", tuning.accuracy_after, tuning.steps, tuning.seconds))
    if tuning.max_steps is not None:
        rows += ordinary_rows(tuning)
    shown = [(name, *map(format_cell, cells)) for name, *cells in rows]
    output.table(("", "accuracy (%)", "steps", "seconds"), shown, right=(1, 2, 3))
    if (what := describe_trained(tuning)) is not None:
        output.say(f"trained: {what}, in ordinary fine-tuning too")
    if tuning.norm is not None:
        output.say(f"BatchNorm: {BATCHNORM[tuning.norm]}")
    if tuning.dropout:
        output.say("dropout: on in the set's steps and in ordinary fine-tuning")
    if tuning.max_steps is None:
        return
    if tuning.accuracy_fresh is not None:
        output.say(
            "ordinary fine-tuning starts from the fresh last layer, as the set's steps do, and not "
            "from the net's own"
        )
    how = f"ordinary fine-tuning{whence} (Adam, learning rate {describe_rates(tuning.rates)}, "
    how += f"batches of {batch})"
    if tuning.steps_ordinary is None:
        found = f"not reached in {tuning.max_steps} steps, {tuning.seconds_ordinary:.2f} s"
    elif tuning.steps_ordinary == 0:
        found = f"{start} was as good before any step"
    else:
        found = f"reached after {tuning.steps_ordinary} steps, {tuning.seconds_ordinary:.2f} s"
    output.say(f"{how}: {found} (compared on the validation split every {every} steps)")


BATCHNORM = {
    "batch": "statistics of each batch, re-estimated on the distilled images at the end; running "
    "averages in ordinary fine-tuning",
    "frozen": "statistics of the net as they were (frozen), in ordinary fine-tuning too",
    "reestimated": "statistics of the set, re-estimated on the real images before it was learned, "
    "in ordinary fine-tuning too",
}
"""The `norm` of a set in words."""


def describe_trained(tuning: FineTuning) -> str | None:
    """What was trained of the net, where it was not all."""
    if tuning.head is not None:
        return (
            "the last layer alone, on features that are computed once (their time is not counted)"
        )
    counts = [(p.numel(), p.requires_grad) for p in tuning.start.parameters()]
    every = sum(count for count, _ in counts)
    trained = sum(count for count, is_trained in counts if is_trained)
    return f"{trained:,} of {every:,} parameters" if trained < every else None


def ordinary_rows(tuning: FineTuning) -> list[tuple[str, Any, Any, Any]]:
    """The rows of ordinary fine-tuning."""
    beyond = "" if tuning.accuracy_same_steps is not None else ": more than --max-steps"
    none = "" if tuning.steps_same_seconds else ": no step fits"
    return [
        (
            f"ordinary fine-tuning, same steps{beyond}",
            tuning.accuracy_same_steps,
            tuning.steps,
            tuning.seconds_same_steps,
        ),
        (
            f"ordinary fine-tuning, same seconds{none}",
            tuning.accuracy_same_seconds,
            tuning.steps_same_seconds,
            tuning.seconds,
        ),
        (
            f"ordinary fine-tuning, in the end (best of {tuning.max_steps} steps)",
            tuning.accuracy_end,
            tuning.steps_end,
            tuning.seconds_end,
        ),
    ]


def format_cell(value: float | None) -> str:
    """Accuracies and seconds with two decimals, short times with four.

    >>> [format_cell(x) for x in (93.456, 12, 0.00314, 0.0, None)]
    ['93.46', '12', '0.0031', '0.00', '-']
    """
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if 0 < value < 0.1 else f"{value:.2f}"


def describe_rates(rates: Mapping[str, float]) -> str:
    """The learning rate of ordinary fine-tuning, or those of its three rows."""
    of_rows = [rates[row] for row in ("same_steps", "same_seconds", "end")]
    if len(set(rates.values())) == 1:
        return f"{of_rows[0]:g}"
    return "chosen for each row: " + ", ".join(f"{rate:g}" for rate in of_rows)
