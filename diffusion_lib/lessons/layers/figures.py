"""Figures of lesson 03: arrays in, figures out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from diffusion_lib.teaching.plots import pair
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
    """Draw an image (8, 8) with a window, its pixels, the kernel (3, 3), and the answers (6, 6) up to its place."""
    figure, axes = new_figure(7.4, 2.1, columns=4)
    show_image(axes[0], -image, "image")
    row, column = divmod(place, 6)
    axes[0].add_patch(Rectangle((column - 0.5, row - 0.5), 3, 3, fill=False, edgecolor=NOISE, linewidth=2.5))
    _cells(axes[1], image[row : row + 3, column : column + 3], "window", "Blues", "{:.3g}", 4.0)
    _cells(axes[2], kernel, "kernel", "Oranges", "{:+.2g}", 4.0)
    found = np.where(np.arange(36).reshape(6, 6) <= place, answers, np.nan)
    axes[3].set_facecolor("#f3d9b5")
    axes[3].imshow(found, cmap="PuOr", vmin=-6, vmax=6, interpolation="nearest")
    axes[3].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5))
    axes[3].set(xticks=[], yticks=[])
    axes[3].set_title("answers", fontsize=FONT)
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
    return described(
        figure, f"One kernel on two images; the correlation of an answer with its neighbour on the right: {told}."
    )


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


def lines(values: np.ndarray, curves: Mapping[str, np.ndarray]) -> Figure:
    """Draw pixels of a row and three ways to fill in between."""
    figure, (axes,) = new_figure(6.0, 2.6)
    for (name, curve), colour in zip(curves.items(), (EXTRA, DATA, POSTERIOR), strict=True):
        at = (np.arange(len(curve)) + 0.5) * len(values) / len(curve) - 0.5
        axes.plot(at, curve, color=colour, label=name, drawstyle="steps-mid" if name == "nearest" else "default")
    axes.plot(np.arange(len(values)), values, "o", color=INK, markersize=5)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axhline(1, color=GREY, linewidth=0.6)
    label(axes, "place", "value")
    axes.legend(fontsize=FONT - 1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    low = ", ".join(f"{name} {curve.min():.3f} to {curve.max():.3f}" for name, curve in curves.items())
    return described(figure, f"Seven values between 0 and 1 filled in; the curves reach from: {low}.")


def zooms(images: Mapping[str, np.ndarray]) -> Figure:
    """Draw colour images (H, W, 3) in [-1, 1] side by side, and say how far the others are from the first."""
    figure, axes = new_figure(1.4 * len(images), 1.7, columns=len(images))
    for axis, (name, image) in zip(axes, images.items(), strict=True):
        show_image(axis, image, name)
    first, *others = images
    far = {name: np.sqrt(np.mean((images[name] - images[first]) ** 2)) for name in others}
    told = ", ".join(f"{name} {error:.3f}" for name, error in far.items())
    return described(figure, f"One photograph, made smaller and enlarged again; root mean square error: {told}.")


def stamps(small: np.ndarray, stamp: np.ndarray, sum_so_far: np.ndarray, back: np.ndarray, done: int) -> Figure:
    """Draw a transposed convolution after `done` stamps: input, stamp, sum, its matrix `back` = W^T, and W."""
    figure, axes = new_figure(7.6, 2.4, columns=5)
    _cells(axes[0], small, "input")
    _cells(axes[1], stamp, "kernel", "Oranges")
    _cells(axes[2], sum_so_far, "sum so far", "Greens", "{:g}", 20.0)
    for axis, values, title in ((axes[3], back, "$W^T$"), (axes[4], back.T, "$W$")):
        axis.imshow(np.ma.masked_equal(values, 0), cmap="viridis_r", interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{title}: {values.shape[0]} x {values.shape[1]}", fontsize=FONT, loc="left")
    if done:
        row, column = divmod(done - 1, small.shape[1])
        frame = {"fill": False, "edgecolor": NOISE, "linewidth": 2.0}
        axes[0].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **frame))
        axes[3].add_patch(Rectangle((done - 1.5, -0.5), 1, back.shape[0], **frame))
        axes[4].add_patch(Rectangle((-0.5, done - 1.5), back.shape[0], 1, **frame))
    return figure


def counts(image: np.ndarray) -> Figure:
    """Draw the inner answer to a constant image, each pixel with its number."""
    figure, (axes,) = new_figure(3.2, 2.9)
    limit = max(4.0, float(np.abs(image).max()))
    axes.imshow(image, cmap="PuOr_r", vmin=-1.6 * limit, vmax=1.6 * limit, interpolation="nearest")
    whole = np.allclose(image, np.round(image))
    for (i, j), value in np.ndenumerate(image):
        axes.text(
            j,
            i,
            f"{value:.0f}" if whole else f"{round(value, 1) + 0.0:.1f}",
            ha="center",
            va="center",
            fontsize=FONT - 1,
        )
    axes.set(xticks=[], yticks=[])
    axes.set_title("answer, away from the border", fontsize=FONT, loc="left")
    return figure


def windows(pixels: int, padding: int, kernel: int, starts: Sequence[int]) -> Figure:
    """Draw a row of pixels with its border of zeros, the windows below it, and an answer below each window."""
    figure, (axes,) = new_figure(6.0, 2.6)
    read = {start + j for start in starts for j in range(kernel)}
    for place in range(pixels + 2 * padding):
        border = not padding <= place < pixels + padding
        colour = "white" if border else DATA if place in read else NOISE
        axes.add_patch(Rectangle((place, 0), 0.94, 0.9, facecolor=colour, edgecolor=INK, linewidth=0.8))
        text = "0" if border else str(place - padding + 1)
        axes.text(place + 0.47, 0.45, text, ha="center", va="center", fontsize=FONT, color=INK if border else "white")
    for row, start in enumerate(starts):
        low = -0.55 * (row + 1)
        axes.add_patch(Rectangle((start, low), kernel - 0.06, 0.45, facecolor="#f3d9b5", edgecolor=INK, linewidth=0.8))
        axes.text(start + kernel / 2 - 0.03, low + 0.2, f"{row + 1}", ha="center", va="center", fontsize=FONT - 1)
    axes.set(xlim=(-0.2, 11.2), ylim=(-6.3, 1.1))
    axes.set_title("pixels (red: never read), border (white); below: the windows", fontsize=FONT, loc="left")
    axes.set_axis_off()
    return figure


def averaged(same: np.ndarray) -> Figure:
    """Draw a batch (N, C, H, W), N <= 3, as tiles of pixels; coloured: what is averaged with the framed entry."""
    (N, C, H, W), gap = same.shape, 1
    sheet = np.full((3 * (H + gap) - gap, C * (W + gap) - gap), np.nan)
    for n, c in np.ndindex(N, C):
        sheet[n * (H + gap) : n * (H + gap) + H, c * (W + gap) : c * (W + gap) + W] = same[n, c]
    figure, (axes,) = new_figure(6.4, 2.6)
    axes.pcolormesh(np.ma.masked_invalid(sheet), cmap="Greens", vmin=-0.1, vmax=1.5, edgecolors="white", linewidth=0.5)
    row, column = N // 2 * (H + gap) + 1, 2 * (W + gap) + 1
    axes.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5))
    axes.set(ylim=(sheet.shape[0], 0), aspect="equal")
    axes.set_xticks([c * (W + gap) + W / 2 for c in range(C)], [f"channel {c}" for c in range(C)], fontsize=FONT - 1)
    axes.set_yticks([n * (H + gap) + H / 2 for n in range(N)], [f"image {n}" for n in range(N)], fontsize=FONT - 1)
    axes.tick_params(length=0, top=True, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    return figure


def depth(
    depths: np.ndarray, gradient: Mapping[str, np.ndarray], between: Mapping[str, np.ndarray], now: int
) -> Figure:
    """Draw, for four kinds of chains, the gradient that arrives and the variance between images, against the depth."""
    figure, (left, right) = new_figure(7.4, 3.0, columns=2)
    for (name, values), colour in zip(gradient.items(), (NOISE, EXTRA, POSTERIOR, MODEL), strict=True):
        left.semilogy(depths, np.maximum(values, 1e-25), "o-", color=colour, markersize=3)
        right.semilogy(depths, np.maximum(between[name], 1e-14), "o-", color=colour, markersize=3, label=name)
    for axes in (left, right):
        axes.axvline(now, color=GREY, linestyle="--", linewidth=1)
    label(left, "layers", "gradient, bottom over top")
    left.set(ylim=(1e-26, 1e15))
    legend(right, "center right")
    label(right, "layers", "share of variance between images")
    right.set(ylim=(3e-15, 10))
    return figure


def healthy(layers: np.ndarray, size: np.ndarray, between: np.ndarray) -> Figure:
    """Draw the size of the values and the part of it that differs between images, against the depth."""
    figure, (axes,) = new_figure(5.6, 2.6)
    axes.plot(layers, size, "o-", color=GREY, markersize=3, label="size of the values")
    axes.plot(layers, between, "o-", color=NOISE, markersize=3, label="what differs between images")
    label(axes, "layer", "root mean square")
    axes.set(ylim=(0, 1.25 * size.max()))
    legend(axes, "upper right")
    return described(
        figure,
        f"A stack of {layers[-1]} ReLU layers, He's weights: the size is {size[0]:.2f} below and {size[-1]:.2f} "
        f"above; what differs between images falls from {between[0]:.2f} to {between[-1]:.2f}.",
    )


def thread(draws: np.ndarray, apart: np.ndarray) -> Figure:
    """Draw the pair (N, 2) with its ellipse, and its two parts a and b (N, 2)."""
    figure, (left, right) = new_figure(5.6, 2.9, columns=2)
    left.plot(*draws[:400].T, ".", color=GREY, markersize=2)
    pair(left)
    right.plot(*apart[:400].T, ".", color=GREY, markersize=2)
    turn = np.linspace(0, 2 * np.pi, 200)
    for held in (0.5, 0.9):
        radius = np.sqrt(-2 * np.log(1 - held))
        a, b = radius * np.sqrt(1.8) * np.cos(turn), radius * np.sqrt(0.2) * np.sin(turn)
        right.plot(a, b, color=MODEL, linewidth=1.5)
    label(right, "a", "b")
    right.set(xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), aspect="equal")
    a, b = apart.var(0)
    return described(
        figure,
        f"The pair, tilted, with correlation {np.corrcoef(draws.T)[0, 1]:.2f}; its parts a and b, not tilted, "
        f"with variances {a:.2f} and {b:.2f}.",
    )


def stack(parts: Sequence[tuple[str, Sequence[int]]], image: np.ndarray, odds: np.ndarray) -> Figure:
    """Draw a stack of parts as boxes (high: their images; wide: their channels), and one pixel's 17 numbers."""
    figure = new_figure(7.4, 2.7)[0]
    figure.clear()
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.0, 3.4, 1.7))
    show_image(left, -image, "in: 8 x 8 levels")
    left.add_patch(Rectangle((3.5, 3.5), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5))
    for place, (name, (channels, height, _)) in enumerate(parts):
        colour = DATA if place == 0 else MODEL
        corner = (place - 0.03 - channels / 60, -height / 2)
        axes_box = Rectangle(corner, 0.06 + channels / 30, height, facecolor=colour, alpha=0.35, edgecolor=INK)
        middle.add_patch(axes_box)
        middle.text(place, 4.5, name, ha="left", va="bottom", fontsize=FONT - 1, rotation=40)
        middle.text(place, -4.6, f"{channels} x\n{height} x {height}", ha="center", va="top", fontsize=FONT - 1)
    middle.set(xlim=(-0.6, len(parts) - 0.1), ylim=(-7.2, 9.5))
    middle.set_axis_off()
    right.bar(range(len(odds)), odds, color=MODEL)
    label(right, "level of the framed pixel", "probability")
    return described(
        figure,
        f"A stack of {len(parts) - 1} parts with {parts[-1][1][0]} channels at its end; the {len(odds)} numbers of the "
        f"framed pixel sum to {odds.sum():.3f}, and none is below 0.",
    )
