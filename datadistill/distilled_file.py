"""The file of a distilled set: one safetensors file, all metadata in one canonical JSON key.

Tensors: images (float32, or uint8 codes), labels (int64, or float32 probabilities), step_sizes, and
theta_0.NAME (and, of a net whose values were given, buffer.NAME for buffers and frozen parameters)
for a set learned for one fixed initialization. The JSON says the rest; no date, duration, host or
path is in it, so the same run gives the same bytes. `runs/artifact.py` has the refusals of damaged
and other files.

With `by_reference` the file holds of theta_0 and buffers the tensors that `own` names; the others
are those of the weights that `start` names (`pretrained_values.py`).

Schema 4: the JSON says start, objective, data and schedule in fields of their own, and a decoder
and `coded.NAME` may stand in place of images. A `loss` other than cross-entropy is named.
`earlier_files.py` reads schema 1 to 3; the checksum
of schema 1 left the accuracies out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datadistill.data.normalization import normalization_from
from datadistill.data.reference import DataReference
from datadistill.earlier_files import upgrade
from datadistill.errors import DataError, UsageError
from datadistill.innerloop import update_rules
from datadistill.nets.spec import NetSpec
from datadistill.nets.trained_parameters import EVERY
from datadistill.objectives import objective_from
from datadistill.quantization import Quantization
from datadistill.runs.artifact import Artifact
from datadistill.runs.content import (
    accept,
    check_class_names,
    check_fields,
    check_object,
    check_text,
    check_texts,
    check_truth,
    optional,
    parse_with,
    quote,
)
from datadistill.runs.folder import SET_FILE
from datadistill.runs.set_record import check_accuracies
from datadistill.starts import Start
from datadistill.synthetic.decoders import Decoder, decoder_from, refuse_spare_rows
from datadistill.synthetic.schedule import Schedule

if TYPE_CHECKING:
    from datadistill.distilled import DistilledDataset

CROSS_ENTROPY = "cross-entropy"
CARRIED = {"theta_0": "theta_0.", "buffers": "buffer."}
"""What a set may carry by name -> what stands before the names of its tensors in a file."""


def carried_tensors(d: DistilledDataset) -> dict[str, Tensor]:
    """The tensors of what the set carries, named as in a file."""
    carried = d.carried
    return {
        f"{prefix}{k}": carried[k]
        for name, prefix in CARRIED.items()
        for k in getattr(d, f"_{name}") or {}
        if k in carried
    }


def take_carried(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors that the set carries, by the lists of names in the values of its file."""
    return {
        name: None if values[name] is None else {k: tensors[f"{prefix}{k}"] for k in values[name]}
        for name, prefix in CARRIED.items()
    }


def carried_names(values: Mapping[str, Any]) -> set[str]:
    """Names of the tensors that `take_carried` takes."""
    return {f"{prefix}{k}" for name, prefix in CARRIED.items() for k in values[name] or []}


def to_tensors(d: DistilledDataset) -> dict[str, Tensor]:
    """The tensors as stored."""
    if d.coded is not None:
        images = {f"coded.{k}": x.float() for k, x in d.coded.items()}
    else:
        images = {"images": d.quantization.codes(d.images) if d.quantization else d.images.float()}
    labels = d.labels.float() if d.labels.is_floating_point() else d.labels
    return {**images, "labels": labels, "step_sizes": d.step_sizes.float(), **carried_tensors(d)}


def _values(d: DistilledDataset) -> dict[str, Any]:
    return {
        "decoder": None if d.decoder is None else _describe_decoder(d.decoder, d.coded or {}),
        "update": update_rules.describe(d.update),
        "schedule": d.schedule.describe(),
        "start": replace(d.start, one=d.start.one or d._theta_0 is not None).describe(),
        "objective": d.objective.describe(),
        "data": d.data.describe(),
        "tensors": None if d.tensors is None else list(d.tensors),
        **{name: _names(d, getattr(d, f"_{name}")) for name in CARRIED},
        "own": list(d.own) or None,
        "by_reference": d.by_reference or None,
        "trained": None if d.trained == EVERY else list(d.trained),
        "loss": None if d.loss == CROSS_ENTROPY else d.loss,
    }


def _names(d: DistilledDataset, tensors: Mapping[str, Tensor] | None) -> list[str] | None:
    """The names of those that the file holds."""
    return None if tensors is None else [k for k in tensors if k in d.carried]


