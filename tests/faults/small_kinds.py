"""A small run of every kind, as it is typed, and what must come out the same however it was
stopped."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from small_run import SMALL

NET = ["--net", "mlp", "--net-args", "width", "16"]
LINES = ("the cat sat on the mat\n", "a dog ran\n", "the dog sat\n", "<unk> cat ran on a mat\n")


@dataclass(frozen=True)
class Kind:
    """One command.

    Args:
        program: "datadistill" or "kd-baselines".
        start: what is typed first.
        again: what goes on with it.
        results: patterns of the files that must have the same bytes.
    """

    program: str
    start: list[str]
    again: list[str]
    results: tuple[str, ...]

    def digest(self, folder):
        """SHA-256 of every result; of a ledger's records without their seconds, which a clock
        told."""
        found = {}
        for pattern in self.results:
            for path in sorted(Path(folder, "run").glob(pattern)):
                data = path.read_bytes()
                if path.parent.name == "rows":
                    data = json.dumps(
                        {k: v for k, v in json.loads(data).items() if k != "seconds"}
                    ).encode()
                found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
        return found


POOL = [
    "pretrain",
    "digits-28-lenet-smoke",
    "--size",
    "8",
    *NET,
    "--nets",
    "2",
    "--validation-nets",
    "1",
    "--held-out",
    "1",
    "--batch",
    "200",
    "--lr",
    "0.02",
    "--epochs",
    "4",
    "--checkpoint-every",
    "5",
]
KD = [
    "train",
    "hinton-missing-digit",
    "--dataset",
    "digits",
    *NET,
    "--epochs",
    "4",
    "--lr",
    "0.01",
    "--batch",
    "128",
    "--teacher-net",
    "mlp",
    "--teacher-args",
    "width",
    "16",
    "--teacher-epochs",
    "4",
    "--teacher-batch",
    "128",
    "--checkpoint-every",
    "5",
    "--teacher-lr",
    "0.01",
]
TEXT = [
    "train",
    "ban-ptb",
    "--arm",
    "teacher",
    "--text",
    "text",
    "--net-args",
    "width",
    "5",
    "--epochs",
    "6",
    "--batch",
    "4",
    "--unroll",
    "5",
    "--checkpoint-every",
    "5",
]
BORN_AGAIN = [
    "born-again",
    "tiny",
    "--generations",
    "2",
    "--seeds",
    "1",
    "--out",
    "run",
    "--checkpoint-every",
    "3",
]
LEDGER = [
    "ledger",
    "digits",
    "--seeds",
    "1",
    "--out",
    "run",
    "--rows",
    "real-soft",
    "distilled",
    "student",
    "--student-args",
    "width",
    "4",
    "--teacher-args",
    "width",
    "4",
    "--steps",
    "40",
    "--net-epochs",
    "4",
    "--net-batch",
    "200",
    "--checkpoint-every",
    "3",
    "--distill-changes",
    "iterations",
    "4",
    "epochs",
    "1",
    "validate_nets",
    "1",
    "batch",
    "32",
]
REPRODUCE = ["reproduce", "table9", "--out", "run"]
KINDS = {
    "distill": Kind(
        "datadistill",
        ["distill", *SMALL, "--out", "run"],
        ["distill", "--resume", "run", "--no-evaluate", "--no-figures"],
        ("distilled.safetensors", "metrics.jsonl"),
    ),
    "pretrain": Kind(
        "datadistill",
        [*POOL, "--out", "run"],
        ["pretrain", "--resume", "run"],
        ("pool.safetensors", "metrics.jsonl"),
    ),
    "kd train": Kind(
        "kd-baselines",
        [*KD, "--out", "run"],
        ["train", "--resume", "run"],
        ("student.safetensors", "teacher.safetensors", "metrics.jsonl"),
    ),
    "language": Kind(
        "kd-baselines",
        [*TEXT, "--out", "run"],
        ["train", "--resume", "run"],
        ("student.safetensors", "metrics.jsonl"),
    ),
    "born-again": Kind(
        "kd-baselines",
        BORN_AGAIN,
        BORN_AGAIN,
        ("*/student.safetensors", "*/metrics.jsonl", "table.md", "table.csv"),
    ),
    "ledger": Kind(
        "kd-baselines",
        LEDGER,
        LEDGER,
        ("nets/*/student.safetensors", "distilled/distilled.safetensors", "payloads/*", "rows/*"),
    ),
    "reproduce": Kind(
        "datadistill",
        REPRODUCE,
        REPRODUCE,
        ("sets/*/distilled.safetensors", "pools/*/pool.safetensors", "table.md", "table.csv"),
    ),
}


def write_text(folder):
    """The text that the language model reads."""
    (Path(folder) / "text").mkdir()
    for name, order in (
        ("train", 8 * "0120312302"),
        ("valid", "0213021303"),
        ("test", "3210213203"),
    ):
        (Path(folder) / "text" / f"{name}.txt").write_text("".join(LINES[int(n)] for n in order))


def add_small_recipes():
    """The recipe `tiny` and the table `table9`, which only tests have."""
    from datadistill.config import DistillConfig, PoolConfig
    from datadistill.reproduce import TABLES
    from datadistill.reproduce.plan import Measurement, Part, Plan, TableRow
    from kd_baselines.config import KdConfig
    from kd_baselines.recipes import RECIPES, Page

    tiny = KdConfig(
        recipe="tiny",
        dataset="digits",
        method="soft-targets",
        net_args={"width": 6},
        epochs=2,
        lr=0.02,
        batch=128,
        teacher_args={"width": 10},
        teacher_epochs=2,
        teacher_lr=0.03,
        teacher_batch=128,
    )
    RECIPES["tiny"] = Page(lambda: tiny, "-")
    net = {"net": "mlp", "net_args": {"width": 8}}
    pool = PoolConfig(
        recipe="a-pool",
        dataset="digits",
        nets=2,
        validation_nets=1,
        held_out=2,
        epochs=2,
        batch=128,
        lr=0.01,
        **net,
    )
    fresh = DistillConfig(
        recipe="fresh",
        dataset="digits",
        theta_0="random",
        ipc=1,
        steps=1,
        epochs=2,
        images_from="real",
        iterations=20,
        batch=32,
        validate_every=5,
        validate_nets=1,
        **net,
    )

    def part(name, config, pools):
        rows = (
            TableRow("before training", "m", "before"),
            TableRow("ours", "m", "ours", {}, ours=True),
        )
        measured = (Measurement("m", "ours", (f"set-{name}",), {"nets": 2}),)
        return Part(
            name,
            f"Digits, {name}",
            pools=pools,
            sets={f"set-{name}": config},
            measurements=measured,
            rows=rows,
        )

    adapted = fresh.with_changes(recipe="adapted", pool="a-pool", source="digits")
    plan = Plan(
        "table9",
        "smoke",
        "A small one",
        (part("fresh", fresh, {}), part("adapted", adapted, {"a-pool": pool})),
    )
    TABLES["table9"] = lambda scale: plan
