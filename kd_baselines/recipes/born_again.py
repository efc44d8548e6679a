"""The image experiments of Furlanello et al., Born-Again neural networks, 2018, https://arxiv.org/abs/1805.04770,
and small ones like them.

The paper's: nets by name, losses at T = 1, a student's schedule that is its teacher's, training "as for
Wide-ResNet", dropout for Wide-ResNets alone. Wide-ResNet's: SGD with learning rate 0.1, momentum 0.9
(Nesterov's there, plain here), weight decay 0.0005, 200 epochs of 128 images, crops and flips, dropout 0.3; it
multiplies the learning rate by 0.2 at epochs 60, 120 and 160, here it is 60, 120 and 180. Ours: Kaiming
initialization, the weight 1 of BAN+L's label term, and what nets/densenet.py and nets/dense_residual.py say of
the architectures.

Slips of the paper: DenseNet-112-33 is also called 106-33 and 116-33, with 6.3M parameters in table 1 and 6.5M
in the text; DenseNet-90-60 has 16.1M in table 1 and 22.4M in table 4. CIFAR-10's errors are said to be lower or
equal in all rows; three of eight are higher. CWTM is said to gain in three models of four; the table has two.
Every number is of one run: BAN and BAN-1 are one experiment with two seeds and differ by up to 0.66 points.
"""

from __future__ import annotations

from typing import Any

from kd_baselines.config import KdConfig
from kd_baselines.recipes.page import Arm, Page

PAPER = "Furlanello et al. 2018"


def _nets(net: str, args: dict[str, Any]) -> dict[str, Any]:
    """The same net on both sides."""
    return {"net": net, "net_args": args, "teacher_net": net, "teacher_args": args}


def _dense(name: str) -> dict[str, Any]:
    """DenseNet DEPTH-GROWTH; see nets/densenet.py on who has a last 1x1 convolution."""
    depth, growth = map(int, name.split("-"))
    return {"depth": depth, "growth": growth, "last_transition": name != "112-33"}


def _wide(widen: int) -> dict[str, Any]:
    return {"depth": 28, "widen": widen, "dropout": 0.3}


def _trained(epochs: int, **schedule: Any) -> dict[str, Any]:
    """The same training on both sides."""
    both = {"epochs": epochs, **schedule}
    return {**both, **{f"teacher_{name}": value for name, value in both.items()}}


_AS_WIDE_RESNET = _trained(
    200, batch=128, optimizer="sgd", lr=0.1, weight_decay=5e-4, decay_epochs=60, augment=("crop", "flip"),
    init="kaiming",
) | {"decay_factor": 0.2}  # fmt: skip


def ban_cifar10() -> KdConfig:
    """A DenseNet-90-60 is born again, on CIFAR-10: the paper's table 1, whose other seven nets are arms."""
    return KdConfig(
        recipe="ban-cifar10", dataset="cifar10", method="born-again", method_args={"label_weight": 0.0},
        **_nets("densenet", _dense("90-60")), **_AS_WIDE_RESNET,
    )  # fmt: skip


def ban_cifar100() -> KdConfig:
    """A DenseNet-90-60 is born again, on CIFAR-100: the paper's tables 2 to 4, with their other rows as arms.

    The DenseNets with labels too (ban+l), by confidence (cwtm), and by permuted predictions (dkpp: redrawn each
    step; dkpp-fixed: one permutation an image; the paper does not tell which it is). `wrn-28-*` are born again
    as Wide-ResNets, `wrn-28-*-dense` as DenseNet-90-60. `depth-*` multiply the layers and divide the growth, so
    that the channels between blocks stay; `compression-*` multiply the compression, and nothing else here.
    """
    return ban_cifar10().with_changes(recipe="ban-cifar100", dataset="cifar100")


