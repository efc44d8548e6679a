"""Choices of a config from tables, and the arguments beside them."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from datadistill.config.values import type_hints_of
from datadistill.errors import DataError, UsageError, suggest

Value = int | float | str | bool
C = TypeVar("C", bound=Any)


OWNERS = {
    "net_args": "net",
    "teacher_args": "teacher_net",
    "method_args": "method",
    "update_args": "update",
    "student_args": "student_net",
    "distill_changes": "distill",
    "decoder_args": "decoder",
}
"""Field with arguments -> the field that names what they are arguments of."""

CLEAR = "-"
"""Typed as the value of an argument: the one that a recipe sets is taken out, and the default
counts."""


class Arguments(dict[str, Value]):
    """Arguments as they are typed: they are put over those that a config has, name by name;
    `cleared` names are taken out, so that the default counts again."""

    def __init__(self, typed: Mapping[str, Value], cleared: Collection[str] = ()) -> None:
        super().__init__(typed)
        self.cleared = tuple(cleared)

    def as_typed(self) -> dict[str, Value]:
        """Names and values as they are typed, cleared ones among them."""
        return {**self, **dict.fromkeys(self.cleared, CLEAR)}

    def merge_over(self, config: Any, changes: Mapping[str, Any]) -> dict[str, Value]:
        """These over the arguments of a config; alone where the net (method, update rule) is
        another one among its `changes`, and nothing where nothing is typed."""
        field = next(name for name, value in changes.items() if value is self)
        owner = OWNERS[field]
        same = changes.get(owner, getattr(config, owner)) == getattr(config, owner)
        own = dict(getattr(config, field)) if same and (self or self.cleared) else {}
        for name in self.cleared:
            if name not in own:
                raise UsageError(
                    f"{field} has no {name!r} to take out; "
                    f"{suggest(name, own) if own else 'it is empty'}"
                )
            del own[name]
        return {**own, **self}


def read_value(text: str) -> Value:
    """A number, true or false, as which a text can be read; else the text.

    >>> read_value("32"), read_value("1e-3"), read_value("true"), read_value("instance")
    (32, 0.001, True, 'instance')
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def choose(
    table: Mapping[str, Callable[..., C]],
    what: str,
    name: str,
    args: Mapping[str, Any],
    parts: Collection[str] = (),
) -> Callable[..., C]:
    """The class or function of a name in a table, with its arguments checked against its signature:
    a function of the `parts` that come later, which hands on those that are in the signature.
    `what` is what the table lists, for the sentence.

    Example:
        >>> power = choose({"pow": pow}, "function", "pow", {"exp": 3}, parts=["base", "unused"])
        >>> power(base=2, unused=None)
        8
        >>> choose({"pow": pow}, "function", "pow", {"expo": 2}, parts=["base"])
        Traceback (most recent call last):
        datadistill.errors.UsageError: the function pow has no argument 'expo'; did you mean exp?
        ...
    """
    if name not in table:
        raise UsageError(f"there is no {what} {name!r}; {suggest(name, table)}")
    chosen: Any = table[name]
    parameters = inspect.signature(chosen).parameters
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    own = {k: p for k, p in parameters.items() if k not in parts and p.kind not in free}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    # a dataclass's __init__ has the hints of its bases, which name what their modules import
    is_plain = isinstance(chosen, type) and not is_dataclass(chosen)
    hints = get_type_hints(chosen.__init__ if is_plain else chosen)
    for argument, value in args.items():
        if argument in own:
            _check_argument(f"{argument} of the {what} {name}", value, hints.get(argument))
        elif not takes_any or argument in parts:
            known = suggest(argument, own) if own else "it takes none"
            raise UsageError(f"the {what} {name} has no argument {argument!r}; {known}")
    lacking = [k for k, p in own.items() if p.default is p.empty and k not in args]
    if lacking:
        raise UsageError(f"the {what} {name} needs the argument {lacking[0]!r}; give it a value")

    def make(**given: Any) -> C:
        made: C = chosen(**{k: value for k, value in given.items() if k in parameters}, **args)
        return made

    return make


def from_description(
    table: Mapping[str, Callable[..., C]], what: str, description: Mapping[str, Any], **parts: Any
) -> C:
    """What a `describe()` described: its "name" is looked up in the table, the rest are arguments.

    Args:
        table: name -> class or function.
        what: that the table lists, for the sentence: "decoder".
        description: from a file.
        parts: arguments that no description holds; handed on where they are in the signature.

    Raises:
        DataError: an unknown name, or arguments that it does not take.
    """
    arguments = dict(description)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise DataError(f"the {what} is {name!r:.60}, wanted its name: {', '.join(table)}")
    try:
        return choose(table, what, name[:80], arguments, parts)(**parts)
    except (UsageError, TypeError) as error:
        raise DataError(str(error)) from None


def check_description(
    table: Mapping[str, Callable[..., Any]], what: str, made: Any, **parts: Any
) -> None:
    """Refuse an object whose `describe()` does not make it again, before a file is written with it.

    Args:
        table, what, parts: as of `from_description`.
        made: has `describe`.

    Raises:
        UsageError: naming the class, and the argument that is lost or not taken.
    """
    described, name = made.describe(), f"{type(made).__name__}.describe()"
    try:
        json.dumps(described, allow_nan=False)
        again = from_description(table, what, described, **parts)
    except (DataError, TypeError, ValueError) as error:
        raise UsageError(
            f"{name} gives {described!r:.200}, by which no file could be read again: {error}"
        ) from None
    if type(again) is not type(made):
        raise UsageError(
            f"{name} gives the name {described['name']!r} of another class, {type(again).__name__}"
        )
    remade = again.describe()
    for argument, value in described.items():
        if value != remade.get(argument):
            raise UsageError(
                f"{name} gives {argument} {value!r:.60}, and {remade.get(argument)!r:.60} when it "
                "is made of that; give what the constructor takes"
            )


def _check_argument(which: str, value: Any, hint: Any) -> None:
    """UsageError where a number, a text or a truth is wanted, and another value was given."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if hint in words and type(value) is not hint and not (hint is float and type(value) is int):
        raise UsageError(f"{which} is {value!r}; give {words[hint]}")


def refuse_unknown_choices(config: Any) -> None:
    """UsageError for a field declared as a `Literal` that holds none of its values."""
    for name, hint in type_hints_of(type(config)).items():  # type: ignore[arg-type]
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            value = getattr(config, name)
            raise UsageError(
                f"{name} is {value!r}; {suggest(str(value), map(str, get_args(hint)))}"
            )


def change_fields(config: C, changes: dict[str, Any]) -> C:
    """A copy of a config with some fields changed; UsageError names the field nearest to an unknown
    one."""
    known = [f.name for f in fields(config)]
    for name in changes:
        if name not in known:
            raise UsageError(f"the config has no field {name!r}; {suggest(name, known)}")
    own = {
        name: value.merge_over(config, changes)
        for name, value in changes.items()
        if isinstance(value, Arguments)
    }
    return replace(config, **{**changes, **own})
