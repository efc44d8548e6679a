"""A net as a file states it: a name, its arguments and its initialization scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from datadistill.errors import DataError, UsageError
from datadistill.nets import NETS, arguments, build, find_net
from datadistill.nets.limits import MOST_TENSORS, limit_size
from datadistill.runs.content import check_fields, check_object, check_text, quote

CUSTOM = "custom"
FACTORY = "factory"  # the initialization of nets that a function of the user's own builds


@dataclass(frozen=True)
class NetSpec:
    """The architecture and initialization that a set was learned with.

    Args:
        name: of a net in `datadistill.nets`, or "custom" for a module of the user's own, which no
            file can build again.
        args: all arguments of the architecture, channels, size and classes among them.
        init: the initialization scheme theta_0 was drawn by; "factory" where a function of the
            user's own built the nets.

    Example:
        >>> spec = NetSpec("mlp", {"channels": 1, "size": 8, "classes": 10}, "xavier")
        >>> sum(p.numel() for p in spec.build().parameters())
        26122
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)
    init: str = "xavier"

    @classmethod
    def of_images(
        cls, name: str, args: Mapping[str, Any], init: str, *, shape: Sequence[int], classes: int
    ) -> NetSpec:
        """The spec of a net for square images of `shape` (C, H, W). Channels, size and classes are
        those of the images; they may be among `args`, the architecture's own arguments, only with
        the same values.

        Example:
            >>> NetSpec.of_images("mlp", {"width": 4}, "xavier", shape=(1, 8, 8), classes=10).args
            {'channels': 1, 'size': 8, 'classes': 10, 'width': 4}
        """
        channels, height, width = shape
        if height != width:
            raise DataError(
                f"images are {height}x{width}, but the nets here take square ones; pass a "
                "size, or your own net"
            )
        sizes = {"channels": channels, "size": height, "classes": classes}
        for key, own in sizes.items():
            if key in args and (type(args[key]) is not int or args[key] != own):
                raise UsageError(
                    f"the arguments of the net {name} have {key} {args[key]!r}, but the data have "
                    f"{own}; leave {key} out, it is taken from the data"
                )
        return cls(name, {**sizes, **args}, init)

    @property
    def title(self) -> str:
        """The net as sentences call it: by the name of torchvision's model, or of the architecture.

        >>> NetSpec("torchvision", {"model": "resnet18"}).title, NetSpec("custom").title
        ('resnet18', "a net of the user's own")
        """
        return "a net of the user's own" if self.name == CUSTOM else self.model or self.name

    @property
    def model(self) -> str | None:
        """torchvision's name of the model, whose weights fit; None where it is none of theirs.

        >>> NetSpec("torchvision").model, NetSpec("alexnet").model, NetSpec("mlp").model
        ('squeezenet1_0', 'alexnet', None)
        """
        if self.name == "alexnet":
            return "alexnet"
        if self.name not in NETS:
            return None
        model = self.args.get("model", arguments(self.name).get("model"))
        return None if model is None else str(model)

    def build(self) -> nn.Module:
        """The net, with values of no meaning; UsageError for a custom one."""
        if self.name == CUSTOM:
            raise UsageError(
                "this set was learned with a module of the user's own; pass it as net="
            )
        return build(self.name, **self.args)

    def shapes(self, tensors: int = MOST_TENSORS) -> nn.Module:
        """The net without values, to compare with a file: nothing is allocated for what the file
        claims, and building stops where the net has more than `tensors`, the number of tensors that
        the file shows."""
        # modules that are replaced while a net is built register tensors that are not in its state
        with (
            torch.device("meta"),
            limit_size(self.name, self.args, min(2 * tensors + 200, MOST_TENSORS)),
        ):
            return self.build()

    def construct(self) -> nn.Module:
        """The net as its constructor draws it, from torch's global generator."""
        return find_net(self.name)(**self.args)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> NetSpec:
        """The inverse of `as_dict`, strict; DataError names what does not fit."""
        return cls(
            **check_fields(
                "net", values, {"name": check_text, "args": _check_args, "init": check_text}
            )
        )


def _check_args(field: str, value: Any) -> dict[str, Any]:
    args = check_object(field, value)
    for key, arg in args.items():
        if not isinstance(arg, str | int | float | bool):
            raise DataError(f"{field}.{key[:80]} is {quote(arg)}, wanted a number or a text")
    return args


def refuse_other_tensors(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    net: str,
    what: str = "tensor",
    *,
    exact: bool = False,
) -> None:
    """Refuse tensors that are not those of a net, by name, shape and kind of number. `wanted` may
    be on "meta"; `what` is what the tensors are called; `exact` compares the dtypes of floats
    too."""

    def kind(tensors: Mapping[str, Tensor], name: str, absent: str) -> str:
        if name not in tensors:
            return absent
        t = tensors[name]
        number = "floats" if t.is_floating_point() and not exact else str(t.dtype)
        return f"{number} {tuple(t.shape)}"

    other = [k for k in sorted({**wanted, **found}) if kind(found, k, "") != kind(wanted, k, "")]
    if other:
        raise DataError(
            f"{what} {quote(other[0])} is {kind(found, other[0], 'missing')}, wanted "
            f"{kind(wanted, other[0], 'none')} of the net {net} ({len(other)} differ"
            f"{'s' if len(other) == 1 else ''}); take the net's own tensors, or get the file again"
        )