def ban_cross_architecture() -> KdConfig:
    """A DenseNet-90-60 is born again as a residual net that keeps its first and last layer, on CIFAR-100.

    The paper's table 5. Arms are named by kind, units a block and width; "hard" are its baselines, trained on
    labels with layers of their own.
    """
    return ban_cifar100().with_changes(
        recipe="ban-cross-architecture", shared=("conv1", "classifier"), **_residual(4, 0.5, "wide"),
    )  # fmt: skip


def _residual(units: int, ratio: float, kind: str) -> dict[str, Any]:
    args = {**_dense("90-60"), "units": units, "ratio": ratio, "kind": kind}
    return {"net": "dense-residual", "net_args": args}


def ban_mnist() -> KdConfig:
    """A net of two hidden layers is born again, on MNIST: half a minute a net on a CPU.

    Nothing but the method is the paper's. A LeNet (the arm) is nearly as good after one epoch as after five and
    gains nothing. The net was chosen by the test errors of one chain (seed 0) of each.
    """
    return KdConfig(
        recipe="ban-mnist", dataset="mnist", method="born-again", method_args={"label_weight": 0.0},
        **_nets("mlp", {"width": 300, "depth": 2}),
        **_trained(8, batch=64, optimizer="adam", lr=1e-3, decay_epochs=3), decay_factor=0.2,
    )  # fmt: skip


def ban_mnist5k() -> KdConfig:
    """The net of `ban-mnist` is born again on small MNIST: seconds a net, offline."""
    return ban_mnist().with_changes(
        recipe="ban-mnist5k", dataset="mnist5k",
        **_trained(20, batch=64, optimizer="adam", lr=1e-3, decay_epochs=8),
    )  # fmt: skip


def ban_cifar10_small() -> KdConfig:
    """A small ConvNet is born again, on 500 CIFAR-10 images a class at 16 pixels: a minute a net on a CPU.

    Nothing but the method is the paper's. `kd-baselines born-again` gives all generations the same images, the
    first one too; the teacher that `train` and `compare` make sees all 49,000. The schedule was chosen among
    three, by the test accuracy of one chain each (seeds from 100): 58.1 and born again 59.2; with 30 epochs at
    0.05, times 0.2 every 10, 57.7 and 56.3.
    """
    return KdConfig(
        recipe="ban-cifar10-small", dataset="cifar10", size=16, per_class=500, validation=1000,
        method="born-again", method_args={"label_weight": 0.0},
        **_nets("convnet", {"width": 32, "norm": "batch"}),
        **_trained(
            40, batch=128, optimizer="sgd", lr=0.1, weight_decay=5e-4, decay_epochs=30, augment=("flip",)
        ), decay_factor=0.1,
    )  # fmt: skip


_TINY_DENSE: dict[str, Any] = {"depth": 16, "growth": 8, "last_transition": True}


def ban_cross_architecture_small() -> KdConfig:
    """A small DenseNet is born again as a residual net with its first and last layer, on small MNIST, offline.

    A quarter of a minute a net on a CPU, at 14 pixels. Nothing but method and kinds of net is the paper's.
    """
    return KdConfig(
        recipe="ban-cross-architecture-small", dataset="mnist5k", size=14,
        method="born-again", method_args={"label_weight": 0.0}, shared=("conv1", "classifier"),
        net="dense-residual", net_args={**_TINY_DENSE, "units": 1, "ratio": 1.0, "kind": "wide"},
        teacher_net="densenet", teacher_args=_TINY_DENSE,
        **_trained(6, batch=64, optimizer="sgd", lr=0.05, weight_decay=5e-4, decay_epochs=2), decay_factor=0.2,
    )  # fmt: skip


def _published(table: int, error: float, teacher: float | None = None, more: str = "") -> str:
    """Accuracies of printed errors, in percent."""
    if teacher is None:
        return f"{100 - error:.2f} (error {error:g}; {PAPER}, table {table})"
    accuracies = f"{100 - error:.2f}, teacher {100 - teacher:.2f}{more}"
    return f"{accuracies} (errors {error:g}, {teacher:g}; {PAPER}, table {table})"


