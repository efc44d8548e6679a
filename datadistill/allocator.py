"""Memory of large tensors on a CPU, kept between the steps of a training.

glibc maps every block above some MB from the kernel anew, and gives it back as soon as it is freed:
each step of a net with large maps waits until the kernel has filled all its pages with zeros. Kept
in the process, the same blocks serve the next step.
"""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, at most 2 GB at a time, instead of giving it
    back to the kernel and asking for it again. Numbers stay the same.

    The commands of this library do so; a script of your own calls it before its first tensor. It
    changes the whole process, which may hold a third more memory at its peak. Environment variables
    named MALLOC_... or GLIBC_TUNABLES are the user's own choice, and nothing is changed.

    Returns:
        Whether it was done: only with glibc, that is on most kinds of Linux.

    Example:
        `dd.keep_freed_memory()`
    """
    if any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))
