"""What is missing is run, what is there is used: stops, other folders, changed arguments, parts."""

import signal

import pytest
from reproduce_cases import ADAPTED, FRESH, POOL, part, plan

from datadistill.errors import Interrupted, UsageError
from datadistill.reproduce import measure
from datadistill.reproduce.plan import WEIGHTS, Plan
from datadistill.reproduce.reproduction import reproduce
from datadistill.runs.folder import RunFolder
from datadistill.runs.jsonlines import read_lines


def steps(out):
    """What took time in a folder, in order, of all commands so far."""
    return [line["step"].split(":")[0] for line in read_lines(out / "timing.jsonl")]


ALL = ["learn set-fresh", "fresh", "pretrain a-pool", "learn set-adapted", "adapted"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "table9"
    reproduce(plan(), out=out)
    return out


@pytest.fixture
def out(finished, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "table9")
    return tmp_path / "table9"


def test_everything_lies_below_one_folder(finished):
    assert steps(finished) == ALL
    kinds = {
        p.parent.relative_to(finished).as_posix(): RunFolder.open(p.parent).kind
        for p in finished.rglob("config.json")
    }
    assert kinds == {
        ".": "reproduce",
        "pools/a-pool": "pool",
        "sets/set-fresh": "distill",
        "sets/set-adapted": "distill",
    }
    assert {p.name for p in finished.iterdir() if p.is_file()} == {
        "config.json",
        "environment.json",
        "timing.jsonl",
        "table.md",
        "table.csv",
        "figure.png",
    }


def test_typed_again_nothing_is_run_and_the_files_are_the_same(out):
    before = {name: (out / name).read_bytes() for name in ("table.md", "table.csv", "figure.png")}
    said = []
    made = reproduce(plan(), out=out, say=said.append)
    assert steps(out) == ALL and said == []
    assert {p.name: p.read_bytes() for p in made.files} == before


def test_a_second_folder_gets_the_same_numbers(finished, tmp_path):
    reproduce(plan(), out=tmp_path / "other")
    for name in ("table.md", "table.csv", "figure.png"):
        assert (tmp_path / "other" / name).read_bytes() == (finished / name).read_bytes()


def test_a_changed_argument_measures_that_alone_again(out):
    made = reproduce(plan({"nets": 1}), out=out)
    assert steps(out)[len(ALL) :] == ["fresh"]
    rows = made.result.parts[0][1]
    assert rows[1].nets == 1 and rows[1].values["accuracy"].std is None


def test_a_changed_set_measures_again(out, tmp_path):
    # another set under the same config
    reproduce(plan(seed=5), out=tmp_path / "other")
    other = (tmp_path / "other/sets/set-fresh/distilled.safetensors").read_bytes()
    (out / "sets/set-fresh/distilled.safetensors").write_bytes(other)
    reproduce(plan(), out=out)
    assert steps(out)[len(ALL) :] == ["fresh"]


def test_a_run_of_another_config_is_not_overwritten(out):
    kept = (out / "sets/set-fresh/distilled.safetensors").read_bytes()
    with pytest.raises(
        UsageError, match=r"holds a run of another config \(ipc 1 -> 2\); remove it"
    ):
        reproduce(plan(ipc=2), out=out)
    assert (out / "sets/set-fresh/distilled.safetensors").read_bytes() == kept


def test_a_set_of_another_pool_is_refused(out, tmp_path):
    reproduce(plan().with_changes(pools={"seed": 9}), out=tmp_path / "other", only=["adapted"])
    pool = tmp_path / "other/pools/a-pool/pool.safetensors"
    (out / "pools/a-pool/pool.safetensors").write_bytes(pool.read_bytes())
    with pytest.raises(UsageError, match="learned with another pool"):
        reproduce(plan(), out=out)


def test_a_damaged_measurement_is_made_again(out):
    path = next((out / "measured").glob("fresh-*"))
    whole = path.read_bytes()
    for damaged in (b"", b"{", b'{"key": 1}', whole.replace(b'"mean"', b'"mena"')):
        path.write_bytes(damaged)
        reproduce(plan(), out=out)
        assert path.read_bytes() == whole


def test_a_folder_of_another_table_is_refused(out):
    with pytest.raises(
        UsageError, match=r"holds another study \(seed 0 -> 1\); choose another out"
    ):
        reproduce(plan(), out=out, seed=1)


# --- stopping


@pytest.mark.parametrize("at", range(4))
def test_a_stopped_table_goes_on_where_it_was(at, finished, tmp_path):
    out, said = tmp_path / "table9", []

    def say(line):
        said.append(line)
        if len(said) == at + 1:
            signal.raise_signal(signal.SIGTERM)

    again = "datadistill reproduce table9"
    with pytest.raises(Interrupted, match=f"kept in {out}; go on with: {again}") as stopped:
        reproduce(plan(), out=out, say=say, again=again)
    assert stopped.value.exit_code == 143
    assert len(said) == at + 1 and not (out / "table.md").exists()
    reproduce(plan(), out=out)
    assert (out / "table.csv").read_bytes() == (finished / "table.csv").read_bytes()
    done = steps(out)
    # what the signal met has stopped before its end (a measurement of one chunk of nets may have
    # ended)
    assert len(done) <= len(ALL) + 1 and set(done) == set(ALL)
    assert done.count("learn set-fresh") == 1


# --- runs elsewhere


def test_finished_runs_are_taken_from_elsewhere(finished, tmp_path):
    said = []
    made = reproduce(plan(), out=tmp_path / "new", reuse=[finished], say=said.append)
    assert steps(tmp_path / "new") == ["fresh", "adapted"]  # only measured
    assert f"a-pool: the run in {finished / 'pools/a-pool'} is used" in said
    assert made.files[1].read_bytes() == (finished / "table.csv").read_bytes()
    assert not (tmp_path / "new/sets").exists()


def test_the_names_of_recipe_and_pool_do_not_matter(finished, tmp_path):
    renamed = plan(recipe="another-name")
    reproduce(renamed, out=tmp_path / "new", reuse=[finished / "sets", finished / "pools/a-pool"])
    assert steps(tmp_path / "new") == ["fresh", "adapted"]


def test_runs_of_another_config_or_pool_are_not_taken(finished, tmp_path):
    reproduce(plan(batch=16), out=tmp_path / "a", reuse=[finished], only=["fresh"])
    assert steps(tmp_path / "a") == ["learn set-fresh", "fresh"]
    other = plan().with_changes(pools={"seed": 9})
    reproduce(other, out=tmp_path / "b", reuse=[finished], only=["adapted"])
    assert steps(tmp_path / "b") == ["pretrain a-pool", "learn set-adapted", "adapted"]


def test_a_folder_to_reuse_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nowhere is no folder"):
        reproduce(plan(), out=tmp_path / "new", reuse=[tmp_path / "nowhere"])
    assert not (tmp_path / "new").exists()


# --- parts


def test_a_part_alone_and_then_the_rest(finished, tmp_path):
    out = tmp_path / "table9"
    made = reproduce(plan(), out=out, only=["adapted"])
    assert steps(out) == ["pretrain a-pool", "learn set-adapted", "adapted"]
    assert (
        made.result.missing == ["fresh"] and "Not run here: fresh" in (out / "table.md").read_text()
    )
    again = reproduce(plan(), out=out, only=["fresh"])  # what is there is shown too
    assert again.result.missing == []
    assert (out / "table.md").read_bytes() == (finished / "table.md").read_bytes()


def test_an_unknown_part_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UsageError, match=r"no part 'fersh'.*did you mean fresh"):
        reproduce(plan(), out=tmp_path / "new", only=["fersh"])
    assert not (tmp_path / "new").exists()


