"""What an evaluation looks like on a terminal."""

from __future__ import annotations

from typing import Any

from datadistill.cli.printing import Output, percent, shape_of, size_of
from datadistill.distilled import DistilledDataset
from datadistill.recipes import RECIPES


def accuracy_table(output: Output, found: dict[str, Any], d: DistilledDataset) -> None:
    """Accuracy before and after, the plain loop, the published number; the set's size; what it was tested on.

    Args:
        output: where to.
        found: the keys of `Evaluation`.
        d: the set.
    """
    from datadistill.evaluation.accuracy import PLAIN_EPOCHS

    steps = f"its {len(d.order)} steps" if len(d.order) > 1 else "its one step"
    if d.theta_0 is not None and found["net"] == d.net.name:
        nets = "the one fixed initialization that it was learned for"
    else:
        nets = f"{found['nets']} held-out initializations of {found['net']}" if found["nets"] > 1 else "one net"
    rows = [
        ("before training", percent(found["accuracy_before_mean"], found["accuracy_before_std"]), nets),
        (f"after {steps}", percent(found["accuracy_mean"], found["accuracy_std"]), "its order and step sizes"),
        ("plain loop", percent(found["accuracy_plain"]), f"ordinary SGD on the images, {PLAIN_EPOCHS} epochs"),
    ]
    page = RECIPES.get(d.origin.get("recipe", ""))
    if page is not None and page.published != "-":
        number, _, source = page.published.partition("(")
        where = f"({source}" if source else ""
        rows.append(("published", number.strip(), f"{where} with the recipe as it is".strip()))
    output.table(("", "accuracy (%)", ""), rows, right=(1,))
    carried = f", and {size_of(d.bytes_theta_0)} of initialization" if d.bytes_theta_0 else ""
    shape = shape_of(d.images.shape[1:])
    output.say(
        f"{len(d.images)} images {shape}, {size_of(d.bytes)} with labels and step sizes{carried}",
        f"tested on the {found['split']} split; {found['description']}",
    )