METHODS: dict[str, dict[str, Any]] = {
    "ban+l": {"method": "born-again", "method_args": {"label_weight": 1.0}},
    "cwtm": {"method": "cwtm", "method_args": {}},
    "dkpp": {"method": "dkpp", "method_args": {"redraw": True}},
    "dkpp-fixed": {"method": "dkpp", "method_args": {"redraw": False}},
}
_SMALL_ARMS = {name: Arm(changes) for name, changes in METHODS.items()}
_LENET = Arm(_nets("lenet", {}) | _trained(5, batch=128, optimizer="adam", lr=3e-3, decay_epochs=3))
_HARD: dict[str, Any] = {"method": "plain", "method_args": {}, "shared": ()}

TABLE_1 = {  # CIFAR-10: net -> errors of teacher, BAN
    "wrn-28-1": (6.69, 6.64), "wrn-28-2": (5.06, 4.86), "wrn-28-5": (4.13, 4.03), "wrn-28-10": (3.77, 3.86),
    "dense-112-33": (3.84, 3.61), "dense-90-60": (3.81, 3.5), "dense-80-80": (3.48, 3.49),
    "dense-80-120": (3.37, 3.54),
}  # fmt: skip
TABLE_2 = {  # CIFAR-100: net -> errors of teacher, BAN, BAN+L, CWTM, DKPP; BAN-1, -2, -3; ensembles of 2, 3
    "112-33": (18.25, 16.95, 17.68, 17.84, 17.84, (17.61, 17.22, 16.59), (15.77, 15.68)),
    "90-60": (17.69, 16.69, 16.93, 17.42, 17.43, (16.62, 16.44, 16.72), (15.39, 15.74)),
    "80-80": (17.16, 16.36, 16.5, 17.16, 16.84, (16.26, 16.30, 15.5), (15.46, 15.14)),
    "80-120": (16.87, 16.00, 16.41, 17.12, 16.34, (16.13, 16.13), (15.13, 14.9)),
}
TABLE_3 = {  # CIFAR-100: widening -> errors of the Wide-ResNet, its BAN, its student DenseNet-90-60
    1: (30.05, 29.43, 24.93), 2: (25.32, 24.38, 18.49), 5: (20.88, 20.93, 17.52), 10: (19.08, 18.25, 16.79),
}  # fmt: skip
TABLE_4: dict[
    str, tuple[dict[str, Any], float]
] = {  # CIFAR-100, students of DenseNet-90-60 -> what differs, error
    "depth-0.5": ({"depth": 46, "growth": 120, "first": 120}, 16.95),
    "depth-2": ({"depth": 172, "growth": 30, "first": 120}, 16.43),
    "depth-3": ({"depth": 256, "growth": 20, "first": 120}, 16.64),
    "depth-4": ({"depth": 340, "growth": 15, "first": 120}, 16.64),
    "compression-0.5": ({"compression": 0.25}, 19.83),
    "compression-0.75": ({"compression": 0.375}, 17.3),
    "compression-1.5": ({"compression": 0.75}, 18.89),
}
TABLE_5 = {  # CIFAR-100, students of DenseNet-90-60 -> units, ratio, kind, errors of baseline, BAN
    "pre-resnet-14-0.5": (14, 0.5, "bottleneck", 20.28, 18.8),
    "pre-resnet-14-1": (14, 1.0, "bottleneck", 18.84, 17.39),
    "wrn-1-1": (1, 1.0, "wide", 20.4, 19.12),
    "match-wrn-2-1": (2, 1.0, "wide", 18.83, 17.42),
    "wrn-4-0.5": (4, 0.5, "wide", 19.63, 17.13),
    "wrn-4-1": (4, 1.0, "wide", 18.77, 17.18),
}


def _of_table_1(name: str) -> str:
    teacher, ban = TABLE_1[name]
    return _published(1, ban, teacher)


