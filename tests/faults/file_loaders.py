"""Every kind of file that this library reads: how a small one is made and read, and what must be
equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from datadistill.config import HARMLESS, DistillConfig, RunOptions
from datadistill.config.zca import ZcaChoice
from datadistill.data import Normalization, Split
from datadistill.data.parts import Parts
from datadistill.data.reference import DataReference
from datadistill.data.whitening_matrix import measure_zca
from datadistill.distilled import DistilledDataset
from datadistill.export.wang import import_results
from datadistill.innerloop import momentum
from datadistill.nets.spec import NetSpec
from datadistill.nets.weights import read_weights
from datadistill.objectives import Attack
from datadistill.pool import Pool
from datadistill.runs.checkpoints import CheckpointStore, flatten_state, unflatten_state
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonconfig import build_config, dump_config
from datadistill.runs.resume import check_changes
from datadistill.runs.tensors import pack
from datadistill.starts import Start
from datadistill.synthetic.decoders import Pixels
from datadistill.synthetic.schedule import Schedule
from datadistill.training.finished_nets import FinishedNets, TrainedGroup
from kd_baselines.language.netfile import SavedLanguageModel
from kd_baselines.language.nets import build_language
from kd_baselines.ledger.payload import Payload
from kd_baselines.netfile import SavedNet
from kd_baselines.scores import Scores
from kd_baselines.teacher_cache import CachedTeacher
from kd_baselines.teachers import Teacher

CLASSES = ("ant", "bee", "cat")
ARGS = {"channels": 1, "size": 4, "classes": 3, "width": 4, "depth": 1}
NET = NetSpec("mlp", ARGS)
SCALE = Normalization((0.25,), (0.5,), size=4, channels=1)
WORDS = ("the", "cat", "<eos>")


@dataclass(frozen=True)
class Loader:
    """A kind of file.

    Args:
        make: writes it below a folder.
        load: reads it from that folder.
        files: which of the files that `make` writes are mutated.
        save: writes again what was loaded, to compare bytes; None where nothing does.
    """

    make: Callable[[Path], None]
    load: Callable[[Path], Any]
    files: tuple[str, ...] = ("file.safetensors",)
    save: Callable[[Any, Path], None] | None = None


def values(found: Any) -> Any:
    """Plain values that are equal where what was loaded is equal, tensors by their bytes."""
    if isinstance(found, torch.Tensor):
        raw = found.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return (str(found.dtype), tuple(found.shape), raw)
    if isinstance(found, Mapping):
        return [(key, values(value)) for key, value in found.items()]
    if isinstance(found, list | tuple):
        return [values(value) for value in found]
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return [(f.name, values(getattr(found, f.name))) for f in dataclasses.fields(found)]
    if isinstance(found, DistilledDataset):
        return values(vars(found))
    if isinstance(found, Pixels | Schedule):
        return values(found.describe())
    return (type(found).__name__, repr(found))


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distilled(bits: int | None = None) -> DistilledDataset:
    g, named = drawn(), dict(NET.build().named_parameters())
    measured = {
        "accuracy_mean": 91.25,
        "accuracy_std": 0.5,
        "nets": 20,
        "split": "test",
        "dataset": "digits",
    }
    d = DistilledDataset(
        torch.randn(6, 1, 4, 4, generator=g),
        torch.randn(6, 3, generator=g).softmax(1),
        0.1 + torch.rand(4, len(named), generator=g),
        [torch.arange(3), torch.arange(3, 6)] * 2,
        classes=CLASSES,
        normalization=SCALE,
        net=NET,
        update=momentum(0.9, nesterov=True),
        theta_0={k: torch.randn(p.shape, generator=g) for k, p in named.items()},
        tensors=list(named),
        start=Start("pool", True, "mnist", "abc"),
        objective=Attack(0, 2, 3),
        data=DataReference("digits", 3, 0.1, parts=Parts(("A" * 8,), (), ("B" * 8,))),
        origin={"recipe": "none", "seed": 3, "dataset": "digits"},
        accuracies=measured,
    )
    return d if bits is None else d.quantized(bits)


def make_whitened(folder: Path) -> None:
    pixels = torch.rand(40, 1, 4, 4, generator=drawn(9))
    normalization = measure_zca(ZcaChoice("zca-frepo"), pixels, SCALE)
    distilled()._replace(normalization=normalization).save(folder / "file.safetensors")


def make_decoded(folder: Path) -> None:
    d = distilled()
    coded = Pixels().init(d.images, drawn())
    DistilledDataset(
        None,
        d.labels,
        d.step_sizes,
        d.order,
        classes=CLASSES,
        normalization=SCALE,
        net=NET,
        update=d.update,
        theta_0=d.theta_0,
        tensors=d.tensors,
        decoder=Pixels(),
        coded=coded,
    ).save(folder / "file.safetensors")


def make_pool(folder: Path) -> None:
    g = drawn(1)
    tensors = {k: torch.randn(4, *p.shape, generator=g) for k, p in NET.build().named_parameters()}
    Pool(
        tensors,
        nets=2,
        validation_nets=1,
        held_out=1,
        net=NET,
        dataset="digits",
        classes=CLASSES,
        normalization=SCALE,
        accuracies=(90.0, 80.5, 70.0, 60.0),
        record={"epochs": 3, "lr": 0.1},
        data_fingerprint="abc",
    ).save(folder / "file.safetensors")


def make_nets(folder: Path) -> None:
    g = drawn(2)
    tensors = {k: torch.randn(2, *p.shape, generator=g) for k, p in NET.build().named_parameters()}
    FinishedNets(folder).add(
        TrainedGroup(range(0, 2), tensors, [90.0, 80.0], [0.5, 0.75]), {"epochs": 3}
    )


def load_nets(folder: Path) -> Any:
    return FinishedNets(folder).read(range(0, 2))


def make_checkpoint(folder: Path) -> None:
    parameter = torch.nn.Parameter(torch.randn(3, 4, generator=drawn(3)))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors, state = flatten_state(
        {"optimizer": optimizer.state_dict(), "best": float("inf"), "rows": (1, 2)}
    )
    CheckpointStore(folder).save(10, tensors, {"loop": state, "metrics_bytes": 120})


def load_checkpoint(folder: Path) -> Any:
    found = CheckpointStore(folder).load(10)
    return unflatten_state(found.tensors, found.state["loop"]), found.state["metrics_bytes"]


def make_run(folder: Path) -> None:
    config = dump_config(DistillConfig(net="mlp", net_args={"width": 4, "depth": 1}, seed=3))
    run = RunFolder.create(
        folder / "run", config, {"torch": "2.6.0", "data": "abc"}, kind="distill"
    )
    for iteration in range(4):
        run.append_metrics(
            {"iteration": iteration, "loss": 1.5 / (iteration + 1), "accuracy": 50.0}
        )
    run.checkpoints.save(3, {}, {"config": config, **run.metrics_record()})


def load_config_of_run(folder: Path) -> Any:
    """As a resume reads it: the checkpoint's config counts."""
    run = RunFolder.open(folder / "run", kind="distill")
    stored = build_config(DistillConfig, run.config, "config.json")
    checkpoint = run.checkpoints.load(3)
    check_changes(run.path, run.kind, checkpoint.state["config"], dump_config(stored), RunOptions())
    # where things lie may change: what counts are the fingerprints of the images, the pool and the
    # weights
    return {name: value for name, value in dump_config(stored).items() if name not in HARMLESS}


