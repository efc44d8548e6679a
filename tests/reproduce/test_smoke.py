"""Every table runs from end to end: in miniature, and one at its smoke scale."""

import pytest

from datadistill.cli import main
from datadistill.reproduce import TABLES, plan_of
from datadistill.reproduce.reproduction import reproduce

SETS = {
    "iterations": 1,
    "epochs": 1,
    "batch": 16,
    "nets": 1,
    "validate_every": 1,
    "validate_nets": 1,
}
ONE_STEP = {"ipc": 1, "steps": 1}  # not for figures, which are about the number of steps
POOLS = {"nets": 1, "validation_nets": 1, "held_out": 2, "epochs": 1, "batch": 64}
ARGUMENTS = {
    "nets": 1,
    "sets": 1,
    "selection_nets": 1,
    "optimized_from": 1,
    "epochs": 1,
    "candidates": "learned",
}
MLP = {"net": "mlp", "net_args": {"width": 8}}  # not where the net has weights of its own
# held out, so that few are left to learn and choose with
FEW_IMAGES = {"mnist5k": 3800, "digits": 1380}


def miniature(table):
    sets = SETS if table.startswith("figure") else SETS | ONE_STEP
    net = {} if table == "table3" else MLP
    plan = plan_of(table, "smoke").with_changes(
        sets=sets | net, pools=POOLS | net, arguments=ARGUMENTS
    )
    for part in plan.parts:
        for name, config in part.sets.items():
            part.sets[name] = config.with_changes(validation=FEW_IMAGES[config.dataset])
        for name, config in part.pools.items():
            part.pools[name] = config.with_changes(
                validation=3000 if config.dataset == "mnist5k" else 200
            )
    return plan


@pytest.mark.parametrize("table", TABLES)
def test_in_miniature(table, tmp_path):
    plan = miniature(table)
    made = reproduce(plan, out=tmp_path / "out")
    assert made.result.missing == []
    for part, rows in made.result.parts:
        for row, measured in zip(part.rows, rows, strict=True):
            assert (measured is None) == (row.measurement is None)
            if measured is not None:
                assert all(0 <= measured.values[c].mean <= 100 for c in part.columns)
    page = made.files[0].read_text()
    assert (
        f"datadistill reproduce {table} --scale smoke" in page and "not to be held against" in page
    )
    assert made.files[2].stat().st_size > 10_000


def test_at_its_smoke_scale(tmp_path, monkeypatch, capsys):
    """Of figure 5, which takes seconds; the others take more, and run above in miniature."""
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "figure5", "--quiet"]) == 0
    assert "wrote runs/reproduce" in capsys.readouterr().out
    assert (tmp_path / "runs/reproduce/figure5-smoke/table.md").exists()
