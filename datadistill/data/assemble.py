"""The way of every source to a `RealData`: checks, one shape, the split, the normalization."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from datadistill import streams
from datadistill.config.zca import ZcaChoice
from datadistill.data.batches import Split
from datadistill.data.checks import check_part, refuse_contradiction
from datadistill.data.held_out import HeldOut, normalize_part, normalize_test_part
from datadistill.data.images import refuse_values, to_channels, to_size, unit_range
from datadistill.data.naming import refuse_names
from datadistill.data.normalization import Normalization, measure
from datadistill.data.normalization_names import MeanStd
from datadistill.data.parts import LARGEST, Parts
from datadistill.data.source import Pixels
from datadistill.data.splits import split_stratified
from datadistill.data.whitening_matrix import digest_of, measure_zca, refuse_shape
from datadistill.data.zca import ZcaNormalization


class Prepared(NamedTuple):
    """The parts of a `RealData`."""

    train: Split
    validation: Split
    normalization: Normalization
    held_out: HeldOut
    parts: Parts | None
    fingerprint: str | None
    """`RealData.fingerprint`, where it is not that of the normalized images."""


def prepare(
    name: str,
    train: Pixels,
    test: Pixels | Callable[[], Pixels],
    *,
    classes: tuple[str, ...],
    validation: int | float,
    seed: int,
    size: int | None = None,
    channels: int | None = None,
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    normalization: Normalization | MeanStd | ZcaChoice | None = None,
    split: Sequence[Tensor] | None = None,
    ids: tuple[list[str], list[str]] | None = None,
) -> Prepared:
    """Check, bring to one shape, split and normalize.

    Args:
        train: images (N,C,H,W), uint8 or float 0..1, and labels of the training part.
        test: the test part, which is judged now and normalized at the first use of `.test`; or a
            function that reads it then, such that it can be pickled.
        statistics: published mean and deviation for the stored channels. Used where the channels
            stay or grey is repeated; after RGB to grey, or where None, both are measured on the
            whole training part (validation included, so that they do not depend on `seed`).
        normalization: overrides `statistics`, and one for a size and channels these too. A kind of
            ZCA whitening is measured on the whole training part, likewise.
        split: places of the images to learn from and of the validation images, in place of a draw.
        ids: of the images of the training part and of the test part; see `datadistill.data.parts`.
    """
    refuse_names(classes, name)
    images, labels = train
    check_part(images, labels, classes, "the training part")
    native = images.shape[1]
    if isinstance(normalization, Normalization):
        refuse_contradiction(normalization, size, channels)
        size, channels = normalization.size, normalization.channels
    channels = native if channels is None else channels
    if size is None and images.shape[2] == images.shape[3]:
        size = images.shape[2]
    zca = None
    if isinstance(normalization, ZcaChoice):
        refuse_shape(len(images), channels, size)
        zca, normalization = normalization, None
    if isinstance(normalization, MeanStd):
        normalization = normalization.of(size, channels)
    elif normalization is None and statistics is not None and native in (channels, 1):
        mean, std = (values * (channels // native) for values in statistics)
        normalization = Normalization(mean, std, size, channels)
    elif normalization is None:
        images = _to_shape(images, channels, size)
        normalization = measure(images, size)
    if zca is not None:
        images = _to_shape(images, channels, size)
        normalization = measure_zca(zca, images, normalization)
    part = partial(normalize_part, normalization)
    if isinstance(test, tuple):
        check_part(*test, classes, "the test part", every_class=False)
        refuse_values(test[0], "the test images")
        # refused here where no rule leads to the shape of the others
        part(test[0][:1], test[1][:1])
    if split is None:
        split = split_stratified(labels, validation, streams.generator(seed, "validation"))
    kept, held_out = split
    parts = None
    if ids is not None and len(ids[0]) + len(ids[1]) <= LARGEST:
        learned, validated = (tuple(ids[0][i] for i in places.tolist()) for places in split)
        parts = Parts(learned, validated, tuple(ids[1]))
    rest = HeldOut(partial(normalize_test_part, part, test, tuple(classes)))
    learned_from, validated_on = (
        part(images[kept], labels[kept]),
        part(images[held_out], labels[held_out]),
    )
    digest = None
    if isinstance(normalization, ZcaNormalization):
        pixels = _to_shape(images, channels, size)
        digest = digest_of(normalization, pixels, labels.long(), split)
    return Prepared(learned_from, validated_on, normalization, rest, parts, digest)


def _to_shape(images: Tensor, channels: int, size: int | None) -> Tensor:
    return to_size(to_channels(unit_range(images), channels), size)
