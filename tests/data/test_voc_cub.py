"""PASCAL VOC and CUB-200: real subsets where they lie, small made-up trees for everything else."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from datadistill.data import SOURCES, cub, load, voc
from datadistill.data.cub import BIRDS
from datadistill.data.photos import IMAGENET
from datadistill.data.voc import VOC, label_of
from datadistill.errors import DataError, Unavailable

ANIMALS, BIRDS_20 = (SOURCES[name].classes for name in ("voc-animals", "cub-20"))

HERE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
PLACES = [
    Path(part) for part in os.environ.get("DATADISTILL_DATA", "").split(os.pathsep) if part
] + [HERE]


def present(folder):
    """The first place that holds the folder, or skip."""
    for place in PLACES:
        if (place / folder).is_dir():
            return place
    pytest.skip(f"{folder} is not in $DATADISTILL_DATA nor in ../shared/data")


@pytest.mark.parametrize(
    "name, folder, parts, classes",
    [
        ("voc-animals", "VOCdevkit/VOC2012", (270, 30, 200), ANIMALS),
        ("cub-20", "CUB_200_2011", (540, 60, 585), BIRDS_20),
    ],
)
def test_real_files(name, folder, parts, classes):
    data = load(name, root=present(folder), size=16)
    parts_of = (
        SOURCES[name].find([present(folder)], False).listing
    )  # no test image is decoded: it takes seconds
    test = parts_of("test")
    assert (len(data.train), len(data.validation), len(test)) == parts
    assert all(path.is_file() for path, _ in test) and {k for _, k in test} == set(
        range(len(classes))
    )
    assert not {path for path, _ in test} & {path for path, _ in parts_of("train")}
    assert data.classes == classes and data.shape == (3, 16, 16)
    assert (data.normalization.mean, data.normalization.std) == IMAGENET
    # both sets have as many of each class to learn from
    for split in (data.train, data.validation):
        assert len(set(torch.bincount(split.labels).tolist())) == 1


@pytest.mark.parametrize("name, folder", [("voc", "VOCdevkit/VOC2012"), ("cub", "CUB_200_2011")])
def test_the_real_subset_is_not_taken_for_the_whole(name, folder):
    with pytest.raises(DataError, match=r"ask for (voc-animals|cub-20)"):
        load(name, root=present(folder))


def paint(path, colour, size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def annotation(objects):
    """VOC's XML for (name, box) pairs; None leaves the box out."""
    boxes = []
    for name, box in objects:
        corners = zip(("xmin", "ymin", "xmax", "ymax"), box or (), strict=False)
        inside = "".join(f"<{k}>{v}</{k}>" for k, v in corners)
        boxes.append(f"<object><name>{name}</name><bndbox>{inside}</bndbox></object>")
    return f"<annotation><size><width>12</width></size>{''.join(boxes)}</annotation>"


@pytest.fixture
def voc_tree(tmp_path, monkeypatch):
    """A VOC of two images of each animal to learn from and one held out, and the sizes that say
    so."""
    place = tmp_path / "VOCdevkit" / "VOC2012"
    names = {"train": [], "val": []}
    for k, animal in enumerate(ANIMALS):
        for split, count in (("train", 2), ("val", 1)):
            for n in range(count):
                image = f"2008_{k}{split}{n}"
                names[split].append(image)
                paint(place / "JPEGImages" / f"{image}.jpg", (40 * k, 100, 50 * n), (12 + n, 8 + k))
                file = place / "Annotations" / f"{image}.xml"
                file.parent.mkdir(exist_ok=True)
                file.write_text(annotation([(animal, (1, 1, 6, 6)), ("person", (1, 1, 2, 9))]))
    for split, images in names.items():
        file = place / "ImageSets" / "Main" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(images) + "\n")
    monkeypatch.setitem(
        voc.SIZES, "VOCdevkit/VOC2012", {"voc": (5717, 5823), "voc-animals": (10, 5)}
    )
    return tmp_path


