"""Distilled sets and metrics made by hand: random images, nothing learned."""

import torch

from datadistill.data import Normalization
from datadistill.data.reference import DataReference
from datadistill.distilled import DistilledDataset
from datadistill.innerloop import sgd
from datadistill.nets.spec import NetSpec

ORIGIN = {
    "recipe": "mnist5k-fixed",
    "seed": 0,
    "dataset": "mnist5k",
    "iterations": 2000,
    "description": "mnist5k: 4,000 of the 5,000 MNIST images; not the MNIST test set",
}


def distilled_set(
    *,
    classes=4,
    ipc=1,
    steps=1,
    epochs=1,
    channels=1,
    size=8,
    soft=None,
    tensors=None,
    fixed=False,
    names=None,
    origin=ORIGIN,
    accuracies=None,
):
    """Classes run fastest over the images; `soft`: (N, K) probabilities; `tensors`: P of (T, P)
    step sizes."""
    g = torch.Generator().manual_seed(0)
    n, T = classes * ipc, steps * epochs
    net = NetSpec("mlp", {"channels": channels, "size": size, "classes": classes})
    theta_0 = {k: p.detach() for k, p in net.build().named_parameters()} if fixed else None
    shape = (T, tensors) if tensors else (T,)
    return DistilledDataset(
        torch.randn(n, channels, size, size, generator=g),
        torch.arange(n) % classes if soft is None else soft,
        torch.rand(shape, generator=g) * 0.1 + 0.001,
        list(torch.arange(n).split(n // steps)) * epochs,
        classes=names or [f"class {c}" for c in range(classes)],
        normalization=Normalization(
            (0.5,) * channels, (0.5,) * channels, size=size, channels=channels
        ),
        net=net,
        update=sgd(),
        theta_0=theta_0,
        data=DataReference(origin.get("dataset")),
        origin=origin,
        accuracies=accuracies,
        tensors=[f"tensor{p}" for p in range(tensors)] if tensors else None,
    )


def metrics(count=4, T=3):
    """Records as an outer loop writes them; the second has no loss."""
    return [
        {
            "iteration": 100 * (i + 1),
            "loss": None if i == 1 else 2.0 / (i + 1),
            "accuracy": 60.0 + 5 * i,
            "accuracy_std": 2.0,
            "gradient_norm": 1.0 / (i + 1),
            "skipped": 0,
            "step_sizes": [0.02 * (t + 1) * (i + 1) for t in range(T)],
        }
        for i in range(count)
    ]


def texts(figure):
    """Everything written in a figure: headings, titles, names, labels."""
    import matplotlib.text

    found = figure.findobj(matplotlib.text.Text)
    return [text.get_text() for text in found if text.get_text() and text.get_visible()]
