"""Optimizer and sampler states as tensors plus JSON, exactly.

JSON has no tensors, tuples, NaN or integer keys, and no order of keys once it is canonical. What
plain JSON cannot say is written as an object with one key that starts with `$`:

    {"$tensor": "optimizer.0003"}    a tensor, by its name among the tensors
    {"$tuple": [...]}                a tuple
    {"$float": "nan"}                nan, inf, -inf
    {"$dict": [[key, value], ...]}   a dict whose keys are not strings, start with `$`, or are not
                                     in order
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError


def flatten_state(obj: Any, prefix: str = "state") -> tuple[dict[str, Tensor], Any]:
    """Take a nested state apart.

    Args:
        obj: dicts, lists and tuples of tensors, None, bool, int, float and str:
            `optimizer.state_dict()`, say. Dict keys may be str, int, float, bool, None or tuples of
            these.
        prefix: what the tensors' names start with; give each state of a checkpoint its own.

    Returns:
        The tensors by name ('PREFIX.0000', ..., in order of appearance) and a JSON-able value.

    Example:
        >>> tensors, json = flatten_state({0: torch.ones(1), "lr": 0.1}, "opt")
        >>> json
        {'$dict': [[0, {'$tensor': 'opt.0000'}], ['lr', 0.1]]}
        >>> unflatten_state(tensors, json)
        {0: tensor([1.]), 'lr': 0.1}
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _encode(obj, prefix, tensors, "")


def unflatten_state(tensors: Mapping[str, Tensor], json: Any) -> Any:
    """The state that `flatten_state` took apart: equal types, values, key order and tensor bits.
    Tensors are those of `tensors`, not copies."""
    if isinstance(json, list):
        return [unflatten_state(tensors, item) for item in json]
    if not isinstance(json, dict):
        return json
    if len(json) != 1 or not (tag := next(iter(json))).startswith("$"):
        return {key: unflatten_state(tensors, item) for key, item in json.items()}
    content = json[tag]
    try:
        if tag == "$tensor":
            return tensors[content]
        if tag == "$float":
            return float(content)
        if tag == "$tuple":
            return tuple(unflatten_state(tensors, item) for item in content)
        if tag == "$dict":
            return {unflatten_state(tensors, k): unflatten_state(tensors, v) for k, v in content}
    except KeyError:
        raise DataError(
            f"the state's tensor {content!r} is missing (there: {len(tensors)} tensors)"
        ) from None
    except (TypeError, ValueError):
        pass
    raise DataError(f"{{{tag!r}: {repr(content)[:80]}}} is no encoded state")


def _encode(value: Any, prefix: str, tensors: dict[str, Tensor], where: str) -> Any:
    if isinstance(value, Tensor):
        name = f"{prefix}.{len(tensors):04d}"
        tensors[name] = value.detach()
        return {"$tensor": name}
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, list):
        return [_encode(v, prefix, tensors, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {
            "$tuple": [_encode(v, prefix, tensors, f"{where}[{i}]") for i, v in enumerate(value)]
        }
    if isinstance(value, dict):
        pairs = [
            [
                _encode(k, prefix, tensors, f"{where} key"),
                _encode(v, prefix, tensors, f"{where}[{k!r}]"),
            ]
            for k, v in value.items()
        ]
        keys = list(value)
        plain = all(isinstance(k, str) and not k.startswith("$") for k in keys) and keys == sorted(
            keys
        )
        return {k: v for k, v in pairs} if plain else {"$dict": pairs}
    raise TypeError(
        f"{where or 'the state'} is a {torch.typename(value)}, which a checkpoint cannot hold"
    )
