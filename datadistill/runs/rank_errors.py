"""Errors between ranks: how one tells the others of its own, and what they raise then."""

from __future__ import annotations

from typing import TypeVar

from .. import errors
from ..errors import DatadistillError, Interrupted, OutOfMemory, RankLost, is_out_of_memory

__all__ = ["SHARED", "describe", "mark", "rebuild"]

E = TypeVar("E", bound=Exception)
SHARED = "raised by all ranks"
"""The note of an exception that all ranks raise, so that one of them says it for all."""


def describe(error: Exception) -> tuple[str, str, int]:
    """(kind, sentence, number of the signal or 0) of an exception, for the other ranks."""
    signal = error.exit_code - 128 if isinstance(error, Interrupted) else 0
    name = OutOfMemory.__name__ if is_out_of_memory(error) else type(error).__name__
    return name, str(error), signal


def mark(error: E) -> E:
    """Say of an exception that all ranks raise it, each its own."""
    error.add_note(SHARED)
    return error


def rebuild(rank: int, description: tuple[str, str, int]) -> DatadistillError:
    """The exception for a rank that was told of another's."""
    name, sentence, signal = description
    if signal:
        return Interrupted(sentence, signal)
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, DatadistillError) and kind is not Interrupted:
        return kind(f"rank {rank}: {sentence}")
    return RankLost(f"rank {rank} ended by {name}: {sentence[:300]}")
