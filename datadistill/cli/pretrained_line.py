"""What a set was learned from a pretrained net with, in one line."""

from __future__ import annotations

from datadistill.distilled import DistilledDataset
from datadistill.nets import has_batchnorm
from datadistill.nets.spec import CUSTOM
from datadistill.nets.trained_parameters import EVERY


def pretrained_line(d: DistilledDataset) -> str | None:
    """The weights, the last layer, the parameters that were trained, and BatchNorm's statistics;
    None for a set that starts from no pretrained values."""
    if d.start.kind not in ("weights", "given") or d.net.name == CUSTOM:
        return None
    net = d.net.shapes()
    parts = [
        f"started from {d.start.weights or 'given values'}",
        f"last layer {'drawn afresh' if d.start.kind == 'weights' else 'kept'}",
    ]
    every, trained = len(list(net.parameters())), len(d.tensors or ())
    if d.trained == EVERY:
        parts.append("all parameters trained")
    else:
        parts.append(f"{' '.join(d.trained)} trained ({trained} of {every} tensors)")
    if has_batchnorm(net):
        reestimated = "re-estimated on the real images"
        own = reestimated if d.has_reestimated_statistics else "the net's own, frozen"
        parts.append(f"BatchNorm's statistics {own if d.norm == 'frozen' else 'of each batch'}")
    return "; ".join(parts)