def test_weights_that_are_wanted_and_not_given_are_asked_for(tmp_path):
    config = FRESH.with_changes(weights=WEIGHTS, theta_0="fixed")
    with pytest.raises(UsageError, match="pass weights=FILE"):
        reproduce(Plan("table9", "smoke", "T", (part("a", config),)), out=tmp_path / "new")


def test_another_seed_draws_all_anew(finished, tmp_path):
    made = reproduce(plan(), out=tmp_path / "new", seed=1, reuse=[finished], only=["fresh"])
    assert steps(tmp_path / "new") == ["learn set-fresh", "fresh"]
    assert "--seed 1`" in made.files[0].read_text()


# --- measurements


def test_several_sets_are_runs(tmp_path):
    one = part("fresh", FRESH)
    runs = {"run0": FRESH, "run1": FRESH.with_changes(seed=1)}
    (m,) = one.measurements
    two = Plan(
        "table9", "smoke", "T", (_with(one, sets=runs, measurements=(_with(m, sets=tuple(runs)),)),)
    )
    made = reproduce(two, out=tmp_path / "new")
    ours = made.result.parts[0][1][1]
    assert ours.runs == 2 and ours.over == "2 runs x 2 nets"
    single = []
    for c in runs.values():  # each run draws its nets by its own seed
        alone = part("fresh", c)
        seeded = _with(
            alone.measurements[0], arguments={**alone.measurements[0].arguments, "seed": c.seed}
        )
        plan = Plan("table9", "smoke", "T", (_with(alone, measurements=(seeded,)),))
        single.append(reproduce(plan, out=tmp_path / f"{c.seed}", reuse=[tmp_path / "new"]))
    means = [made.result.parts[0][1][1].values["accuracy"].mean for made in single]
    assert ours.values["accuracy"].mean == pytest.approx(sum(means) / 2)
    assert ours.values["accuracy"].std == pytest.approx(abs(means[0] - means[1]) / 2)


