"""An evaluation on a terminal."""

from __future__ import annotations

from typing import Any

from datadistill.cli.printing import Output, percent, shape_of, size_of
from datadistill.distilled import DistilledDataset
from datadistill.recipes import RECIPES


def accuracy_table(output: Output, found: dict[str, Any], d: DistilledDataset) -> None:
    """Accuracy before and after, the plain loop, the published number; the set's size; what it was
    tested on. `found` has the keys of `Evaluation`."""
    own = found["protocol"] == "own"
    steps = f"its {d.schedule.steps} steps" if d.schedule.steps > 1 else "its one step"
    if own and d.theta_0 is not None and found["net"] == d.net.name:
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
        kind = kind or f"initializations of {found['net']}"
        nets = f"{found['nets']} held-out {kind}" if found["nets"] > 1 else "one net"
    rows = [
        (
            "before training",
            percent(found["accuracy_before_mean"], found["accuracy_before_std"], found["nets"]),
            nets,
        ),
        (
            f"after {steps}" if own else f"protocol {found['protocol']}",
            percent(found["accuracy_mean"], found["accuracy_std"], found["nets"]),
            "its order and step sizes" if own else found["training"],
        ),
    ]
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
    carried = f", and {size_of(d.bytes_theta_0)} of initialization" if d.bytes_theta_0 else ""
    shape = shape_of(d.images.shape[1:])
    output.say(
        f"{len(d.images)} images {shape}, {size_of(d.bytes)} with labels and step sizes{carried}",
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
