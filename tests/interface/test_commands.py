"""Both programs as they are typed: help without torch, nearest names, and what is refused in one
line."""

import subprocess
import sys

import pytest

import datadistill.cli
import kd_baselines.cli
from datadistill.recipes import RECIPES

PROGRAMS = {"datadistill": datadistill.cli, "kd-baselines": kd_baselines.cli}
COMMANDS = [(program, command) for program, cli in PROGRAMS.items() for command in cli.COMMANDS]
# what is done one after the other in one process, none of which needs torch, numpy or matplotlib
WITHOUT_TORCH = [
    *(
        f"importlib.import_module('datadistill{room}')"
        for room in ("", ".config", ".recipes", ".cli")
    ),
    "from datadistill.runs import atomic, canonical, environment, folder, jsonconfig, "
    "jsonlines, lock, signals",
    "folder.RunFolder.create('run', {}, {}, kind='distill').append_metrics({'iteration': 0})",
    "folder.RunFolder.open('run').read_metrics()",
    "from kd_baselines.recipes import RECIPES, recipe",
    "[recipe(n, a) for n, p in RECIPES.items() for a in p.arms]",
    *(
        f"{module}.cli.main({words.split()!r})"
        for module, words in [
            ("datadistill", "--help"),
            ("datadistill", "distill --help"),
            ("datadistill", "recipes"),
            ("datadistill", "distill mnist-fixed --help"),
            ("datadistill", "distill x"),
            ("kd_baselines", "--help"),
            ("kd_baselines", "train --help"),
            ("kd_baselines", "recipes"),
            ("kd_baselines", "train hinton-missing-digit --help"),
            ("kd_baselines", "train x"),
            ("kd_baselines", "recipes hinton-missing-digit"),
            ("kd_baselines", "born-again --help"),
            ("kd_baselines", "train ban-ptb --help"),
            ("kd_baselines", "recipes ban-ptb"),
            ("kd_baselines", "compare ban-ptb"),
        ]
    ),
]
NEEDLESS = """
import contextlib, importlib, sys
import datadistill.cli, kd_baselines.cli
for line in sys.stdin.read().splitlines():
    with contextlib.suppress(SystemExit):
        exec(line)
    if loaded := {"torch", "numpy", "matplotlib"} & set(sys.modules):
        sys.exit(f"{loaded} after {line}")
"""


def typed(line):
    """The exit code of a command line."""
    program, *words = line.split()
    try:
        return PROGRAMS[program].main(words)
    except SystemExit as stopped:
        return stopped.code


def test_no_torch_before_a_command_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", NEEDLESS],
        input="\n".join(WITHOUT_TORCH),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_lists_every_command(program, capsys):
    assert typed(f"{program} --help") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {program} COMMAND")
    assert all(f"\n  {name} " in said for name in PROGRAMS[program].COMMANDS)
    assert max(map(len, said.splitlines())) <= (80 if program == "datadistill" else 100)
    assert typed(program) == 2
    assert f"usage: {program} COMMAND" in capsys.readouterr().out


def test_help_of_iterations_names_no_optimizer(capsys):
    """It is a choice of its own, --optimizer."""
    assert typed("datadistill distill --help") == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    said = words[words.index("--iterations INT") :].partition("--batch INT")[0]
    assert "by the `optimizer`" in said and "Adam" not in said


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_every_command_has_help(program, command, capsys):
    assert typed(f"{program} {command} --help") == 0
    assert f"usage: {program} {command}" in capsys.readouterr().out


