"""Caltech-UCSD Birds-200-2011: photos of 200 species of birds, in the layout of its archive.

    CUB_200_2011/
      images.txt                1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg
      image_class_labels.txt    1 1         image, class from 1
      train_test_split.txt      1 0         image, 1 where it is to learn from
      classes.txt               1 001.Black_footed_Albatross
      images/

Reference: Wah et al., The Caltech-UCSD Birds-200-2011 dataset, 2011, CNS-TR-2011-001,
https://www.vision.caltech.edu/datasets/cub_200_2011/
"""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from datadistill.data.photos import IMAGENET, SIZE, Listing, Photos, lines, locate
from datadistill.data.source import Reader, Source
from datadistill.data.subsets import MADE_BY_HAND, subsets_of
from datadistill.data.torchvision_sources import describe_missing
from datadistill.errors import DataError, Unavailable

HOME = "https://www.vision.caltech.edu/datasets/cub_200_2011/"

_BIRDS = """
Black_footed_Albatross Laysan_Albatross Sooty_Albatross Groove_billed_Ani Crested_Auklet
Least_Auklet Parakeet_Auklet Rhinoceros_Auklet Brewer_Blackbird Red_winged_Blackbird Rusty_Blackbird
Yellow_headed_Blackbird Bobolink Indigo_Bunting Lazuli_Bunting Painted_Bunting Cardinal
Spotted_Catbird Gray_Catbird Yellow_breasted_Chat Eastern_Towhee Chuck_will_Widow Brandt_Cormorant
Red_faced_Cormorant Pelagic_Cormorant Bronzed_Cowbird Shiny_Cowbird Brown_Creeper American_Crow
Fish_Crow Black_billed_Cuckoo Mangrove_Cuckoo Yellow_billed_Cuckoo Gray_crowned_Rosy_Finch
Purple_Finch Northern_Flicker Acadian_Flycatcher Great_Crested_Flycatcher Least_Flycatcher
Olive_sided_Flycatcher Scissor_tailed_Flycatcher Vermilion_Flycatcher Yellow_bellied_Flycatcher
Frigatebird Northern_Fulmar Gadwall American_Goldfinch European_Goldfinch Boat_tailed_Grackle
Eared_Grebe Horned_Grebe Pied_billed_Grebe Western_Grebe Blue_Grosbeak Evening_Grosbeak
Pine_Grosbeak Rose_breasted_Grosbeak Pigeon_Guillemot California_Gull Glaucous_winged_Gull
Heermann_Gull Herring_Gull Ivory_Gull Ring_billed_Gull Slaty_backed_Gull Western_Gull
Anna_Hummingbird Ruby_throated_Hummingbird Rufous_Hummingbird Green_Violetear Long_tailed_Jaeger
Pomarine_Jaeger Blue_Jay Florida_Jay Green_Jay Dark_eyed_Junco Tropical_Kingbird Gray_Kingbird
Belted_Kingfisher Green_Kingfisher Pied_Kingfisher Ringed_Kingfisher White_breasted_Kingfisher
Red_legged_Kittiwake Horned_Lark Pacific_Loon Mallard Western_Meadowlark Hooded_Merganser
Red_breasted_Merganser Mockingbird Nighthawk Clark_Nutcracker White_breasted_Nuthatch
Baltimore_Oriole Hooded_Oriole Orchard_Oriole Scott_Oriole Ovenbird Brown_Pelican White_Pelican
Western_Wood_Pewee Sayornis American_Pipit Whip_poor_Will Horned_Puffin Common_Raven
White_necked_Raven American_Redstart Geococcyx Loggerhead_Shrike Great_Grey_Shrike Baird_Sparrow
Black_throated_Sparrow Brewer_Sparrow Chipping_Sparrow Clay_colored_Sparrow House_Sparrow
Field_Sparrow Fox_Sparrow Grasshopper_Sparrow Harris_Sparrow Henslow_Sparrow Le_Conte_Sparrow
Lincoln_Sparrow Nelson_Sharp_tailed_Sparrow Savannah_Sparrow Seaside_Sparrow Song_Sparrow
Tree_Sparrow Vesper_Sparrow White_crowned_Sparrow White_throated_Sparrow Cape_Glossy_Starling
Bank_Swallow Barn_Swallow Cliff_Swallow Tree_Swallow Scarlet_Tanager Summer_Tanager Artic_Tern
Black_Tern Caspian_Tern Common_Tern Elegant_Tern Forsters_Tern Least_Tern Green_tailed_Towhee
Brown_Thrasher Sage_Thrasher Black_capped_Vireo Blue_headed_Vireo Philadelphia_Vireo Red_eyed_Vireo
Warbling_Vireo White_eyed_Vireo Yellow_throated_Vireo Bay_breasted_Warbler Black_and_white_Warbler
Black_throated_Blue_Warbler Blue_winged_Warbler Canada_Warbler Cape_May_Warbler Cerulean_Warbler
Chestnut_sided_Warbler Golden_winged_Warbler Hooded_Warbler Kentucky_Warbler Magnolia_Warbler
Mourning_Warbler Myrtle_Warbler Nashville_Warbler Orange_crowned_Warbler Palm_Warbler Pine_Warbler
Prairie_Warbler Prothonotary_Warbler Swainson_Warbler Tennessee_Warbler Wilson_Warbler
Worm_eating_Warbler Yellow_Warbler Northern_Waterthrush Louisiana_Waterthrush Bohemian_Waxwing
Cedar_Waxwing American_Three_toed_Woodpecker Pileated_Woodpecker Red_bellied_Woodpecker
Red_cockaded_Woodpecker Red_headed_Woodpecker Downy_Woodpecker Bewick_Wren Cactus_Wren Carolina_Wren
House_Wren Marsh_Wren Rock_Wren Winter_Wren Common_Yellowthroat
"""
BIRDS = tuple(_BIRDS.split())

