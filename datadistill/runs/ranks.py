"""Ranks: processes that carry out one run together, started by `torchrun`.

    with join() as ranks:                   the group of this process; one rank without torchrun
        for n in ranks.share(nets): ...     its part of what is counted
        ranks.sum(gradients)                of all ranks, added in their order

Every rank builds the same objects from the same config, computes its part, and then holds what all
others hold, to the bit: sums are gathered and added in the order of ranks. Rank 0 alone writes.
What goes wrong in one rank ends all of them (`Ranks.together`), and a signal to one stops all.

How the parts are sized does not change which net has which number, so a run may be resumed on
another number of ranks, to rounding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import RankLost, Unavailable, UsageError
from .rank_errors import describe, mark, rebuild
from .signals import innermost

if TYPE_CHECKING:  # so that it can be asked without torch which rank this is
    from torch import Tensor

__all__ = ["ALONE", "Ranks", "alone", "current", "is_wanted", "join"]

R = TypeVar("R")
TIMEOUT = "DATADISTILL_RANK_TIMEOUT"
"""Seconds that a rank waits for the others, in the environment; default a day. A rank that dies
closes its connections, which is seen at once."""


class Ranks:
    """The processes of a run, of which this one is number `rank`.

    Args:
        rank: 0 .. size - 1.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def writes(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """The part of 0 .. count - 1 that is this rank's: numbers in a row, as even as can be.

        Example:
            >>> [list(Ranks(r, 2).share(5)) for r in range(2)]
            [[0, 1], [2, 3, 4]]
        """
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def broadcast(self, value: R) -> R:
        """The value of rank 0; whatever pickles."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        found: list[Any] = [value if self.writes else None]
        self._meet(lambda: dist.broadcast_object_list(found))
        return found[0]

    def gather(self, value: R) -> list[R]:
        """The values of all ranks, in their order; whatever pickles."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        self._meet(lambda: dist.all_gather_object(found, value))
        return found

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over ranks of tensors of one type and the same shapes in each, to the same bits
        in each."""
        if self.size == 1:
            return list(tensors)
        import torch
        import torch.distributed as dist

        flat = torch.cat([x.detach().reshape(-1) for x in tensors])
        device = flat.device
        if "nccl" not in dist.get_backend_config():
            flat = flat.cpu()
        parts = [torch.empty_like(flat) for _ in range(self.size)]
        self._meet(lambda: dist.all_gather(parts, flat))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        shapes = [x.shape for x in tensors]
        pieces = total.to(device).split([x.numel() for x in tensors])
        return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def most(self, *numbers: int) -> tuple[int, ...]:
        """The largest over ranks of each number."""
        if self.size == 1:
            return numbers
        import torch
        import torch.distributed as dist

        found = torch.tensor(numbers)
        self._meet(lambda: dist.all_reduce(found, dist.ReduceOp.MAX))
        return tuple(found.tolist())

    def heed_signals(self) -> None:
        """Let a signal that came to any rank be one to all, where all are now; see
        `signals.StopFlag`."""
        flag = innermost()
        if flag is None:
            return
        (number,) = self.most(flag.requested or flag.pending or 0)
        if number:  # else one that comes just now would be lost
            flag.requested = number

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block that all ranks enter, and leave by an exception where one of them does: that one
        by its own, the others by one of the same kind that names the rank."""
        if self.size == 1:
            yield
            return
        failure: Exception | None = None
        try:
            yield
        except RankLost:
            raise  # nobody is there to be told
        except Exception as error:
            failure = error
        try:
            told = self.gather(None if failure is None else describe(failure))
        except RankLost:
            if failure is not None:
                raise failure from None
            raise
        if failure is not None:
            raise mark(failure)
        for rank, description in enumerate(told):
            if description is not None:
                raise mark(rebuild(rank, description))

    def _meet(self, collective: Callable[[], object]) -> None:
        try:
            collective()
        except RuntimeError as error:
            words = " ".join(str(error).split())[:160]
            raise RankLost(
                f"rank {self.rank} of {self.size} lost another, which ended or did not answer in "
                f"time ({words}); what was saved is kept, look at what the other rank said and "
                f"resume (a rank waits {_timeout():g} s: set {TIMEOUT} for longer steps)"
            ) from error


ALONE = Ranks()
_joined: list[Ranks] = []


def current() -> Ranks:
    """The ranks that this process joined; one rank where it joined none."""
    return _joined[-1] if _joined else ALONE


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A block in which this process carries out runs by itself, as one of several jobs."""
    _joined.append(ALONE)
    try:
        yield
    finally:
        _joined.pop()


def is_wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment is that of one of several ranks, as torchrun sets it."""
    named = all(name in environment for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
    return named and environment.get("WORLD_SIZE", "1") not in ("", "0", "1")


@contextlib.contextmanager
def join() -> Iterator[Ranks]:
    """Join the ranks that the environment names: gloo on the CPU, NCCL between GPUs, of which rank
    number n of a machine takes number n where it has as many. What is run inside is shared out.

    Where no others are named nothing is done. A process group that is there already is used.

    Raises:
        Unavailable: this torch has no distribution.
        RankLost: not all ranks came in time.

    Example:
        >>> with join() as ranks:
        ...     ranks.rank, ranks.size
        (0, 1)
    """
    if not is_wanted():
        yield ALONE
        return
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        raise Unavailable("this torch was built without torch.distributed; run in one process")
    own = not dist.is_initialized()
    if own:
        backend = "gloo"
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if torch.cuda.is_available() and here <= torch.cuda.device_count():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            backend = "cpu:gloo,cuda:nccl"
        try:
            dist.init_process_group(backend, timeout=timedelta(seconds=_timeout()))
        except (RuntimeError, ValueError) as error:
            raise RankLost(
                f"the ranks did not find each other ({' '.join(str(error).split())[:160]}); start "
                "them all, by torchrun"
            ) from error
    _joined.append(Ranks(dist.get_rank(), dist.get_world_size()))
    try:
        yield _joined[-1]
    finally:
        _joined.pop()
        if own:
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


def _timeout() -> float:
    text = os.environ.get(TIMEOUT, "86400")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e7:
        raise UsageError(f"{TIMEOUT} is {text!r}; give seconds above 0")
    return seconds
