"""The differentiable training loop: `unroll`, its update rules and its adjoints."""

from datadistill.innerloop.adjoints import Adjoint, Auto, FullUnroll, StepReplay, Truncated
from datadistill.innerloop.higher_engine import Higher
from datadistill.innerloop.losses import LOSSES
from datadistill.innerloop.steps import Steps
from datadistill.innerloop.unroll import unroll, unroll_with_buffers
from datadistill.innerloop.update_rules import UpdateRule, adam, momentum, sgd

ADJOINTS = {
    "auto": Auto,
    "full": FullUnroll,
    "step-replay": StepReplay,
    "truncated": Truncated,
    "higher": Higher,
}

__all__ = [
    "ADJOINTS",
    "LOSSES",
    "Adjoint",
    "Auto",
    "FullUnroll",
    "Higher",
    "StepReplay",
    "Steps",
    "Truncated",
    "UpdateRule",
    "adam",
    "momentum",
    "sgd",
    "unroll",
    "unroll_with_buffers",
]
