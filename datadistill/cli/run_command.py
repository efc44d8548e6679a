"""Commands that carry out one run: `COMMAND RECIPE`, or `COMMAND --resume DIR`.

After a recipe the options start from the recipe's config, after --resume from the run's own.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from datadistill.cli.options import (
    Options,
    as_flags,
    config_of,
    is_given,
    open_output,
    parse,
    take_name,
    value_of,
    wants_help,
)
from datadistill.cli.printing import Output
from datadistill.errors import UsageError, suggest
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config

F = TypeVar("F", bound="RunFlags")
C = TypeVar("C", bound=Any)

OWN = "own"
"""The arm that is the recipe itself."""


@dataclass(frozen=True)
class RunFlags:
    """The options of a command that carries out a run; a command adds its own, and its config."""

    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED."""
    resume: Path | None = None
    """Run folder to resume, in place of a recipe."""
    config: Any = None
    options: Options = field(default_factory=Options)


class RunCommand(abc.ABC, Generic[F, C]):
    """A command that carries out a run, as it was typed.

    Args:
        argv: the words after the command.
    """

    prog: ClassVar[str]
    """How the command is typed."""
    kind: ClassVar[str]
    """Of its runs, as config.json has it."""
    nouns: ClassVar[tuple[str, str]] = ("run", "recipe")
    """What one of its runs and what one of its recipes is called in error sentences."""
    recipes: ClassVar[Collection[str]]
    config_class: type[C]
    flags: type[F]
    """The class of its options; the default of its `config` is of the class whose fields are
    flags."""

    def __init__(self, argv: Sequence[str]) -> None:
        name, words = take_name(argv)
        resumed = value_of(words, "--resume")
        if resumed is not None and not wants_help(words):
            base = self._stored_config(Path(resumed), name, words)
        elif name is not None:
            base = self.make(name, words)
        elif wants_help(words):
            base = self.config_class()
        else:
            known = suggest("", self.recipes, f"{self.prog.split()[0]} recipes")
            raise UsageError(
                f"no {self.nouns[1]} was given; type {self.prog} RECIPE, or {self.prog} "
                f"--resume DIR ({known})"
            )
        typed = name or ("--resume DIR" if resumed else "RECIPE")
        default = self.flags(config=as_flags(type(self.flags().config), base))
        self.args = parse(self.flags, words, f"{self.prog} {typed}", default)
        self.config = config_of(self.args.config, base, words)
        self.changed = self.args.resume is None or self.config != base
        arm = self.arm_of(self.config)
        title = self.config.recipe if arm in (None, OWN) else f"{self.config.recipe}-{arm}"
        self.out = (
            self.args.resume or self.args.out or Path("runs") / f"{title}-s{self.config.seed}"
        )

    @abc.abstractmethod
    def make(self, name: str, words: Sequence[str]) -> C:
        """The config of a recipe; an unknown one is refused."""

    def arm_of(self, config: C) -> str | None:
        """The row of its recipe that a config is, for recipes that have several."""
        return None

    def title_of(self, config: C) -> str:
        """The name of a run on the terminal: its recipe and, unless that is the recipe's own, its
        arm."""
        arm = self.arm_of(config)
        return str(config.recipe) if arm in (None, OWN) else f"{config.recipe} ({arm})"

    def _stored_config(self, path: Path, name: str | None, words: Sequence[str]) -> C:
        stored = RunFolder.open(path, kind=self.kind).config
        base = build_config(self.config_class, stored, str(path / "config.json"))
        arm = value_of(words, "--arm")
        if name not in (None, base.recipe) or arm not in (None, self.arm_of(base)):
            other = " ".join(filter(None, (name, arm and f"--arm {arm}")))
            found = f"{path} is a {self.nouns[0]} of {self.title_of(base)}"
            raise UsageError(f"{found}, not of {other}; leave the recipe out")
        if is_given(words, "--out"):
            raise UsageError("--resume goes on in its own folder; leave --out out")
        return base

    def open_output(self) -> Output:
        """Refuse a run folder that is in use; else see `options.open_output`."""
        if self.args.resume is None:
            RunFolder.refuse_occupied(self.out)
        return open_output(self.args.options)

    def carry_out(
        self, run: Callable[..., object], output: Output, work: str, **given: Any
    ) -> float:
        """Carry out the run, with a line about the `work` before it; returns the seconds over all
        its sessions. `given` are arguments of `run` besides the config, the folder and the
        options."""
        from datadistill.device import resolve
        from datadistill.runs.timing import read_all_seconds

        config, options = self.config, self.args.options
        if not options.quiet:
            on = resolve(config.device).type
            output.say(f"{self.title_of(config)}, seed {config.seed}: {work} on {on} -> {self.out}")
        before = read_all_seconds(self.out)  # a resumed run has sessions behind it
        began = time.monotonic()
        resume = self.args.resume is not None
        run(config if self.changed else None, out=self.out, resume=resume, options=options, **given)
        return before + time.monotonic() - began
