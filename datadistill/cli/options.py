"""Options from dataclasses, by tyro: every field is a flag, its docstring the help, its value the
default."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
import tyro.constructors

from datadistill.cli.printing import Output
from datadistill.config import RunOptions, Value
from datadistill.config.choices import CLEAR, OWNERS, Arguments, read_value
from datadistill.config.values import LONGEST_PATH, MOST, check_range, check_types
from datadistill.errors import UsageError

T = TypeVar("T")
C = TypeVar("C", bound=Any)


def _values(words: list[str]) -> dict[str, Value]:
    """Names and values in turn: numbers and true or false become such."""
    if len(words) % 2:
        raise ValueError(f"names and values must come in pairs, and {words[-1]!r} is left over")
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    if len(pairs) < len(words) // 2:
        raise ValueError(f"a name is given twice in {' '.join(words)}; give each one value")
    typed = {name: read_value(text) for name, text in pairs.items() if text != CLEAR}
    return Arguments(typed, [name for name, text in pairs.items() if text == CLEAR])


NAMES_AND_VALUES = tyro.constructors.PrimitiveConstructorSpec[dict[str, Value]](
    nargs="*",
    metavar="[NAME VALUE ...]",
    instance_from_str=_values,
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=lambda value: [word for pair in value.items() for word in map(str, pair)],
)
"""How a dict is typed: --net-args width 32 norm instance depth -. (tyro's own way makes a flag of
each key.)"""

NamesAndValues = Annotated[dict[str, Value], NAMES_AND_VALUES]


def _hint(default: str) -> str:
    known = default.strip() or "none"
    return f"(go over the recipe's, name by name; NAME {CLEAR} takes one out; default: {known})"


RecipeArguments = Annotated[
    dict[str, Value], NAMES_AND_VALUES, tyro.conf.arg(help_behavior_hint=_hint)
]
"""Arguments that are put over those of a recipe; see `with_arguments`."""
Hidden = Annotated[T, tyro.conf.Fixed, tyro.conf.Suppress]
"""A field that is no flag."""
SetPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE_OR_DIR")]
NetPath = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_FILE")]
OptionalName = Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")]


@dataclass(frozen=True)
class Options(RunOptions):
    """How the command is carried out; none of it changes the numbers."""

    threads: int | None = None
    """CPU threads of torch."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