FOLDER = "CUB_200_2011"
NEEDED = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt", "images")
SUBSETS = subsets_of("cub")
SIZES = {"cub": (5994, 5794), **{name: subset.sizes for name, subset in SUBSETS.items()}}


def read_table(place: Path, name: str) -> dict[str, str]:
    """The value of each image, or class, in a file of the archive: `key value` on a line."""
    pairs = [line.split() for line in lines(place / name)]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None or len({key for key, *_ in pairs}) != len(pairs):
        what = (
            f"the line {' '.join(wrong)[:60]!r}" if wrong is not None else "two lines of one number"
        )
        raise DataError(
            f"{place / name} has {what}; wanted a number and a value: unpack the archive again"
        )
    return {key: value for key, value in pairs}


def count_images(place: Path) -> tuple[int, int]:
    """Images in the two parts."""
    flags = list(read_table(place, "train_test_split.txt").values())
    return flags.count("1"), flags.count("0")


def list_images(place: Path, classes: tuple[str, ...], split: str) -> Listing:
    """The images of a split with their labels."""
    found = tuple(name.partition(".")[2] for name in read_table(place, "classes.txt").values())
    if found != classes:
        different = [name for name in found if name not in classes] or [
            f"{len(found)} classes in another order"
        ]
        raise DataError(
            f"{place / 'classes.txt'} has {different[0]}; wanted {len(classes)} classes from "
            f"{classes[0]} to {classes[-1]}: unpack the archive again"
        )
    images, labels, flags = (read_table(place, name) for name in NEEDED[:3])
    entries = []
    for key, flag in flags.items():
        if flag != ("1" if split == "train" else "0"):
            continue
        path, label = PurePosixPath(images.get(key, "")), labels.get(key, "")
        if not label.isdecimal() or not 1 <= int(label) <= len(classes):
            raise DataError(
                f"image {key} of {place} has the class {label!r}; wanted 1 to {len(classes)}: "
                "unpack the archive again"
            )
        if len(path.parts) != 2 or ".." in path.parts or path.is_absolute():
            raise DataError(
                f"image {key} of {place} is {str(path)!r}; wanted a file in a folder: unpack "
                "the archive again"
            )
        entries.append((place / "images" / path, int(label) - 1))
    return entries


def find(
    name: str, title: str, classes: tuple[str, ...], roots: list[Path], download: bool
) -> Reader:
    """Find the birds, or their subset, in a root; see `Source.find`."""
    place = locate(name, title, roots, FOLDER, NEEDED, count_images, SIZES)
    if place is None and name in SUBSETS:
        raise Unavailable(describe_missing(title, roots, MADE_BY_HAND))
    if place is None:
        wanted = f"{FOLDER} with {', '.join(NEEDED)} in it"
        way = f"take CUB_200_2011.tgz from {HOME} and unpack it (wanted: {wanted}), "
        raise Unavailable(describe_missing(title, roots, "torchvision cannot fetch it", way))
    return Photos(title, partial(list_images, place, classes))


def _source(
    name: str, title: str, classes: tuple[str, ...], about: str, subset_of: str | None = None
) -> Source:
    return Source(
        name=name,
        title=title,
        classes=classes,
        shape=(3, SIZE, SIZE),
        sizes=SIZES[name],
        about=about,
        validation=0.1,
        statistics=IMAGENET,
        find=partial(find, name, title, classes),
        subset_of=subset_of,
    )


CUB_SOURCES = (
    _source(
        *("cub", "CUB-200-2011", BIRDS),
        "CUB-200-2011, photos of 200 species of birds, in its official split",
    ),
    *(_source(s.name, s.title, s.classes, s.about, s.of) for s in SUBSETS.values()),
)
