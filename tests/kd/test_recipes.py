"""Recipes: full configs, arms that differ, published numbers that were seen, a miniature of each
that runs."""

import json
import re

import pytest
import torch

from datadistill.data import SOURCES, load
from datadistill.errors import UsageError
from datadistill.nets import arguments as net_arguments
from datadistill.nets import build
from datadistill.runs.jsonconfig import build_config, dump_config
from datadistill.training.fit_plan import FitPlan
from kd_baselines.config import KdConfig
from kd_baselines.heads import two_headed
from kd_baselines.losses import Objective
from kd_baselines.methods import METHODS, stages_of
from kd_baselines.nets import hints
from kd_baselines.recipes import NOT_VERIFIED, RECIPES, Arm, Page, page, recipe
from kd_baselines.training import train

ALL = [(name, arm) for name, p in RECIPES.items() for arm in ("own", *p.arms)]
# of images; those of RepDistiller have tests of their own
EVERY = [
    (name, arm)
    for name, arm in ALL
    if isinstance(recipe(name, arm), KdConfig) and not name.startswith("repdistiller-")
]
IMAGES = list(dict(EVERY))
OF_THE_ISSUE = {
    "hinton-missing-digit",
    "fitnets-mnist",
    "fitnets-cifar10",
    "fitnets-depth",
    "attention-cifar10",
    "jacobian-lowdata-cifar100",
    "jacobian-lowdata-mnist",
    "jacobian-noise",
    "jacobian-transfer",
    "ban-cifar100",
    "ban-mnist",
    "ban-cifar10-small",
    "ban-cross-architecture",
}
SIZES = {
    "mnist5k": (1, 28, 10),
    "mnist": (1, 28, 10),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "cub-20": (3, 64, 20),
    "svhn": (3, 32, 10),
    "digits": (1, 8, 10),
}


def test_the_recipes_that_were_promised_are_there():
    assert set(RECIPES) >= OF_THE_ISSUE
    for name, p in RECIPES.items():
        assert len(p.summary) > 30, name
        assert p.summary.endswith((".", ")")), name


@pytest.mark.parametrize(("name", "arm"), EVERY)
def test_every_arm_is_a_config_that_knows_where_it_comes_from(name, arm):
    config = recipe(name, arm)
    assert (config.recipe, config.arm) == (name, arm)
    stored = json.loads(json.dumps(dump_config(config)))
    assert build_config(KdConfig, stored, "config.json") == config
    assert config.dataset in SOURCES


@pytest.mark.parametrize("name", RECIPES)
def test_no_two_arms_are_the_same_student(name):
    configs = [recipe(name, arm).with_changes(arm="x") for arm in ("own", *RECIPES[name].arms)]
    same = [(a, b) for i, a in enumerate(configs) for b in configs[:i] if a == b]
    # the depth study's own student is a cell of its table
    assert len(same) == (1 if name == "fitnets-depth" else 0)


def test_a_grid_has_a_cell_for_each_arm_and_a_base_in_each_row():
    grids = {name: p for name, p in RECIPES.items() if p.grid is not None}
    assert grids
    for name, p in grids.items():
        assert set(p.grid.cells) == {"own", *p.arms}, name
        assert len(set(p.grid.cells.values())) == len(p.grid.cells), name
        assert set(p.grid.bases(p.grid.cells)) == set(p.grid.cells), name


