"""Figures of lesson 04: arrays in, figures out."""

from collections.abc import Mapping, Sequence

import numpy as np

from diffusion_lib.teaching.style import (
    CYCLE,
    DATA,
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
)


def bell(x: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Return the normal density."""
    return np.exp(-((x - mean) ** 2) / (2 * std**2)) / (np.sqrt(2 * np.pi) * std)


def two_curves(points: np.ndarray, spike: tuple[float, float], hill: tuple[float, float]) -> Figure:
    """Draw points on a line under two normal densities, a spike and a hill."""
    figure, (axes,) = new_figure(6.0, 2.6)
    x = np.linspace(-5, 5, 800)
    axes.plot(x, bell(x, *spike), color=NOISE, label="spike")
    axes.plot(x, bell(x, *hill), color=MODEL, label="hill")
    axes.plot(points, np.zeros_like(points), "o", color=DATA, markersize=6, clip_on=False, zorder=5)
    label(axes, "x", "density")
    axes.set(xlim=(-5, 5), ylim=(0, None))
    legend(axes, "upper right")
    tops = bell(np.array(spike[0]), *spike), bell(np.array(hill[0]), *hill)
    return described(
        figure,
        f"Ten points; a spike of width {spike[1]:g} on three of them, {tops[0]:.1f} high, and a hill of width "
        f"{hill[1]:g} over all, {tops[1]:.2f} high.",
    )


def bet(points: np.ndarray, center: float, std: float) -> Figure:
    """Draw a normal density and its heights at the points."""
    figure, (axes,) = new_figure(5.4, 2.5)
    x = np.linspace(-5, 5, 800)
    axes.plot(x, bell(x, center, std), color=MODEL)
    heights = bell(points, center, std)
    axes.vlines(points, 0, heights, color=DATA, linewidth=1.5)
    axes.plot(points, np.zeros_like(points), "o", color=DATA, markersize=5, clip_on=False, zorder=5)
    label(axes, "x", "density")
    axes.set(xlim=(-5, 5), ylim=(0, 1.3))
    return figure


def area(std: float, low: float, high: float) -> Figure:
    """Draw a normal density with the area over one interval."""
    figure, (axes,) = new_figure(5.0, 2.5)
    x = np.linspace(-3, 3, 800)
    axes.plot(x, bell(x, 0.0, std), color=DATA)
    inside = (x >= low) & (x <= high)
    axes.fill_between(x[inside], bell(x[inside], 0.0, std), color=DATA, alpha=0.3)
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    label(axes, "x", "density")
    axes.set(xlim=(-3, 3), ylim=(0, 4.2))
    return figure


def two_ways(kept: float, along_x: bool) -> Figure:
    """Draw p(x | rate) = rate exp(-rate x) along x at a fixed rate, or along the rate at a fixed x."""
    figure, (axes,) = new_figure(5.0, 2.5)
    line = np.linspace(0, 6, 500)
    curve = kept * np.exp(-kept * line) if along_x else line * np.exp(-line * kept)
    axes.fill_between(line, curve, color=DATA if along_x else POSTERIOR, alpha=0.3)
    axes.plot(line, curve, color=DATA if along_x else POSTERIOR)
    label(axes, "x" if along_x else "rate", "density of x" if along_x else "likelihood of the rate")
    axes.set(xlim=(0, 6), ylim=(0, 2.1))
    return figure


def fits(x: np.ndarray, density: np.ndarray, curves: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw a density with Gaussians {name: (mean, std)} over it."""
    figure, (axes,) = new_figure(5.6, 2.6)
    axes.fill_between(x, density, color=DATA, alpha=0.25, label="two peaks")
    for (name, (mean, std)), colour in zip(curves.items(), (MODEL, NOISE), strict=False):
        axes.plot(x, bell(x, mean, std), color=colour, label=name)
    label(axes, "x", "density")
    axes.set(xlim=(-8, 8), ylim=(0, 0.44))
    legend(axes, "upper left")
    return figure


def species(points: np.ndarray, kinds: np.ndarray, names: Sequence[str], ellipses: Sequence[np.ndarray]) -> Figure:
    """Draw two measurements of penguins (n, 2) by species, with an ellipse (200, 2) of each fitted Gaussian."""
    figure, (axes,) = new_figure(5.8, 3.2)
    for k, (name, ring) in enumerate(zip(names, ellipses, strict=True)):
        axes.scatter(*points[kinds == k].T, s=9, color=CYCLE[k], linewidths=0, label=f"{name} ({(kinds == k).sum()})")
        axes.plot(*ring.T, color=CYCLE[k], linewidth=1.5)
    label(axes, "bill length, mm", "bill depth, mm")
    axes.legend(fontsize=FONT - 1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    counts = ", ".join(f"{name} {(kinds == k).sum()}" for k, name in enumerate(names))
    return described(
        figure, f"Bills of {len(points)} penguins by species ({counts}), each under a Gaussian of its own."
    )


def histogram(levels: np.ndarray, tables: Mapping[str, np.ndarray]) -> Figure:
    """Draw probability tables over levels side by side."""
    figure, (axes,) = new_figure(6.2, 2.6)
    width = 0.8 / len(tables)
    for k, (name, table) in enumerate(tables.items()):
        axes.bar(levels + (k - 0.5 * (len(tables) - 1)) * width, table, width, color=CYCLE[2 * k], label=name)
    label(axes, "grey level", "probability")
    axes.set_xticks(levels[::4])
    legend(axes, "upper center")
    top = ", ".join(f"{name} {table[0]:.2f} at level 0" for name, table in tables.items())
    return described(figure, f"Probabilities of {len(levels)} grey levels: {top}.")


def projected(sizes: np.ndarray, lengths: np.ndarray) -> Figure:
    """Draw the sliced W1 of two clouds at distance 1 against their dimension."""
    figure, (axes,) = new_figure(5.0, 2.5)
    axes.loglog(sizes, lengths, "o-", color=MODEL)
    label(axes, "dimension D", "sliced W1")
    told = ", ".join(f"{length:.2g} for D = {size}" for size, length in zip(sizes, lengths, strict=True))
    return described(figure, f"Two clouds one unit apart: their sliced distance is {told}.")


def components(
    points: np.ndarray, rings: Sequence[np.ndarray], whole: np.ndarray, scores: tuple[float, float]
) -> Figure:
    """Draw digits in two principal components (n, 2) under one Gaussian's ellipse and under ten, one a digit."""
    figure, (left, right) = new_figure(7.4, 3.4, columns=2)
    for axes in (left, right):
        axes.scatter(*points.T, s=3, color=GREY, linewidths=0)
        axes.set(xticks=[], yticks=[], aspect="equal")
    left.plot(*whole.T, color=NOISE, linewidth=2)
    for k, ring in enumerate(rings):
        right.plot(*ring.T, color=CYCLE[k % 7], linewidth=1.5)
    left.set_title(f"one Gaussian: {scores[0]:.2f} nats", fontsize=FONT, loc="left", color=INK)
    right.set_title(f"ten, one a digit: {scores[1]:.2f} nats", fontsize=FONT, loc="left", color=INK)
    return described(
        figure,
        f"Digits, {len(points)} of them, in two principal components: one Gaussian gives {scores[0]:.2f} nats a digit, "
        f"ten give {scores[1]:.2f}.",
    )
