"""Class names of data sets, and labels brought to one order of names.

Labels are positions in a list of names, and every data set may have a list of its own:
torchvision's ImageFolder numbers the sub-folders that it finds, so a test set that lacks a class
has other numbers. `to_map_style` finds the names of a data set through Subset, ConcatDataset and
DataLoader; `reorder_labels` hands out its items with the labels of another list.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    default_collate,
)

from datadistill.data.labels import class_number
from datadistill.errors import DataError, UsageError, list_some

Names = tuple[str, ...]
PLACEHOLDER = "N/A"  # EMNIST's letters are numbered from 1, and its list of names begins with this


def class_names(classes: Any) -> Names | None:
    """Names in label order, from any container; None where none are given.

    Args:
        classes: a list, tuple, array, pandas Index or other iterable of names; a dict from name to
            label or from label to name; or the number of classes, for "0", "1", ...

    Example:
        >>> class_names({"dog": 1, "cat": 0})
        ('cat', 'dog')
    """
    if classes is None:
        return None
    if isinstance(classes, str | bytes | set | frozenset):
        raise UsageError(
            f"classes is {classes!r:.60}; wanted the names in label order, such as ['cat', 'dog']"
        )
    if isinstance(classes, Integral):
        if classes < 1:
            raise UsageError(f"classes is {classes}; wanted names, or their number, 1 or more")
        return tuple(str(k) for k in range(int(classes)))
    if isinstance(classes, Mapping):
        return _from_mapping(classes)
    if not isinstance(classes, Iterable):
        raise UsageError(f"classes is a {type(classes).__name__}; wanted the names in label order")
    return tuple(_text(name) for name in classes) or None


def _from_mapping(classes: Mapping[Any, Any]) -> Names | None:
    pairs = list(classes.items())
    if not all(isinstance(key, str) for key, _ in pairs):
        pairs = [(name, label) for label, name in pairs]
    labels = [class_number(label) for _, label in pairs]
    if sorted(k for k in labels if k is not None) != list(range(len(pairs))):
        raise UsageError(
            f"classes has the labels {sorted(map(str, labels))[:6]} for {len(pairs)} names; wanted "
            "0, 1, ..., each once"
        )
    named = dict(zip(labels, (_text(name) for name, _ in pairs), strict=True))
    return tuple(named[k] for k in range(len(pairs))) or None


def _text(name: Any) -> str:
    if isinstance(name, bytes):
        return name.decode("utf-8", "surrogateescape")
    if isinstance(name, list | tuple):  # ImageNet's synonyms
        return ", ".join(map(str, name))
    return str(name)


def same_name(name: str) -> str:
    """The form that two spellings of one name share: composed accents (macOS writes decomposed
    ones)."""
    return unicodedata.normalize("NFC", name)


def refuse_names(classes: Sequence[str], what: str) -> None:
    """Refuse names that are empty, equal or no text, before anything is learned for them."""
    seen: dict[str, str] = {}
    for k, name in enumerate(classes):
        if not name.strip():
            raise DataError(f"{what} has an empty name for class {k}; wanted a name for each class")
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise DataError(
                f"{what} has the class name {name!r}, whose bytes are no UTF-8; rename it"
            ) from None
        if (key := same_name(name)) in seen:
            raise DataError(
                f"{what} has two classes of the name {name!r} ({seen[key]!r} and {name!r} are the "
                "same text); rename one"
            )
        seen[key] = name


class Relabelled:
    """A map-style data set whose labels are translated, item by item: `mapping` has another label
    for each label of `base`, or None. `names` are those of the labels of `base`, `wanted` those of
    the others."""

    def __init__(
        self, base: Any, mapping: Sequence[int | None], names: Names, wanted: Names
    ) -> None:
        self.base, self.mapping, self.names, self.wanted = base, list(mapping), names, wanted

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> Any:
        item = self.base[index]
        if not isinstance(item, tuple | list) or len(item) < 2:
            return item
        label = class_number(item[1])
        if label is None or label < 0:
            return item  # refused by whoever reads it
        if label >= len(self.mapping):
            raise DataError(
                f"item {index} has the label {label}, but its data set names {len(self.mapping)} "
                f"classes ({list_some(self.names, 5)}); name them all"
            )
        other = self.mapping[label]
        if other is None:
            raise DataError(
                f"item {index} is of class {self.names[label]!r}, which is not one of "
                f"{list_some(self.wanted, 8)}; leave it out, or name the classes alike"
            )
        return (item[0], other)


def reorder_labels(dataset: Any, names: Names | None, wanted: Names | None) -> Any:
    """A data set with the labels of the list `wanted`; itself where either list is unknown or both
    agree."""
    if names is None or wanted is None or names == wanted:
        return dataset
    place = {same_name(name): k for k, name in enumerate(wanted)}
    mapping = [place.get(same_name(name)) for name in names]
    if mapping == list(range(len(wanted))):
        return dataset
    if not any(k is not None for k in mapping):
        raise DataError(
            f"the classes of the two data sets have no name in common: {list_some(names, 5)} "
            f"and {list_some(wanted, 5)}; name them alike, or set its attribute `classes` to "
            "None, to go by number"
        )
    return Relabelled(dataset, mapping, names, wanted)


def to_map_style(dataset: Any, what: str) -> tuple[Any, Names | None]:
    """A map-style data set and the names of its labels, None where it says none.

    A DataLoader is its data set, or the part that its sampler draws from; the parts of a
    ConcatDataset get the labels of one list.
    """
    if isinstance(dataset, DataLoader):
        dataset = _unwrap_loader(dataset, what)
    streamed = isinstance(dataset, IterableDataset)  # it has indexing by inheritance, which raises
    if streamed or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise UsageError(
            f"{what} is a {type(dataset).__name__}; wanted one with a length and "
            "items (image, label)"
        )
    if isinstance(dataset, Subset):
        base, names = to_map_style(dataset.dataset, what)
        return (dataset if base is dataset.dataset else Subset(base, dataset.indices)), names
    if isinstance(dataset, ConcatDataset):
        parts = [to_map_style(part, what) for part in dataset.datasets]
        union = _union([names for _, names in parts])
        together = [reorder_labels(part, names, union) for part, names in parts]
        changed = any(new is not old for new, old in zip(together, dataset.datasets, strict=True))
        return (ConcatDataset(together) if changed else dataset), union
    names = _own_names(dataset)
    if names is not None and names[0] == PLACEHOLDER:
        return Relabelled(dataset, [None, *range(len(names) - 1)], names, names[1:]), names[1:]
    return dataset, names


def _union(lists: Sequence[Names | None]) -> Names | None:
    """All names of several lists, in the order in which they come first."""
    found: dict[str, str] = {}
    for names in lists:
        for name in names or ():
            found.setdefault(same_name(name), name)
    return tuple(found.values()) or None


def _own_names(dataset: Any) -> Names | None:
    """The names that stand in a data set's attributes, in the order of the labels that it hands
    out."""
    names = None
    mapping = getattr(dataset, "class_to_idx", None)
    listed = next(
        (getattr(dataset, a) for a in ("classes", "categories") if hasattr(dataset, a)), None
    )
    if isinstance(mapping, Mapping) and not callable(listed) and listed is not None:
        # the mapping is what numbers the labels, unless it lists synonyms or leaves gaps
        labels = sorted(k for k in map(class_number, mapping.values()) if k is not None)
        if labels == list(range(len(listed))) == list(range(len(mapping))):
            listed = mapping
    elif isinstance(mapping, Mapping):
        listed = mapping
    if listed is not None and not callable(listed):
        names = class_names(listed)
    change = getattr(dataset, "target_transform", None)
    return names if names is None or change is None else _transform_names(names, change)


def _transform_names(names: Names, change: Any) -> Names | None:
    """The names of the labels that a `target_transform` makes; those it joins are joined by "+"."""
    groups: dict[int, list[str]] = {}
    for k, name in enumerate(names):
        try:
            label = class_number(change(k))
        except Exception:  # a user's function, made for other labels
            return None
        if label is None:
            return None
        groups.setdefault(label, []).append(name)
    if sorted(groups) != list(range(len(groups))):
        return None
    return tuple("+".join(groups[k]) for k in range(len(groups)))


def _unwrap_loader(loader: DataLoader[Any], what: str) -> Any:
    """The data set behind a DataLoader, cut to what its sampler draws."""
    dataset, sampler = loader.dataset, loader.sampler
    if loader.collate_fn is not default_collate and loader.batch_size is not None:
        raise UsageError(
            f"{what} is a DataLoader with a collate_fn of its own, which changes what it loads; "
            "pass its data set"
        )
    if isinstance(sampler, SubsetRandomSampler):
        return Subset(dataset, sorted(int(i) for i in sampler.indices))
    plain = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler)
        and not sampler.replacement
        and len(sampler) == len(sampler.data_source)
    )
    batched = (
        loader.batch_sampler is None or type(loader.batch_sampler) is torch.utils.data.BatchSampler
    )
    if not plain or not batched:
        raise UsageError(
            f"{what} is a DataLoader with a sampler of its own ({type(sampler).__name__}); pass "
            "its data set, or a Subset of what is to be used"
        )
    return dataset