def test_training_on_all_images_starts_from_the_sets_own_nets(out):
    from datadistill.distilled import DistilledDataset
    from datadistill.pool import Pool

    d, pool = DistilledDataset.load(out / "sets/set-adapted"), Pool.load(out / "pools/a-pool")
    tools = measure.Tools(pool, None, False, "cpu", lambda: None)
    before, _ = measure.train_on_set(d, tools, nets=10)
    (hardly,) = measure.train_on_all(d, tools, nets=10, epochs=1, lr=1e-9)
    (well,) = measure.train_on_all(d, tools, nets=10, epochs=10, lr=0.01)
    assert before.nets == hardly.nets == POOL.held_out
    # a vanishing learning rate leaves the held-out nets as they were
    assert hardly.values["accuracy"].mean == pytest.approx(before.values["accuracy"].mean, abs=0.3)
    assert well.values["accuracy"].mean > before.values["accuracy"].mean + 10


def test_an_attacked_set_has_the_scores_of_an_attack(out, tmp_path):
    from datadistill.distilled import DistilledDataset
    from datadistill.pool import Pool
    from datadistill.training import distill

    config = ADAPTED.with_changes(
        pool=str(out / "pools/a-pool"), objective="attack", attack_class=0, target_class=1
    )
    distill(config, out=tmp_path / "attack")
    d, pool = DistilledDataset.load(tmp_path / "attack"), Pool.load(out / "pools/a-pool")
    tools = measure.Tools(pool, None, False, "cpu", lambda: None)
    before, ours = measure.train_on_set(d, tools, nets=2)
    wanted = {
        "attacked_accuracy",
        "attacked_to_target",
        "others_accuracy",
        "accuracy",
        "modified_accuracy",
    }
    assert set(before.values) == set(ours.values) == wanted
    sizes = {
        "nets": 1,
        "sets": 1,
        "selection_nets": 1,
        "optimized_from": 1,
        "baselines": ["random-real"],
    }
    rows = {row.name: row for row in measure.baselines(d, tools, candidates="learned", **sizes)}
    assert set(rows["random-real"].values) == wanted


def _with(item, **changes):
    from dataclasses import replace

    return replace(item, **changes)
