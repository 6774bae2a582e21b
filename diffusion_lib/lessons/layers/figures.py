"""Figures of lesson 03: arrays in, figures out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from diffusion_lib.teaching.style import (
    DATA,
    EXTRA,
    FONT,
    GREY,
    INK,
    MODEL,
    NOISE,
    POSTERIOR,
    Figure,
    described,
    label,
    legend,
    new_figure,
    show_image,
)


def _cells(
    axes: Axes, values: np.ndarray, title: str, colour: str = "Blues", form: str = "{:g}", top: float | None = None
) -> None:
    """Draw a small matrix with its numbers."""
    limit = top or max(1.0, float(np.abs(values).max()))
    axes.imshow(values, cmap=colour, vmin=0, vmax=1.6 * limit, interpolation="nearest")
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, form.format(value), ha="center", va="center", fontsize=FONT - 1, color=INK)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=FONT, loc="left")


def slide(image: np.ndarray, answers: np.ndarray, kernel: np.ndarray, place: int) -> Figure:
    """Draw an image (8, 8) with a window, the kernel (3, 3), and its answers (6, 6) up to the window's place."""
    figure, axes = new_figure(6.6, 2.5, columns=3)
    show_image(axes[0], -image, "image")
    row, column = divmod(place, 6)
    axes[0].add_patch(Rectangle((column - 0.5, row - 0.5), 3, 3, fill=False, edgecolor=NOISE, linewidth=2.5))
    _cells(axes[1], kernel, "kernel", "Greys", "{:+.2g}", 4.0)
    found = np.where(np.arange(36).reshape(6, 6) <= place, answers, np.nan)
    axes[2].set_facecolor("#f3d9b5")
    axes[2].imshow(found, cmap="PuOr", vmin=-6, vmax=6, interpolation="nearest")
    axes[2].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5))
    axes[2].set(xticks=[], yticks=[])
    axes[2].set_title("answers", fontsize=FONT)
    return figure


def twins(
    pictures: Sequence[np.ndarray], answers: Sequence[np.ndarray], names: Sequence[str], parts: Sequence[float]
) -> Figure:
    """Draw images and a kernel's answers to them side by side; `parts` says how alike neighbouring answers are."""
    figure, axes = new_figure(1.5 * 2 * len(pictures), 1.9, columns=2 * len(pictures))
    for k, (picture, answer, name) in enumerate(zip(pictures, answers, names, strict=True)):
        show_image(axes[2 * k], -picture, name)
        axes[2 * k + 1].imshow(answer, cmap="PuOr", vmin=-6, vmax=6, interpolation="nearest")
        axes[2 * k + 1].set(xticks=[], yticks=[])
        axes[2 * k + 1].set_title("edges", fontsize=FONT)
    told = ", ".join(f"{name} {part:.2f}" for name, part in zip(names, parts, strict=True))
    return described(figure, f"One kernel on two images; the correlation of neighbouring pixels in them: {told}.")


def matrix(W: np.ndarray) -> Figure:
    """Draw the matrix of a convolution (outputs, inputs)."""
    figure, (axes,) = new_figure(5.0, 2.8)
    axes.imshow(np.ma.masked_equal(W, 0), cmap="viridis", interpolation="nearest")
    label(axes, f"{W.shape[1]} input pixels", f"{W.shape[0]} outputs")
    kinds = len(np.unique(np.round(W[W != 0], 9)))
    filled = float((W != 0).mean())
    return described(
        figure,
        f"A matrix of {W.shape[0]} rows and {W.shape[1]} columns, {filled:.0%} of it filled, "
        f"with {kinds} different numbers.",
    )


