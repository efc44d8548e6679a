"""One row with one storage and one seed: the payload, the receiver's accuracy, and a record of
both.

    OUT/payloads/ROW-STORAGE[-sSEED].safetensors   the payload
    OUT/rows/ROW-STORAGE-sSEED.json                the record, written once all is measured

A record that is there is read. Of the row `full`, all real images, no payload is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datadistill.device import resolve
from datadistill.errors import DataError
from datadistill.runs.atomic import write_json
from datadistill.runs.canonical import parse_json
from datadistill.runs.environment import environment
from datadistill.runs.regular import read_run_file
from datadistill.studies.table import describe_machines
from datadistill.training.fit_plan import FitPlan
from kd_baselines.config import KdConfig
from kd_baselines.evaluation import Scores, score
from kd_baselines.ledger.payload import Payload
from kd_baselines.ledger.payload_file import PARTS
from kd_baselines.ledger.receive import receive, soft_labels
from kd_baselines.ledger.senders import LABELS_SEED, Senders
from kd_baselines.ledger.table import FULL
from kd_baselines.netfile import SavedNet
from kd_baselines.student_images import student_split

__all__ = ["IMAGE_ROWS", "NET_ROWS", "Record", "Rows"]

IMAGE_ROWS = ("real-hard", "real-soft", "distilled", "distilled-own", "distilled-soft")
NET_ROWS = ("teacher", "student", "born-again")
IMAGE_STORAGES = ("uint8", "float32")


@dataclass(frozen=True)
class Record:
    """The measurements of one seed.

    Args:
        row, storage, seed: of what.
        accuracy: on all test images, in percent.
        parts: part -> bytes.
        file_bytes: of the payload's file; None where none is written.
        seconds, steps: of the receiver's training.
        machine: on which it was measured.
    """

    row: str
    storage: str
    seed: int
    accuracy: float
    parts: dict[str, int]
    file_bytes: int | None
    seconds: float
    steps: int
    machine: str

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a record."""
        try:
            values = parse_json(read_run_file(path))
            # a JSON object does not keep their order
            parts = {
                part: values["parts"][part] for part in sorted(values["parts"], key=PARTS.index)
            }
            return cls(**{**values, "parts": parts})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path} is no record of a ledger ({error!r:.100}); remove it, type again"
            ) from None


class Rows:
    """The records of a ledger."""

    def __init__(self, senders: Senders) -> None:
        self.senders, self.config, self.data = senders, senders.config, senders.data
        self.path = senders.path
        self.device = resolve(self.config.device)
        (self.machine,) = describe_machines([environment(self.device)])

    def storages(self, row: str) -> tuple[str, ...]:
        """The storages of a row, in order."""
        if row == FULL:
            return IMAGE_STORAGES[:1]
        return IMAGE_STORAGES if row in IMAGE_ROWS else self.config.net_storages

    def seeds(self, row: str, seeds: tuple[int, ...]) -> tuple[int, ...]:
        """Those that a row has, of those that are asked for: one where all share a teacher."""
        return (LABELS_SEED,) if row == "teacher" and self.senders.has_one_teacher else seeds

    def file(self, row: str, storage: str, seed: int) -> Path:
        """The file of a record."""
        return self.path / "rows" / f"{row}-{storage}-s{seed}.json"

    def record(self, row: str, storage: str, seed: int) -> Record:
        """The record; made where it is not there."""
        path = self.file(row, storage, seed)
        if not path.exists():
            self._prepare(row, seed)
            name = f"{row} {storage}, seed {seed}"
            self.senders.study.carry_out(name, partial(self._make, row, storage, seed, path))
        return Record.load(path)

    def _prepare(self, row: str, seed: int) -> None:
        """Carry out the runs that a row needs, each with a line of its own."""
        if row == FULL or row in NET_ROWS:
            self.senders.net_file(row, seed)
        elif row.startswith("distilled"):
            self.senders.load_distilled()
        if row.endswith("-soft"):
            self.senders.net_file("teacher", LABELS_SEED)

    def _make(self, row: str, storage: str, seed: int, path: Path) -> None:
        found = self._full(seed) if row == FULL else self._receive(row, storage, seed)
        self.senders.study.subfolder("rows")
        values = {"row": row, "storage": storage, "seed": seed, "machine": self.machine, **found}
        write_json(path, asdict(Record(**values)))

    def _full(self, seed: int) -> dict[str, Any]:
        """The run that learned from all real images, in bytes as if they were sent."""
        saved = SavedNet.load(self.senders.net_file(FULL, seed))
        images, labels = self.data.train.images, self.data.train.labels
        # of a few images; the other parts grow with their number
        few = Payload.of_images(images[:1], labels[:1], storage="uint8", **self._names).parts
        parts = {
            part: size if part == "range" else size * len(labels) for part, size in few.items()
        }
        steps = self.config.net_epochs * -(-len(labels) // self.config.net_batch)
        accuracy = Scores.from_dict(saved.scores or {}).accuracy
        seconds = self.senders.net_seconds(FULL, seed) or 0.0
        return {
            "accuracy": accuracy,
            "parts": parts,
            "file_bytes": None,
            "seconds": seconds,
            "steps": steps,
        }

    def _receive(self, row: str, storage: str, seed: int) -> dict[str, Any]:
        payload = (
            self._net(row, storage, seed) if row in NET_ROWS else self._images(row, storage, seed)
        )
        drawn = "" if row.startswith("distilled") else f"-s{seed}"
        file = self.senders.study.subfolder("payloads") / f"{row}-{storage}{drawn}.safetensors"
        payload.save(file)
        payload = Payload.load(file)  # what is measured is what was sent
        config = self.config
        own = row == "distilled-own"
        got = receive(
            payload,
            self.senders.student_spec,
            FitPlan.of(config),
            seed,
            steps=config.steps,
            own_steps=own,
            device=self.device,
        )
        return {
            "accuracy": score(got.net, self.data).accuracy,
            "parts": payload.parts,
            "file_bytes": payload.file_bytes,
            "seconds": got.seconds,
            "steps": got.steps,
        }

    @property
    def _names(self) -> dict[str, Any]:
        return {"classes": self.data.classes, "normalization": self.data.normalization}

    def _net(self, row: str, storage: str, seed: int) -> Payload:
        saved = SavedNet.load(self.senders.net_file(row, seed))
        return Payload.of_net(saved.states[0], saved.spec, storage=storage, **self._names)

    def _images(self, row: str, storage: str, seed: int) -> Payload:
        schedule = None
        if row.startswith("distilled"):
            found = self.senders.load_distilled()
            images, labels = found.images, found.labels
            schedule = found if row == "distilled-own" else None
        else:
            split = student_split(KdConfig(per_class=self.config.per_class, seed=seed), self.data)
            images, labels = split.images, split.labels
        if row.endswith("-soft"):
            labels = self._probabilities(images, storage)
        return Payload.of_images(images, labels, storage=storage, schedule=schedule, **self._names)

    def _probabilities(self, images: Tensor, storage: str) -> Tensor:
        """The teacher's, of the images as the receiver will have them."""
        zeros = torch.zeros(len(images), dtype=torch.int64)
        received = Payload.of_images(images, zeros, storage=storage, **self._names).images()
        teacher = SavedNet.load(self.senders.net_file("teacher", LABELS_SEED)).net().to(self.device)
        return soft_labels(teacher, received)