def load_metrics(folder: Path) -> Any:
    """As a resume reads them: lines after the checkpoint are cut off."""
    run = RunFolder.open(folder / "run", kind="distill")
    state = run.checkpoints.load(3).state
    run.read_metrics()
    run.truncate_metrics(state["metrics_bytes"], state["metrics_sha256"])
    return run.read_metrics()


def make_kd_net(folder: Path) -> None:
    states = []
    for seed in (4, 5):
        net = NET.build()
        states.append(
            {k: torch.randn(t.shape, generator=drawn(seed)) for k, t in net.state_dict().items()}
        )
    scores = Scores(98.0, 50, 1, (96.0, None, 100.0), noise={0.3: 80.0})
    SavedNet(
        tuple(states),
        NET,
        "digits",
        CLASSES,
        SCALE,
        None,
        "geometric",
        scores.as_dict(),
        {"epochs": 2},
    ).save(folder / "file.safetensors")


def make_language_net(folder: Path) -> None:
    net = build_language("cnn-lstm", WORDS, seed=0, width=3, char_width=2, widths=2, filters=2)
    args = {"width": 3, "char_width": 2, "widths": 2, "filters": 2}
    SavedLanguageModel(
        net.state_dict(), "cnn-lstm", args, WORDS, "toy", {"perplexity": 12.5}, {"epochs": 2}
    ).save(folder / "file.safetensors")


