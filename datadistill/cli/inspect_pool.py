"""`datadistill inspect` of a pool of pretrained nets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from datadistill.cli.printing import Output, size_of
from datadistill.cli.recipes import config_rows, format_value
from datadistill.stats import mean


def read_net(path: Path, verify: bool) -> dict[str, Any]:
    """The content of a file of weights (of `datadistill finetune`, `kd-baselines export`), tensors
    by their shapes."""
    from datadistill.nets.export import NET

    tensors, stored = NET.read(path, verify=verify)
    shapes = {name: list(p.shape) for name, p in tensors.items()}
    return {**stored, "file": str(path), "verified": verify, "tensors": shapes}


def print_net(output: Output, n: dict[str, Any]) -> None:
    """The rows of a file of weights."""
    plain = {
        k: v for k, v in n.items() if k not in ("file", "checksum", "verified", "tensors", "schema")
    }
    rows = [
        ("file", n["file"]),
        ("checksum", f"{n['checksum']} ({'matches' if n['verified'] else 'not compared'})"),
        ("tensors", f"{len(n['tensors'])}, {sum(map(math.prod, n['tensors'].values()))} numbers"),
        *((name, format_value(v)) for name, v in sorted(plain.items())),
    ]
    output.table(("", ""), rows)


def read_pool(path: Path, verify: bool) -> dict[str, Any]:
    """The content of a pool's file, as plain values, tensors by their shapes."""
    from datadistill.pool import POOL, Pool

    pool = Pool.load(path, verify=verify)
    file = POOL.find(path)
    return {
        "file": str(file),
        "file_bytes": file.stat().st_size,
        "verified": verify,
        "fingerprint": pool.fingerprint,
        "nets": pool.nets,
        "validation_nets": pool.validation_nets,
        "held_out": pool.held_out,
        "net": pool.net.as_dict(),
        "dataset": pool.dataset,
        "classes": list(pool.classes),
        "epochs": pool.epochs,
        "tensors": {name: list(p.shape[1:]) for name, p in pool.last.items()},
        "buffers": list(pool.buffers or ()),
        "accuracies": list(pool.accuracies),
        "record": dict(pool.record or {}),
    }


def print_pool(output: Output, p: dict[str, Any]) -> None:
    """The rows of a pool."""
    found, net = p["accuracies"], p["net"]
    sizes = {name: math.prod(shape) for name, shape in p["tensors"].items()}
    buffers = sum(sizes[name] for name in p["buffers"])
    numbers = f"{sum(sizes.values()) - buffers} parameters"
    if buffers:
        numbers += f", {buffers} numbers in buffers"
    kept = "at the end of their training"
    if p["epochs"] is not None:
        kept = f"at the start and after each of {p['epochs']} epochs"
    args = format_value(net["args"])
    rows = [
        ("file", f"{p['file']} ({size_of(p['file_bytes'])})"),
        ("fingerprint", f"{p['fingerprint']} ({'matches' if p['verified'] else 'not compared'})"),
        (
            "nets",
            f"{p['nets']} to learn with, {p['validation_nets']} for looks, "
            f"{p['held_out']} held out",
        ),
        ("kept", kept),
        ("net", f"{net['name']} ({args}), {numbers}, initialization {net['init']}"),
        ("trained on", f"{p['dataset']}, {len(p['classes'])} classes: {', '.join(p['classes'])}"),
        (
            "accuracy (%)",
            f"{mean(found):.2f} ({min(found):.2f} to {max(found):.2f}) on the validation split",
        ),
        *config_rows(p["record"]),
    ]
    output.table(("", ""), rows)
