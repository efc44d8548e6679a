"""The small subsets: made of the official layouts by what docs/data.md says, and found by their
names."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datadistill.data import SOURCES, cub, load, torchvision_sources, voc
from datadistill.data.subsets import SUBSETS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def paint(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 8)).save(path)


def official_voc():
    """A bird and every animal, one image of each in every part."""
    place = Path("official/VOCdevkit/VOC2012")
    for folder in ("ImageSets/Main", "Annotations"):
        (place / folder).mkdir(parents=True)
    for split in ("train", "val"):
        names = [f"{split}_{name}" for name in ("bird", *SOURCES["voc-animals"].classes)]
        (place / f"ImageSets/Main/{split}.txt").write_text("\n".join(names))
        for name in names:
            paint(place / f"JPEGImages/{name}.jpg")
            sides = "".join(
                f"<{side}>{n}</{side}>" for n, side in enumerate(("xmin", "ymin", "xmax", "ymax"))
            )
            text = (
                f"<a><object><name>{name.split('_')[1]}</name><bndbox>{sides}</bndbox></object></a>"
            )
            (place / f"Annotations/{name}.xml").write_text(text)


def official_cub():
    """Every species, an image to learn from and one held out."""
    place = Path("official/CUB_200_2011")
    species = [f"{k:03}.{name}" for k, name in enumerate(cub.BIRDS, 1)]
    paths = [f"{name}/{n}.jpg" for name in species for n in range(2)]
    for path in paths:
        paint(place / "images" / path)
    for name, values in (
        ("classes", species),
        ("images", paths),
        ("train_test_split", [0, 1] * len(species)),
        ("image_class_labels", [k for k in range(1, 201) for _ in range(2)]),
    ):
        (place / f"{name}.txt").write_text(
            "".join(f"{k} {value}\n" for k, value in enumerate(values, 1))
        )


def official_svhn():
    Path("official").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 40), dtype=np.uint8)
    savemat("official/test_32x32.mat", {"X": pixels, "y": (np.arange(40)[:, None] % 10) + 1})


MADE = {
    "voc-animals": (official_voc, (5, 5)),
    "cub-20": (official_cub, (20, 20)),
    "svhn-grey": (official_svhn, (20, 15)),
}


@pytest.mark.parametrize("name", list(MADE))
def test_a_subset_is_made_as_its_page_says(name, tmp_path, monkeypatch):
    make, sizes = MADE[name]
    monkeypatch.chdir(tmp_path)
    source = SOURCES[name]
    monkeypatch.setitem(SOURCES, name, replace(source, sizes=sizes))
    monkeypatch.setitem(voc.SIZES["VOCdevkit/VOC2012"], "voc-animals", sizes)
    monkeypatch.setitem(cub.SIZES, "cub-20", sizes)
    if name == "svhn-grey":
        found = torchvision_sources._source(
            name, source.title, source.classes, source.shape, sizes, 0.1, ""
        )
        monkeypatch.setitem(SOURCES, name, found)
    make()
    exec(next(block for block in BLOCKS if name in block), {})
    data = load(name, root="subsets", size=8, validation=0)
    assert (len(data.train), len(data.test)) == sizes
    assert data.classes == source.classes and set(data.test.labels.tolist()) == set(
        range(len(data.classes))
    )
    if name == "svhn-grey":
        pixels = data.normalization.inverse(data.test.images)
        assert float((pixels[:, 0] - pixels[:, 2]).abs().max()) < 1e-6


def test_every_named_data_set_has_its_line_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in SOURCES if f"`{name}`" not in text] == []


def test_a_subset_says_what_it_is_part_of():
    assert {s.name: s.of for s in SUBSETS} == {
        n: s.subset_of for n, s in SOURCES.items() if s.subset_of
    }
    assert all(SOURCES[s.of].subset_of is None for s in SUBSETS)
