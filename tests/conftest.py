"""What all tests share; the modules beside this file can be imported by each of them.

Folders of tests are run by a worker for each core, up to eight, with one thread each; the tests of
a file stay on one worker. Where only files are named, `-n 0` or `--pdb` is given, there are no
workers. OMP_NUM_THREADS, where it is set, says how many threads each process has.
"""

import gc
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported


def pytest_configure(config):
    """Take Ctrl-C where a shell's background job was started with it ignored: tests send it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config):
    """0 (the process itself) where only files are named, else one for each core, up to eight."""
    if all(argument.split("::")[0].endswith(".py") for argument in config.args):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores, 8)


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that no worker starts one while the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collectstart():
    """Collect without the garbage collector, which would walk everything again and again."""
    gc.disable()


def pytest_collection_finish():
    """Hide what collecting made from the garbage collector: it stays, and walking it takes half a
    second."""
    gc.enable()
    gc.collect()
    gc.freeze()
