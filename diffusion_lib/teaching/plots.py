"""Figures that two or more lessons use."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion_lib.teaching.style import DATA, FONT, label, new_figure, show_image


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


def pair(axes: Axes) -> None:
    """Draw the course's pair, x and y normal with variance 1 and covariance 0.8: ellipses that hold 50 and 90 %."""
    turn = np.linspace(0, 2 * np.pi, 200)
    for share in (0.5, 0.9):
        radius = np.sqrt(-2 * np.log(1 - share))
        x, noise = radius * np.cos(turn), radius * np.sin(turn)
        axes.plot(x, 0.8 * x + 0.6 * noise, color=DATA, linewidth=1.5)
    label(axes, "x", "y")
    axes.set(xlim=(-2.8, 2.8), ylim=(-2.8, 2.8), aspect="equal")