def lines(x: np.ndarray, values: np.ndarray, at: np.ndarray, curves: Mapping[str, np.ndarray]) -> Figure:
    """Draw samples of a signal and three ways to fill in between."""
    figure, (axes,) = new_figure(6.0, 2.6)
    for (name, curve), colour in zip(curves.items(), (EXTRA, DATA, POSTERIOR), strict=True):
        axes.plot(at, curve, color=colour, label=name, drawstyle="steps-mid" if name == "nearest" else "default")
    axes.plot(x, values, "o", color=INK, markersize=5)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axhline(1, color=GREY, linewidth=0.6)
    label(axes, "place", "value")
    axes.legend(fontsize=FONT - 1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    low = ", ".join(f"{name} {curve.min():.3f} to {curve.max():.3f}" for name, curve in curves.items())
    return described(figure, f"Seven values between 0 and 1 filled in; the curves reach from: {low}.")


def zooms(images: Mapping[str, np.ndarray]) -> Figure:
    """Draw colour images (H, W, 3) in [-1, 1] side by side."""
    figure, axes = new_figure(2.1 * len(images), 2.3, columns=len(images))
    for axis, (name, image) in zip(axes, images.items(), strict=True):
        show_image(axis, image, name)
    sizes = ", ".join(f"{name} {image.shape[0]} x {image.shape[1]}" for name, image in images.items())
    return described(figure, f"One photograph: {sizes} pixels.")


def stamps(small: np.ndarray, stamp: np.ndarray, sum_so_far: np.ndarray, W: np.ndarray, done: int) -> Figure:
    """Draw a transposed convolution after `done` stamps: the input, the stamp, the sum, and the matrix W^T."""
    figure, axes = new_figure(7.0, 2.3, columns=4)
    _cells(axes[0], small, "input")
    if done:
        row, column = divmod(done - 1, small.shape[1])
        axes[0].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5))
    _cells(axes[1], stamp, "kernel", "Oranges")
    _cells(axes[2], sum_so_far, "sum so far", "Greens", "{:g}", 20.0)
    axes[3].imshow(np.ma.masked_equal(W, 0), cmap="viridis", interpolation="nearest", aspect="auto")
    if done:
        axes[3].add_patch(Rectangle((done - 1.5, -0.5), 1, W.shape[0], fill=False, edgecolor=NOISE, linewidth=2.0))
    axes[3].set(xticks=[], yticks=[])
    axes[3].set_title("matrix $W^T$", fontsize=FONT, loc="left")
    return figure


def counts(image: np.ndarray) -> Figure:
    """Draw how many stamps reach each pixel."""
    figure, (axes,) = new_figure(3.4, 3.0)
    axes.imshow(image, cmap="Blues", vmin=0, vmax=max(4.0, float(image.max()) * 1.4), interpolation="nearest")
    for (i, j), value in np.ndenumerate(image):
        axes.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=FONT - 1)
    axes.set(xticks=[], yticks=[])
    axes.set_title("stamps that reach a pixel", fontsize=FONT, loc="left")
    return figure


def averaged(same: np.ndarray) -> Figure:
    """Draw a batch (N, C, H, W) as a table of images and channels; coloured: what is averaged with the framed entry."""
    N, C = same.shape[:2]
    figure, axes = new_figure(0.72 * C + 0.5, 0.72 * N + 0.4, columns=C, rows=N)
    for k, axis in enumerate(axes):
        n, c = divmod(k, C)
        axis.imshow(same[n, c], cmap="Greens", vmin=0, vmax=1.5, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        if n == 0:
            axis.set_title(f"ch. {c}", fontsize=FONT - 1)
        if c == 0:
            axis.set_ylabel(f"image {n}", fontsize=FONT - 1)
        if n == 1 and c == 2:
            axis.add_patch(Rectangle((0.5, 0.5), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5))
    return figure


def depth(
    depths: np.ndarray, gradient: Mapping[str, np.ndarray], likeness: Mapping[str, np.ndarray], now: int
) -> Figure:
    """Draw, for four kinds of chains, the gradient that arrives and how alike images become, against the depth."""
    figure, (left, right) = new_figure(7.4, 3.0, columns=2)
    for (name, values), colour in zip(gradient.items(), (NOISE, EXTRA, POSTERIOR, MODEL), strict=True):
        left.semilogy(depths, np.maximum(values, 1e-25), "o-", color=colour, markersize=3, label=name)
        right.plot(depths, likeness[name], "o-", color=colour, markersize=3)
    for axes in (left, right):
        axes.axvline(now, color=GREY, linestyle="--", linewidth=1)
    label(left, "layers", "gradient, bottom over top")
    left.set(ylim=(1e-25, 1e6))
    legend(left, "lower left")
    label(right, "layers", "mean cosine of two images")
    right.set(ylim=(0, 1.05))
    return figure


def stack(image: np.ndarray, odds: np.ndarray) -> Figure:
    """Draw an image of levels (8, 8) and, for one pixel, 17 numbers that sum to 1."""
    figure, (left, right) = new_figure(6.0, 2.5, columns=2)
    show_image(left, -image, "in: an image")
    left.add_patch(Rectangle((3.5, 3.5), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5))
    right.bar(range(17), odds, color=MODEL)
    label(right, "level of the framed pixel", "probability")
    return described(
        figure, f"An image, and 17 numbers for its framed pixel; they sum to {odds.sum():.3f}, and none is below 0."
    )
