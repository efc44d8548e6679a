"""Your own folder of images, one sub-folder a class.

    birds/
      jay/     0001.jpg  0002.png ...
      pelican/ 0001.jpg ...

Classes are the sub-folders in alphabetical order. A fifth of every class is held out as the test
part, by seed. How images of any mode and size become tensors of one shape:
`datadistill.data.images`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from datadistill import streams
from datadistill.data.checks import refuse_contradiction
from datadistill.data.image_files import read_with_hash
from datadistill.data.images import to_size
from datadistill.data.normalization import Normalization
from datadistill.data.normalization_names import Chosen, MeanStd, read_choice
from datadistill.data.parts import Parts, image_id
from datadistill.data.real import RealData
from datadistill.data.source import Pixels
from datadistill.data.splits import split_stratified
from datadistill.errors import DataError, UsageError, list_some
from datadistill.progress import iterate
from datadistill.torch_defaults import use_library_defaults

logger = logging.getLogger(__name__)

# what file managers and archivers leave behind
LITTER = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"}


@use_library_defaults()
def load_folder(
    folder: str | os.PathLike[str],
    *,
    size: int | None = None,
    channels: int | None = None,
    holdout: int | float = 0.2,
    validation: int | float | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    normalization: Chosen = None,
    parts: Parts | Mapping[str, str] | None = None,
    device: torch.device | str = "cpu",
) -> RealData:
    """Read a folder of images, one sub-folder a class.

    Every file is decoded once now, so that a damaged one is found before a run and not at its end;
    the pixels of the test part are dropped and decoded again when `.test` is asked for. Files whose
    name starts with a dot, and Thumbs.db and the like, are ignored; any other file must be an
    image.

    Args:
        folder: holds one folder for each class, at least two.
        size: side of the square images, 32 by default: short side resized, then centre-cropped.
        channels: 3 (default) or 1.
        holdout: the test part, stratified, at least one image of each class: an int is a number, a
            float a share.
        validation: held out of the rest for model selection; a tenth by default.
        seed: decides which images are held out.
        skip_bad: leave files that cannot be read out, and say how many, instead of refusing.
        normalization: instead of the mean and deviation measured here: an existing one (a distilled
            set's), which sets size and channels; or one that `load` knows by name. "own" measures.
        parts: which images are in which part, in place of a draw: `d.data.parts` of a set that was
            learned from this folder. Images are known by their content, whatever the files are
            called now; those that joined the folder since are left out, with a warning.
        device: where the result lies.

    Raises:
        DataError: a folder that is missing, without classes, or with one; an empty class, or one
            with a single image; a file that is no image, is damaged or decodes to too many pixels;
            a folder of datadistill's own runs among the classes; images of `parts` that are missing
            or were edited.
    """
    chosen = read_choice(normalization)
    if isinstance(chosen, Normalization):
        refuse_contradiction(chosen, size, channels)
        size, channels = chosen.size or 32, chosen.channels
    side, depth = 32 if size is None else size, 3 if channels is None else channels
    if depth not in (1, 3):
        raise UsageError(f"channels is {depth!r}; wanted 1 (grey) or 3 (RGB)")
    if isinstance(chosen, MeanStd):
        chosen = chosen.of(side, depth)
    decode = partial(read_square, channels=depth, size=side)
    root = Path(folder).expanduser()
    files = _classes(root)
    paths: list[Path] = []
    pixels: list[Tensor] = []
    labels: list[int] = []
    ids: list[str] = []
    bad = 0
    for k, (name, members) in enumerate(files.items()):
        before = len(paths)
        for path in iterate(members, f"reading images of class {k + 1}/{len(files)}", len(members)):
            try:
                image, content = decode(path)
            except DataError:
                if not skip_bad:
                    raise
                bad += 1
                continue
            pixels.append(image)
            paths.append(path)
            labels.append(k)
            ids.append(image_id(name, content))
        if len(paths) - before < 2:
            found = len(paths) - before
            skipped = (
                f" that can be read ({len(members) - found} skipped)"
                if len(members) > found
                else ""
            )
            raise DataError(
                f"class {name!r} in {root} has "
                f"{'no image' if found == 0 else 'one image only'}{skipped}; wanted at least two, "
                "one to learn from and one held out: add images or take the folder away"
            )
    if bad:
        logger.warning("%d file(s) under %s could not be read and were skipped", bad, root)
    targets = torch.tensor(labels)
    newer = 0
    split = None
    if parts is None:
        kept, held_out = (
            part.tolist()
            for part in split_stratified(
                targets, holdout, streams.generator(seed, "holdout"), at_least=1
            )
        )
    else:
        places, newer = Parts.from_dict(parts).find(ids, str(root))
        kept, held_out = places["train"] + places["validation"], places["test"]
        split = torch.arange(len(kept)).tensor_split([len(places["train"])])
        if newer:
            warnings.warn(
                f"{newer} image(s) of {root} were not there when the set was learned, "
                "and are left out",
                stacklevel=2,
            )
    # absolute, as they may be read from another working directory, or by another process
    test_paths, test_ids = [paths[i].absolute() for i in held_out], [ids[i] for i in held_out]
    read_test = partial(read_images, decode, test_paths, targets[held_out], test_ids, tuple(files))
    name = root.resolve().name or "folder"
    remarks = f", {bad:,} skipped as they could not be read" if bad else ""
    remarks += f", {newer:,} newer left out" if newer else ""
    return RealData.assemble(
        name,
        (torch.stack([pixels[i] for i in kept]), targets[kept]),
        read_test,
        classes=tuple(files),
        description=(
            f"{name}: a folder of images in {len(files)} classes, {len(kept):,} to learn from, "
            f"{len(held_out):,} held out, stratified{remarks}"
        ),
        validation=0.1 if validation is None else validation,
        seed=seed,
        size=side,
        channels=depth,
        normalization=chosen,
        split=split,
        ids=([ids[i] for i in kept], test_ids),
        device=device,
    )


def read_square(path: Path, channels: int, size: int) -> tuple[Tensor, bytes]:
    """A file as a tensor (channels, size, size) in 0..1 with memory of its own, and the file's
    SHA-256."""
    pixels, content = read_with_hash(path, channels)
    return to_size(pixels, size).clone(), content


def read_images(
    decode: Callable[[Path], tuple[Tensor, bytes]],
    paths: list[Path],
    labels: Tensor,
    ids: list[str],
    classes: tuple[str, ...],
) -> Pixels:
    """The images of these files, in order, and their labels, where the files are as they were."""
    images = []
    read = iterate(zip(paths, labels.tolist(), ids, strict=True), "reading images", len(paths))
    for path, label, expected in read:
        image, content = decode(path)
        if image_id(classes[label], content) != expected:
            raise DataError(f"{path} has changed since the folder was read; read the folder again")
        images.append(image)
    return torch.stack(images), labels


def folder_classes(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the class folders, in label order."""
    return tuple(_classes(Path(folder).expanduser()))


def _classes(root: Path) -> dict[str, list[Path]]:
    """The class folders in order of their names, each with its files in order."""
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"{root} {state}; wanted a folder that holds one folder of images for each class"
        )
    entries = _list_files(root)
    stray = [path for path in entries if not path.is_dir()]
    folders = [path for path in entries if path.is_dir()]
    if stray and not folders:
        raise DataError(
            f"{root} holds files ({list_some([path.name for path in stray], 1)}) and no folders; "
            "wanted one folder for each class, with the images in it"
        )
    if stray:
        raise DataError(
            f"{root} holds the file {stray[0].name} beside the class folders; move it into a class "
            "or take it away"
        )
    if len(folders) < 2:
        found = f"one class only ({folders[0].name})" if folders else "no class"
        raise DataError(f"{root} has {found}; wanted two or more folders, one for each class")
    for path in folders:
        if is_output(path):
            raise DataError(
                f"{path} holds runs of datadistill and no images of a class; move it out of {root} "
                "(and give --out a place outside)"
            )
    classes = {}
    for path in folders:
        members = _list_files(path)
        nested = [member for member in members if member.is_dir()]
        if nested:
            raise DataError(
                f"{nested[0]} is a folder inside a class; wanted images only: move its files "
                "up or take it away"
            )
        classes[path.name] = members
    return classes


def is_output(folder: Path, depth: int = 3) -> bool:
    """Whether a folder is a run folder, or holds some (runs/NAME, runs/reproduce/NAME/...)."""
    if (folder / "config.json").is_file() and (folder / "environment.json").is_file():
        return True
    try:
        with os.scandir(folder) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return False  # listing it says what is wrong
    return depth > 0 and any(is_output(path, depth - 1) for path in inner)


def _list_files(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be listed ({error.strerror}); check its permissions"
        ) from error
    return [
        path for path in found if not path.name.startswith(".") and path.name.lower() not in LITTER
    ]
