"""The image experiments of Furlanello et al., Born-Again neural networks, 2018,
https://arxiv.org/abs/1805.04770. Small ones like them are in born_again_small.py.

The paper's: nets by name, losses at T = 1, a student's schedule that is its teacher's, training "as
for Wide-ResNet", dropout for Wide-ResNets alone. Wide-ResNet's: SGD with learning rate 0.1,
Nesterov's momentum 0.9, weight decay 0.0005, 200 epochs of 128 images, the learning rate multiplied
by 0.2 at epochs 60, 120 and 160, crops and flips, dropout 0.3. Ours: Kaiming initialization, the
weight 1 of BAN+L's label term, and what nets/densenet.py and nets/dense_residual.py say of the
architectures. Its numbers are in born_again_tables.py.
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.born_again_tables import (
    PAPER,
    PRE_RESNET_1001,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    cells,
    chain,
    cite,
    published_chain,
)
from kd_baselines.recipes.recipe_page import HARD, Arm, Page


def nets_of(net: str, args: dict[str, Any]) -> dict[str, Any]:
    """The same net on both sides."""
    return {"net": net, "net_args": args, "teacher_net": net, "teacher_args": args}


def _dense(name: str) -> dict[str, Any]:
    """DenseNet DEPTH-GROWTH; see nets/densenet.py on who has a last 1x1 convolution."""
    depth, growth = map(int, name.split("-"))
    return {"depth": depth, "growth": growth, "last_transition": name != "112-33"}


def _wide_args(widen: int) -> dict[str, Any]:
    return {"depth": 28, "widen": widen, "dropout": 0.3}


def same_schedule(epochs: int, **schedule: Any) -> dict[str, Any]:
    """The same training on both sides."""
    both = {"epochs": epochs, **schedule}
    return {**both, **{f"teacher_{name}": value for name, value in both.items()}}


_AS_WIDE_RESNET = same_schedule(
    200,
    batch=128,
    optimizer="sgd",
    lr=0.1,
    weight_decay=5e-4,
    milestones=(60, 120, 160),
    nesterov=True,
    augment=("crop", "flip"),
    init="kaiming",
) | {"decay_factor": 0.2}


def ban_cifar10() -> KdConfig:
    """A DenseNet-90-60 is born again, on CIFAR-10: the paper's table 1, whose other seven nets are
    arms."""
    return KdConfig(
        recipe="ban-cifar10",
        dataset="cifar10",
        method="born-again",
        method_args={"label_weight": 0.0},
        **nets_of("densenet", _dense("90-60")),
        **_AS_WIDE_RESNET,
    )


def ban_cifar100() -> KdConfig:
    """A DenseNet-90-60 is born again, on CIFAR-100: the paper's tables 2 to 4, with their other
    rows as arms.

    The DenseNets with labels too (ban+l), by confidence (cwtm), and by permuted predictions (dkpp:
    redrawn each step; dkpp-fixed: one permutation an image; the paper does not tell which it is).
    `wrn-28-*` are born again as Wide-ResNets, `wrn-28-*-dense` as DenseNet-90-60. `depth-*`
    multiply the layers and divide the growth, so that the channels between blocks stay;
    `compression-*` multiply the compression, and nothing else here.
    """
    return ban_cifar10().with_changes(recipe="ban-cifar100", dataset="cifar100")


def ban_cross_architecture() -> KdConfig:
    """A DenseNet-90-60 is born again as a residual net that keeps its first and last layer, on
    CIFAR-100.

    The paper's table 5. Arms are named by kind, units a block and width; "hard" are its baselines,
    trained on labels with layers of their own.
    """
    return ban_cifar100().with_changes(
        recipe="ban-cross-architecture", shared=("conv1", "classifier"), **_residual(4, 0.5, "wide")
    )


def _residual(units: int, ratio: float, kind: str) -> dict[str, Any]:
    args = {**_dense("90-60"), "units": units, "ratio": ratio, "kind": kind}
    return {"net": "dense-residual", "net_args": args}


METHODS: dict[str, dict[str, Any]] = {
    "ban+l": {"method": "born-again", "method_args": {"label_weight": 1.0}},
    "cwtm": {"method": "cwtm", "method_args": {}},
    "dkpp": {"method": "dkpp", "method_args": {"redraw": True}},
    "dkpp-fixed": {"method": "dkpp", "method_args": {"redraw": False}},
}
_HARD = {**HARD, "shared": ()}
_TEACHER = TABLE_2["90-60"][0]  # of tables 4 and 5 too


def _cite_once(
    table: int, error: float, teacher: float, teacher_table: int | None = None
) -> dict[str, str]:
    """The cells of a chain with one generation."""
    return cells(table, {"teacher": (teacher,), "1": (error,)}, teacher_table)


def _of_table_1(name: str) -> tuple[str, dict[str, str]]:
    teacher, ban = TABLE_1[name]
    return cite(1, ban, teacher), _cite_once(1, ban, teacher)


def _arms_of_table_1() -> dict[str, Arm]:
    found = {}
    for name in TABLE_1:
        kind, _, size = name.partition("-")
        nets = (
            nets_of("wrn", _wide_args(int(size[3:])))
            if kind == "wrn"
            else nets_of("densenet", _dense(size))
        )
        found[name] = Arm(nets, *_of_table_1(name))
    del found["dense-90-60"]  # the recipe itself
    return found


def _arms_of_cifar100() -> dict[str, Arm]:
    found: dict[str, Arm] = {}
    for size, row in TABLE_2.items():
        own = "" if size == "90-60" else f"dense-{size}"
        nets = nets_of("densenet", _dense(size)) if own else {}
        if own:
            found[own] = Arm(nets, published_chain(size), cells(2, chain(size)))
        for method, error in zip(("ban+l", "cwtm", "dkpp"), row[2:5], strict=True):
            told = cite(2, error), _cite_once(2, error, row[0])
            found[f"{own}-{method}".lstrip("-")] = Arm({**nets, **METHODS[method]}, *told)
        if not own:
            found["dkpp-fixed"] = Arm(METHODS["dkpp-fixed"], *told)  # one row of the table is both
    for widen, (teacher, ban, dense) in TABLE_3.items():
        nets = nets_of("wrn", _wide_args(widen))
        found[f"wrn-28-{widen}"] = Arm(nets, cite(3, ban, teacher), _cite_once(3, ban, teacher))
        student = {**nets, "net": "densenet", "net_args": _dense("90-60")}
        found[f"wrn-28-{widen}-dense"] = Arm(
            student, cite(3, dense, teacher), _cite_once(3, dense, teacher)
        )
    for name, (differs, error) in TABLE_4.items():
        net = {"net_args": {**_dense("90-60"), **differs}}
        found[name] = Arm(net, cite(4, error), _cite_once(4, error, _TEACHER, 2))
    return found


def _arms_of_table_5() -> dict[str, Arm]:
    found: dict[str, Arm] = {}
    for name, (units, ratio, kind, baseline, ban) in TABLE_5.items():
        net = _residual(units, ratio, kind)
        found[name] = Arm(net, cite(5, ban), _cite_once(5, ban, _TEACHER, 2))
        found[f"{name}-hard"] = Arm({**net, **_HARD}, cite(5, baseline))
    del found["wrn-4-0.5"]  # the recipe itself
    deep = {"net": "preresnet", "net_args": {"depth": 1001}}
    return {**found, "pre-resnet-1001-hard": Arm({**deep, **_HARD}, cite(5, PRE_RESNET_1001))}


def _page_of_table_5() -> Page:
    """Table 5 prints no teacher; it is the DenseNet-90-60 of table 2."""
    *_, ban = TABLE_5["wrn-4-0.5"]
    told = f"{100 - ban:.2f}, teacher of table 2 {100 - _TEACHER:.2f} "
    told += f"(errors {ban:g}, {_TEACHER:g}; {PAPER}, tables 5 and 2)"
    return Page(ban_cross_architecture, told, _arms_of_table_5(), _cite_once(5, ban, _TEACHER, 2))


def _page_of_table_1() -> Page:
    told, rows = _of_table_1("dense-90-60")
    return Page(ban_cifar10, told, _arms_of_table_1(), rows)


PAGES = {
    "ban-cifar10": _page_of_table_1(),
    "ban-cifar100": Page(
        ban_cifar100, published_chain("90-60"), _arms_of_cifar100(), cells(2, chain("90-60"))
    ),
    "ban-cross-architecture": _page_of_table_5(),
}
