"""Named random streams.

Every random choice of a run is drawn from a generator that is a pure function of (seed, name,
indices):

    generator(seed, "theta_0", i, n)        net n of outer iteration i
    generator(seed, "real_batch", i)        the real images of outer iteration i

so a run can stop and resume anywhere, on any number of processes, without saving a random state,
and two streams with different names are independent. `derive` hashes with SHA-256: Python's own
`hash` changes from one process to the next, and seeds that differ by one give correlated streams in
some generators.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def derive(seed: int, name: str, *indices: int) -> int:
    """A seed in [0, 2**63) for the stream `name` at `indices`.

    >>> derive(0, "theta_0", 3) == derive(0, "theta_0", 3)
    True
    >>> derive(0, "theta_0", 3) == derive(0, "theta_0", 4)
    False
    """
    key = json.dumps([int(seed), name, *(int(i) for i in indices)]).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1


def generator(
    seed: int, name: str, *indices: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh generator at the start of the stream `name`."""
    return torch.Generator(device=device).manual_seed(derive(seed, name, *indices))


@contextlib.contextmanager
def global_stream(seed: int, name: str, *indices: int, everything: bool = False) -> Iterator[None]:
    """Run a block with torch's global generators seeded from a stream, and put them back
    afterwards.

    For the places where torch takes no generator: module constructors, dropout, torchvision
    transforms. With `everything` numpy's and Python's global generators too, for code of the user's
    that may draw from them.
    """
    cuda = torch.cuda.is_available()
    seed = derive(seed, name, *indices)
    cpu = torch.default_generator
    with contextlib.ExitStack() as after:
        after.callback(cpu.set_state, cpu.get_state())
        if cuda:
            devices = list(range(torch.cuda.device_count()))
            after.enter_context(torch.random.fork_rng(devices=devices))
            torch.cuda.manual_seed_all(seed)
        # torch.manual_seed also visits devices that are not there
        cpu.manual_seed(seed)
        if everything:
            after.callback(set_other_generators, get_other_generators())
            random.seed(seed)
            np.random.seed(seed % 2**32)
        yield


def get_other_generators() -> tuple[Any, Any]:
    """The states of the global generators that are not torch's: Python's and numpy's."""
    return random.getstate(), np.random.get_state(legacy=False)


def set_other_generators(states: tuple[Any, Any]) -> None:
    """Put them back."""
    random.setstate(states[0])
    np.random.set_state(states[1])


def is_same_state(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    """Whether nothing was drawn between two calls of `get_other_generators`."""

    def flat(states: tuple[Any, Any]) -> tuple[Any, ...]:
        of_numpy = states[1]
        return (
            states[0],
            of_numpy["state"]["pos"],
            of_numpy["state"]["key"].tobytes(),
            of_numpy["has_gauss"],
        )

    return flat(a) == flat(b)
