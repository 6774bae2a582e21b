"""Figures of lesson 04: arrays in, figures out."""

import numpy as np
from matplotlib.figure import Figure

from diffusion_lib.teaching.style import DATA, label, new_figure


def histogram(x: np.ndarray) -> Figure:
    """Draw the histogram of a sample (n,)."""
    figure, (axes,) = new_figure(4.8, 2.6)
    axes.hist(x, bins=np.linspace(-6, 6, 49), density=True, color=DATA)
    label(axes, "x", "density")
    axes.set(xlim=(-6, 6), ylim=(0, 0.9))
    return figure
