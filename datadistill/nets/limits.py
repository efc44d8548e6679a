"""The largest net that a config or a file may ask for.

A line of JSON can ask for 10^12 layers. While a net is built, no argument may be larger than any
net's, no more tensors may be made than there could be, and no more numbers than fit into memory. A
file that holds a net's tensors shows how many there are, which is a narrower limit.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.modules import module as registration

from datadistill.errors import OutOfMemory, UsageError

LARGEST = 1_000_000
"""Of an argument: no layer is as wide, no image as large and no net as deep."""
MOST_TENSORS = 10_000
"""Of a net whose tensors are not there to be counted."""


@contextlib.contextmanager
def limit_size(
    name: str, arguments: Mapping[str, Any], tensors: int = MOST_TENSORS
) -> Iterator[None]:
    """Refuse a net that is larger than it can be, while it is built inside the block: arguments
    beyond 1,000,000, more than `tensors` parameters and buffers (modules that are replaced while it
    is built count too), or parameters on the CPU that take more than all of its memory."""
    for argument, value in arguments.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int) and abs(number) > LARGEST:
                raise UsageError(
                    f"{argument} is {str(number)[:40]}, but no net here is built with "
                    f"more than {LARGEST}"
                )
    here, counted, held = threading.get_ident(), 0, 0

    def count_tensor(owner: nn.Module, own_name: str, tensor: Any) -> None:
        nonlocal counted, held
        if threading.get_ident() != here or tensor is None:
            return
        counted += 1
        if counted > tensors:
            raise UsageError(
                f"the net {name} with {_join(arguments)} has more tensors than there can be "
                f"({tensors:,}); change its arguments"
            )
        if tensor.device.type == "cpu":
            held += tensor.numel() * tensor.element_size()
            if held > _memory():
                raise OutOfMemory(
                    f"the net {name} with {_join(arguments)} takes more than {_memory():,} bytes, "
                    "all of this machine's memory; take a smaller one"
                )

    handles = (
        registration.register_module_parameter_registration_hook(count_tensor),
        registration.register_module_buffer_registration_hook(count_tensor),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@functools.cache
def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a system that says
        return 1 << 62


def _join(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items())[:120]