@dataclass(frozen=True)
class MachineOptions:
    """Where the data lie, and what computes; none of it changes what is measured."""

    data_root: str | None = None
    """Where data sets lie; else $DATADISTILL_DATA, else the user's cache folder."""
    download: bool = True
    """Whether a data set that is not there may be fetched."""
    device: str = "auto"
    """auto, cpu or cuda."""
    threads: int | None = None
    """CPU threads of torch."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def parse(cls: type[T], argv: Sequence[str], prog: str, default: T | None = None) -> T:
    """Fill a dataclass from the words after the command. Nested dataclasses give their fields
    without a prefix; `prog` is how the command is typed, for the help; `default` is shown and used
    where a flag is absent.

    Raises:
        SystemExit: 0 after --help; 2 after an option that is unknown (the near ones are named) or
            has a wrong value. Both have said what there is to say.
        UsageError: the dataclass refuses the values, or one of them is empty.
    """
    _refuse_unreadable(argv)
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    if default is None:
        found = tyro.cli(cls, args=list(argv), prog=prog, config=config)
    else:
        found = tyro.cli(cls, args=list(argv), prog=prog, config=config, default=default)
    check_types(found)
    values = {f.name: getattr(found, f.name) for f in fields(found)}  # type: ignore[arg-type]
    counts = [name for name, value in values.items() if type(value) is int and name != "seed"]
    check_range(found, counts, most=MOST)
    return found


def _refuse_unreadable(argv: Sequence[str]) -> None:
    """An empty word is a variable of the shell that is not set: as a path it would be the working
    folder. A word longer than any path is no value."""
    for i, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if word == "" or (word.startswith("--") and equals and not value):
            before = (
                flag if word else next((w for w in reversed(argv[:i]) if w.startswith("--")), "")
            )
            raise UsageError(
                f"{before or 'an argument'} is empty; give it a value, or leave it out"
            )
        if len(word) > LONGEST_PATH:
            raise UsageError(
                f"an argument has {len(word)} characters ({word[:40]}...); give one of at "
                f"most {LONGEST_PATH}"
            )


def value_of(argv: Sequence[str], flag: str) -> str | None:
    """The value of a flag that must be known before the others are parsed."""
    for i, word in enumerate(argv):
        if word == flag and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(flag + "="):
            return word.removeprefix(flag + "=")
    return None


def is_given(argv: Sequence[str], flag: str) -> bool:
    """Whether a flag was typed."""
    return any(word == flag or word.startswith(flag + "=") for word in argv)


def with_arguments(config: C, base: C, argv: Sequence[str]) -> C:
    """A config as typed, its dictionaries of arguments put over those of `base`, the recipe's
    config or that of the run to resume, name by name. The recipe's arguments are those of its own
    net, method or update rule: they go where another one is typed."""
    changes: dict[str, Any] = {}
    for arguments, owner in OWNERS.items():
        if not hasattr(base, arguments):
            continue
        flag = "--" + arguments.replace("_", "-")
        typed, here = getattr(config, arguments), is_given(argv, flag)
        if list(argv).count(flag) > 1:
            raise UsageError(
                f"{flag} was given twice, and the first would be lost; put all names and "
                f"values behind one {flag}"
            )
        if here and isinstance(typed, Arguments):
            changes[arguments] = typed.merge_over(
                base, {owner: getattr(config, owner), arguments: typed}
            )
        elif not here and getattr(config, owner) != getattr(base, owner):
            changes[arguments] = {}
    return replace(config, **changes)


def take_name(argv: Sequence[str], missing: str | None = None) -> tuple[str | None, list[str]]:
    """The name that stands before all flags, such as a recipe's, and the words after it. `missing`
    is the UsageError where there is no name, and no --help either; None for a command without.

    >>> take_name(["mnist-fixed", "--ipc", "5"]), take_name(["--help"])
    (('mnist-fixed', ['--ipc', '5']), (None, ['--help']))
    """
    words = list(argv)
    if words and not words[0].startswith("-"):
        return words[0], words[1:]
    if missing is not None and not wants_help(words):
        raise UsageError(missing)
    return None, words


def as_flags(flags: type[T], config: Any) -> T:
    """A config as the class whose fields are flags."""
    return flags(**{f.name: getattr(config, f.name) for f in fields(config)})


def config_of(typed: Any, base: C, argv: Sequence[str]) -> C:
    """The plain config that flags make of a recipe's or a run's; see `with_arguments`."""
    values = {f.name: getattr(typed, f.name) for f in fields(base)}
    if values.get("data") is not None and values["dataset"] != "folder":
        if is_given(argv, "--dataset"):
            raise UsageError(
                f"both --dataset {values['dataset']} and --data {values['data']} "
                "were given; drop one"
            )
        values["dataset"] = "folder"
    config: C = type(base)(**values)
    return with_arguments(config, base, argv)


def wants_help(argv: Sequence[str]) -> bool:
    """Whether help was asked for."""
    return any(word in ("-h", "--help") for word in argv)


def open_output(options: Options | MachineOptions) -> Output:
    """Set torch's number of CPU threads, if one was typed, and return the command's output."""
    threads, most = options.threads, max(256, os.cpu_count() or 1)
    if threads is not None:
        if not 1 <= threads <= most:
            raise UsageError(f"threads is {threads}, but it must be at least 1 and at most {most}")
        import torch

        torch.set_num_threads(threads)
    return Output(options.json)