@pytest.mark.parametrize(("name", "arm"), EVERY)
def test_nets_methods_and_layers_exist_and_fit(name, arm):
    """On the meta device: shapes alone."""
    config = recipe(name, arm)
    channels, size, classes = SIZES[config.dataset]
    size = config.size or size
    nets = {}
    for side, net, args in (
        ("student", config.net, config.net_args),
        ("teacher", config.teacher_net, config.teacher_args),
    ):
        assert set(args) <= {*net_arguments(net), "classes"}
        with torch.device("meta"):
            nets[side] = build(
                net, **{"channels": channels, "size": size, "classes": classes, **args}
            )
    if METHODS[config.method].two_headed:
        with torch.device("meta"):
            nets["student"] = two_headed(nets["student"], 1000)
    plan = FitPlan(epochs=config.epochs, optimizer=config.optimizer, lr=config.lr)
    for stage in stages_of(config.method, plan, config.method_args):
        needs = Objective(*getattr(stage.objective, "terms", [stage.objective])).needs
        for side, layers in (
            ("student", needs.student_features),
            ("teacher", needs.teacher_features),
        ):
            # of a reading its layer, of the input of a layer that one
            names = {getattr(one, "layer", one).removesuffix(":in") for one in layers}
            assert names <= {path for path, _ in nets[side].named_modules()}
        assert stage.until is None or stage.until in dict(nets["student"].named_modules())


OTHER_HINTS = [
    ("fitnets-svhn", "own"),
    *(("fitnets-depth-mnist5k", arm) for arm in ("first", "last", "cascade-2", "cascade-3")),
]


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        (n, a)
        for n, a in EVERY
        if recipe(n, a).method.startswith("fitnets") and (n, a) not in OTHER_HINTS
    ],
)
def test_guided_and_hint_layers_are_the_papers(name, arm):
    config = recipe(name, arm)
    if "guided" in config.method_args:
        wanted = hints(config.net, **config.net_args)
        assert (config.method_args["guided"], config.method_args["hint"]) == wanted


BAN_IMAGES = {"ban-cifar10-small": 500, "ban-cross-architecture-mnist": 100}
BAN = [(name, arm) for name, arm in EVERY if name.startswith("ban-")]
OF_ANOTHER_NET = (
    "depth-",
    "compression-",
    "wrn-28-1-dense",
    "wrn-28-2-dense",
    "wrn-28-5-dense",
    "wrn-28-10-dense",
)


@pytest.mark.parametrize(("name", "arm"), BAN)
def test_a_born_again_student_has_its_teachers_schedule_and_net(name, arm):
    config = recipe(name, arm)
    for field in (
        "epochs",
        "batch",
        "optimizer",
        "lr",
        "weight_decay",
        "decay_epochs",
        "milestones",
        "schedule",
        "warmup",
        "nesterov",
        "augment",
        "init",
    ):
        assert getattr(config, field) == getattr(config, f"teacher_{field}"), field
    assert config.without == ()
    assert config.per_class == config.teacher_images == BAN_IMAGES.get(name)
    assert config.images_seed == (config.teacher_seed if config.per_class else None)
    same = (config.net, config.net_args) == (config.teacher_net, config.teacher_args)
    cross = name.startswith("ban-cross-architecture")
    cross = cross and arm not in ("dense-by-dense", "dense-hard", "wide-by-wide")
    assert same != (cross or arm.startswith(OF_ANOTHER_NET))


@pytest.mark.parametrize(("name", "arm"), [(n, a) for n, a in BAN if recipe(n, a).shared])
def test_shared_layers_fit_the_teachers(name, arm):
    config = recipe(name, arm)
    channels, size, classes = SIZES[config.dataset]
    shape = {"channels": channels, "size": config.size or size, "classes": classes}
    assert config.shared == ("conv1", "classifier")
    with torch.device("meta"):
        student = build(config.net, **shape, **config.net_args)
        teacher = build(config.teacher_net, **shape, **config.teacher_args)
    for layer in config.shared:
        tensors = [
            {k: v.shape for k, v in net.get_submodule(layer).state_dict().items()}
            for net in (student, teacher)
        ]
        assert tensors[0] == tensors[1]


def test_unknown_names_are_told_with_the_nearest():
    with pytest.raises(
        UsageError, match="no recipe 'hinton-missing-digits'; did you mean hinton-missing-digit"
    ):
        page("hinton-missing-digits")
    with pytest.raises(UsageError, match="has no arm 'hards'; did you mean hard"):
        recipe("hinton-missing-digit", "hards")
    with pytest.raises(UsageError, match="no arm 'x'"):
        page("hinton-missing-digit").published_of("x")


