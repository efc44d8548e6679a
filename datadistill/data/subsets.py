"""Small subsets of data sets, made by hand: their content, and their folder under a data root.

A subset has the layout of the data set that it is part of, and is told from it by its number of
images (or by its folder). Nothing can fetch one; docs/data.md says how each is made from the
official files.
"""

from __future__ import annotations

from dataclasses import dataclass

from datadistill.data.class_names import DIGITS

MADE_BY_HAND = "it cannot be fetched, as it is a subset made by hand (docs/data.md says how)"


@dataclass(frozen=True)
class Subset:
    """A part of a data set that is a data set of its own.

    Args:
        name, title, classes, sizes, about: as of a `Source`.
        of: name of the whole data set.
        folder: where it lies, relative to a data root.
    """

    name: str
    title: str
    of: str
    folder: str
    classes: tuple[str, ...]
    sizes: tuple[int, int]
    about: str


_BIRDS = """
Black_footed_Albatross Red_winged_Blackbird Indigo_Bunting Painted_Bunting Vermilion_Flycatcher
American_Goldfinch Evening_Grosbeak Ruby_throated_Hummingbird Blue_Jay Green_Jay Belted_Kingfisher
Mallard Hooded_Merganser White_breasted_Nuthatch Baltimore_Oriole White_Pelican Horned_Puffin
Scarlet_Tanager Cedar_Waxwing Downy_Woodpecker
"""

SUBSETS = (
    Subset(
        name="voc-animals",
        title="the animal subset of PASCAL VOC 2012",
        of="voc",
        folder="VOCdevkit/VOC2012",
        classes=("cat", "cow", "dog", "horse", "sheep"),
        sizes=(300, 200),
        about=(
            "500 pictures of five animals of PASCAL VOC 2012, 300 to learn from, split at random; "
            "not comparable with published VOC numbers"
        ),
    ),
    Subset(
        name="cub-20",
        title="the subset of CUB-200-2011",
        of="cub",
        folder="CUB_200_2011",
        classes=tuple(_BIRDS.split()),  # spread over the families
        sizes=(600, 585),
        about=(
            "1,185 photos of 20 of the 200 species of CUB-200-2011, cropped around the bird; not "
            "comparable with published CUB-200 numbers"
        ),
    ),
    Subset(
        name="svhn-grey",
        title="SVHN in grey",
        of="svhn",
        folder="svhn_grey",
        classes=DIGITS,
        sizes=(14818, 5000),
        about=(
            "14,818 digits to learn from and 5,000 held out, all cut from grey copies of SVHN's "
            "test pictures; not comparable with published SVHN numbers"
        ),
    ),
)


def subsets_of(name: str) -> dict[str, Subset]:
    """The subsets of a data set, by name."""
    return {subset.name: subset for subset in SUBSETS if subset.of == name}