@pytest.fixture
def cub_tree(tmp_path, monkeypatch):
    """Two birds, two photos each to learn from and one held out."""
    place = tmp_path / "CUB_200_2011"
    images, labels, flags = [], [], []
    for k, bird in enumerate(BIRDS[:2]):
        for n in range(3):
            path = f"{k + 1:03}.{bird}/{n:04}.jpg"
            paint(place / "images" / path, (200, 90 * k, 60 * n))
            images.append(path)
            labels.append(k + 1)
            flags.append(int(n > 0))
    place.mkdir(exist_ok=True)
    for file, values in (
        ("images", images),
        ("image_class_labels", labels),
        ("train_test_split", flags),
        ("classes", [f"{k + 1:03}.{bird}" for k, bird in enumerate(BIRDS[:2])]),
    ):
        (place / f"{file}.txt").write_text("".join(f"{i + 1} {v}\n" for i, v in enumerate(values)))
    monkeypatch.setattr(cub, "SIZES", {"cub": (5994, 5794), "cub-20": (4, 2)})
    monkeypatch.setitem(
        SOURCES, "cub-20", cub._source("cub-20", "two birds", BIRDS[:2], "two birds")
    )
    return tmp_path


def test_photos_of_any_shape_become_squares(voc_tree, cub_tree):
    for name, counts, classes in (("voc-animals", (10, 5), ANIMALS), ("cub-20", (4, 2), BIRDS[:2])):
        data = load(name, root=voc_tree, size=6, validation=0)
        assert (len(data.train), len(data.test)) == counts and data.classes == classes
        assert data.train.images.shape[1:] == data.test.images.shape[1:] == (3, 6, 6)
    # flat colours stay what they are, up to JPEG and the rounding to 8 bits
    pixels = data.normalization.inverse(data.train.images)
    wanted = torch.tensor([200, 90, 60]) / 255
    assert (
        pixels[(data.train.labels == 1).nonzero()[0, 0]] - wanted.view(3, 1, 1)
    ).abs().max() < 0.03
    assert load("voc-animals", root=voc_tree).shape == (3, 224, 224)


def test_a_given_normalization_sets_the_size(voc_tree):
    first = load("voc-animals", root=voc_tree, size=9)
    again = load("voc-animals", root=voc_tree, normalization=first.normalization)
    assert torch.equal(first.train.images, again.train.images)


def test_pixels_are_kept_in_8_bits(voc_tree):
    images, labels = SOURCES["voc-animals"].find([voc_tree], False).at(7)("train")
    assert images.dtype == torch.uint8 and images.shape == (10, 3, 7, 7)
    assert labels.tolist() == [k for k in range(5) for _ in range(2)]


@pytest.mark.parametrize(
    "objects, wanted",
    [
        ([("cat", (1, 1, 3, 3)), ("dog", (1, 1, 4, 3))], "dog"),
        ([("dog", (1, 1, 4, 3)), ("cat", (1, 1, 3, 3))], "dog"),
        ([("sofa", (5, 5, 7, 9)), ("cat", (1, 1, 3, 5))], "sofa"),  # equal areas: the first
        # a corner is a pixel: 9 x 1 is 9, 2 x 4 is 8
        ([("cat", (1, 1, 9, 1)), ("bird", (1, 1, 2, 4))], "cat"),
        ([("train", (1.5, 1.5, 45.7, 3.2))], "train"),
    ],
)
def test_the_label_is_that_of_the_largest_object(tmp_path, objects, wanted):
    file = tmp_path / "a.xml"
    file.write_text(annotation(objects))
    assert VOC[label_of(file, VOC)] == wanted


def edit(root, path, text):
    (root / path).write_text(text)


MAIN, NOTE = "VOCdevkit/VOC2012/ImageSets/Main", "VOCdevkit/VOC2012/Annotations/2008_0train0.xml"
VOC_FAULTS = [
    (
        lambda r: edit(r, NOTE, annotation([("person", (1, 1, 9, 9))])),
        "'person' as its largest object",
    ),
    (lambda r: edit(r, NOTE, annotation([])), "no object"),
    (lambda r: edit(r, NOTE, annotation([("cat", None)])), "could not convert"),
    (lambda r: edit(r, NOTE, "<annotation>"), "no annotation that can be read"),
    (lambda r: edit(r, NOTE, "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>"), "document type"),
    (lambda r: (r / NOTE).unlink(), "2008_0train0.xml is no annotation"),
    (lambda r: edit(r, f"{MAIN}/train.txt", "\n".join(["../../x"] * 10)), "names of images alone"),
    (lambda r: edit(r, f"{MAIN}/train.txt", "2008_0train0\n"), "has 1 images to learn from"),
    (lambda r: (r / MAIN / "val.txt").unlink(), "incomplete: .*val.txt in it is not"),
    (lambda r: edit(r, "VOCdevkit/VOC2012/JPEGImages/2008_0train0.jpg", "no"), "is not an image"),
]


