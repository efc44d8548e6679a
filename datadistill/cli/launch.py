"""`--processes N`: start a command again as N ranks on this machine, by torch's own launcher."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from datadistill.errors import RankLost, UsageError

MOST = 1024
PATIENCE = 24 * 60 * 60
"""Seconds that ranks have to end after a signal."""


def count_processes(text: str, nets: int | None = None, cores: int | None = None) -> int:
    """How many processes `--processes` asks for: a number, or with "auto" one for each of the
    cores of this process, and no more than there are nets.

    Example:
        >>> count_processes("auto", nets=3, cores=8), count_processes("2", nets=1)
        (3, 2)
    """
    if text == "auto":
        cores = cores or len(os.sched_getaffinity(0))
        return cores if nets is None else max(1, min(nets, cores))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
        raise UsageError(f"processes is {text!r}; give a number from 1 to {MOST}, or auto")
    return int(text)


def launch(program: str, argv: Sequence[str], processes: int) -> int | None:
    """Carry out `python -m PROGRAM ARGV` as so many ranks, and return the exit code of the first
    that failed, or 0. None where nothing is to be started: one process, or one of the ranks."""
    from datadistill.runs.ranks import current, is_wanted

    if processes == 1 or is_wanted() or current().size > 1:
        return None
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # from a signal to the end of the iteration; older versions give them 30 s
    has_patience = "shutdown_timeout" in LaunchConfig.__dataclass_fields__
    patience: dict[str, Any] = {"shutdown_timeout": PATIENCE} if has_patience else {}

    # it tells of each rank that failed, which the ranks have done themselves
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        run_id=program,
        **patience,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, sys.executable)("-m", program, *argv)
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        if (code := next((code for code in codes if code > 0), None)) is not None:
            return code
        raise RankLost(
            f"a rank was killed by signal {-codes[0]}; what was saved is kept, resume it"
        ) from error
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0
