"""A small real run of the command line, and what must come out the same."""

import hashlib
from pathlib import Path

SMALL = [
    "digits-random",
    "--net",
    "mlp",
    "--net-args",
    "width",
    "16",
    "--iterations",
    "40",
    "--batch",
    "32",
    "--nets",
    "1",
    "--validate-nets",
    "1",
    "--validate-every",
    "10",
    "--checkpoint-every",
    "10",
    "--epochs",
    "2",
    "--no-evaluate",
    "--no-figures",
]


def digest(folder):
    """SHA-256 of the set and of the metrics."""
    return [
        hashlib.sha256((Path(folder) / name).read_bytes()).hexdigest()
        for name in ("distilled.safetensors", "metrics.jsonl")
    ]


def contents(folder):
    """Every file of a folder with its bytes."""
    return {
        p.relative_to(folder): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }
