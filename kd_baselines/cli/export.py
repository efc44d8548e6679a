"""`kd-baselines export RUN_OR_FILE --out FILE`: a trained net for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from datadistill.cli.options import NetPath, parse
from datadistill.cli.outputs import refuse_inputs, refuse_taken
from datadistill.cli.printing import Output, size_of
from kd_baselines.cli.configs import is_net_of_text

if TYPE_CHECKING:
    from kd_baselines.netfile import SavedNet


@dataclass(frozen=True)
class Export:
    """Write a trained net for other programs: its weights, or the net with its graph."""

    run: NetPath
    """A run folder, or the file of a net."""
    out: Path
    """File to write. Weights by the net's own names: .safetensors, .pt or .pth (torch.save of the
    state dict). The net itself: .pt2 (torch.export), .torchscript, or .onnx, for which the packages
    onnx and onnxscript must be installed."""
    which: Literal["student", "teacher"] = "student"
    """Which net of a run folder."""
    number: int | None = None
    """Which net of an ensemble, from 0."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse, write, say what is in the file."""
    args = parse(Export, argv, "kd-baselines export")
    output = Output(args.json)
    from datadistill.nets.export import format_load, refuse_suffix
    from kd_baselines.net_export import describe, export

    refuse_suffix(args.out, graphs=True)
    refuse_inputs(args.out, args.run)
    refuse_taken(args.out)
    if is_net_of_text(str(args.run)):
        from kd_baselines.language.netfile import SavedLanguageModel

        text = SavedLanguageModel.load(args.run)
        export(text, args.out, number=args.number)
        lines = [f"{text.name} of {len(text.words):,} words, trained on {text.dataset}"]
        about = {k: v for k, v in describe(text).items() if k != "words"}
    else:
        from kd_baselines.netfile import SavedNet

        saved = SavedNet.load(args.run, which=args.which)
        export(saved, args.out, number=args.number)
        lines, about = describe_images(saved), describe(saved)
    bytes_ = args.out.stat().st_size
    output.say(*lines, f"wrote {args.out} ({size_of(bytes_)})", f"next: {format_load(args.out)}")
    output.result({"out": str(args.out), "bytes": bytes_, **about})
    return 0


def describe_images(saved: SavedNet) -> list[str]:
    """What the net is and what it takes, for a person."""
    args, scale = saved.spec.args, saved.normalization
    typed = ", ".join(f"{name}={value!r}" for name, value in args.items())
    channels, size = args["channels"], args["size"]
    lines = [
        f"{saved.spec.title} trained on {saved.dataset}: "
        f"datadistill.nets.build({saved.spec.name!r}, {typed})",
        f"it takes images (N, {channels}, {size}, {size}), in 0..1 and then normalized by "
        f"{scale.words}; the net does not do that itself",
    ]
    if scale.tensors:
        lines.append("the matrix of the whitening is in the run's own file alone")
    if saved.source_classes is not None:
        lines.append("the classifier of the target classes; the second head is left out")
    return lines
