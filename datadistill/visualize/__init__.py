"""Figures of distilled sets and runs: the images, the curves of a run, the step sizes.

Functions return a matplotlib Figure, which a notebook shows and `save` writes as a PNG. Everything
is drawn from distilled sets and run folders; no training code is imported, and no display is
needed.
"""

from datadistill.visualize.canvas import save
from datadistill.visualize.curves import curves_figure
from datadistill.visualize.images import images_figure
from datadistill.visualize.run_figures import write_figures
from datadistill.visualize.step_sizes import step_sizes_figure

__all__ = ["curves_figure", "images_figure", "save", "step_sizes_figure", "write_figures"]
