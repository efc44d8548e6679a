"""Plans: every table at every scale is whole, and the published numbers are those of the paper."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from datadistill.config import DistillConfig
from datadistill.errors import UsageError
from datadistill.evaluation.tested_nets import spec_of
from datadistill.nets.spec import NetSpec
from datadistill.reproduce import SCALES, TABLES, paper, plan_of
from datadistill.reproduce.measure import KINDS
from datadistill.reproduce.plan import Measurement, Part, Plan, TableRow

ALL = [(table, scale) for table in TABLES for scale in SCALES]
OFFLINE = {"mnist5k", "digits"}


@pytest.mark.parametrize(("table", "scale"), ALL)
def test_every_table_has_a_plan_at_every_scale(table, scale):
    plan = plan_of(table, scale)
    assert (plan.table, plan.scale) == (table, scale) and plan.parts and plan.title
    for part in plan.parts:
        assert {m.kind for m in part.measurements} <= set(KINDS)
        assert set(part.columns) <= set(part.headings)
        used = {s for m in part.measurements for s in m.sets}
        assert used == set(part.sets), "sets that nobody measures"
        assert {r.measurement for r in part.rows if r.measurement} == {
            m.name for m in part.measurements
        }
        assert any(row.ours for row in part.rows)
        assert all(set(row.published) <= set(part.columns) for row in part.rows)


@pytest.mark.parametrize("table", TABLES)
def test_smoke_uses_only_data_that_come_with_the_dependencies(table):
    for part in plan_of(table, "smoke").parts:
        configs = [*part.sets.values(), *part.pools.values()]
        assert {c.dataset for c in configs} <= OFFLINE
        assert {c.source for c in part.sets.values()} <= {None, *OFFLINE}
        assert all(c.weights is None or part.drawn_weights for c in part.sets.values())


@pytest.mark.parametrize("table", TABLES)
def test_smoke_says_that_it_proves_no_number(table):
    assert any(
        "not to be held against the published" in remark
        for remark in plan_of(table, "smoke").remarks
    )


def test_full_has_the_papers_sizes():
    for table in ("table1", "table2", "attack"):
        for part in plan_of(table, "full").parts:
            sizes = [dict(m.arguments) for m in part.measurements if m.kind == "compare"]
            assert all(
                s["nets"] == 200 and s["sets"] == 10 and s["optimized_from"] == 50 for s in sizes
            )
            assert all((c.nets, c.held_out) == (2000, 200) for c in part.pools.values())
    assert [part.name for part in plan_of("table2", "full").parts] == ["m-to-u", "u-to-m", "s-to-m"]
    assert all(len(part.sets) == 10 for part in plan_of("table3", "full").parts)


def test_published_numbers_are_those_of_table_1():
    rows = {row.label: row.published for row in plan_of("table1", "cpu").parts[0].rows}
    found = {
        label: (p["accuracy"].value, p["accuracy"].deviation) for label, p in rows.items() if p
    }
    assert found == {
        "ours, fixed initialization": (96.6, None),
        "ours, random initialization": (79.5, 8.1),
        "random real images, fixed step size": (68.6, 9.8),
        "optimized real images, fixed step size": (73.0, 7.6),
        "k-means centres, fixed step size": (76.4, 9.5),
        "average real images, fixed step size": (77.1, 2.7),
        "k-NN on random real images": (71.5, 2.1),
        "k-NN on k-means centres": (92.2, 0.1),
    }


def test_published_numbers_are_those_of_table_2():
    rows = {row.label: row.published for row in plan_of("table2", "cpu").parts[1].rows}
    assert rows["no adaptation"]["accuracy"].value == 67.5
    assert rows["ours, one pretrained net"]["accuracy"].value == 93.2
    assert rows["ours, any pretrained net"]["accuracy"].deviation == 1.4
    assert rows["Motiian et al. 2017"]["accuracy"].value == 89.2
    assert rows["all training images"]["accuracy"].value == 98.6
    assert len(rows) == 9


def test_numbers_of_other_data_are_not_put_beside_a_subset():
    (grey,) = [part for part in plan_of("table2", "cpu").parts if part.name == "s-to-m"]
    assert {config.source for config in grey.sets.values()} == {"svhn-grey"}
    subsets = [grey, *plan_of("table3", "cpu").parts]
    assert all(not row.published for part in subsets for row in part.rows)


def test_numbers_read_off_plots_are_marked():
    for table in ("figure4", "figure5"):
        rows = [row for part in plan_of(table, "cpu").parts for row in part.rows]
        numbers = [p for row in rows for p in row.published.values()]
        assert numbers and all(p.read_off and p.where.startswith("fig. ") for p in numbers)
    printed = [p for name in paper.TABLE1 for p in paper.TABLE1[name].values()]
    assert not any(p.read_off for p in printed)


def test_the_attack_says_what_it_is_for():
    assert "studying data poisoning" in plan_of("attack", "cpu").purpose


def test_a_set_that_two_parts_share_is_one():
    steps, epochs = plan_of("figure4", "cpu").parts
    shared = set(steps.sets) & set(epochs.sets)
    assert len(shared) == 1 and all(steps.sets[s] == epochs.sets[s] for s in shared)


@pytest.mark.parametrize(("table", "scale"), ALL)
def test_another_seed_is_another_repetition_throughout(table, scale):
    plan = plan_of(table, scale)
    assert plan.with_seed(0) == plan
    one, two = plan.with_seed(1), plan.with_seed(2)

    def seeds(plan):
        return {c.seed for part in plan.parts for c in [*part.sets.values(), *part.pools.values()]}

    assert not seeds(plan) & seeds(one) and not seeds(one) & seeds(two)
    assert all(m.arguments["seed"] == 1 for part in one.parts for m in part.measurements)


def test_changes_reach_every_config_and_known_arguments():
    plan = plan_of("table2", "smoke").with_changes(
        sets={"iterations": 1}, pools={"nets": 3}, arguments={"nets": 1, "sets": 7}
    )
    part = plan.parts[0]
    assert {c.iterations for c in part.sets.values()} == {1} and {
        c.nets for c in part.pools.values()
    } == {3}
    by_name = {m.name: m.arguments for m in part.measurements}
    assert by_name["baselines"]["sets"] == 7 and "sets" not in by_name["random"]


def test_unknown_names_are_refused_with_the_near_ones():
    with pytest.raises(UsageError, match="did you mean table1"):
        plan_of("tabel1", "cpu")
    with pytest.raises(UsageError, match="there is no scale 'big'"):
        plan_of("table1", "big")


def test_a_plan_that_names_what_it_does_not_have_is_refused():
    measurements = (Measurement("m", "ours", ("one",)),)
    part = Part("a", "A", {"one": DistillConfig()}, measurements, (TableRow("r", "m", "ours"),))
    with pytest.raises(UsageError, match="'two'"):
        dataclasses.replace(part, measurements=(Measurement("m", "ours", ("two",)),))
    with pytest.raises(UsageError, match="'n'"):
        dataclasses.replace(part, rows=(TableRow("r", "n", "ours"),))
    with pytest.raises(UsageError, match="different sets called one"):
        other = dataclasses.replace(part, sets={"one": DistillConfig(ipc=2)})
        Plan("t", "cpu", "T", (part, other))


@pytest.mark.parametrize("scale", SCALES)
def test_the_methods_are_tested_on_the_same_nets(scale):
    shape = {"channels": 1, "size": 28, "classes": 10}
    for part in plan_of("methods", scale).parts:
        for net in part.measurements[0].arguments["architectures"].values():
            tested = set()
            for config in part.sets.values():
                learned = NetSpec(config.net, {**config.net_args, **shape}, "default")
                size = torch.zeros(10, *(shape[k] for k in ("channels", "size", "size")))
                d = SimpleNamespace(net=learned, images=size, classes=range(10))
                built = spec_of(d, net).build().state_dict()
                tested.add(tuple((name, x.shape) for name, x in built.items()))
            assert len(tested) == 1, net
