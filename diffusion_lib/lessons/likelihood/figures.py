"""Figures of lesson 04: arrays in, figures out."""

from collections.abc import Mapping, Sequence

import numpy as np

from diffusion_lib.teaching.plots import pair
from diffusion_lib.teaching.style import (
    CYCLE,
    DATA,
    EXTRA,
    FONT,
    GREY,
    INK,
    MODEL,
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
    axes.plot(x, bell(x, *spike), color=EXTRA, label="spike")
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
    axes.plot(x, bell(x, 0.0, std), color=MODEL)
    inside = (x >= low) & (x <= high)
    axes.fill_between(x[inside], bell(x[inside], 0.0, std), color=MODEL, alpha=0.3)
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    label(axes, "x", "density")
    axes.set(xlim=(-3, 3), ylim=(0, 4.2))
    return figure


def same_formula(x: float, rate: float) -> Figure:
    """Draw rate exp(-rate x) along x with the rate fixed, along the rate with x fixed, a dot at (x, rate) in both."""
    figure, panels = new_figure(6.4, 2.5, columns=2)
    line = np.linspace(0, 6, 400)
    curves = (rate * np.exp(-rate * line), line * np.exp(-line * x))
    names = (("x", f"density, rate {rate:g} fixed"), ("rate", f"likelihood, x = {x:g} fixed"))
    for axes, curve, at, (name, title), colour in zip(panels, curves, (x, rate), names, (DATA, MODEL), strict=True):
        axes.fill_between(line, curve, color=colour, alpha=0.25)
        axes.plot(line, curve, color=colour)
        axes.plot([at, at], [0, rate * np.exp(-rate * x)], "o-", color=INK, markersize=5, linewidth=1, markevery=[1])
        label(axes, name, "", title)
        axes.set(xlim=(0, 6), ylim=(0, 2.05))
    return figure


def two_objectives(
    points: np.ndarray, centers: np.ndarray, logs: np.ndarray, sums: np.ndarray, best: tuple[float, float]
) -> Figure:
    """Draw, over the center of a bell curve, the points' log product and the sum of their heights, with the maxima."""
    figure, panels = new_figure(6.4, 2.5, columns=2)
    for axes, curve, at, title, colour in zip(
        panels, (logs, sums), best, ("sum of logarithms (the product)", "sum of heights"), (MODEL, EXTRA), strict=True
    ):
        axes.plot(centers, curve, color=colour)
        axes.axvline(at, color=INK, linewidth=1, linestyle="--")
        low, high = curve.min(), curve.max()
        stack = [float((points[:k] == one).sum()) for k, one in enumerate(points)]  # equal points, one on the other
        axes.plot(points, low + 0.06 * (high - low) * np.array(stack), "o", color=DATA, markersize=5, clip_on=False)
        label(axes, "center", "", title)
        axes.set(xlim=(-3, 13), ylim=(low, high + 0.06 * (high - low)))
    return figure


def competition(counted: np.ndarray, said: np.ndarray) -> Figure:
    """Draw the shares of the grey levels in the data and the probabilities that a model gives them, side by side."""
    figure, (axes,) = new_figure(5.8, 2.4)
    levels = np.arange(len(counted))
    axes.bar(levels - 0.2, counted, 0.4, color=DATA, label="data")
    axes.bar(levels + 0.2, said, 0.4, color=MODEL, label="model")
    label(axes, "grey level", "probability")
    axes.set(ylim=(0, 0.32), xticks=levels[::4])
    legend(axes, "upper center")
    return figure


def pressed(
    data: np.ndarray, x: np.ndarray, bell_curve: np.ndarray, density: np.ndarray, z: np.ndarray, costs: Sequence[float]
) -> Figure:
    """Draw a generator on a line, x = G(z), and what it makes of a bell curve, over the data's histogram."""
    figure, (left, right) = new_figure(7.0, 2.7, columns=2)
    left.plot(z, x, color=MODEL)
    label(left, "z", "x = G(z), cm")
    left.set(xlim=(-3, 3), ylim=(16.5, 24.5))
    right.hist(data, bins=np.arange(16.75, 24.5, 0.5), density=True, color=DATA, alpha=0.3, label="data")
    right.plot(x, bell_curve, color=GREY, label="a + b z")
    right.plot(x, density, color=MODEL, label="G(z)")
    label(right, "flipper, cm", "density")
    right.set(xlim=(16.5, 24.5), ylim=(0, 0.5))
    legend(right, "upper right")
    return described(
        figure, f"Flippers of {len(data)} penguins: a line a + b z costs {costs[0]:.2f} nats a bird, G {costs[1]:.2f}."
    )


def prices(halves: np.ndarray, bridge: np.ndarray, peak: np.ndarray, switch: float) -> Figure:
    """Draw what a bridge between two peaks costs by KL(q || p), in bits, and what one peak alone costs."""
    figure, (axes,) = new_figure(5.6, 2.6)
    axes.plot(halves, bridge, color=MODEL, label="bridge over both")
    axes.plot(halves, peak, color=EXTRA, label="one peak alone")
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1)
    axes.axvline(switch, color=GREY, linestyle=":", linewidth=1)
    label(axes, "half the distance d", "KL(q || p), bits")
    axes.set(xlim=(halves[0], halves[-1]), ylim=(0, 1.6))
    legend(axes, "upper left")
    at = float(np.interp(switch, halves, peak))
    return described(figure, f"The two prices cross at d = {switch:.2f}, where both are {at:.2f} bits.")


