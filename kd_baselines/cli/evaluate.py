"""`kd-baselines evaluate RUN_OR_FILE`: test a trained net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from datadistill.cli.options import MachineOptions, NetPath, open_output, parse, wants_help
from datadistill.errors import UsageError

if TYPE_CHECKING:
    from datadistill.data import RealData
    from kd_baselines.netfile import SavedNet


@dataclass(frozen=True)
class Evaluate:
    """Test a trained student or teacher, also under noise and on classes that it never saw."""

    run: NetPath
    """A run folder, or the file of a net."""
    which: Literal["student", "teacher"] = "student"
    """Which net of a run folder."""
    split: Literal["test", "validation", "train"] = "test"
    """Which images to test on."""
    noise: tuple[float, ...] = ()
    """Deviations of Gaussian noise on pixels in the range 0 to 1."""
    missing: tuple[str, ...] | None = None
    """Classes, by name, whose logit is shifted; default: those that the student did not see."""
    seed: int = 0
    """Seed of the noise."""
    options: MachineOptions = field(default_factory=MachineOptions)


def run(argv: Sequence[str]) -> int:
    """Parse, evaluate, print; of a language model, `evaluate_language` does."""
    if not wants_help(argv):
        from kd_baselines.cli import evaluate_language

        if any(evaluate_language.is_language(word) for word in argv if not word.startswith("-")):
            return evaluate_language.run(argv)
    args = parse(Evaluate, argv, "kd-baselines evaluate")
    output = open_output(args.options)
    from datadistill.device import resolve
    from kd_baselines.cli.results import score_table
    from kd_baselines.evaluation import score
    from kd_baselines.netfile import SavedNet
    from kd_baselines.teachers import Teacher

    saved = SavedNet.load(args.run, which=args.which)
    device = resolve(args.options.device)
    with output.redirect_prints():
        data = load_data_of(saved, args).to(device)
        nets = [saved.net(number).to(device) for number in range(len(saved.states))]
        found = score(
            nets[0] if len(nets) == 1 else Teacher(*nets, average=saved.average), data, noise=args.noise,
            missing=find_left_out(saved, args), seed=args.seed, split=args.split,
        )  # fmt: skip
    score_table(output, found, data.classes)
    output.say(f"{saved.spec.name}; {data.description}")
    name = _record(saved, "recipe")
    output.say(f"next: kd-baselines compare {name if name not in (None, 'custom') else 'RECIPE'}")
    output.result({
        "net": saved.spec.name, "nets": len(nets), "dataset": data.name, "description": data.description,
        "bytes": saved.bytes, "fingerprint": saved.fingerprint, "seed": args.seed, **found.as_dict(),
    })  # fmt: skip
    return 0


def load_data_of(saved: SavedNet, args: Evaluate) -> RealData:
    """The data that a net was trained on, split and normalized as then."""
    from datadistill.data import SOURCES, load

    if (saved.record or {}).get("dataset") == "folder":
        raise UsageError(
            f"the net was trained on a folder of images ({saved.dataset}), and its file does not say which of "
            "them were held out; its scores stand in the file and were told by kd-baselines train"
        )
    if saved.dataset not in SOURCES:
        raise UsageError(
            f"the net was trained on data of your own from Python ({saved.dataset}); test it from Python with "
            "kd_baselines.score(net, data)"
        )
    return load(
        saved.dataset, root=args.options.data_root, download=args.options.download,
        normalization=saved.normalization, validation=_record(saved, "validation"),
        seed=_record(saved, "teacher_seed") or 0,
    )  # fmt: skip


def find_left_out(saved: SavedNet, args: Evaluate) -> tuple[str, ...]:
    """The classes whose logit is shifted: those of a student's own scores, none of a teacher's."""
    return args.missing if args.missing is not None else tuple((saved.scores or {}).get("missing", ()))


def _record(saved: SavedNet, field: str) -> Any:
    return (saved.record or {}).get(field)
