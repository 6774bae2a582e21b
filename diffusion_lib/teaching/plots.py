"""Figures that two or more lessons use."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from diffusion_lib.teaching.style import FONT, new_figure, show_image


def image_grid(images: np.ndarray, titles: Sequence[str], names: Sequence[str] = (), limit: float = 1.0) -> Figure:
    """Draw images (rows, columns, H, W) with one title a column and, if given, one name a row."""
    rows, columns = images.shape[:2]
    figure, axes = new_figure(1.05 * columns + 0.3, 1.05 * rows + 0.3, columns, rows)
    for k, axis in enumerate(axes):
        row, column = divmod(k, columns)
        show_image(axis, images[row, column], titles[column] if row == 0 else "", limit)
        if names and column == 0:
            axis.set_ylabel(names[row], fontsize=FONT)
    return figure