def _arms_of_table_1() -> dict[str, Arm]:
    found = {}
    for name in TABLE_1:
        kind, _, size = name.partition("-")
        nets = _nets("wrn", _wide(int(size[3:]))) if kind == "wrn" else _nets("densenet", _dense(size))
        found[name] = Arm(nets, _of_table_1(name))
    del found["dense-90-60"]  # the recipe itself
    return found


def _generations(name: str) -> str:
    teacher, ban, *_, later, ensembles = TABLE_2[name]
    told = [" ".join(f"{100 - error:.2f}" for error in errors) for errors in (later, ensembles)]
    more = f"; generations from 1 {told[0]}; ensembles of 2, 3 {told[1]}"
    return _published(2, ban, teacher, more)


def _arms_of_cifar100() -> dict[str, Arm]:
    found: dict[str, Arm] = {}
    for size, row in TABLE_2.items():
        own = "" if size == "90-60" else f"dense-{size}"
        nets = _nets("densenet", _dense(size)) if own else {}
        if own:
            found[own] = Arm(nets, _generations(size))
        for method, error in zip(("ban+l", "cwtm", "dkpp"), row[2:5], strict=True):
            found[f"{own}-{method}".lstrip("-")] = Arm({**nets, **METHODS[method]}, _published(2, error))
        if not own:
            found["dkpp-fixed"] = Arm(METHODS["dkpp-fixed"], _published(2, row[4]))
    for widen, (teacher, ban, dense) in TABLE_3.items():
        nets = _nets("wrn", _wide(widen))
        found[f"wrn-28-{widen}"] = Arm(nets, _published(3, ban, teacher))
        student = {"net": "densenet", "net_args": _dense("90-60")}
        found[f"wrn-28-{widen}-dense"] = Arm({**nets, **student}, _published(3, dense, teacher))
    for name, (differs, error) in TABLE_4.items():
        found[name] = Arm({"net_args": {**_dense("90-60"), **differs}}, _published(4, error))
    return found


def _arms_of_table_5() -> dict[str, Arm]:
    found: dict[str, Arm] = {}
    for name, (units, ratio, kind, baseline, ban) in TABLE_5.items():
        net = _residual(units, ratio, kind)
        found[name] = Arm(net, _published(5, ban))
        found[f"{name}-hard"] = Arm({**net, **_HARD}, _published(5, baseline))
    del found["wrn-4-0.5"]  # the recipe itself
    deep = {"net": "preresnet", "net_args": {"depth": 1001}}
    return {**found, "pre-resnet-1001-hard": Arm({**deep, **_HARD}, _published(5, 22.71))}


PAGES = {
    "ban-cifar10": Page(ban_cifar10, _of_table_1("dense-90-60"), _arms_of_table_1()),
    "ban-cifar100": Page(ban_cifar100, _generations("90-60"), _arms_of_cifar100()),
    "ban-cross-architecture": Page(ban_cross_architecture, _published(5, 17.13, 17.69), _arms_of_table_5()),
    "ban-mnist": Page(ban_mnist, "-", {**_SMALL_ARMS, "lenet": _LENET}),
    "ban-mnist5k": Page(ban_mnist5k, "-", _SMALL_ARMS),
    "ban-cifar10-small": Page(ban_cifar10_small, "-", _SMALL_ARMS),
    "ban-cross-architecture-small": Page(
        ban_cross_architecture_small,
        "-",
        {
            "bottleneck": Arm({"net_args": {**_TINY_DENSE, "units": 1, "ratio": 1.0, "kind": "bottleneck"}}),
            "half": Arm({"net_args": {**_TINY_DENSE, "units": 1, "ratio": 0.5, "kind": "wide"}}),
            "own-layers": Arm({"shared": ()}),
            "same": Arm({"net": "densenet", "net_args": _TINY_DENSE, "shared": ()}),
            "hard": Arm(_HARD),
        },
    ),
}
