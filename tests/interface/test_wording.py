"""Messages name arguments in Python and options on the command line; an unknown name gets its
nearest."""

import ast
from pathlib import Path

import pytest

import datadistill as dd
import kd_baselines as kd
from datadistill.cli import main
from datadistill.errors import DataError, UsageError, command_line, format_message, suggest
from datadistill.recipes import RECIPES, recipe

TYPED = {
    "pass --data FOLDER": "pass data=FOLDER",
    "try --lr-step-sizes 0.005": "try lr_step_sizes=0.005",
    "start from noise (--images-from noise)": "start from noise (images_from noise)",
    "leave --no-download out": "leave download=False out",
    "try a smaller --batch or --cache False": "try a smaller batch or cache=False",
    "resume it with --resume runs/a, or pass --out": "resume it with resume=True, or pass out",
    "measure it: datadistill evaluate a --save": "measure it: datadistill evaluate a --save",
    "kd-baselines train X, or pass --teacher FILE": "kd-baselines train X, or pass teacher=FILE",
    "runs/a--b holds a set": "runs/a--b holds a set",
}


@pytest.mark.parametrize("typed", TYPED)
def test_python_reads_the_names_of_arguments(typed):
    assert str(UsageError(typed)) == TYPED[typed] == format_message(typed)


@pytest.mark.parametrize("typed", TYPED)
def test_the_command_line_reads_the_options(typed):
    with command_line():
        assert str(DataError(typed)) == typed


def test_one_refusal_names_the_field_or_the_option(capsys):
    with pytest.raises(UsageError, match=r"pass data=FOLDER"):
        dd.DistillConfig(dataset="folder")
    assert main(["distill", "digits-random", "--dataset", "folder"]) == 2
    assert "pass --data FOLDER" in capsys.readouterr().err


def test_a_command_that_is_over_leaves_python_its_words():
    assert main(["distill", "no-such"]) == 2
    assert str(UsageError("pass --pool FILE")) == "pass pool=FILE"


UNKNOWN = {
    "recipe": (lambda: recipe("mnist-fixd"), "mnist-fixed", "datadistill recipes lists all"),
    "kd recipe": (
        lambda: kd.recipe("fitnets-mnst"),
        "fitnets-mnist",
        "kd-baselines recipes lists all",
    ),
    "field": (lambda: dd.DistillConfig().with_changes(lr_image=1.0), "lr_images", "in all"),
    "method": (
        lambda: kd.train(kd.KdConfig(dataset="digits", method="soft-target")),
        "soft-targets",
        "kd-baselines methods lists all",
    ),
    "data set": (
        lambda: dd.distill(recipe("digits-random").with_changes(dataset="mnist5")),
        "mnist5k",
        "datadistill doctor lists all",
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_typo_gets_at_most_three_near_names(kind):
    call, near, lister = UNKNOWN[kind]
    with pytest.raises(UsageError) as refused:
        call()
    said = str(refused.value)
    offered = said.partition("did you mean ")[2].partition("?")[0].replace(" or ", ", ").split(", ")
    assert near in offered and len(offered) <= 3 and lister in said


def test_a_name_like_none_gets_five(capsys):
    said = suggest("zzzz", RECIPES, "datadistill recipes")
    assert said.startswith("the nearest are ") and said.count(", ") == 4
    assert said.endswith(f"(datadistill recipes lists all {len(RECIPES)})")


def raised_texts():
    """Every text that stands inside a `raise` of the two packages outside their command lines."""
    for package in (dd, kd):
        for path in sorted(Path(package.__file__).parent.rglob("*.py")):
            if "cli" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Raise):
                    parts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                    yield str(path), " ".join(p for p in parts if isinstance(p, str))


def test_no_raised_text_says_both_the_option_and_the_argument():
    twice = [(path, text) for path, text in raised_texts() if "--" in text and "in Python" in text]
    assert [t for t in twice if "dd.distill(" not in t[1]] == []
