"""Which parameters of a net are trained: all, those of the last layer, those of the norm layers, or
some by name.

A set for the head or for the norm layers of a pretrained net has small gradients and short steps;
the rest of the net keeps its values.

References: Kumar et al., Fine-tuning can distort pretrained features, 2022,
https://arxiv.org/abs/2202.10054 (head); Frankle et al., Training BatchNorm and only BatchNorm,
2021, https://arxiv.org/abs/2003.00152 (norm)
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from datadistill.errors import UsageError, suggest
from datadistill.nets.initialization import NORM_LAYERS
from datadistill.nets.module_paths import parameters_by_path
from datadistill.nets.weights import last_layer

ALL, HEAD, NORM = "all", "head", "norm"
EVERY = (ALL,)
"""All parameters that require a gradient."""


def select_trained(net: nn.Module, names: Sequence[str] = EVERY) -> nn.Module:
    """Set `requires_grad` of a net's parameters, in place, and return the net.

    Args:
        net: any module.
        names: "all" leaves the net as it is; "head" is the last linear or convolution layer, "norm"
            every norm layer with parameters; any other is the name of a parameter, or of a module
            whose parameters are meant. Several are added up.

    Raises:
        UsageError: a name that the net does not have, or one with no parameter behind it.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> [k for k, p in select_trained(net, ["head"]).named_parameters() if p.requires_grad]
        ['2.weight', '2.bias']
        >>> select_trained(net, ["head", "3"])
        Traceback (most recent call last):
        datadistill.errors.UsageError: no parameter of the net is called '3' or lies in a module...
    """
    if tuple(names) == EVERY:
        return net
    if ALL in names or not names:
        raise UsageError(
            f"train is {' '.join(names) or 'empty'}; choose all alone, or one or more of head, "
            "norm and names of parameters or modules"
        )
    parameters = dict(net.named_parameters())
    chosen: set[str] = set()
    for name in names:
        found = parameters_of(net, name)
        if not found:
            raise UsageError(_explain(net, name))
        chosen.update(found)
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in chosen)
    return net


def parameters_of(net: nn.Module, name: str) -> tuple[str, ...]:
    """Names of the parameters that "head", "norm", or the name of a parameter or module stands for;
    none where there are none.

    >>> parameters_of(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), "head")
    ('1.weight', '1.bias')
    """
    parameters = dict(net.named_parameters())
    if name == NORM:
        layers = [k for k, m in net.named_modules() if isinstance(m, NORM_LAYERS)]
        return tuple(k for k in parameters if k.rpartition(".")[0] in layers)
    module = last_layer(net) if name == HEAD else name
    if module == "":  # the net is a single layer
        return tuple(parameters)
    # by their names with and without those of wrappers such as torch.compile
    named = zip(parameters, parameters_by_path(net), strict=True)
    return tuple(
        own
        for own, plain in named
        if any(k == module or k.startswith(f"{module}.") for k in (own, plain))
    )


def _explain(net: nn.Module, name: str) -> str:
    if name == NORM:
        return (
            "the net has no norm layer with parameters, so with train norm there is nothing to "
            "train; choose head, all, or names"
        )
    named = [k for k, _ in net.named_parameters()]
    modules = {k.rsplit(".", n)[0] for k in named for n in range(1, k.count(".") + 1)}
    known = [*modules, *named]
    return (
        f"no parameter of the net is called {name!r} or lies in a module of that name; "
        f"{suggest(name, [HEAD, NORM, ALL, *known])}"
    )