def test_an_arm_changes_what_it_names_and_nothing_else():
    made = Page(lambda: KdConfig(recipe="r", lr=0.5), "-", {"a": Arm({"epochs": 3}, "9 (b)")})
    assert made.config("a") == KdConfig(recipe="r", lr=0.5, epochs=3, arm="a")
    assert (made.published_of(), made.published_of("a")) == ("-", "9 (b)")


# --- published numbers


@pytest.mark.parametrize(("name", "arm"), ALL)
def test_a_published_number_has_its_source(name, arm):
    text = page(name).published_of(arm)
    assert text in ("-", NOT_VERIFIED) or re.search(
        r"\((.*; )?[A-Z].* 20\d\d(, .*|; .*)?\)$", text
    ), text


def test_nothing_is_published_of_tables_that_were_not_seen():
    for name, arm in EVERY:
        if name.startswith("jacobian"):
            assert page(name).published_of(arm) in ("-", NOT_VERIFIED)


def test_accuracies_are_the_printed_errors():
    """Errors as the papers print them: Hinton et al. of 10,000 images, the others in percent."""
    counts = {"own": 206, "all-digits": 74, "hard-all-digits": 146}
    for arm, errors in counts.items():
        assert (
            page("hinton-missing-digit").published_of(arm).startswith(f"{100 - errors / 100:.2f}")
        )
    own = page("hinton-missing-digit").published
    assert f"threes {100 - 100 * 133 / 1010:.1f}" in own
    assert f"raised: {100 - 109 / 100:.2f}, {100 - 100 * 14 / 1010:.1f}" in own
    percent = {
        ("fitnets-mnist", "own"): 0.51,
        ("fitnets-mnist", "kd"): 0.65,
        ("fitnets-mnist", "hard"): 1.9,
        ("attention-cifar10", "own"): 8.25,
        ("attention-cifar10", "hard"): 8.77,
        ("attention-cifar10", "kd"): 8.39,
        ("attention-cifar10", "wide"): 5.85,
        ("attention-cifar10", "wide-hard"): 6.31,
        ("attention-cifar10", "wide-kd"): 6.08,
    }
    for (name, arm), error in percent.items():
        assert float(page(name).published_of(arm).split()[0].rstrip(",")) == pytest.approx(
            100 - error
        )


# --- miniatures

