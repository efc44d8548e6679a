"""A net as a file knows it: a name, its arguments and its initialization scheme."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from datadistill.errors import DataError, UsageError
from datadistill.nets import build

CUSTOM = "custom"


@dataclass(frozen=True)
class NetSpec:
    """Which net a set was learned with.

    Args:
        name: a key of `NETS`, or "custom" for a module of the user's own, which no file can build again.
        args: all arguments of the architecture, channels, size and classes among them.
        init: the initialization scheme theta_0 was drawn by.

    Example:
        >>> spec = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10}, "xavier")
        >>> sum(p.numel() for p in spec.build().parameters())
        26122
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    init: str = "xavier"

    def build(self) -> nn.Module:
        """The net, with values of no meaning; UsageError for a custom one."""
        if self.name == CUSTOM:
            raise UsageError("this set was learned with a module of the user's own; pass it as net=")
        return build(self.name, **self.args)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> NetSpec:
        """The inverse of `as_dict`, strict; DataError names what does not fit."""
        if not isinstance(values, dict) or set(values) != {"name", "args", "init"}:
            raise DataError(f"net is {values!r}, wanted the keys name, args and init")
        if not isinstance(values["args"], dict) or not all(
            isinstance(values[k], str) for k in ("name", "init")
        ):
            raise DataError(f"net is {values!r}, wanted two texts and the arguments by name")
        return cls(**values)
