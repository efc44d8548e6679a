"""A folder that holds many runs: finished ones are read, stopped ones go on, and a signal names the way on.

    OUT/                       a run folder of a kind of its own: config.json says what was asked
      NAME-sSEED/              a run folder a net

What `compare` and `born_again_generations` have in common: the folder, its runs, and what was typed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from datadistill.config import KINDS, config_class
from datadistill.errors import Interrupted, UsageError, nearest
from datadistill.runs.environment import environment
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config, differing, dump_config
from datadistill.runs.resume import STARTS
from datadistill.runs.signals import StopFlag
from kd_baselines.netfile import STUDENT

__all__ = [
    "ManyRuns",
    "begun",
    "chosen",
    "config_of",
    "kept",
    "numbers_of",
    "opened",
    "refuse_other",
    "stored",
    "typed",
]

C = TypeVar("C", bound=Any)


class ManyRuns:
    """The runs below one folder, carried out one after the other.

    Args:
        folder: the parent.
        say: takes a line for every run.
        stop: set by a signal.
        again: what to type to go on after one.
    """

    def __init__(self, folder: RunFolder, say: Callable[[str], None], stop: StopFlag, again: str) -> None:
        self.folder, self.say, self.stop, self.again = folder, say, stop, again
        self.environments: list[Mapping[str, Any]] = []

    def carry_out(self, words: str | None, run: Callable[[], object]) -> None:
        """Do a piece of the work.

        Args:
            words: said before it; None: nothing.
            run: the work; it leaves by `Interrupted` where a signal stops it.

        Raises:
            Interrupted: a signal came; the sentence says how to go on with the whole.
        """
        try:
            self.stop.raise_if_requested("")
            if words is not None:
                self.say(words)
            run()
        except Interrupted as stopped:  # a run's own sentence would go on with that run only
            raise Interrupted(kept(self.folder.path, self.again), stopped.exit_code - 128) from stopped

    def result(
        self, path: Path, config: Any, words: str, run: Callable[[bool], object], file: str = STUDENT
    ) -> Path:
        """What a run leaves: read where it is finished, else the run is gone on with, or begun.

        Args:
            path: the run folder.
            config: that the run has, or is to have.
            words: said before it is carried out.
            run: the work; takes whether there is something to go on with.
            file: that it leaves.

        Raises:
            UsageError: the folder holds a run of another config.
            Interrupted: as `carry_out` says.
        """
        if begun(path):
            refuse_other(path, config)
        if not (path / file).exists():
            self.carry_out(words, lambda: run(begun(path)))
        self.remember(path)
        return path / file

    def remember(self, path: Path) -> None:
        """Note the environment of a run, once for each that differs."""
        left_out = ("data", "net", *STARTS)
        folder = RunFolder.open(path)
        folder.sweep()
        env = {k: v for k, v in folder.environment.items() if k not in left_out}
        if env not in self.environments:
            self.environments.append(env)


def kept(path: Path, again: str) -> str:
    """What is said where a signal stops the work, and how to go on."""
    return f"stopped; what was done is kept in {path}; go on with: {again}"


def begun(path: Path) -> bool:
    """Whether a run is there, finished or not."""
    return (path / "config.json").exists()


def opened(path: Path, config: dict[str, Any], kind: str, does: str, free: Collection[str] = ()) -> RunFolder:
    """The parent folder, made where it is not there.

    Args:
        path: where.
        config: what is asked.
        kind: of the folder.
        does: what such a folder does, for the sentence: "compares".
        free: keys of the config that may have been others.

    Raises:
        UsageError: it holds something else.
    """
    if not begun(path):
        return RunFolder.create(path, config, environment(), kind)
    folder = RunFolder.open(path, kind=kind)
    there, asked = ({k: v for k, v in found.items() if k not in free} for found in (folder.config, config))
    if changed := differing(there, asked):
        raise UsageError(f"{path} {does} something else ({'; '.join(changed)}); choose another --out")
    return folder


def config_of(path: Path, cls: type[C]) -> C:
    """The config of a run.

    Args:
        path: a run folder.
        cls: the class of the config; it decides which kind the run must be of.

    Raises:
        UsageError: no run of that kind is there.
    """
    kind = next(name for name in KINDS if config_class(name) is cls)
    return build_config(cls, RunFolder.open(path, kind=kind).config, str(path / "config.json"))


def refuse_other(path: Path, wanted: Any) -> None:
    """UsageError where a run folder holds a run of another config; the device aside."""
    found = config_of(path, type(wanted))
    if changed := differing(*(replace(config, device="auto") for config in (found, wanted))):
        raise UsageError(
            f"{path} holds a run of another config ({'; '.join(changed)}); remove it, or choose another --out"
        )


# --- what was asked


def numbers_of(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """Which seeds: how many, from 0, or which; UsageError for none, or one given twice.

    >>> numbers_of(3), numbers_of([4, 2])
    ((0, 1, 2), (4, 2))
    """
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"seeds is {seeds!r}; give how many, 1 or more, or different ones")
    return numbers


def chosen(asked: Sequence[str] | None, known: Sequence[str], name: str) -> list[str]:
    """The arms that were asked for, in the recipe's order; None: all. UsageError for an unknown one."""
    for arm in asked or ():
        if arm not in known:
            raise UsageError(f"{name} has no arm {arm!r}; {nearest(arm, known)}")
    return [arm for arm in known if asked is None or arm in asked]


def stored(changes: Mapping[str, Any], cls: type[Any]) -> dict[str, Any]:
    """The changed fields as config.json keeps them; UsageError for one that the class of config has not."""
    plain = dump_config(cls().with_changes(**changes))
    return {name: plain[name] for name in changes if name != "device"}


def typed(
    program: str, recipe: str, seeds: Sequence[int], options: Mapping[str, Any], changes: Mapping[str, Any]
) -> str:
    """The command that asks for all this.

    Args:
        program: "kd-baselines compare".
        recipe: its name.
        seeds: which.
        options: flags of the command beside the seeds; None leaves one out.
        changes: fields of every config, and their values.

    >>> typed("kd-baselines compare", "r", (0, 1), {"base": None}, {"net_args": {"width": 8}, "cache": False})
    'kd-baselines compare r --seeds 2 --net-args width 8 --no-cache'
    >>> typed("p", "r", (4,), {"arms": ("a", "b")}, {"augment": ("crop", "flip")})
    'p r --seeds 4 --arms a b --augment crop flip'
    """
    counted = tuple(seeds) == tuple(range(len(seeds)))
    words = len(seeds) if counted else " ".join(map(str, seeds))
    given = {**{name: value for name, value in options.items() if value is not None}, **changes}
    return f"{program} {recipe} --seeds {words}" + "".join(f" {_flag(k, v)}" for k, v in given.items())


def _flag(field: str, value: Any) -> str:
    """A field as it is typed."""
    name = field.replace("_", "-")
    if isinstance(value, bool):
        return f"--{'' if value else 'no-'}{name}"
    if isinstance(value, dict):
        cleared = [(name, "-") for name in getattr(value, "cleared", ())]
        value = [word for pair in (*value.items(), *cleared) for word in pair]
    many = isinstance(value, list | tuple)
    return f"--{name} {' '.join(map(str, value)) if many else value}"
