"""PASCAL VOC as a classification set, in the layout that torchvision unpacks.

    VOCdevkit/VOC2012/
      ImageSets/Main/train.txt  val.txt     the images to learn from; the test part
      JPEGImages/2008_000008.jpg
      Annotations/2008_000008.xml

VOC was made for several objects in one picture. Here a picture has one label: the class of the
object with the largest box, of those annotated (also the ones marked difficult); of two of equal
area, the first in the file. The labels of VOC 2012's own test set were never published, so `val` is
the test part.

Reference: Everingham et al., The PASCAL Visual Object Classes challenge, 2010,
http://host.robots.ox.ac.uk/pascal/VOC/
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from datadistill.data.photos import IMAGENET, SIZE, Listing, Photos, lines, locate
from datadistill.data.source import Reader, Source
from datadistill.data.subsets import MADE_BY_HAND, subsets_of
from datadistill.data.torchvision_sources import (
    ALLOW,
    NOT_FETCHED,
    TorchvisionSet,
    describe_missing,
    fetch,
)
from datadistill.errors import DataError, Unavailable

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *(
        "diningtable",
        "dog",
        "horse",
        "motorbike",
        "person",
        "pottedplant",
        "sheep",
        "sofa",
        "train",
    ),
    "tvmonitor",
)
SUBSETS = subsets_of("voc")
NEEDED = ("ImageSets/Main/train.txt", "ImageSets/Main/val.txt", "JPEGImages", "Annotations")
LISTS = {"train": "train", "test": "val"}
SIZES = {
    "VOCdevkit/VOC2012": {
        "voc": (5717, 5823),
        **{name: subset.sizes for name, subset in SUBSETS.items()},
    },
    "VOCdevkit/VOC2007": {"voc2007": (2501, 2510)},
}


class Archive(TorchvisionSet):
    """The archive of a year of VOC, with both parts, as torchvision fetches it."""

    def open(self, root: Path, split: str, download: bool = False) -> Any:
        """Fetch and unpack it, once."""
        from torchvision.datasets import VOCDetection

        wanted = download and not (root / self.files[0]).exists()
        year = self.files[0][-4:]
        return VOCDetection(str(root), year=year, image_set=LISTS[split], download=wanted)


def label_of(annotation: Path, classes: tuple[str, ...]) -> int:
    """The class of the largest annotated object, as an index."""
    try:
        text = annotation.read_bytes()
        # neither VOC nor anything else here needs entities, which can grow without bound
        if b"<!" in text:
            raise ValueError("it declares a document type")
        objects = []
        for entry in ElementTree.fromstring(text).iter("object"):
            left, top, right, bottom = (
                float(entry.findtext(f"bndbox/{side}", ""))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            # corners are pixels that belong to the box: xmin = xmax is one pixel wide
            objects.append(
                ((right - left + 1) * (bottom - top + 1), entry.findtext("name", "").strip())
            )
        if not objects:
            raise ValueError("it has no object")
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise DataError(
            f"{annotation} is no annotation that can be read ({error}); wanted objects with a name "
            "and a box: unpack the archive again"
        ) from error
    name = max(objects, key=lambda pair: pair[0])[1]
    if name not in classes:
        raise DataError(
            f"{annotation} has a {name!r} as its largest object; wanted one of "
            f"{', '.join(classes)}: ask for the data set that has it (voc has all 20 classes)"
        )
    return classes.index(name)


def list_images(place: Path, classes: tuple[str, ...], split: str) -> Listing:
    """The images of a split with their labels."""
    entries = []
    for image in lines(place / "ImageSets" / "Main" / f"{LISTS[split]}.txt"):
        if not re.fullmatch(r"\w+", image):
            raise DataError(
                f"{LISTS[split]}.txt of {place} names {image[:40]!r}; wanted the names of images "
                "alone: unpack the archive again"
            )
        label = label_of(place / "Annotations" / f"{image}.xml", classes)
        entries.append((place / "JPEGImages" / f"{image}.jpg", label))
    return entries


def count_images(place: Path) -> tuple[int, int]:
    """Images in the two parts."""
    train, test = (len(lines(place / part)) for part in NEEDED[:2])
    return train, test


def find(
    name: str, title: str, folder: str, classes: tuple[str, ...], roots: list[Path], download: bool
) -> Reader:
    """Find a year of VOC, or its subset, in a root; see `Source.find`."""
    archive = Archive("VOCDetection", (folder,))
    search = partial(
        locate, name, title, folder=folder, needed=NEEDED, count=count_images, sets=SIZES[folder]
    )
    place = search(roots)
    if place is None and name in SUBSETS:
        raise Unavailable(describe_missing(title, roots, MADE_BY_HAND))
    if place is None and not download:
        raise Unavailable(describe_missing(title, roots, NOT_FETCHED, ALLOW))
    if place is None:
        place = search([fetch(archive, title, roots)])
    assert place is not None
    return Photos(title, partial(list_images, place, classes))


def _source(
    name: str,
    title: str,
    folder: str,
    classes: tuple[str, ...],
    about: str,
    subset_of: str | None = None,
) -> Source:
    return Source(
        name=name,
        title=title,
        classes=classes,
        shape=(3, SIZE, SIZE),
        sizes=SIZES[folder][name],
        about=f"{about}; labelled with the class of the largest object",
        validation=0.1,
        statistics=IMAGENET,
        find=partial(find, name, title, folder, classes),
        subset_of=subset_of,
    )


VOC_SOURCES = (
    _source(
        *("voc", "PASCAL VOC 2012", "VOCdevkit/VOC2012", VOC),
        "PASCAL VOC 2012, train to learn from, val held out",
    ),
    _source(
        *("voc2007", "PASCAL VOC 2007", "VOCdevkit/VOC2007", VOC),
        "PASCAL VOC 2007, train to learn from, val held out",
    ),
    *(_source(s.name, s.title, s.folder, s.classes, s.about, s.of) for s in SUBSETS.values()),
)
