"""The state of torch that the library computes in, whatever its caller has set.

A notebook with gradients switched off, an evaluation script under `torch.inference_mode()` or a
program whose default type is float64 must not change what is learned: the public functions are
decorated with `use_library_defaults()`, so that gradients are on, new tensors are ordinary ones,
the default type is float32, and autocast is off (a net's own autocast, inside its forward, stays).
`unroll` alone follows the caller, since its types and its graph are asked for by what is passed to
it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def use_library_defaults() -> Iterator[None]:
    """Gradients on, no inference mode, float32 as the default type, no autocast; the caller's own
    are put back."""
    caller = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float32)
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        torch.set_default_dtype(caller)