def fits(x: np.ndarray, density: np.ndarray, curves: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw a density with Gaussians {name: (mean, std)} over it."""
    figure, (axes,) = new_figure(5.6, 2.6)
    axes.fill_between(x, density, color=DATA, alpha=0.25, label="two peaks")
    for (name, (mean, std)), colour in zip(curves.items(), (MODEL, EXTRA), strict=False):
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


def guesses(seen: np.ndarray, table: np.ndarray, line: np.ndarray, costs: tuple[float, float]) -> Figure:
    """Draw the mean of a pixel for each level of its neighbour (17,), and the best straight line."""
    figure, (axes,) = new_figure(5.2, 2.6)
    axes.plot(seen, table, "o", color=MODEL, label="mean given the neighbour")
    axes.plot(seen, line, color=EXTRA, label="best line")
    label(axes, "level of the neighbour y", "guess for x")
    axes.set(xlim=(-0.5, 16.5), ylim=(0, 16), xticks=seen[::4])
    legend(axes, "upper left")
    return described(
        figure, f"Guesses for a pixel: {len(seen)} means pay {costs[0]:.1f} in squares, a line {costs[1]:.1f}."
    )


def independent(variances: Sequence[float], cost: float) -> Figure:
    """Draw the pair beside the two best independent pairs, circles that hold 50 and 90 % of them."""
    figure, panels = new_figure(6.4, 3.1, columns=2)
    turn = np.linspace(0, 2 * np.pi, 200)
    for axes, variance, colour, title in zip(
        panels, variances, (MODEL, EXTRA), ("KL(p || q) is least", "KL(q || p) is least"), strict=True
    ):
        pair(axes)
        for share in (0.5, 0.9):
            radius = np.sqrt(-2 * variance * np.log(1 - share))
            axes.plot(radius * np.cos(turn), radius * np.sin(turn), color=colour, linestyle="--")
        axes.set_title(f"{title}: variance {variance:.2f}", fontsize=FONT, loc="left", color=INK)
    return described(
        figure,
        f"The pair and two circles: variance {variances[0]:.2f} is too wide, {variances[1]:.2f} too narrow, and both "
        f"cost {cost:.3f} bits.",
    )


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
    figure, (left, right) = new_figure(6.6, 3.0, columns=2)
    for axes in (left, right):
        axes.scatter(*points.T, s=2, color=GREY, linewidths=0)
        axes.set(xticks=[], yticks=[], aspect="equal")
    left.plot(*whole.T, color=EXTRA, linewidth=2)
    for k, ring in enumerate(rings):
        right.plot(*ring.T, color=CYCLE[k % 7], linewidth=1.5)
    left.set_title(f"one Gaussian: {scores[0]:.2f} nats", fontsize=FONT, loc="left", color=INK)
    right.set_title(f"ten, one a digit: {scores[1]:.2f} nats", fontsize=FONT, loc="left", color=INK)
    return described(
        figure,
        f"Digits, {len(points)} of them, in two principal components: one Gaussian gives {scores[0]:.2f} nats a digit, "
        f"ten give {scores[1]:.2f}.",
    )