def split() -> Split:
    return Split(torch.randn(5, 1, 4, 4, generator=drawn(6)), torch.arange(5) % 3)


def teacher() -> Teacher:
    net = NET.build()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=drawn(7)))
    return Teacher(net)


def make_cache(folder: Path) -> None:
    images = split()
    cached = CachedTeacher(teacher(), images, layers=["layers.0"], path=folder / "file.safetensors")
    cached.outputs(images.images, index=torch.arange(5))


def load_cache(folder: Path) -> Any:
    images = split()
    cached = CachedTeacher(teacher(), images, layers=["layers.0"], path=folder / "file.safetensors")
    out = cached.outputs(images.images, ["layers.0"], index=torch.arange(5))
    return out.members, dict(out.features)


def make_payload(folder: Path) -> None:
    d = distilled()
    Payload.of_images(
        d.images, d.labels, classes=CLASSES, normalization=SCALE, schedule=d, note="toy"
    ).save(folder / "file.safetensors")


def make_payload_of_net(folder: Path) -> None:
    net = teacher().nets[0]
    Payload.of_net(net, NET, storage="int8", classes=CLASSES, normalization=SCALE).save(
        folder / "file.safetensors"
    )


def make_results(folder: Path) -> None:
    g = drawn(8)
    entries = [
        (torch.randn(10, 1, 4, 4, generator=g), torch.arange(10), torch.tensor([0.02]))
        for _ in range(2)
    ]
    torch.save(entries, folder / "results.pth")


def load_results(folder: Path) -> Any:
    found = import_results(folder / "results.pth", "digits", net="mlp", mean=(0.5,), std=(0.5,))
    # of the whole file: a byte between the parts of the archive changes it
    del found.origin["sha256"]
    return found


def make_weights(folder: Path) -> None:
    torch.save(teacher().nets[0].state_dict(), folder / "weights.pth")
    tensors = teacher().nets[0].state_dict()
    (folder / "weights.safetensors").write_bytes(pack(tensors, {"schema": 1, "kind": "net"}))


def load_weights(folder: Path) -> Any:
    return [
        dict(read_weights(folder / f"weights.{ending}", NET.build()).tensors)
        for ending in ("pth", "safetensors")
    ]


def _read(cls: Any) -> Callable[[Path], Any]:
    return lambda folder: cls.load(folder / "file.safetensors")


def _write(found: Any, path: Path) -> None:
    found.save(path)


CHECKPOINT = tuple(
    f"step-000010/{name}" for name in ("tensors.safetensors", "state.json", "manifest.json")
)

LOADERS = {
    "distilled set": Loader(
        lambda folder: distilled().save(folder / "file.safetensors"),
        _read(DistilledDataset),
        save=_write,
    ),
    "distilled set, 8 bits": Loader(
        lambda folder: distilled(8).save(folder / "file.safetensors"),
        _read(DistilledDataset),
        save=_write,
    ),
    "distilled set, whitened": Loader(make_whitened, _read(DistilledDataset), save=_write),
    "distilled set of a decoder": Loader(make_decoded, _read(DistilledDataset), save=_write),
    "pool": Loader(make_pool, _read(Pool), save=_write),
    "nets of an unfinished pool": Loader(make_nets, load_nets, ("net-000000.safetensors",)),
    "checkpoint and manifest": Loader(make_checkpoint, load_checkpoint, CHECKPOINT),
    "config of a run": Loader(make_run, load_config_of_run, ("run/config.json",)),
    "metrics": Loader(make_run, load_metrics, ("run/metrics.jsonl",)),
    "kd net": Loader(make_kd_net, _read(SavedNet), save=_write),
    "language net": Loader(make_language_net, _read(SavedLanguageModel), save=_write),
    "teacher cache": Loader(make_cache, load_cache),
    "payload of images": Loader(make_payload, _read(Payload), save=_write),
    "payload of a net": Loader(make_payload_of_net, _read(Payload), save=_write),
    "results.pth": Loader(make_results, load_results, ("results.pth",)),
    "weights": Loader(make_weights, load_weights, ("weights.pth", "weights.safetensors")),
}