@pytest.mark.parametrize("damage, words", VOC_FAULTS, ids=[words for _, words in VOC_FAULTS])
def test_a_damaged_voc_is_a_sentence(voc_tree, damage, words):
    damage(voc_tree)
    with pytest.raises(DataError, match=words):
        load("voc-animals", root=voc_tree, size=4)


CUB_FAULTS = [
    (
        "images.txt",
        "1 b/c\n2 ../../secret.jpg\n3 b/c\n4 b/c\n5 b/c\n6 b/c\n",
        "wanted a file in a folder",
    ),
    (
        "image_class_labels.txt",
        "".join(f"{i} 3\n" for i in range(1, 7)),
        "class '3'; wanted 1 to 2",
    ),
    ("image_class_labels.txt", "1 1 1\n", "has the line '1 1 1'"),
    ("images.txt", "1 a/b\n1 a/c\n", "two lines of one number"),
    ("classes.txt", "1 001.Black_footed_Albatross\n2 002.Dodo\n", "Dodo; wanted 2 classes"),
    ("train_test_split.txt", "1 1\n", "has 1 images to learn from and 0 held out"),
]


@pytest.mark.parametrize("file, text, words", CUB_FAULTS, ids=[words for *_, words in CUB_FAULTS])
def test_a_damaged_cub_is_a_sentence(cub_tree, file, text, words):
    edit(cub_tree, f"CUB_200_2011/{file}", text)
    with pytest.raises(DataError, match=words):
        load("cub-20", root=cub_tree, size=4)


def test_a_later_root_with_the_right_set_is_found(voc_tree, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "VOCdevkit" / "VOC2012"
    for folder in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (other / folder).mkdir(parents=True)
    for split in ("train", "val"):
        (other / "ImageSets" / "Main" / f"{split}.txt").write_text("a\nb\nc\n")
    data = load("voc-animals", root=[other.parents[1], voc_tree], size=4)
    assert len(data.train) + len(data.validation) == 10


@pytest.mark.parametrize(
    "name, words",
    [
        ("voc", "fetching it was not allowed"),
        ("voc2007", "PASCAL VOC 2007 was not found"),
        ("voc-animals", "cannot be fetched"),
        ("cub", "https://www.vision.caltech.edu/datasets/cub_200_2011/ and unpack it"),
        ("cub-20", "cannot be fetched"),
    ],
)
def test_what_is_not_there_says_how_to_get_it(tmp_path, name, words):
    with pytest.raises(Unavailable, match=words):
        load(name, root=tmp_path)


def test_voc_is_fetched_once_and_moved_into_place(voc_tree, tmp_path_factory, monkeypatch):
    monkeypatch.setitem(voc.SIZES, "VOCdevkit/VOC2012", {"voc": (10, 5)})
    asked = []

    def arrive(root, year, image_set, download):
        asked.append((year, image_set, download))
        if download:
            (Path(root) / "VOCdevkit").mkdir()
            (voc_tree / "VOCdevkit" / "VOC2012").rename(Path(root) / "VOCdevkit" / "VOC2012")

    monkeypatch.setattr("torchvision.datasets.VOCDetection", arrive)
    target = tmp_path_factory.mktemp("target")
    read = SOURCES["voc"].find([target], True)
    assert asked == [("2012", "train", True), ("2012", "val", False)]
    assert sorted(path.name for path in target.iterdir()) == ["VOCdevkit"]
    images, labels = read.at(4)("test")
    assert images.shape == (5, 3, 4, 4) and [VOC[k] for k in labels.tolist()] == list(ANIMALS)


def test_a_download_that_fails_is_a_sentence(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.VOCDetection", fail)
    with pytest.raises(Unavailable, match=r"could not be fetched .*no network"):
        load("voc", root=tmp_path, download=True)
    assert list(tmp_path.iterdir()) == []


def test_names_are_whole():
    assert len(set(VOC)) == 20 and list(VOC) == sorted(VOC) and set(ANIMALS) < set(VOC)
    assert len(set(BIRDS)) == 200 and len(set(BIRDS_20)) == 20
