"""The figures of a run folder, or of one file."""

from __future__ import annotations

import os
from pathlib import Path

from datadistill.distilled import DistilledDataset
from datadistill.features import FeatureNormalization
from datadistill.runs.atomic import wrap_oserror
from datadistill.runs.folder import SET_FILE
from datadistill.runs.jsonlines import read_lines
from datadistill.unfinished import unfinished_set
from datadistill.visualize.canvas import save
from datadistill.visualize.curves import curves_figure
from datadistill.visualize.images import images_figure
from datadistill.visualize.step_sizes import step_sizes_figure


def write_figures(
    run_path_or_file: str | os.PathLike[str], out: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Write the figures of a run folder or a distilled set's file as PNGs; the same data give the
    same bytes.

    A run folder gives `images.png`, `step_sizes.png` and, where it has metrics, `curves.png`; one
    that has not finished gives those of its latest checkpoint. A file gives `images.png` and
    `step_sizes.png`. Of a set of features no `images.png` is drawn.

    Args:
        run_path_or_file: a run folder, or the file of a distilled set.
        out: the folder to write into, made where absent; default: `figures` in the run folder, or
            `NAME-figures` beside the file.

    Returns:
        The files written.

    Example:
        `write_figures("runs/mnist5k-fixed-s0")` writes runs/mnist5k-fixed-s0/figures/images.png and
        two more.
    """
    path = Path(run_path_or_file)
    metrics = read_lines(path / "metrics.jsonl") if path.is_dir() else []
    unfinished = bool(metrics) and not (path / SET_FILE).exists()
    distilled = unfinished_set(path)
    if distilled is None and not unfinished:
        distilled = DistilledDataset.load(path)
    if out is None:
        out = path / "figures" if path.is_dir() else path.with_name(f"{path.stem}-figures")
    figures = {}
    if distilled is not None and not isinstance(distilled.normalization, FeatureNormalization):
        figures["images.png"] = images_figure(distilled)
    if metrics:
        figures["curves.png"] = curves_figure(metrics)
    figures["step_sizes.png"] = step_sizes_figure(metrics, distilled)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise wrap_oserror(error, folder) from error
    for name, figure in figures.items():
        save(figure, folder / name)
    return [folder / name for name in figures]
