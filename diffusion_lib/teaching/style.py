"""The look that every figure shares: colours that the colour-blind can tell apart, sizes, quiet axes."""

from collections.abc import Sequence

import matplotlib
import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

# Okabe and Ito's palette; the name says what the colour stands for on every page of the course.
DATA = "#0072B2"  # blue: x_0, the data, the signal
NOISE = "#D55E00"  # vermilion: noise, the prior
MODEL = "#009E73"  # green: what a model or a formula says
POSTERIOR = "#CC79A7"  # purple: posteriors
EXTRA = "#E69F00"  # orange: a further curve
SKY = "#56B4E9"  # light blue: a further curve
INK = "#222222"
GREY = "#888888"
CYCLE = (DATA, NOISE, MODEL, POSTERIOR, EXTRA, SKY, INK)

DPI = 80  # every label must be legible at this resolution
FONT = 10  # points


class Figure(matplotlib.figure.Figure):
    """A figure that says in one sentence what it shows: its repr, which nbval compares, and a page's alt text."""

    sentence = ""

    def __repr__(self) -> str:
        return self.sentence or super().__repr__()


def described(figure: Figure, sentence: str) -> Figure:
    """Give a figure the sentence that says its numbers, and return it. Raises: ValueError for no sentence."""
    if "\n" in sentence or not sentence.endswith("."):
        raise ValueError(f"sentence: expected one line that ends with a full stop, got {sentence!r}")
    figure.sentence = sentence
    return figure


def new_figure(width: float = 6.4, height: float = 3.2, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of `width` x `height` inches and its axes, row by row.

    It is drawn under matplotlib's defaults, whatever the reader's own matplotlibrc says: from here on they hold.
    """
    matplotlib.rcdefaults()
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def label(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Name the axes, give them a title and take away the frame's upper and right side."""
    axes.set_xlabel(x, fontsize=FONT)
    axes.set_ylabel(y, fontsize=FONT)
    axes.set_title(title, fontsize=FONT, loc="left")
    axes.tick_params(labelsize=FONT - 1)
    axes.spines[["top", "right"]].set_visible(False)


def show_image(axes: Axes, image: ArrayLike, title: str = "", limit: float = 1.0) -> None:
    """Draw a grey (H, W) or coloured (H, W, 3) image with values in [-limit, limit], each pixel a sharp square."""
    pixels = np.asarray(image)
    if pixels.ndim == 3:  # matplotlib wants colours from 0 to 1
        pixels = np.clip(pixels / (2 * limit) + 0.5, 0.0, 1.0)
    axes.imshow(pixels, cmap="gray", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title(title, fontsize=FONT)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def legend(axes: Axes, loc: str = "best") -> None:
    """A small legend without a frame."""
    axes.legend(fontsize=FONT - 1, frameon=False, loc=loc)  # type: ignore[call-overload]  # any place, as a str


def colours(n: int) -> Sequence[str]:
    """Return the first `n` colours of the cycle; ValueError beyond its length."""
    if not 1 <= n <= len(CYCLE):
        raise ValueError(f"n: expected 1..{len(CYCLE)} colours, got {n}")
    return CYCLE[:n]
