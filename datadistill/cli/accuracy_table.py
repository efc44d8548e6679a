"""An evaluation on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datadistill.cli.printing import Output, percent, shape_of, size_of
from datadistill.distilled import DistilledDataset
from datadistill.recipes import RECIPES

if TYPE_CHECKING:
    from datadistill.evaluation.cross_architecture import CrossRow


def accuracy_table(output: Output, found: dict[str, Any], d: DistilledDataset) -> None:
    """Accuracy before and after, the plain loop, the published number; the set's size; what it was
    tested on. `found` has the keys of `Evaluation`."""
    from datadistill.evaluation.tested_nets import net_arguments

    own = found["protocol"] == "own"
    same_net = found["net"] == d.net.name and found["net_args"] == net_arguments(d, None)
    steps = f"its {d.schedule.steps} steps" if d.schedule.steps > 1 else "its one step"
    if own and d.theta_0 is not None and same_net:
        kinds = {"weights": "net with given weights", "given": "given net"}
        kind = kinds.get(d.start.kind, "fixed initialization")
        kind = f"net trained on {found['source']}" if found.get("source") else kind
        nets = f"the one {kind} that it was learned for"
    else:
        kind = (
            f"nets of the pool ({found['net']} trained on {found['source']})"
            if found.get("source")
            else ""
        )
        kind = kind or f"initializations of {describe_net(found)}"
        nets = f"{found['nets']} held-out {kind}" if found["nets"] > 1 else "one net"
        if not own and found["init"]:
            nets += f", drawn by the scheme {found['init']}"
    after = percent(found["accuracy_mean"], found["accuracy_std"], found["nets"])
    rows = []
    if own:
        before = percent(found["accuracy_before_mean"], found["accuracy_before_std"], found["nets"])
        rows = [
            ("before training", before, nets),
            (f"after {steps}", after, "its order and step sizes"),
        ]
    else:
        rows = [(f"protocol {found['protocol']}", after, found["training"]), ("", "", nets)]
    if found["accuracy_plain"] is not None:
        about = "the protocol plain, from the same start"
        rows.append(("plain loop", percent(found["accuracy_plain"]), about))
    page = RECIPES.get(d.origin.get("recipe", ""))
    if own and page is not None and page.published != "-":
        number, _, source = page.published.partition("(")
        where = f"({source}" if source else ""
        rows.append(("published", number.strip(), f"{where} with the recipe as it is".strip()))
    if found.get("attack"):
        _attack_table(output, found["attack"], d, found["nets"])
    output.table(("", "accuracy (%)", ""), rows, right=(1,))
    output.say(*_describe(found, d))


def cross_table(output: Output, rows: Sequence[CrossRow], d: DistilledDataset) -> None:
    """The accuracies of a set and of coresets on several architectures."""
    columns = ("net", "trained on", "accuracy (%)", "distilled - this", "images", "nets", "sets")
    lines = []
    for row in rows:
        found = row.as_dict()
        over = found["nets"] * found["sets"]
        lines.append(
            (
                describe_net(found),
                row.name,
                percent(found["accuracy_mean"], found["accuracy_std"], over),
                "" if row.difference is None else str(row.difference),
                *(str(found[key]) for key in ("images", "nets", "sets")),
            )
        )
    output.table(columns, lines, right=range(2, len(columns)))
    first = rows[0].evaluations[0].as_dict()
    drawn = f", initializations {first['init']}" if first["init"] else ""
    output.say(
        f"protocol {first['protocol']}: {first['training']}{drawn}; deviations over nets and sets, "
        "differences over nets",
        *_describe(first, d),
    )


def describe_net(found: Mapping[str, Any]) -> str:
    """An architecture and those of its arguments that are not the defaults.

    >>> describe_net({"net": "mlp", "net_args": {"width": 20, "depth": 2}})
    'mlp (width 20)'
    """
    from datadistill.nets import arguments

    known = arguments(found["net"]) if found["net"] != "custom" else {}
    other = [f"{k} {v}" for k, v in found["net_args"].items() if v != known.get(k)]
    return f"{found['net']} ({', '.join(other)})" if other else str(found["net"])


def _describe(found: Mapping[str, Any], d: DistilledDataset) -> tuple[str, str]:
    """The size of the set, and what it was tested on."""
    theta_0 = found["bytes_theta_0"]
    carried = f", and {size_of(theta_0)} of initialization" if theta_0 else ""
    shape = shape_of(d.images.shape[1:])
    return (
        f"{len(d.images)} images {shape}, {size_of(found['bytes'])} with labels and step sizes"
        f"{carried}",
        f"tested on the {found['split']} split; {found['description']}",
    )


def _attack_table(output: Output, found: dict[str, Any], d: DistilledDataset, nets: int) -> None:
    """The scores of an attack before and after, and what it is for."""
    attacked, target = (d.classes[found[k]] for k in ("attack_class", "target_class"))
    about = {
        "attacked_accuracy": f"class {attacked} classified right",
        "attacked_to_target": f"class {attacked} taken for {target}",
        "others_accuracy": "the other classes classified right",
        "modified_accuracy": f"with {attacked} relabelled {target}",
    }
    rows = [
        (
            text,
            *(
                percent(found[when][f"{k}_mean"], found[when][f"{k}_std"], nets)
                for when in ("before", "after")
            ),
        )
        for k, text in about.items()
    ]
    output.table(("attack", "before (%)", "after (%)"), rows, right=(1, 2))
