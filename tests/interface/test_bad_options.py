"""Every option of every config with values that no run can have: one sentence, exit code 2 to 6, no
folder."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

import datadistill as dd
import kd_baselines as kd
from datadistill.cli import main
from datadistill.cli.distill import Distill
from datadistill.cli.pretrain import Pretrain
from datadistill.config import PoolConfig, RunOptions
from datadistill.errors import DatadistillError, UsageError
from datadistill.recipes.pools import POOLS
from datadistill.training.fit_plan import FitPlan
from kd_baselines.cli import main as kd_main
from kd_baselines.cli.ledger import MakeLedger
from kd_baselines.cli.train import Train, TrainLanguage
from kd_baselines.language.config import LanguageConfig
from kd_baselines.ledger.config import LedgerConfig

LONG = "x" * 300
HUGE = "100000000000000000000"
TINY = ["--iterations", "2", "--batch", "32", "--no-evaluate", "--no-figures"]
COMMANDS = {
    "distill": (main, Distill, ["distill", "digits-random", "--net", "mlp", *TINY]),
    "pretrain": (
        main,
        Pretrain,
        ["pretrain", next(iter(POOLS)), "--dataset", "digits", "--nets", "1"],
    ),
    "train": (
        kd_main,
        Train,
        ["train", "mnist5k-few-images", "--dataset", "digits", "--epochs", "1"],
    ),
    "train-text": (kd_main, TrainLanguage, ["train", "ban-ptb-small", "--epochs", "1"]),
    "ledger": (
        kd_main,
        MakeLedger,
        ["ledger", "mnist5k", "--dataset", "digits", "--rows", "real-hard"],
    ),
}
COLLISIONS = (
    ["classes", "5"],
    ["channels", "3"],
    ["size", "9"],
    ["width"],
    ["width", "1e300"],
    ["nosuch", "1"],
)
# a path that is used late or not at all; any text is one
ANY = {"rescue_dir", "teacher", "distilled"}
OWN_WORDS = {"arms", "rows", "seeds"}


def options(cls):
    """(field, its type) of a dataclass of options and of those in it."""
    marked = get_type_hints(cls, include_extras=True)
    for f in fields(cls):
        if is_dataclass(get_type_hints(cls)[f.name]):
            yield from options(get_type_hints(cls)[f.name])
        elif "Fixed" not in str(marked[f.name]):
            yield f.name, str(get_type_hints(cls)[f.name])


def bad_values(name, kind, first):
    """What no run can have; what the parser refuses, once for each type of a command."""
    if "dict" in kind:
        return COLLISIONS if name == "net_args" else (["x"],)
    if "bool" in kind:
        return ()
    if "Literal" in kind and "tuple" not in kind:
        return (["nosuch"],) if first else ()
    if "int" in kind:
        return ([HUGE], *((["x"], ["1e300"], ["nan"], [""]) if first else ()))
    if "float" in kind:
        return (["nan"], *((["x"], ["inf"], ["1e300"], [""]) if first else ()))
    if name in ANY:
        return ([""],)
    return ([LONG], [""]) if first or "Path" in kind else ([LONG],)


def calls():
    """(command, option, value)"""
    for command, (_, cls, _) in COMMANDS.items():
        seen = set()
        for name, kind in options(cls):
            for value in bad_values(name, kind, kind not in seen):
                if name not in OWN_WORDS:
                    yield command, name, value
            seen.add(kind)


CALLS = [
    pytest.param(command, name, value, id=f"{command}-{name}-{(' '.join(value) or 'empty')[:12]}")
    for command, name, value in calls()
]


@pytest.mark.parametrize(("command", "name", "value"), CALLS)
def test_a_bad_value_is_one_sentence(command, name, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run, _, words = COMMANDS[command]
    try:
        code = run([*words, "--out", "new", "--quiet", f"--{name.replace('_', '-')}", *value])
    except SystemExit as stopped:
        code = stopped.code
    shown = capsys.readouterr()
    assert code in (2, 3, 4, 5, 6)
    assert shown.err.strip() and "Traceback" not in shown.err
    assert list(Path().iterdir()) == []


CONFIGS = {
    "distill": dd.DistillConfig,
    "pool": PoolConfig,
    "kd": kd.KdConfig,
    "ledger": LedgerConfig,
    "language": LanguageConfig,
    "options": RunOptions,
    "fit": lambda **given: FitPlan(**{"epochs": 1, **given}),
}


IMPOSSIBLE = {
    "nan": float("nan"),
    "inf": float("inf"),
    "large": 1e300,
    "many-digits": 10**5000,
    "low": -(10**20),
    "bytes": b"x",
    "object": object(),
    "null": "a\0b",
    "long": LONG,
}


@pytest.mark.parametrize("value", list(IMPOSSIBLE.values()), ids=list(IMPOSSIBLE))
@pytest.mark.parametrize("name", CONFIGS)
def test_no_field_takes_what_cannot_be(name, value):
    cls = FitPlan if name == "fit" else CONFIGS[name]
    for f in fields(cls):
        with pytest.raises(DatadistillError, match=f.name):
            CONFIGS[name](**{f.name: value})


@pytest.mark.parametrize(
    ("cls", "field", "value", "sentence"),
    [
        (
            dd.DistillConfig,
            "epochs",
            1_000_001,
            "1000001 inner steps, but there can be at most 1000000",
        ),
        (dd.DistillConfig, "ipc", True, "ipc is True, wanted a whole number"),
        (dd.DistillConfig, "skip_bad", 1, "skip_bad is 1, wanted True or False"),
        (dd.DistillConfig, "augment", "crop", "augment is 'crop', wanted a tuple"),
        (dd.DistillConfig, "channels", 2, "channels is 2, but images have 1 .grey. or 3"),
        (
            dd.DistillConfig,
            "size",
            10**6,
            "size is 1000000, but it must be at least 1 and at most 4096",
        ),
        (dd.DistillConfig, "net_args", {"width": float("nan")}, "net_args.width is nan"),
        (dd.DistillConfig, "holdout", 1.5, "holdout is 1.5, but it must be at least 0 and below 1"),
        (kd.KdConfig, "lr", 0.0, "lr is 0.0, but it must be positive"),
        (kd.KdConfig, "decay_epochs", 0, "decay_epochs is 0, but it must be at least 1"),
        (PoolConfig, "batch", 2**31, "batch is 2147483648, but it must be at most 2147483647"),
    ],
)
def test_fields_refuse_what_is_out_of_range(cls, field, value, sentence):
    with pytest.raises(UsageError, match=sentence):
        cls(**{field: value})


def test_a_value_longer_than_any_path_is_one_sentence(capsys):
    assert main(["distill", "digits-random", "--ipc", "9" * 5000]) == 2
    assert "an argument has 5000 characters (99999" in capsys.readouterr().err


def test_an_unknown_augmentation_is_refused_first(tmp_path):
    for field in ("augment", "teacher_augment"):
        config = kd.KdConfig(
            dataset="digits", method="soft-targets", epochs=1, **{field: ("flop",)}
        )
        with pytest.raises(UsageError, match="unknown augmentation 'flop'; did you mean flip"):
            kd.train(config, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "command, recipe", [("distill", "digits-random"), ("pretrain", "digits-28-lenet-smoke")]
)
@pytest.mark.parametrize(
    "options, code, said",
    [
        (["rotate_crp"], 2, "unknown augmentation 'crp' in 'rotate_crp'; did you mean crop"),
        (["dsa:crop", "--size", "3", "--net", "mlp"], 3, "images are 3x3, and 'crop' of the strat"),
        (["crop", "--size", "4", "--net", "mlp"], 3, "images are 4x4; a crop reflects 4 pixels"),
    ],
)
def test_augmentations_that_do_not_fit(command, recipe, options, code, said, tmp_path, capsys):
    out = tmp_path / "run"
    assert main([command, recipe, "--out", str(out), "--augment", *options]) == code
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_flipped_digits_are_warned_of_before_learning():
    config = dd.recipe("digits-random").with_changes(iterations=1, augment=("color_flip",))
    with pytest.warns(UserWarning, match="'color_flip' flips digits"):
        dd.distill(config)


def test_numpy_numbers_lists_and_paths_become_plain():
    config = dd.DistillConfig(
        ipc=np.int64(2), steps=np.int32(2), lr_images=np.float32(0.5), augment=["crop"]
    )
    assert (config.ipc, config.lr_images, config.augment) == (2, 0.5, ("crop",))
    assert [type(v) for v in (config.ipc, config.steps, config.lr_images)] == [int, int, float]
    assert dd.DistillConfig(dataset="folder", data=Path("a")).data == "a"


@pytest.mark.parametrize("net_args", [{"classes": 10}, {"channels": 1, "size": 8}])
def test_net_args_may_repeat_what_the_data_say(net_args):
    config = dd.recipe("digits-random").with_changes(
        net="mlp", net_args=net_args, iterations=1, validate_nets=1
    )
    assert dd.distill(config).net.args["classes"] == 10


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"net_args": {"classes": 5}}, "have classes 5, but the data have 10; leave classes out"),
        ({"net_args": {"channels": 1.0}}, "have channels 1.0, but the data have 1"),
        ({"net_args": {"depth": 10**9}}, "depth is 1000000000, but no net here"),
        ({"nets": 2**31 - 1}, "TB for 2147483647 nets of mlp at once; lower nets"),
        ({"ipc": 2**31 - 1, "steps": 1}, "TB to learn 2147483647 images a class; lower ipc"),
    ],
)
def test_what_does_not_fit_is_refused_before_learning(changes, sentence, tmp_path):
    base = dd.recipe("digits-random").with_changes(net="mlp", iterations=1, net_args={})
    with pytest.raises(DatadistillError, match=sentence):
        dd.distill(base.with_changes(**changes), out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "changes", [{"lr_images": 1e30, "beta1": 1 - 1e-12}, {"lr_step_sizes": 1e30}]
)
def test_a_learning_rate_that_leaves_float32_is_exit_4(changes):
    base = dd.recipe("digits-random").with_changes(
        net="mlp", iterations=3, net_args={}, nets=1, validate_nets=1
    )
    with pytest.raises(DatadistillError) as refused:
        dd.distill(base.with_changes(**changes))
    assert refused.value.exit_code == 4
