"""Commands that carry out one run: `COMMAND RECIPE`, or `COMMAND --resume DIR`.

After a recipe the options start from the recipe's config, after --resume from the run's own.

    class RunFlags      the options that all of them have
    class RunCommand    where a config comes from, and how its run is named
    class RunRequest    what was typed, ready to be carried out
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
    given,
    parse,
    set_threads,
    take_name,
    value_of,
    wants_help,
)
from datadistill.cli.printing import Output
from datadistill.errors import UsageError, nearest
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config

F = TypeVar("F", bound="RunFlags")
C = TypeVar("C", bound=Any)


@dataclass(frozen=True)
class RunFlags:
    """The options of a command that carries out a run; a command adds its own, and its config."""

    out: Path | None = None
    """Run folder to write; default: runs/RECIPE-sSEED."""
    resume: Path | None = None
    """Run folder to go on with, in place of a recipe."""
    config: Any = None
    options: Options = field(default_factory=Options)


class RunCommand(abc.ABC, Generic[F, C]):
    """A command whose recipes give the config of a run."""

    prog: ClassVar[str]
    """How it is typed."""
    kind: ClassVar[str]
    """Of its runs, as config.json has it."""
    noun: ClassVar[str] = "run"
    """What one of its runs is, in error sentences."""
    recipe_noun: ClassVar[str] = "recipe"
    """What its recipes are, in error sentences."""
    recipes: Collection[str]
    """Names of its recipes."""
    list_command: ClassVar[str]
    """What lists them."""
    config: type[C]
    """The class of its configs."""
    flags: type[F]
    """The class of its options; the default of its `config` is of the class whose fields are flags."""

    @abc.abstractmethod
    def make(self, name: str, words: Sequence[str]) -> C:
        """The config of a recipe; an unknown one is refused."""

    def title(self, config: C) -> str:
        """What a run is named on the terminal."""
        return str(config.recipe)

    def default_out(self, config: C) -> Path:
        """Where a run goes without --out."""
        return Path("runs") / f"{config.recipe}-s{config.seed}"

    def other_recipe(self, base: C, name: str | None, words: Sequence[str]) -> str | None:
        """The recipe that was typed, where the run to resume is of another one."""
        return None if name in (None, base.recipe) else name

    def read(self, argv: Sequence[str]) -> RunRequest[F, C]:
        """Parse the words after the command.

        Raises:
            UsageError: no recipe, an unknown one, or a run of another one; options that do not go together.
            SystemExit: see `parse`.
        """
        name, words = take_name(argv)
        resumed = value_of(words, "--resume")
        if resumed is not None and not wants_help(words):
            base = self._stored_config(Path(resumed), name, words)
        elif name is not None:
            base = self.make(name, words)
        elif wants_help(words):
            base = self.config()
        else:
            raise UsageError(
                f"no {self.recipe_noun} was given; type {self.prog} RECIPE, or {self.prog} --resume DIR "
                f"({nearest('', self.recipes, self.list_command)})"
            )
        typed = name or ("--resume DIR" if resumed else "RECIPE")
        default = self.flags(config=as_flags(type(self.flags().config), base))
        args = parse(self.flags, words, f"{self.prog} {typed}", default)
        config = config_of(args.config, base, words)
        out = args.resume or args.out or self.default_out(config)
        return RunRequest(args, config, args.resume is None or config != base, out, self.title(config))

    def _stored_config(self, path: Path, name: str | None, words: Sequence[str]) -> C:
        """The config of the run to resume."""
        stored = RunFolder.open(path, kind=self.kind).config
        base = build_config(self.config, stored, str(path / "config.json"))
        other = self.other_recipe(base, name, words)
        if other is not None:
            raise UsageError(
                f"{path} is a {self.noun} of {self.title(base)}, not of {other}; leave the recipe out"
            )
        if given(words, "--out"):
            raise UsageError("--resume goes on in its own folder; leave --out out")
        return base


@dataclass(frozen=True)
class RunRequest(Generic[F, C]):
    """What was typed.

    Args:
        args: all options.
        config: of the run.
        changed: whether the config must be handed on; a resumed run without changes has its own in the folder.
        out: the run folder.
        title: what the run is named on the terminal.
    """

    args: F
    config: C
    changed: bool
    out: Path
    title: str

    def open_output(self) -> Output:
        """Refuse a folder that is in use, set the threads, and return where words go."""
        if self.args.resume is None:
            RunFolder.refuse_occupied(self.out)
        set_threads(self.args.options.threads)
        return Output(self.args.options.json)

    def carry_out(self, run: Callable[..., object], output: Output, work: str, **given: Any) -> float:
        """Carry out the run.

        Args:
            run: such as `distill`.
            output: where to say what begins.
            work: what is done, for that line.
            **given: arguments of `run` besides the config, the folder and the options.

        Returns:
            Seconds over all sessions of the run.
        """
        from datadistill.device import resolve
        from datadistill.runs.timing import spent

        config, options = self.config, self.args.options
        if not options.quiet:
            on = resolve(config.device).type
            output.say(f"{self.title}, seed {config.seed}: {work} on {on} -> {self.out}")
        before = spent(self.out) or 0.0  # a resumed run has sessions behind it
        began = time.monotonic()
        run(
            config if self.changed else None, out=self.out, resume=self.args.resume is not None,
            options=options, **given,
        )  # fmt: skip
        return before + time.monotonic() - began
