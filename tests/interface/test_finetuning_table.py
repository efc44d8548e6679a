"""What finetune prints: accuracy, steps and seconds of a set and of ordinary fine-tuning."""

from dataclasses import replace

import pytest
from torch import nn

from datadistill.cli.finetuning_table import finetuning_table
from datadistill.cli.printing import Output
from datadistill.training.finetune import FineTuning

ALONE = FineTuning(
    net=nn.Identity(),
    start=nn.Identity(),
    accuracy_before=10.5,
    accuracy_after=80.25,
    steps=5,
    seconds=0.0314,
    norm="frozen",
    dropout=False,
    dataset="pets",
    description="pets",
    meta={},
)
BESIDE = replace(
    ALONE,
    max_steps=1000,
    steps_ordinary=40,
    seconds_ordinary=2.5,
    accuracy_same_steps=33.0,
    seconds_same_steps=0.31,
    accuracy_same_seconds=10.5,
    steps_same_seconds=0,
    accuracy_end=97.0,
    steps_end=730,
    seconds_end=45.5,
    rates=dict.fromkeys(("ordinary", "same_steps", "same_seconds", "end"), 1e-3),
)

PART = nn.Sequential(nn.Linear(10, 9), nn.Linear(9, 10))
PART[0].requires_grad_(False)

SAID = {
    "some parameters": (
        replace(ALONE, start=PART),
        ("trained: 100 of 199 parameters, in ordinary fine-tuning too",),
        (),
    ),
    "a head on features": (
        replace(ALONE, head=nn.Linear(9, 10), norm=None),
        ("trained: the last layer alone, on features",),
        ("BatchNorm",),
    ),
    "a head beside ordinary fine-tuning": (
        replace(BESIDE, head=nn.Linear(9, 10), accuracy_fresh=9.75, steps_ordinary=0),
        (
            "before 10.50 0 0.00 a fresh last layer 9.75 0 0.00",
            "after its 5 steps, from a fresh last layer 80.25",
            "starts from the fresh last layer, as the set's steps do, and not from the net's own",
            "ordinary fine-tuning, from a fresh last layer (Adam",
            "a fresh last layer was as good before any step",
        ),
        ("the net was as good",),
    ),
    "the set alone": (
        ALONE,
        ("before 10.50 0 0.00", "after its 5 steps 80.25 5 0.0314", "(frozen)"),
        ("ordinary fine-tuning,", "dropout"),
    ),
    "beside ordinary fine-tuning": (
        BESIDE,
        (
            "ordinary fine-tuning, same steps 33.00 5 0.31",
            "ordinary fine-tuning, same seconds: no step fits 10.50 0 0.0314",
            "ordinary fine-tuning, in the end (best of 1000 steps) 97.00 730 45.50",
            "(Adam, learning rate 0.001, batches of 64): reached after 40 steps, 2.50 s",
            "on the validation split every 7 steps",
        ),
        ("--max-steps",),
    ),
    "fewer steps than the set's": (
        replace(BESIDE, max_steps=3, accuracy_same_steps=None, seconds_same_steps=None),
        ("ordinary fine-tuning, same steps: more than --max-steps - 5 -",),
        (),
    ),
    "never as good": (
        replace(BESIDE, steps_ordinary=None, seconds_ordinary=60.0),
        ("not reached in 1000 steps, 60.00 s",),
        (),
    ),
    "rates by row": (
        replace(BESIDE, rates={**BESIDE.rates, "end": 1e-4}),
        ("learning rate chosen for each row: 0.001, 0.001, 0.0001,",),
        (),
    ),
    "batch statistics and dropout": (
        replace(ALONE, norm="batch", dropout=True),
        ("BatchNorm: statistics of each batch, re-estimated", "dropout: on"),
        ("(frozen)",),
    ),
    "neither": (
        replace(ALONE, norm=None, steps=1),
        ("after its one step",),
        ("BatchNorm", "trained"),
    ),
}


@pytest.mark.parametrize("what", SAID)
def test_lines(what, capsys):
    tuning, said, unsaid = SAID[what]
    finetuning_table(Output(), tuning, batch=64, every=7)
    shown = " ".join(capsys.readouterr().out.split())
    assert all(part in shown for part in said), shown
    assert not any(part in shown for part in unsaid), shown
