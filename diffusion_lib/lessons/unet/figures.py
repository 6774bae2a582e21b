"""Figures of lesson 12: the time embedding, what one pixel sees, the shapes along the U, the cost of missing parts."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from diffusion_lib.teaching.style import DATA, EXTRA, FONT, GREY, INK, MODEL, NOISE, label, legend, new_figure

BANDS = ("1-50", "51-200", "201-500", "501-1000")  # of the time, in the figure of ablations


def time_embedding(table: np.ndarray, products: np.ndarray, t: int) -> Figure:
    """Draw the time embedding as a heat map (T, width), t marked, and its dot products (T,) with that of t."""
    figure, (left, right) = new_figure(7.6, 2.9, 2)
    T, width = table.shape
    left.imshow(
        table.T, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", extent=(1, T, width, 0), interpolation="nearest"
    )
    left.axhline(width / 2, color=INK, linewidth=1)
    left.axvline(t, color=INK, linewidth=1.5, linestyle="--")
    label(left, "time t", "entry", "cosines above, sines below; red 1, blue -1")
    right.plot(np.arange(1, T + 1), products, color=MODEL, linewidth=1.5)
    right.axvline(t, color=INK, linewidth=1.5, linestyle="--")
    right.axhline(width / 2, color=GREY, linewidth=1, linestyle=":")
    label(right, "other time", "", f"dot product with t = {t}")
    right.set(xlim=(1, T), ylim=(-0.35 * width / 2, 1.1 * width / 2))
    return figure


def maps(images: Sequence[np.ndarray], titles: Sequence[str], low: float, high: float, name: str) -> Figure:
    """Draw images (H, W) of positive numbers side by side on one scale from low to high, with a colour bar."""
    figure, axes = new_figure(2.1 * len(images) + 0.6, 2.4, len(images))
    for axis, image, title in zip(axes, images, titles, strict=True):
        drawn = axis.imshow(image, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(title, fontsize=FONT)
        axis.set(xticks=[], yticks=[])
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label(name, fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT - 1)
    return figure


def activation(y: np.ndarray, curves: Mapping[str, np.ndarray]) -> Figure:
    """Draw named functions of one number (n,) over y (n,)."""
    figure, (axis,) = new_figure(4.4, 2.5)
    for (name, values), colour, style in zip(curves.items(), (MODEL, NOISE, GREY), ("-", "--", ":"), strict=False):
        axis.plot(y, values, color=colour, linestyle=style, linewidth=1.8, label=name)
    label(axis, "y")
    legend(axis, "upper left")
    return figure


def _bar(axis: Axes, x: float, y: float, side: int, channels: int, colour: str) -> None:
    """One tensor: a bar whose height grows with the image's side, its channels written above."""
    height = 0.16 + 0.08 * np.log2(side)
    axis.add_patch(Rectangle((x - 0.17, y - height / 2), 0.34, height, facecolor=colour, edgecolor="none"))
    axis.text(x, y + height / 2 + 0.03, str(channels), ha="center", va="bottom", fontsize=FONT - 1, color=INK)


def u_shape(
    sides: Sequence[int], down: Sequence[Sequence[int]], middle: Sequence[int], up: Sequence[Sequence[int]], title: str
) -> Figure:
    """Draw the tensors of a U-Net as bars, one row a stage, with arrows for what is kept.

    Args: sides, of the image at each stage, from the top; down, the channels of all that each stage keeps; middle,
    those after each of its blocks; up, those after each block of each stage, from the top.
    """
    figure, (axis,) = new_figure(7.2, 3.5)
    count, at = max(map(len, down)), []
    for i, (side, kept, given) in enumerate(zip(sides, down, up, strict=True)):
        y, left, right = -1.05 * i, 0.9 * i, 9.4 - 0.9 * i
        for k, channels in enumerate(kept):
            _bar(axis, left + 0.45 * k, y, side, channels, DATA)
        for k, channels in enumerate(given):
            _bar(axis, right + 0.45 * (k - len(given) + 1), y, side, channels, MODEL)
        ends = left + 0.45 * (count - 1) + 0.3, right - 0.45 * (count - 1) - 0.3
        axis.annotate("", (ends[1], y), (ends[0], y), arrowprops={"arrowstyle": "->", "color": EXTRA, "linewidth": 1.8})
        axis.text(np.mean(ends), y + 0.04, f"{len(kept)} kept", ha="center", va="bottom", fontsize=FONT - 1)
        axis.text(-0.6, y, f"{side}x{side}", ha="right", va="center", fontsize=FONT)
        at.append(y)
    for k, channels in enumerate(middle):
        _bar(axis, 4.7 + 0.5 * (k - (len(middle) - 1) / 2), at[-1] - 0.95, sides[-1], channels, GREY)
    axis.text(-0.6, at[-1] - 0.95, "middle", ha="right", va="center", fontsize=FONT)
    axis.set(xlim=(-1.9, 9.9), ylim=(at[-1] - 1.4, 0.8))
    axis.set_axis_off()
    axis.set_title(title, fontsize=FONT, loc="left")
    return figure


def ablation(
    parameters: Mapping[str, tuple[int, int]], losses: tuple[Sequence[float], Sequence[float]], name: str
) -> Figure:
    """Draw {part: (parameters of the whole, of the network without something)} and both losses by band of time."""
    figure, (left, right) = new_figure(7.6, 2.9, 2)
    rows, at = np.arange(len(parameters)), np.arange(len(BANDS))
    for k, (colour, words) in enumerate(((GREY, "the whole U-Net"), (NOISE, name))):
        counts = [pair[k] / 1000 for pair in parameters.values()]
        left.barh(rows + (k - 0.5) * 0.38, counts, 0.38, color=colour)
        right.bar(at + (k - 0.5) * 0.38, losses[k], 0.38, color=colour, label=words)
    left.set_yticks(rows, list(parameters), fontsize=FONT - 1)
    left.invert_yaxis()
    label(left, "thousand parameters", "", "what it is made of")
    label(right, "time t", "", "squared error of $\\epsilon$ on unseen digits")
    right.set_xticks(at, BANDS)
    right.set(yscale="log", ylim=(0.003, 3))
    right.minorticks_off()
    legend(right, "upper right")
    return figure
