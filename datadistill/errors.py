"""The failures that have a name, a sentence and an exit code.

Every message says what was found, what was wanted and what to do. The command line prints the
message alone and exits with `exit_code`; anything else that escapes is a bug (exit code 1, with its
traceback).

Messages name options as they are typed (--lr-images 0.01). Whoever calls from Python reads the
names of the fields and arguments instead (lr_images=0.01): see `format_message`.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar


class DatadistillError(Exception):
    """Base of all failures this library names. Catch it to catch them all."""

    exit_code = 1

    def __str__(self) -> str:
        return format_message(super().__str__())


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


class RankLost(ResourceError):
    """Another process of a run that several carry out together ended, or did not answer (exit code
    5)."""


class Unavailable(DatadistillError):
    """Something is not on this machine: a device, a data set, an optional package (exit code 6)."""

    exit_code = 6


class Interrupted(DatadistillError):
    """A signal asked the run to stop and a checkpoint was written (exit code 128 + signal
    number)."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class ValuesNotUsed(UserWarning):
    """The values of a module were not used: it gave names and shapes alone.

    Silence it with `warnings.simplefilter("ignore", ValuesNotUsed)`.
    """


class InexactGradients(UserWarning):
    """A layer of the net has no exact second derivative, so the gradients of the learned tensors
    are not exact.

    Silence it with `warnings.simplefilter("ignore", InexactGradients)`.
    """


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def suggest(name: str, known: Iterable[str], lister: str = "") -> str:
    """The end of an error sentence for an unknown name (empty where none was given): the near ones,
    and all where they are few. `lister` is a command that lists them, or the name of a table that
    has them.

    Example:
        >>> suggest("lenett", ["lenet", "mlp"])
        'did you mean lenet? (known: lenet, mlp)'
        >>> many = ["mnist-fixed", *(f"cifar{n}" for n in range(38))]
        >>> suggest("mnist-fixd", many, "datadistill recipes")
        'did you mean mnist-fixed? (datadistill recipes lists all 39)'
    """
    known, name = sorted(known), name[:100]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close and difflib.SequenceMatcher(None, close[0], name).ratio() > 0.9:
        close = close[:1]  # a slip of the fingers
    if len(known) <= FEW:
        listing = f"known: {', '.join(known)}"
    else:
        listing = f"{lister} lists all {len(known)}" if lister else f"{len(known)} in all"
        if name and not close:
            near = difflib.get_close_matches(name, known, n=5, cutoff=0.0)
            return f"the nearest are {', '.join(near)} ({listing})"
    if not close:
        return listing
    *first, last = close
    return f"did you mean {', '.join(first) + ' or ' if first else ''}{last}? ({listing})"


def list_some(names: Sequence[object], most: int = 4) -> str:
    """The first names of a list, and "..." where more follow.

    Example:
        >>> list_some(["cat", "cow", "dog"]), list_some(range(10), most=2)
        ('cat, cow, dog', '0, 1, ...')
    """
    shown = ", ".join(map(str, names[:most]))
    return f"{shown}, ..." if len(names) > most else shown


FEW = 8
"""Names that a sentence lists in full."""

_COMMAND_LINE: ContextVar[bool] = ContextVar("command_line", default=False)
_OPTION = re.compile(
    r"(?<![\w/-])--(?P<no>no-)?(?P<name>[a-z][a-z0-9-]*)(?P<value> (?=[A-Z_]+\b|\d|True|False))?"
)
_RESUME = re.compile(r"(?<![\w/-])--resume [^\s,;)]+")
_COMMANDS = re.compile(r"(\b(?:datadistill|kd-baselines|pip|torchrun) [a-z][^;,()`]*)")


def escape(text: str) -> str:
    """A text as one line of a terminal: what cannot be printed as an escape, so that a name from a
    file moves no cursor, changes no colour, begins no line and turns none around.

    >>> print(escape("red" + chr(27) + "[31m" + chr(10) + chr(0x202E) + "bird"))
    red\\x1b[31m\\n\\u202ebird
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\u00a0" else repr(c)[1:-1] for c in text)


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Keep options as they are typed in the messages of a block, that of a command."""
    token = _COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _COMMAND_LINE.reset(token)


def format_message(message: str) -> str:
    """A message with its options as they are typed, or as arguments of Python. Whole commands stay
    as they are.

    Example:
        >>> text = (
        ...     "try --lr-images 0.01, another --out or --no-reach (datadistill show a --out DIR)"
        ... )
        >>> print(format_message(text))
        try lr_images=0.01, another out or reach=False (datadistill show a --out DIR)
        >>> with command_line():
        ...     format_message("pass --pool FILE")
        'pass --pool FILE'
    """
    if _COMMAND_LINE.get():
        return message
    parts = _COMMANDS.split(message)  # every second one is a command
    for n in range(0, len(parts), 2):
        parts[n] = _OPTION.sub(_argument, _RESUME.sub("resume=True", parts[n]))
    return "".join(parts)


def _argument(option: re.Match[str]) -> str:
    """--no-reach as reach=False, --data FOLDER as data=FOLDER, --out as out."""
    name = option["name"].replace("-", "_")
    return name + ("=False" if option["no"] else "=" if option["value"] else "")