SMALL = {
    "dataset": "digits",
    "size": None,
    "source": None,
    "source_part": (0.0, 1.0),
    "validation": 50,
    "per_class": 4,
    "teacher_images": None,
    "augment": (),
    "teacher_augment": (),
    "epochs": 2,
    "milestones": (),
    "batch": 20,
    "teacher_epochs": 1,
    "teacher_milestones": (),
    "teacher_batch": 256,
}
THIN = {
    "net": "thin-cnn",
    "net_args": {"width": 4, "depth": 6, "pools": 2},
    "teacher_net": "wide-cnn",
    "teacher_args": {"width": 4},
}
PLAIN_NETS = {
    "net": "mlp",
    "net_args": {"width": 8, "depth": 1},
    "teacher_net": "mlp-dropout",
    "teacher_args": {"width": 16, "depth": 1},
}
TINY_DENSE = {"depth": 10, "growth": 2}
BOTH_CONVNETS = {
    "net": "convnet",
    "net_args": {"width": 4},
    "teacher_net": "convnet",
    "teacher_args": {"width": 4},
}
BOTH_DENSE = {"net_args": TINY_DENSE, "teacher_args": TINY_DENSE, "batch": 40}
RESIDUAL = {
    "size": 8,
    "net_args": {**TINY_DENSE, "units": 1},
    "teacher_args": TINY_DENSE,
    "batch": 40,
}
FEW_IMAGES = {"per_class": None, "data_from": "random:4"}
FEW = {**PLAIN_NETS, **FEW_IMAGES}
MINIATURES = {
    "hinton-missing-digit": PLAIN_NETS,
    "fitnets-mnist": THIN,
    "fitnets-cifar10": THIN,
    "fitnets-depth": THIN,
    "fitnets-cifar100": THIN,
    "fitnets-svhn": THIN,
    "fitnets-depth-mnist5k": {**THIN, **FEW_IMAGES},
    "fitnets-thin-mnist": THIN,
    "attention-cifar10": {
        "net_args": {"depth": 10, "widen": 1},
        "teacher_args": {"depth": 10, "widen": 1},
        "batch": 40,
    },
    "jacobian-lowdata-cifar100": {
        "net_args": {"width": 4, "norm": "none"},
        "teacher_args": {"width": 4, "norm": "none"},
    },
    "jacobian-lowdata-mnist": {**THIN, "net_args": {"width": 4, "depth": 2, "pools": 1}},
    "mnist5k-few-images": {**THIN, "net_args": {"width": 4, "depth": 2, "pools": 1}},
    "jacobian-noise": {"net_args": {"width": 4, "norm": "none"}},
    "jacobian-noise-mnist": {"net_args": {"width": 4, "norm": "none"}, "noise": (0.3,)},
    "jacobian-grid-mnist": {**PLAIN_NETS, "net_args": {"width": 8, "depth": 2}},
    "jacobian-outputs-mnist": {**PLAIN_NETS, "net_args": {"width": 8, "depth": 2}},
    "jacobian-input-noise-mnist": {**PLAIN_NETS, "net_args": {"width": 8, "depth": 2}},
    "jacobian-noise-mnist5k": {"net_args": {"width": 8, "depth": 2}},
    "jacobian-transfer": {
        "net_args": {"width": 4, "norm": "none"},
        "teacher_net": "wide-cnn",
        "teacher_args": {"width": 4, "classes": 12},
        "teacher_weights": None,
    },
    "lwf-mnist5k": {**THIN, "normalization": "auto", **FEW_IMAGES},
    "lwf-source-parts": {**THIN, "normalization": "auto", **FEW_IMAGES},
    "mutual-mnist5k": {"net": "thin-cnn", "net_args": {"width": 4, "depth": 2, "pools": 1}},
    "methods-mnist5k": FEW,
    "bridge-mnist5k": FEW,
    "bridge-mnist": FEW,
    "bridge-digits": FEW,
    "ban-cifar10": BOTH_DENSE,
    "ban-cifar100": BOTH_DENSE,
    "ban-cross-architecture": {
        "net_args": {**TINY_DENSE, "units": 1, "ratio": 0.5},
        "teacher_args": TINY_DENSE,
        "batch": 40,
    },
    "ban-mnist": BOTH_CONVNETS,
    "ban-mnist5k": BOTH_CONVNETS,
    "ban-cifar10-small": {"net_args": {"width": 4}, "teacher_args": {"width": 4}},
    "ban-cross-architecture-small": RESIDUAL,
    "ban-cross-architecture-mnist": RESIDUAL,
}


def miniature(name):
    """The recipe on 8-pixel digits with small nets; guided layers and maps as these nets have
    them."""
    config = recipe(name).with_changes(**{**SMALL, **MINIATURES[name]})
    args = dict(config.method_args)
    if "guided" in args:
        args |= {"guided": "convs.2", "hint": "convs.0", "hint_epochs": 1}
    if config.method == "lwf":
        args |= {"layers": "convs.1:convs.1"}
    return config.with_changes(method_args=args)


@pytest.fixture(scope="module")
def digits():
    return load("digits", validation=50)


def test_each_recipe_has_a_miniature():
    assert set(MINIATURES) == set(IMAGES)


@pytest.mark.parametrize("name", IMAGES)
def test_a_miniature_trains_and_is_scored(name, digits):
    config = miniature(name)
    result = train(config, data=digits)
    assert 0 <= result.scores.accuracy <= 100
    assert (result.teacher is not None) == METHODS[config.method].teacher
    assert set(result.scores.noise) == set(config.noise)
    assert set(result.scores.missing) == set(config.without)