def _arguments(tensors: dict[str, Tensor], values: dict[str, Any], schema: int) -> dict[str, Any]:
    coded = (
        None if values["decoder"] is None else [f"coded.{k}" for k in values["decoder"]["tensors"]]
    )
    wanted = {"labels", "step_sizes", *(coded or ["images"]), *carried_names(values)}
    if set(tensors) != wanted:
        raise DataError(
            f"holds the tensors {quote(sorted(tensors), 400)}, wanted {quote(sorted(wanted), 400)}"
        )
    _check_stored(tensors, values["quantization"])
    update = update_rules.from_description(values["update"])
    lacking = sorted(update_rules.describe(update).keys() - values["update"].keys())
    if lacking and schema > 1:  # older files may be older than an argument
        raise DataError(
            f"update lacks {lacking}, wanted every argument of {values['update']['name']}"
        )
    if coded is None:
        quantization = values["quantization"]
        images = quantization.values(tensors["images"]) if quantization else tensors["images"]
        made_of = {"images": images}
    else:
        decoder = decoder_from(
            {"name": values["decoder"]["name"], **values["decoder"]["arguments"]}
        )
        rows = {k.removeprefix("coded."): tensors[k] for k in coded}
        refuse_spare_rows(decoder, rows, len(tensors["labels"]))
        made_of = {"images": None, "decoder": decoder, "coded": rows}
    return {
        **{k: v for k, v in values.items() if k not in ("decoder", "schedule")},
        "own": values["own"] or (),
        "loss": values["loss"] or CROSS_ENTROPY,
        "by_reference": bool(values["by_reference"]),
        **made_of,
        "order": values["schedule"],
        "objective": objective_from(values["objective"], len(values["classes"])),
        "labels": tensors["labels"],
        "step_sizes": tensors["step_sizes"],
        "update": update,
        **take_carried(tensors, values),
    }


def _check_stored(tensors: dict[str, Tensor], quantization: Quantization | None) -> None:
    if quantization is not None and "images" not in tensors:
        raise DataError(
            "quantization goes with images, and the file has a decoder; get the file again"
        )
    wanted = {
        "images": torch.float32 if quantization is None else torch.uint8,
        "step_sizes": torch.float32,
    }
    if tensors["labels"].is_floating_point():
        wanted["labels"] = torch.float32
    wanted |= {name: torch.float32 for name in tensors if name.startswith("coded.")}
    for name, dtype in wanted.items():
        if name in tensors and tensors[name].dtype != dtype:
            raise DataError(f"{name} are {tensors[name].dtype}, wanted {dtype}")
    images = tensors.get("images", torch.zeros(0))
    if (
        quantization is not None
        and int(images.max() if images.numel() else 0) >= 2**quantization.bits
    ):
        raise DataError(
            f"images has the code {int(images.max())}, wanted codes of {quantization.bits} bits"
        )


def _describe_decoder(decoder: Decoder, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    arguments = dict(decoder.describe())
    return {"name": arguments.pop("name"), "arguments": arguments, "tensors": sorted(tensors)}


def _check_decoder(field: str, value: Any) -> dict[str, Any]:
    checks = {"name": check_text, "arguments": check_object, "tensors": check_texts}
    found = check_fields(field, check_object(field, value), checks)
    names = found["tensors"]
    if names != sorted(names):
        raise DataError(
            f"{field}.tensors is {quote(names)}, wanted the names in order; get the file again"
        )
    return found


SET = Artifact(
    "distilled dataset",
    schema=4,
    upgrade=upgrade,
    uncovered={1: ("accuracies",)},
    name_key="what",
    fields={
        "classes": parse_with(check_class_names),
        "normalization": parse_with(normalization_from),
        "net": parse_with(NetSpec.from_dict),
        "update": accept,
        "norm": accept,
        "schedule": parse_with(Schedule.from_description),
        "tensors": optional(check_texts),
        "theta_0": optional(check_texts),
        "buffers": check_texts,
        "own": check_texts,
        "by_reference": check_truth,
        "trained": check_texts,
        "loss": check_text,
        "start": parse_with(Start.from_description),
        "objective": check_object,
        "data": parse_with(DataReference.from_description),
        "origin": check_object,
        "accuracies": check_accuracies,
        "quantization": optional(parse_with(Quantization.from_dict)),
        "decoder": _check_decoder,
    },
    with_tensors=["normalization"],
    optional=["buffers", "own", "by_reference", "trained", "loss", "decoder"],
    tensors=to_tensors,
    values=_values,
    arguments=_arguments,
    file_name=SET_FILE,
    runs=["distill"],
    command="datadistill distill",
)


def refuse_own_rule(d: DistilledDataset) -> None:
    """UsageError for a set whose update rule is the user's own."""
    if update_rules.describe(d.update)["name"] == "custom":
        raise UsageError(
            f"the update rule is {d.update!r:.80}, your own, which no file can hold; take "
            f"{', '.join(update_rules.UPDATE_RULES)}, or keep the tensors yourself"
        )


def identity(d: DistilledDataset) -> str:
    """'sha256:' and a digest of all but the accuracies: equal for the same set, whatever was
    measured on it."""
    return SET.fingerprint(d, schema=1)
