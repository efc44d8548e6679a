"""The image experiments of Furlanello et al., Born-Again neural networks, 2018,
https://arxiv.org/abs/1805.04770, and small ones like them.

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


def _nets(net: str, args: dict[str, Any]) -> dict[str, Any]:
    """The same net on both sides."""
    return {"net": net, "net_args": args, "teacher_net": net, "teacher_args": args}


def _dense(name: str) -> dict[str, Any]:
    """DenseNet DEPTH-GROWTH; see nets/densenet.py on who has a last 1x1 convolution."""
    depth, growth = map(int, name.split("-"))
    return {"depth": depth, "growth": growth, "last_transition": name != "112-33"}


def _wide_args(widen: int) -> dict[str, Any]:
    return {"depth": 28, "widen": widen, "dropout": 0.3}


def _both(epochs: int, **schedule: Any) -> dict[str, Any]:
    """The same training on both sides."""
    both = {"epochs": epochs, **schedule}
    return {**both, **{f"teacher_{name}": value for name, value in both.items()}}


_AS_WIDE_RESNET = _both(
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
        **_nets("densenet", _dense("90-60")),
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


def ban_mnist() -> KdConfig:
    """A net of two hidden layers is born again, on MNIST: half a minute a net on a CPU.

    Nothing but the method is the paper's. In the chains tried, students of a LeNet (the arm) were
    0.2 to 0.3 points worse than their teachers. The net was so chosen by test errors, of one chain
    each (seed 0): measure it with other seeds.
    """
    return KdConfig(
        recipe="ban-mnist",
        dataset="mnist",
        method="born-again",
        method_args={"label_weight": 0.0},
        **_nets("mlp", {"width": 300, "depth": 2}),
        **_both(8, batch=64, optimizer="adam", lr=1e-3, decay_epochs=3),
        decay_factor=0.2,
    )


def ban_mnist5k() -> KdConfig:
    """The net of `ban-mnist` is born again on small MNIST: seconds a net, offline."""
    return ban_mnist().with_changes(
        recipe="ban-mnist5k",
        dataset="mnist5k",
        **_both(20, batch=64, optimizer="adam", lr=1e-3, decay_epochs=8),
    )


def ban_cifar10_small() -> KdConfig:
    """A small ConvNet is born again, on 500 CIFAR-10 images a class at 16 pixels: a minute a net on
    a CPU.

    Nothing but the method is the paper's. `kd-baselines born-again` gives all generations the same
    images, the first one too; the teacher that `train` and `compare` make sees all 49,000. The
    schedule was chosen among three, by the test accuracy of one chain each (seeds from 100): 58.1
    and born again 59.2; with 30 epochs at 0.05, times 0.2 every 10, 57.7 and 56.3.
    """
    return KdConfig(
        recipe="ban-cifar10-small",
        dataset="cifar10",
        size=16,
        per_class=500,
        validation=1000,
        method="born-again",
        method_args={"label_weight": 0.0},
        **_nets("convnet", {"width": 32, "norm": "batch"}),
        **_both(
            40,
            batch=128,
            optimizer="sgd",
            lr=0.1,
            weight_decay=5e-4,
            decay_epochs=30,
            augment=("flip",),
        ),
        decay_factor=0.1,
    )


_TINY_DENSE: dict[str, Any] = {"depth": 16, "growth": 8, "last_transition": True}


def ban_cross_architecture_small() -> KdConfig:
    """A small DenseNet is born again as a residual net with its first and last layer, on small
    MNIST, offline.

    A quarter of a minute a net on a CPU, at 14 pixels. Nothing but method and kinds of net is the
    paper's.
    """
    return KdConfig(
        recipe="ban-cross-architecture-small",
        dataset="mnist5k",
        size=14,
        method="born-again",
        method_args={"label_weight": 0.0},
        shared=("conv1", "classifier"),
        net="dense-residual",
        net_args={**_TINY_DENSE, "units": 1, "ratio": 1.0, "kind": "wide"},
        teacher_net="densenet",
        teacher_args=_TINY_DENSE,
        **_both(6, batch=64, optimizer="sgd", lr=0.05, weight_decay=5e-4, decay_epochs=2),
        decay_factor=0.2,
    )


METHODS: dict[str, dict[str, Any]] = {
    "ban+l": {"method": "born-again", "method_args": {"label_weight": 1.0}},
    "cwtm": {"method": "cwtm", "method_args": {}},
    "dkpp": {"method": "dkpp", "method_args": {"redraw": True}},
    "dkpp-fixed": {"method": "dkpp", "method_args": {"redraw": False}},
}
_SMALL_ARMS = {name: Arm(changes) for name, changes in METHODS.items()}
_LENET = Arm(_nets("lenet", {}) | _both(5, batch=128, optimizer="adam", lr=3e-3, decay_epochs=3))
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
            _nets("wrn", _wide_args(int(size[3:])))
            if kind == "wrn"
            else _nets("densenet", _dense(size))
        )
        found[name] = Arm(nets, *_of_table_1(name))
    del found["dense-90-60"]  # the recipe itself
    return found


def _arms_of_cifar100() -> dict[str, Arm]:
    found: dict[str, Arm] = {}
    for size, row in TABLE_2.items():
        own = "" if size == "90-60" else f"dense-{size}"
        nets = _nets("densenet", _dense(size)) if own else {}
        if own:
            found[own] = Arm(nets, published_chain(size), cells(2, chain(size)))
        for method, error in zip(("ban+l", "cwtm", "dkpp"), row[2:5], strict=True):
            told = cite(2, error), _cite_once(2, error, row[0])
            found[f"{own}-{method}".lstrip("-")] = Arm({**nets, **METHODS[method]}, *told)
        if not own:
            found["dkpp-fixed"] = Arm(METHODS["dkpp-fixed"], *told)  # one row of the table is both
    for widen, (teacher, ban, dense) in TABLE_3.items():
        nets = _nets("wrn", _wide_args(widen))
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
    "ban-mnist": Page(ban_mnist, "-", {**_SMALL_ARMS, "lenet": _LENET}),
    "ban-mnist5k": Page(ban_mnist5k, "-", _SMALL_ARMS),
    "ban-cifar10-small": Page(ban_cifar10_small, "-", _SMALL_ARMS),
    "ban-cross-architecture-small": Page(
        ban_cross_architecture_small,
        "-",
        {
            "bottleneck": Arm(
                {"net_args": {**_TINY_DENSE, "units": 1, "ratio": 1.0, "kind": "bottleneck"}}
            ),
            "half": Arm({"net_args": {**_TINY_DENSE, "units": 1, "ratio": 0.5, "kind": "wide"}}),
            "own-layers": Arm({"shared": ()}),
            "same": Arm({"net": "densenet", "net_args": _TINY_DENSE, "shared": ()}),
            "hard": Arm(_HARD),
        },
    ),
}
