"""Strict configs: what a file says is what its class declares, or it is refused by key."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datadistill.errors import UsageError
from datadistill.runs.jsonconfig import build_config, diff_configs, dump_config, load_config


@dataclass(frozen=True)
class Net:
    name: Literal["lenet", "mlp"] = "lenet"
    arguments: dict[str, int | float | str | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    recipe: str
    seed: int = 0
    lr: float = 0.01
    fixed: bool = True
    adjoint: Literal["auto", "full"] = "auto"
    window: int | None = None
    decay: float | None = None
    betas: tuple[float, ...] = (0.9, 0.999)
    size: tuple[int, str] | None = None
    level: int | Literal["max"] = 1
    net: Net = field(default_factory=Net)
    teacher: Net | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, wanted at least 0")
        if self.window == 0:
            raise ValueError("window is 0")


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTS = st.integers(-(2**63) + 1, 2**63 - 1)
NETS = st.builds(
    Net,
    name=st.sampled_from(["lenet", "mlp"]),
    arguments=st.dictionaries(st.text(), INTS | FLOATS | st.text() | st.booleans(), max_size=3),
)
CONFIGS = st.builds(
    Config,
    recipe=st.text(),
    seed=st.integers(0, 2**63 - 1),
    lr=FLOATS,
    fixed=st.booleans(),
    adjoint=st.sampled_from(["auto", "full"]),
    window=st.none() | st.integers(1, 100),
    decay=st.none() | FLOATS,
    betas=st.lists(FLOATS, max_size=3).map(tuple),
    size=st.none() | st.tuples(INTS, st.text()),
    level=INTS | st.just("max"),
    net=NETS,
    teacher=st.none() | NETS,
)


@settings(max_examples=100, deadline=None)
@given(CONFIGS)
def test_dumping_and_loading_is_the_identity(config):
    dumped = dump_config(config)
    back = load_config(Config, json.dumps(dumped), "config.json")
    assert back == config
    assert repr(back) == repr(config)
    assert build_config(Config, dumped, "config.json") == config
    assert diff_configs(config, back) == []
    assert diff_configs(config, dumped) == []


def test_defaults_fill_what_is_left_out():
    assert load_config(Config, '{"recipe": "a"}', "c") == Config("a")
    assert load_config(Config, '{"recipe": "a", "net": {"name": "mlp"}}', "c").net == Net("mlp")


def test_whole_numbers_in_float_fields_are_floats():
    assert json.dumps(dump_config(Config("a", lr=1))) == json.dumps(
        dump_config(Config("a", lr=1.0))
    )
    assert type(load_config(Config, '{"recipe": "a", "lr": 1}', "c").lr) is float
    config = load_config(Config, '{"recipe":"a","net":{"arguments":{"w":1,"p":1.0,"b":true}}}', "c")
    assert [type(v) for v in config.net.arguments.values()] == [int, float, bool]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('"sede": 1', r"unknown key 'sede'; did you mean seed or size\?"),
        ('"net": {"nmae": "mlp"}', r"unknown key 'net.nmae'; did you mean name\?"),
        ('"teacher": {"nmae": "mlp"}', r"unknown key 'teacher.nmae'; did you mean name\?"),
        ('"__class__": "os.system"', "unknown key '__class__'"),
        ('"seed": "1"', "seed is '1', wanted a whole number; write it without quotes"),
        ('"lr": "1e-3"', "lr is '1e-3', wanted a number; write it without quotes"),
        ('"lr": true', "lr is true, wanted a number"),
        ('"lr": null', "lr is null, wanted a number"),
        ('"lr": NaN', "NaN is not a finite number"),
        ('"lr": -Infinity', "-Infinity is not a finite number"),
        ('"lr": 1e999', "1e999 is not a finite number"),
        ('"lr": 1' + "0" * 350, "lr is 1000.*too large"),
        ('"seed": 1' + "0" * 30, "seed is 1000.*too large"),
        ('"seed": 1' + "0" * 9000, "9001 digits"),
        ('"level": 1' + "0" * 30, "level is 1000.*wanted"),
        ('"seed": 1.0', "seed is 1.0, wanted a whole number"),
        ('"seed": true', "seed is true, wanted a whole number"),
        ('"seed": -1', "seed is -1, wanted at least 0"),
        ('"fixed": 1', "fixed is 1, wanted true or false"),
        ('"fixed": "true"', "fixed is 'true', wanted true or false"),
        ('"adjoint": "fill"', "adjoint is 'fill', wanted one of 'auto', 'full'"),
        ('"adjoint": 1', "adjoint is 1, wanted one of 'auto', 'full'"),
        ('"window": 0', "window is 0"),
        ('"window": 2.5', "window is 2.5, wanted a whole number"),
        ('"betas": 0.9', "betas is 0.9, wanted a list"),
        ('"betas": [0.9, "x"]', r"betas\[1\] is 'x', wanted a number"),
        ('"size": [1]', r"size is \[1\], wanted a list of 2"),
        ('"size": [1, 2]', r"size\[1\] is 2, wanted a string"),
        ('"level": "min"', "level is 'min', wanted a whole number or one of 'max'"),
        ('"net": null', "net is null, wanted an object"),
        ('"net": "mlp"', "net is 'mlp', wanted an object"),
        (
            '"net": {"arguments": {"width": [1]}}',
            r"net.arguments.width is \[1\], wanted a whole number or",
        ),
        ('"net": {"arguments": {"width": null}}', "net.arguments.width is null"),
        ('"seed": 1, "seed": 2', "'seed' appears twice"),
        ('"net": {"name": "mlp", "name": "mlp"}', "'name' appears twice"),
        ('"seed": ', "not valid JSON"),
        ('"net": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_hostile_configs_are_refused_by_key(change, message):
    with pytest.raises(UsageError, match=message) as caught:
        load_config(Config, '{"recipe": "a", ' + change + "}", "config.json")
    assert str(caught.value).startswith("config.json: ")
    assert caught.value.exit_code == 2
    assert len(str(caught.value)) < 500


def test_missing_keys_and_other_values_are_refused():
    with pytest.raises(UsageError, match="the key 'recipe' is missing"):
        load_config(Config, "{}", "config.json")
    for text in ("[]", "1", "null", '"a"'):
        with pytest.raises(UsageError, match=r"the config is .*, wanted an object"):
            load_config(Config, text, "config.json")


@settings(max_examples=100, deadline=None)
@given(st.text() | st.binary())
def test_noise_is_refused(text):
    with pytest.raises(UsageError):
        load_config(Config, text, "config.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": float("nan")},
        {"lr": "0.1"},
        {"seed": 1.5},
        {"betas": (float("inf"),)},
        {"net": Net("vgg")},
        {"net": 3},
    ],
)
def test_configs_built_wrongly_in_python_are_refused_when_dumped(changes):
    with pytest.raises(UsageError, match=f"{next(iter(changes))}.* is "):
        dump_config(Config("a", **changes))


def test_keys_that_are_no_strings_are_refused():
    with pytest.raises(UsageError, match=r"net\.arguments is an object"):
        dump_config(Config("a", net=Net(arguments={1: 2})))


def test_differences_name_the_key_and_both_values():
    old = Config("a", betas=(0.5,), net=Net("mlp", {"width": 3}))
    new = Config("a", seed=2, window=4, net=Net("lenet", {"depth": 1}))
    assert diff_configs(old, new) == [
        "betas [0.5] -> [0.9, 0.999]",
        "net.arguments.depth (absent) -> 1",
        "net.arguments.width 3 -> (absent)",
        "net.name 'mlp' -> 'lenet'",
        "seed 0 -> 2",
        "window null -> 4",
    ]
    assert diff_configs({"a": 1}, {"a": True}) == ["a 1 -> true"]
