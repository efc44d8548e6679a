"""Published numbers of the Born-Again recipes: accuracies, and the rows of a table of
generations."""

import re

import pytest

from datadistill.errors import UsageError
from kd_baselines.recipes import RECIPES, page

ALL = [(name, arm) for name, p in RECIPES.items() for arm in ("own", *p.arms)]

BORN_AGAIN = {  # errors as printed; of the teacher where the table has it
    "ban-cifar10": {
        "own": (3.5, 3.81), "wrn-28-1": (6.64, 6.69), "wrn-28-2": (4.86, 5.06),
        "wrn-28-5": (4.03, 4.13), "wrn-28-10": (3.86, 3.77), "dense-112-33": (3.61, 3.84),
        "dense-80-80": (3.49, 3.48), "dense-80-120": (3.54, 3.37),
    },
    "ban-cifar100": {
        "own": (16.69, 17.69), "ban+l": (16.93,), "cwtm": (17.42,), "dkpp": (17.43,),
        "dkpp-fixed": (17.43,), "dense-112-33": (16.95, 18.25), "dense-112-33-ban+l": (17.68,),
        "dense-112-33-cwtm": (17.84,), "dense-112-33-dkpp": (17.84,), "dense-80-80": (16.36, 17.16),
        "dense-80-80-ban+l": (16.5,), "dense-80-80-cwtm": (17.16,), "dense-80-80-dkpp": (16.84,),
        "dense-80-120": (16.0, 16.87), "dense-80-120-ban+l": (16.41,),
        "dense-80-120-cwtm": (17.12,), "dense-80-120-dkpp": (16.34,), "wrn-28-1": (29.43, 30.05),
        "wrn-28-1-dense": (24.93, 30.05), "wrn-28-2": (24.38, 25.32),
        "wrn-28-2-dense": (18.49, 25.32), "wrn-28-5": (20.93, 20.88),
        "wrn-28-5-dense": (17.52, 20.88), "wrn-28-10": (18.25, 19.08),
        "wrn-28-10-dense": (16.79, 19.08), "depth-0.5": (16.95,), "depth-2": (16.43,),
        "depth-3": (16.64,), "depth-4": (16.64,), "compression-0.5": (19.83,),
        "compression-0.75": (17.3,), "compression-1.5": (18.89,),
    },
    "ban-cross-architecture": {
        "own": (17.13, 17.69), "wrn-4-0.5-hard": (19.63,), "pre-resnet-14-0.5": (18.8,),
        "pre-resnet-14-0.5-hard": (20.28,), "pre-resnet-14-1": (17.39,),
        "pre-resnet-14-1-hard": (18.84,), "wrn-1-1": (19.12,), "wrn-1-1-hard": (20.4,),
        "match-wrn-2-1": (17.42,), "match-wrn-2-1-hard": (18.83,), "wrn-4-1": (17.18,),
        "wrn-4-1-hard": (18.77,), "pre-resnet-1001-hard": (22.71,),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BORN_AGAIN)
def test_born_again_accuracies_are_the_printed_errors(name):
    assert set(BORN_AGAIN[name]) == {"own", *RECIPES[name].arms}
    for arm, errors in BORN_AGAIN[name].items():
        told = re.match(
            r"([\d.]+)(?:, teacher (?:of table 2 )?([\d.]+).*)? \(errors? ([\d., ]+); ",
            page(name).published_of(arm),
        )
        accuracies = [float(value) for value in told.groups()[:2] if value]
        assert accuracies == pytest.approx([100 - error for error in errors]), arm
        assert [float(value) for value in told[3].split(", ")] == list(errors), arm


def test_generations_and_ensembles_are_table_2s():
    rows = {
        "own": "; BAN-1 83.38, BAN-2 83.56, BAN-3 83.28, BANE(2) 84.61, BANE(3) 84.26 (",
        "dense-112-33": "; BAN-1 82.39, BAN-2 82.78, BAN-3 83.41, BANE(2) 84.23, BANE(3) 84.32 (",
        "dense-80-80": "; BAN-1 83.74, BAN-2 83.70, BAN-3 84.50, BANE(2) 84.54, BANE(3) 84.86 (",
        "dense-80-120": "; BAN-1 83.87, BAN-2 83.87, BANE(2) 84.87, BANE(2)+teacher 85.10 (",
    }
    for arm, told in rows.items():
        assert told in page("ban-cifar100").published_of(arm)


CHAINS = {  # errors of table 2 as printed: teacher; BAN and BAN-1; BAN-2, BAN-3; Ens*2, Ens*3
    "own": "17.69|16.69 and 16.62|16.44|16.72|15.39|15.74",
    "dense-112-33": "18.25|16.95 and 17.61|17.22|16.59|15.77|15.68",
    "dense-80-80": "17.16|16.36 and 16.26|16.30|15.50|15.46|15.14",
    "dense-80-120": "16.87|16.00 and 16.13|16.13|-|15.13|-",
}


@pytest.mark.parametrize("arm", CHAINS)
def test_the_rows_of_a_chain_are_table_2s(arm):
    made = page("ban-cifar100")
    rows = ("teacher", "1", "2", "3", "BANE(2)", "BANE(3)")
    for row, printed in zip(rows, CHAINS[arm].split("|"), strict=True):
        source = "" if printed == "-" else " (Furlanello et al. 2018, table 2)"
        assert made.published_in(row, arm) == printed + source, row
    with_teacher = "14.90 (Furlanello et al. 2018, table 2)" if arm == "dense-80-120" else "-"
    assert made.published_in("BANE(2)+teacher", arm) == with_teacher
    assert made.published_in("BANE(3)+teacher", arm) == "-"


@pytest.mark.parametrize("name", BORN_AGAIN)
def test_rows_of_single_generations_are_the_printed_errors(name):
    """Of tables 4 and 5 the teacher is table 2's; nets on labels alone have no chain."""
    first = {"ban-cifar10": 1, "ban-cifar100": 2, "ban-cross-architecture": 5}[name]
    teachers = {"112-33": 18.25, "80-80": 17.16, "80-120": 16.87}
    for arm, (error, *teacher) in BORN_AGAIN[name].items():
        if name == "ban-cifar100" and arm in CHAINS:
            continue
        rows = page(name).arm(arm).rows
        kind = arm.partition("-")[0]
        table = {"wrn": 3, "depth": 4, "compression": 4}.get(kind, first) if first == 2 else first
        before = table if table in (1, 3) else 2
        net = next((error for size, error in teachers.items() if size in arm), 17.69)
        found = {"teacher": (teacher or [net])[0], "1": error}
        assert rows == (
            {}
            if arm.endswith("-hard")
            else {
                row: f"{value:.2f} (Furlanello et al. 2018, table {where})"
                for (row, value), where in zip(found.items(), (before, table), strict=True)
            }
        ), arm


def test_table_5_says_whose_number_its_teacher_is():
    told = page("ban-cross-architecture").published
    assert told == (
        "82.87, teacher of table 2 82.31 (errors 17.13, 17.69; Furlanello et al. "
        "2018, tables 5 and 2)"
    )


def test_rows_of_text_are_test_perplexities():
    made = page("ban-ptb")
    for arm, printed in {
        "own": ("71.87", "68.56"),
        "cnn-lstm": ("80.05", "76.97"),
        "ban": ("71.87",),
    }.items():
        for row, value in zip(("teacher", "1"), printed, strict=False):
            assert made.published_in(row, arm) == f"{value} (Furlanello et al. 2018, table 6)"
    assert (
        made.published_in("1", "ban")
        == made.published_in("2")
        == made.published_in("teacher", "small")
        == "-"
    )
    with pytest.raises(UsageError, match="no arm 'x'"):
        made.published_in("1", "x")


@pytest.mark.parametrize(("name", "arm"), ALL)
def test_rows_have_names_of_the_table_of_generations(name, arm):
    rows = page(name).arm(arm).rows
    assert all(re.fullmatch(r"teacher|[1-9]|BANE\([2-9]\)(\+teacher)?", row) for row in rows)
