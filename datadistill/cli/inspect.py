"""`datadistill inspect FILE_OR_DIR`: what is in the file of a set or a pool, or in a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datadistill.cli.inspect_pool import print_net, print_pool, read_net, read_pool
from datadistill.cli.options import SetPath, parse
from datadistill.cli.printing import Output, percent, shape_of, size_of
from datadistill.cli.recipes import config_rows, format_value
from datadistill.config.zca import ZCA_KINDS
from datadistill.errors import DataError
from datadistill.runs.folder import POOL_FILE, SET_FILE, RunFolder


@dataclass(frozen=True)
class Inspect:
    """Say what is in the file of a distilled set or of a pool, or in a run folder."""

    set_: SetPath
    """The file of a distilled set or a pool, or a run folder."""
    verify: bool = True
    """Compare the checksum; --no-verify reads an edited or damaged file all the same."""
    json: bool = False
    """Print one JSON object on stdout, and nothing else there."""


def run(argv: Sequence[str]) -> int:
    """Parse, read, print."""
    args = parse(Inspect, argv, "datadistill inspect")
    output = Output(args.json)
    from datadistill.runs.file_kinds import read_kind

    kind = read_kind(args.set_)
    if kind == "pool":
        return inspect_pool(args, output)
    if kind == "net" and args.set_.is_file():
        net = read_net(args.set_, args.verify)
        print_net(output, net)
        output.say("next: load its tensors into your net, or pass it as --weights")
        output.result({"net": net})
        return 0
    file, found = args.set_, {}
    folder = (args.set_ / "config.json").exists()
    if folder:
        found["run"] = read_run(args.set_)
        if found["run"]["kind"].startswith("kd"):
            way = _suggest_kd_command(args.set_, found["run"]["kind"])
            raise DataError(f"{args.set_} holds a run of kd-baselines; {way}")
        file = args.set_ / SET_FILE
    if not folder or file.exists():
        found["set"] = read_set(args.set_, args.verify)
    if "set" in found:
        print_set(output, found["set"])
    if folder:
        print_run(output, found["run"])
    if "set" in found:
        measured = bool(found["set"]["accuracies"])
        start = found["set"]["start"]
        pool = " --pool POOL" if start["name"] == "pool" and not start["one"] else ""
        if not measured:
            command = f"evaluate {args.set_} --save{pool}"
        elif start["name"] in ("weights", "given"):
            command = f"finetune {args.set_}"
        else:
            command = f"show {args.set_}"
        output.say(f"next: datadistill {command}")
    elif found["run"]["kind"] == "reproduce":
        c = found["run"]["config"]
        again = (
            f"datadistill reproduce {c['table']} --scale {c['scale']} --seed {c['seed']} "
            f"--out {args.set_}"
        )
        output.say(f"next, to go on with it or write it again: {again}")
    else:
        output.say(f"the run has not finished; next: datadistill distill --resume {args.set_}")
    output.result(found)
    return 0


def inspect_pool(args: Inspect, output: Output) -> int:
    """The same for a pool of pretrained nets."""
    unfinished = args.set_.is_dir() and not (args.set_ / POOL_FILE).exists()
    found: dict[str, Any] = {}
    if not unfinished:
        found["pool"] = read_pool(args.set_, args.verify)
        print_pool(output, found["pool"])
        way = "pass it to a recipe of pretrained nets: --pool"
        if found["pool"]["epochs"] is not None:
            way = "pass it to a recipe of trajectory matching: --experts"
        output.say(f"next: {way} {args.set_} (datadistill recipes)")
    else:
        output.say(f"the pool has not finished; next: datadistill pretrain --resume {args.set_}")
    output.result(found)
    return 0


def read_set(path: Path, verify: bool) -> dict[str, Any]:
    """The content of a distilled set's file, as plain values, tensors by their shapes."""
    from datadistill.distilled import DistilledDataset
    from datadistill.distilled_file import SET
    from datadistill.runs.tensors import read_metadata

    d = DistilledDataset.load(path, verify=verify)
    file = SET.find(path)
    meta = read_metadata(file)
    return {
        **SET.metadata(d),
        "schema": meta["schema"],
        "checksum": meta["checksum"],
        "order": [index.tolist() for index in d.order],
        "file": str(file),
        "file_bytes": file.stat().st_size,
        "verified": verify,
        "uncovered": list(SET.uncovered.get(meta["schema"], ())),
        "images": list(d.images.shape),
        "image_range": [float(d.images.min()), float(d.images.max())],
        "labels": d.label_kind,
        "labels_shape": list(d.labels.shape),
        "steps": d.schedule.steps,
        "epochs": d.passes,
        "step_sizes": d.step_sizes.tolist(),
        "bytes": d.bytes,
        "bytes_theta_0": d.bytes_theta_0,
    }


def read_run(path: Path) -> dict[str, Any]:
    """The content of a run folder: its config, how far it came, its checkpoints."""

    folder = RunFolder.open(path)
    metrics = folder.read_metrics()
    return {
        "path": str(path),
        "kind": folder.kind,
        "config": folder.config,
        "environment": folder.environment,
        "last_metrics": metrics[-1] if metrics else None,
        "checkpoints": folder.checkpoints.iterations(),
        "finished": folder.distilled.exists() or (path / "table.md").exists(),
    }


