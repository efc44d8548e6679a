"""The ordinary training that sets of images alone keep as their own schedule: that of the protocol
plain, with one step size."""

from __future__ import annotations

from typing import Any

ORDINARY: dict[str, Any] = {
    "epochs": 300,
    "minibatch": 256,
    "update": "momentum",
    "update_args": {"beta": 0.9, "weight_decay": 5e-4},
    "step_size": 0.01,
    "step_sizes": "shared",
    "lr_step_sizes": 0.0,
}
