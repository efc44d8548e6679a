"""Dispatch of a command, whose every failure ends in one sentence and an exit code.

A command is a module with `run(argv) -> int`; it is imported only when it runs, and imports torch
only when it has parsed its options. To add one, write its file in this folder and its line in
`COMMANDS`. A `Program` is such a table under a name of its own; `kd-baselines` is another one.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, ModuleType

from datadistill.allocator import keep_freed_memory
from datadistill.cli.printing import close_quietly, prepare, write
from datadistill.errors import (
    DatadistillError,
    Interrupted,
    OutOfMemory,
    UsageError,
    command_line,
    escape,
    is_out_of_memory,
    suggest,
)

COMMANDS: dict[str, tuple[str, str]] = {
    "distill": ("distill", "learn a distilled set: a recipe, or --resume DIR"),
    "evaluate": ("evaluate", "train held-out nets on a set and test them"),
    "compare": ("compare", "put a set beside real images, k-means, averages and neighbours"),
    "relabel": ("relabel", "give a set soft labels of trained nets"),
    "finetune": ("finetune", "adapt your own net with a set, beside ordinary fine-tuning"),
    "reproduce": ("reproduce", "make a table or figure of the paper again, beside its own numbers"),
    "pretrain": ("pretrain", "train a pool of nets to start from: a pool recipe, or --resume DIR"),
    "show": ("show", "draw a set's figures"),
    "inspect": ("inspect", "say what is in a file or a run folder"),
    "import": ("import_results", "read the results.pth of the paper's own code"),
    "recipes": ("recipes", "list the recipes, or show one"),
    "doctor": ("doctor", "say what is on this machine: versions, devices, data sets"),
}
"""Command: its module in this folder, and one line about it."""


class _Terminated(BaseException):
    """SIGTERM came where no run is there to be saved: while torch is imported, say."""


@dataclass(frozen=True)
class Program:
    """A table of commands under one name.

    Args:
        name: how it is typed.
        package: where the commands' modules lie.
        commands: command -> its module in the package, and one line about it.
        about: one sentence.
        first: what to start with.
        shared: commands that several ranks may carry out together.
    """

    name: str
    package: str
    commands: Mapping[str, tuple[str, str]]
    about: str
    first: str
    shared: tuple[str, ...] = ()

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run one command.

        Args:
            argv: what was typed after the name; None takes `sys.argv`.

        Returns:
            The exit code: 0 done, 1 bug, 2 usage, 3 data or file invalid, 4 numerical failure, 5
            disk or memory, 6 something missing on this machine, 130 or 143 interrupted.

        Raises:
            SystemExit: an option that cannot be read (2), or --help (0).
        """
        if argv is None:  # a process of our own
            keep_freed_memory()
        arguments = list(sys.argv[1:] if argv is None else argv)
        prepare()
        # a run has a handler of its own meanwhile (StopFlag), which lets it save
        handled = threading.current_thread() is threading.main_thread()
        former = signal.getsignal(signal.SIGTERM)
        if handled and former == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        with warnings.catch_warnings(), command_line():
            warnings.showwarning = self._warn
            try:
                code = self._run(arguments)
                write(sys.stdout, "")  # flushes what others printed
                return code
            except Interrupted as stopped:
                write(sys.stderr, escape(f"{self.name}: {stopped}") + "\n")
                return stopped.exit_code
            except DatadistillError as error:
                write(sys.stderr, escape(f"{self.name}: error: {error}") + "\n")
                return error.exit_code
            except (KeyboardInterrupt, _Terminated) as stopped:
                write(sys.stderr, f"{self.name}: interrupted\n")
                return 128 + (
                    signal.SIGINT if isinstance(stopped, KeyboardInterrupt) else signal.SIGTERM
                )
            except BrokenPipeError:  # whoever read our output has gone
                close_quietly(sys.stdout)
                return 0
            except OSError as error:
                # a path that was typed: too long, a loop of links, not ours to read
                if error.filename is None:
                    write(sys.stderr, traceback.format_exc())
                    return 1
                found = f"{self.name}: error: {error.filename}: {error.strerror or error}"
                write(sys.stderr, escape(found) + "\n")
                return UsageError.exit_code
            except Exception as error:
                if is_out_of_memory(error):
                    found = f"out of memory ({str(error)[:120]})"
                    write(sys.stderr, escape(f"{self.name}: error: {found}; use fewer nets") + "\n")
                    return OutOfMemory.exit_code
                write(sys.stderr, traceback.format_exc())
                return 1
            finally:
                if handled and former == signal.SIG_DFL:
                    signal.signal(signal.SIGTERM, former)
                write(sys.stderr, "")  # else lines that nobody reads would make the exit code 120

    def _run(self, arguments: list[str]) -> int:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            write(sys.stdout, self.usage())
            return 0 if arguments else UsageError.exit_code
        if arguments[0] == "--version":
            from datadistill import __version__

            write(sys.stdout, f"{self.name} {__version__}\n")
            return 0
        command, *rest = arguments
        if command not in self.commands:
            raise UsageError(
                f"there is no command {command!r}; "
                f"{suggest(command, self.commands, f'{self.name} --help')}"
            )
        module = importlib.import_module(f"{self.package}.{self.commands[command][0]}")
        if os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1"):
            return self._run_as_rank(command, module, rest)
        code: int = module.run(rest)
        return code

    def _run_as_rank(self, command: str, module: ModuleType, rest: list[str]) -> int:
        """Run a command as one of several processes, of which the first speaks."""
        from datadistill.runs.rank_errors import SHARED
        from datadistill.runs.ranks import join

        with contextlib.ExitStack() as held:
            ranks = held.enter_context(join())
            if not ranks.writes:
                nowhere = held.enter_context(open(os.devnull, "w"))
                held.enter_context(contextlib.redirect_stdout(nowhere))
                held.enter_context(contextlib.redirect_stderr(nowhere))
            try:
                if ranks.size > 1 and command not in self.shared:
                    raise UsageError(
                        f"{command} is one process, and these are {ranks.size} ranks; start it "
                        f"without torchrun (with it: {', '.join(self.shared)})"
                    )
                code: int = module.run(rest)
                return code
            except DatadistillError as error:
                told = isinstance(error, Interrupted) or SHARED in getattr(error, "__notes__", ())
                if ranks.writes or not told:
                    raise
                return error.exit_code

    def usage(self) -> str:
        width = max(map(len, self.commands))
        lines = [f"  {name:<{width}}  {about}" for name, (_, about) in self.commands.items()]
        heading = [f"usage: {self.name} COMMAND ...", "", self.about, ""]
        ending = [
            "",
            f"{self.name} COMMAND --help lists its options.",
            f"Start with: {self.first}",
            "",
        ]
        return "\n".join([*heading, *lines, *ending])

    def _warn(self, message: Warning | str, *args: object, **named: object) -> None:
        write(sys.stderr, escape(f"{self.name}: warning: {message}") + "\n")


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


DATADISTILL = Program(
    "datadistill",
    "datadistill.cli",
    COMMANDS,
    "Learn a few synthetic images, labels and step sizes that train a net in seconds.",
    "datadistill distill mnist5k-fixed",
    ("distill", "evaluate"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """`datadistill COMMAND ...`; see `Program.main`."""
    return DATADISTILL.main(argv)