DIGIT = "hinton-missing-digit"
KD = f"kd-baselines train {DIGIT} --dataset digits"
REFUSED = [
    # names, and the nearest of them
    ("datadistill distil mnist-fixed", 2, "did you mean distill?"),
    ("datadistill distill mnist5k-fxed", 2, "did you mean mnist5k-fixed"),
    ("datadistill recipes cifar-fixed", 2, "did you mean cifar10-fixed"),
    (
        "datadistill pretrain mnist-lennet",
        2,
        "no pool recipe 'mnist-lennet'; did you mean mnist-lenet",
    ),
    (
        "datadistill distill digits-28-lenet-smoke",
        2,
        "type datadistill pretrain digits-28-lenet-smoke",
    ),
    (f"kd-baselines trian {DIGIT}", 2, "did you mean train?"),
    ("kd-baselines train hinton-mising-digit", 2, f"did you mean {DIGIT}?"),
    (f"kd-baselines train {DIGIT} --arm hrad", 2, "did you mean hard"),
    ("kd-baselines train ban-ptb --arm techer", 2, "did you mean teacher"),
    ("kd-baselines compare hinton-mising-digit", 2, f"did you mean {DIGIT}?"),
    (f"kd-baselines compare {DIGIT} --arms hrad", 2, "did you mean hard"),
    ("kd-baselines recipes hinton-mising-digit", 2, f"did you mean {DIGIT}?"),
    (f"kd-baselines recipes {DIGIT} --arm hrad", 2, "did you mean hard"),
    ("kd-baselines methods soft-target", 2, "did you mean soft-targets"),
    ("kd-baselines born-again hinton-mising-digit", 2, f"did you mean {DIGIT}?"),
    (f"kd-baselines born-again {DIGIT} --arms hrad", 2, "did you mean hard"),
    ("kd-baselines ledger mnst", 2, "no ledger 'mnst'; did you mean mnist"),
    ("kd-baselines ledger digits --rows real-had", 2, "no row 'real-had'; did you mean real-hard"),
    # no name
    ("datadistill distill --ipc 5", 2, f"(datadistill recipes lists all {len(RECIPES)})"),
    ("datadistill pretrain", 2, "no pool recipe was given"),
    ("kd-baselines train", 2, "no recipe was given; type kd-baselines train RECIPE"),
    ("kd-baselines compare --seeds 3", 2, "no recipe was given; type kd-baselines compare RECIPE"),
    ("kd-baselines born-again", 2, "no recipe was given; type kd-baselines born-again RECIPE"),
    (
        "kd-baselines ledger",
        2,
        "no ledger was given; type kd-baselines ledger NAME (known: cifar10, digits",
    ),
    # values
    ("datadistill distill mnist-fixed --step-size 0", 2, "step_size is 0.0"),
    ("datadistill distill mnist-fixed --step-size -1", 2, "step_size is -1.0"),
    ("datadistill distill mnist-fixed --ipc 0", 2, "ipc is 0"),
    ("datadistill distill mnist-fixed --ipc 3 --steps 2", 2, "make ipc a multiple of steps"),
    ("datadistill distill mnist-fixed --on-nan skip", 2, "stop or skip:N"),
    ("datadistill distill mnist-fixed --checkpoint-every often", 2, "checkpoint_every is 'often'"),
    ("datadistill distill mnist-fixed --nets-tested 0", 2, "nets_tested is 0"),
    ("datadistill distill mnist-fixed --threads 0", 2, "threads is 0"),
    ("datadistill distill mnist-fixed --dataset mnist --data birds", 2, "drop one"),
    ("datadistill distill mnist-fixed --dataset folder", 2, "--data FOLDER"),
    ("datadistill distill own-images", 2, "pass --data FOLDER"),
    ("datadistill pretrain mnist-lenet --nets 0", 2, "nets is 0, but it must be at least 1"),
    ("datadistill pretrain mnist-lenet --lr 0", 2, "lr is 0.0"),
    ("datadistill pretrain mnist-lenet --threads 0", 2, "threads is 0"),
    (f"{KD} --epochs 0", 2, "epochs is 0"),
    (f"{KD} --noise -1", 2, "noise is -1.0"),
    (f"{KD} --threads 0", 2, "threads is 0"),
    ("kd-baselines train ban-ptb --epochs 0", 2, "epochs is 0"),
    (f"kd-baselines compare {DIGIT} --seeds 0", 2, "seeds is 0"),
    (
        f"kd-baselines born-again {DIGIT} --generations 0",
        2,
        "generations is 0; it must be a whole number",
    ),
    (f"kd-baselines born-again {DIGIT} --seeds 0", 2, "seeds is 0"),
    (f"kd-baselines born-again {DIGIT} --arms hard", 2, "the arm hard learns by plain"),
    ("kd-baselines ledger digits --seeds 0", 2, "seeds is 0"),
    # places
    ("datadistill pretrain --resume nowhere", 2, "nowhere holds no run"),
    ("kd-baselines train --resume nowhere", 2, "holds no run"),
    ("kd-baselines evaluate nowhere", 3, "nowhere does not exist"),
    ("kd-baselines ledger digits --distilled nowhere", 3, "nowhere"),
    ("kd-baselines compare ban-ptb", 2, "type kd-baselines born-again ban-ptb"),
]
SMOKE = "datadistill pretrain digits-28-lenet-smoke"
AFTER_ITS_FIRST_LINE = [  # which says what is to be trained
    (f"{SMOKE} --dataset digitz", 2, "did you mean digits"),
    (f"{SMOKE} --net resnet18 --at-once 2", 2, "which is trained net after net"),
    (f"{SMOKE} --net-args width 3", 2, "no argument called 'width'"),
    (f"{KD} --method soft", 2, "did you mean soft-targets"),
    (f"{KD} --teacher nowhere", 3, "nowhere does not exist"),
    (
        "kd-baselines train ban-ptb",
        2,
        "type kd-baselines born-again ban-ptb to train generations, or pass --t",
    ),
    ("kd-baselines train ban-ptb --teacher nowhere", 3, "nowhere does not exist"),
    (
        "kd-baselines train ban-ptb --arm teacher --text nowhere",
        3,
        "the text 'nowhere' was not found",
    ),
]


@pytest.mark.parametrize(
    ("line", "code", "said", "before"),
    [
        pytest.param(*case, lines, id=case[0].replace(" ", "_"))
        for lines, cases in enumerate((REFUSED, AFTER_ITS_FIRST_LINE))
        for case in cases
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing(
    line, code, said, before, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert typed(line) == code
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == before and said in shown.err
    assert shown.err.startswith(f"{line.split()[0]}: error: ") and len(shown.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("datadistill distill mnist-fixed --lr-step-size 0.1", "--lr-step-sizes"),
        ("datadistill distill mnist-fixed --ipc many", "--ipc"),
        ("datadistill distill mnist-fixed --theta-0 fixd", "--theta-0"),
        ("datadistill distill mnist-fixed --net-args width", "--net-args"),
        (f"kd-baselines train {DIGIT} --teacher-epoch 3", "--teacher-epochs"),
        ("kd-baselines born-again ban-mnist --average harmonic", "geometric"),
    ],
)
def test_what_the_parser_refuses_names_the_option(line, said, capsys):
    assert typed(line) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and said in shown.err