def print_set(output: Output, s: dict[str, Any]) -> None:
    """The rows of a set."""
    from datadistill.nets.spec import NetSpec
    from datadistill.starts import Start

    n, *shape = s["images"]
    low, high = s["image_range"]
    net = (
        f"{s['net']['name']} ({format_value(s['net']['args'])}), initialization {s['net']['init']}"
    )
    start = Start.from_description(s["start"]).in_words(
        NetSpec.from_dict(s["net"]).title, s["net"]["init"]
    )
    carried = f"carried along ({size_of(s['bytes_theta_0'])})"
    if s.get("by_reference"):
        start += f", by reference ({s['start']['fingerprint']})"
        if s.get("own"):
            start += f"; its own tensors {carried}"
    elif s["theta_0"] is not None:
        start += f", {carried}"
    origin, found = s["origin"], s["accuracies"]
    checked = "matches" if s["verified"] else "not compared"
    if s["uncovered"]:
        outside = ", ".join(s["uncovered"])
        checked += (
            f"; schema {s['schema']} leaves the {outside} out of it: evaluate --save covers all"
        )
    scale, rule = s["normalization"], dict(s["update"])
    rows = [
        ("file", f"{s['file']} ({size_of(s['file_bytes'])}), schema {s['schema']}"),
        ("checksum", f"{s['checksum']} ({checked})"),
        (
            "images",
            f"{n} of {shape_of(shape)}, values {low:.2f} to {high:.2f}, {_bits(s['quantization'])}",
        ),
        ("labels", f"{s['labels']}, {shape_of(s['labels_shape'])}"),
        ("classes", f"{len(s['classes'])}: {', '.join(s['classes'])}"),
        ("steps", f"{s['steps']}: {s['steps'] // s['epochs']} an epoch, {s['epochs']} epochs"),
        ("step sizes", _step_sizes(s["step_sizes"])),
        ("order", f"{_order(s['order'][0])} in the first step"),
        ("update rule", f"{rule.pop('name')} ({format_value(rule)}), BatchNorm {s['norm']}"),
        ("net", net),
        *([("trained", " ".join(s["trained"]))] if s.get("trained") else []),
        ("made for", start),
        ("normalization", _normalization(scale)),
        ("size", f"{size_of(s['bytes'])} of images, labels and step sizes"),
        *((key, format_value(value)) for key, value in origin.items()),
        *(
            (
                name,
                format_value({k: v for k, v in s[name].items() if k != "parts" and v is not None}),
            )
            for name in ("start", "objective", "data")
        ),
    ]
    if found.keys() >= {"accuracy_mean", "accuracy_std", "nets", "split"}:
        before, nets = found.get("accuracy_before_mean"), found["nets"]
        first = "" if before is None else f"{before:.2f} -> "
        after = percent(found["accuracy_mean"], found["accuracy_std"], nets)
        over = f"{nets} net{'s' if nets != 1 else ''} ({found['split']})"
        rows.append(("accuracy (%)", f"{first}{after} over {over}"))
    elif found:  # measured by other means
        rows.append(("accuracy (%)", format_value(found)))
    else:
        rows.append(("accuracy (%)", "not measured yet"))
    output.table(("", ""), rows)


def print_run(output: Output, r: dict[str, Any]) -> None:
    """The rows of a run folder."""
    output.say("", f"run folder {r['path']}")
    last = r["last_metrics"]
    progress = (
        "none"
        if last is None
        else f"{last['iteration']}, accuracy {last['accuracy']:.2f}% (validation)"
    )
    rows = [
        ("finished", "yes" if r["finished"] else "no"),
        ("last look", f"iteration {progress}" if last else progress),
        ("checkpoints", ", ".join(map(str, r["checkpoints"])) or "none"),
        *config_rows(dict(sorted(r["config"].items()))),
    ]
    output.table(("", ""), rows)


def _suggest_kd_command(path: Path, kind: str) -> str:
    """The next command for one net's run, or for a folder of many runs, which has a page once
    finished."""
    if kind in ("kd", "kd-language"):
        return f"test its net with: kd-baselines evaluate {path}"
    pages = [path / name for name in ("table.md", "ledger.md") if (path / name).exists()]
    return (
        f"read {pages[0]}" if pages else "it has not finished: type the command again that began it"
    )


def _normalization(scale: dict[str, Any]) -> str:
    if scale["kind"] == "features":
        named = scale["weights"] or "the values of a net of the user's own"
        from datadistill.nets.spec import NetSpec

        net = NetSpec.from_dict(scale["net"]).title
        return (
            f"{scale['channels']} features of {net}, {named} ({scale['fingerprint']}), of images "
            f"with {_normalization(scale['base'])}"
        )
    if scale["kind"] in ZCA_KINDS:
        return (
            f"{scale['kind']} whitening, regularization {scale['regularization']:g}, measured on "
            f"{scale['images']:,} images ({scale['data']})"
        )
    return f"mean {format_value(scale['mean'])}, std {format_value(scale['std'])}"


def _bits(quantization: dict[str, Any] | None) -> str:
    return "32 bits" if quantization is None else f"{quantization['bits']} bits"


def _order(index: list[int]) -> str:
    shown = " ".join(map(str, index[:10]))
    return f"images {shown}{' ...' if len(index) > 10 else ''}"


def _step_sizes(values: list[Any]) -> str:
    """A few of them; with one for each tensor, the smallest and the largest of each step."""
    shown = [
        f"{min(v):.3g}..{max(v):.3g}" if isinstance(v, list) else f"{v:.3g}" for v in values[:8]
    ]
    return " ".join(shown) + (" ..." if len(values) > 8 else "")
