"""The written table: Markdown, CSV and the figure of a result that is given."""

import csv
import io

import pytest

from datadistill.config import DistillConfig
from datadistill.reproduce.measured_rows import MeasuredRow, Result, Value
from datadistill.reproduce.plan import Measurement, Part, Plan, TableRow
from datadistill.reproduce.table_files import markdown, table_of, write_files
from datadistill.studies.table import Published

COMMAND = "datadistill reproduce table9 --scale cpu"
ENVIRONMENT = {
    "versions": {"torch": "2.6.0", "datadistill": "0.1.0"},
    "device": "cpu",
    "device_name": "some CPU",
    "threads": 2,
}
MEASURED = MeasuredRow(
    "ours", {"accuracy": Value(90.126, 1.5)}, nets=20, sets=5, bytes=31440, how="step size 0.1"
)


def part(**changes):
    settings = {
        "sets": {"a": DistillConfig()},
        "measurements": (Measurement("m", "ours", ("a",)),),
        "rows": (
            TableRow("ours", "m", "ours", {"accuracy": Published(79.5, 8.1, "table 9")}, ours=True),
            TableRow(
                "elsewhere",
                None,
                published={"accuracy": Published(60.0, None, "fig. 9", read_off=True)},
            ),
        ),
        "remarks": ("A remark of the part.",),
    }
    return Part("mnist", "MNIST", **{**settings, **changes})


def plan(*parts):
    return Plan(
        "table9", "cpu", "Table 9: all", parts, "This is for that.", ("A remark of the table.",)
    )


def result(p, rows=(MEASURED, None), missing=()):
    return Result([(p, list(rows))], missing, [ENVIRONMENT])


def test_our_number_and_the_published_one_are_in_one_row():
    lines = markdown(plan(part()), result(part()), COMMAND).splitlines()
    assert (
        "| **ours** | 90.1 ± 1.5 | 79.5 ± 8.1 | 5 sets x 20 nets | step size 0.1 | 31,440 |"
        in lines
    )
    assert "| elsewhere | - | ~60 | - |  | - |" in lines
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1


def test_the_page_says_how_where_and_what_differs():
    page = markdown(plan(part()), result(part(), missing=["cifar10"]), COMMAND)
    for words in (
        f"`{COMMAND}`",
        "This is for that.",
        "- A remark of the part.",
        "- A remark of the table.",
        "table 9; fig. 9 of Wang et al. 2018",
        "read by eye off a plot",
        "2 threads of some CPU, torch 2.6.0",
        f"Not run here: cifar10 (`{COMMAND} --only NAME`).",
    ):
        assert words in page


def test_without_published_numbers_there_is_no_column():
    p = part(rows=(TableRow("ours", "m", "ours", ours=True),))
    page = markdown(plan(p), result(p, [MEASURED]), COMMAND)
    assert "published" not in page.lower()
    assert "| **ours** | 90.1 ± 1.5 | 5 sets x 20 nets |" in page


def test_the_csv_reads_back():
    rows = list(csv.DictReader(io.StringIO(table_of(plan(part()), result(part())).to_csv())))
    assert [r["row"] for r in rows] == ["ours", "elsewhere"]
    assert (float(rows[0]["mean"]), rows[0]["nets"], rows[0]["published"]) == (
        90.126,
        "20",
        "79.5000",
    )
    assert (rows[1]["mean"], rows[1]["read_off_plot"]) == ("", "True")


def test_each_column_has_its_own_published_number():
    p = part(
        columns=("ratio", "others"),
        headings={"ratio": "taken", "others": "others"},
        rows=(TableRow("ours", "m", "ours", {"ratio": Published(71.4, 29.6, "page")}, ours=True),),
    )
    m = MeasuredRow("ours", {"ratio": Value(80.0, 2.0), "others": Value(95.0, 1.0)}, nets=16)
    page = markdown(plan(p), result(p, [m]), COMMAND)
    assert "| | taken (%) | published (%) | others (%) | over | how | bytes |" in page
    assert "| **ours** | 80.0 ± 2.0 | 71.4 ± 29.6 | 95.0 ± 1.0 | 16 nets |  | - |" in page


def test_points_have_their_place_in_front():
    p = part(x="steps", rows=(TableRow("ours", "m", "ours", {}, True, 5.0),))
    page = markdown(plan(p), result(p, [MEASURED]), COMMAND)
    assert "| steps | | accuracy (%) |" in page and "| 5 | **ours** | 90.1 ± 1.5 |" in page


@pytest.mark.parametrize("x", [None, "steps"])
def test_the_files_have_the_same_bytes_twice(x, tmp_path):
    rows = part().rows if x is None else (TableRow("ours", "m", "ours", {}, True, 5.0),)
    p = part(x=x, rows=rows)
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files = write_files(
            plan(p), result(p, [MEASURED, None][: len(rows)]), tmp_path / name, COMMAND
        )
        assert [f.name for f in files] == ["table.md", "table.csv", "figure.png"]
        found.append([f.read_bytes() for f in files])
    assert found[0] == found[1]
