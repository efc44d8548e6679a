"""The failures that have a name, a sentence and an exit code.

Every message says what was found, what was wanted and what to do. The command line prints the message
alone and exits with `exit_code`; anything else that escapes is a bug (exit code 1, with its traceback).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DatadistillError(Exception):
    """Base of all failures this library names. Catch it to catch them all."""

    exit_code = 1


class UsageError(DatadistillError):
    """The call, the options or the config are wrong (exit code 2)."""

    exit_code = 2


class DataError(DatadistillError):
    """A data set or a file is invalid, damaged or does not fit (exit code 3)."""

    exit_code = 3


class NumericalError(DatadistillError):
    """A loss or a gradient became NaN or infinite (exit code 4)."""

    exit_code = 4


class ResourceError(DatadistillError):
    """The disk is full or cannot be written (exit code 5)."""

    exit_code = 5


class OutOfMemory(ResourceError):
    """The device or the machine ran out of memory (exit code 5)."""


class Unavailable(DatadistillError):
    """Something is not on this machine: a device, a data set, an optional package (exit code 6)."""

    exit_code = 6


class Interrupted(DatadistillError):
    """A signal asked the run to stop and a checkpoint was written (exit code 128 + signal number)."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ValuesNotUsed(UserWarning):
    """The values of a module were not used: it gave names and shapes alone.

    Silence it with `warnings.simplefilter("ignore", ValuesNotUsed)`.
    """


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU.

    >>> out_of_memory(MemoryError())
    True
    """
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error sentence for an unknown name: the near ones, or all that are known.

    >>> nearest("lenett", ["lenet", "mlp"])
    'did you mean lenet? (known: lenet, mlp)'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    listing = f"known: {', '.join(known)}"
    return f"did you mean {' or '.join(close)}? ({listing})" if close else listing
