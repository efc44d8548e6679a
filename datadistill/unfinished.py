"""A distillation that has not finished: the set as its latest checkpoint has it.

A checkpoint holds what is learned. What else a set is (classes, normalization, net) does not change
during a run, and stands in the checkpoint's state under "set", so that neither data nor net are
needed to draw it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datadistill.config import DistillConfig
from datadistill.data.normalization import normalization_from
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.earlier_files import describe_by_origin
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import update_rules
from datadistill.nets.spec import NetSpec
from datadistill.objectives import objective_from
from datadistill.runs.folder import SET_FILE, RunFolder
from datadistill.runs.jsonconfig import build_config
from datadistill.runs.state import unflatten_state
from datadistill.starts import Start
from datadistill.synthetic import Pixels, Schedule, Synthetic
from datadistill.synthetic.decoders import decoder_from

KIND = "distill"


def describe_set(d: DistilledDataset) -> dict[str, Any]:
    """The parts of a set besides what is learned, as plain values for a checkpoint."""
    return {
        "classes": list(d.classes),
        "normalization": d.normalization.as_dict(),
        "net": d.net.as_dict(),
        "update": update_rules.describe(d.update),
        "labels": None if d.labels.is_floating_point() else d.labels.tolist(),
        "decoder": (d.decoder or Pixels()).describe(),
        "norm": d.norm,
        "loss": d.loss,
        "schedule": d.schedule.describe(),
        "start": d.start.describe(),
        "objective": d.objective.describe(),
        "data": replace(d.data, parts=None).describe(),
        "origin": d.origin,
    }


def unfinished_set(path: str | os.PathLike[str]) -> DistilledDataset | None:
    """The set of a run that has not finished, as its latest checkpoint has it, without theta_0; its
    `origin["iterations"]` are those of the checkpoint. None for a run that has finished, a folder
    of another kind, or one without a checkpoint that says what its set is. Nothing in the folder is
    changed."""
    path = Path(path)
    if not path.is_dir() or (path / SET_FILE).exists():
        return None
    try:
        folder = RunFolder.open(path, kind=KIND)
    except UsageError:
        return None
    checkpoint = folder.checkpoints.load_latest(clean=False)
    if checkpoint is None or "set" not in checkpoint.state:
        return None
    try:
        learned = unflatten_state(checkpoint.tensors, checkpoint.state["loop"])["learned"]
        config = build_config(DistillConfig, checkpoint.state["config"], str(checkpoint.path))
        return _set_of(checkpoint.state["set"], learned, config, checkpoint.iteration)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise DataError(
            f"{checkpoint.path} does not hold a distilled set ({error!r:.120}); "
            "draw it once the run has finished"
        ) from error


def _set_of(
    about: dict[str, Any], learned: dict[str, Tensor], config: DistillConfig, iteration: int
) -> DistilledDataset:
    classes = tuple(about["classes"])
    if "start" not in about:  # of an older version
        about = {
            **about,
            **describe_by_origin(about["origin"], bool(about["fixed"]), about["net"]["init"]),
        }
    coded = {k: x for k, x in learned.items() if k not in ("labels", "step_sizes")}
    # a decoder makes more images than ipc, each with a learned label or a class in `about`
    n = len(learned["labels"]) if "labels" in learned else config.ipc * len(classes)
    hard = torch.arange(n) % len(classes)
    if about.get("labels") is not None:
        hard = torch.tensor(about["labels"])
    elif config.objective == "attack":  # of an older version
        hard[hard == config.attack_class] = config.target_class
    schedule, loss = Schedule.equal(n, config.steps, config.epochs), about.get("loss")
    if "schedule" in about:  # newer than some checkpoints
        schedule = Schedule.from_description(about["schedule"])
    set_ = Synthetic(
        decoder_from(about.get("decoder", Pixels().describe())),
        coded,
        hard,
        learned.get("labels"),
        schedule,
        learned["step_sizes"],
        "raw" if loss == "squared-error" else "soft",
    )
    return DistilledDataset(
        set_.images(),
        set_.labels(),
        set_.step_sizes(),
        set_.schedule,
        classes=classes,
        normalization=normalization_from(about["normalization"]),
        net=NetSpec.from_dict(about["net"]),
        update=update_rules.from_description(about["update"]),
        loss=loss or "cross-entropy",
        norm=about.get("norm", config.norm),  # older checkpoints leave it to the config
        start=Start.from_description(about["start"]),
        objective=objective_from(about["objective"], len(classes)),
        data=DataReference.from_description(about["data"]),
        origin={**about["origin"], "iterations": iteration},
    )
