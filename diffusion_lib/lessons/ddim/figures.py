"""Figures of lesson 14: jumps back in time, the family of DDIM, paths of particles, and error against steps."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from diffusion_lib.teaching.style import (
    DATA,
    EXTRA,
    FONT,
    GREY,
    INK,
    MODEL,
    NOISE,
    POSTERIOR,
    SKY,
    label,
    legend,
    new_figure,
)

MARKERS = ("o", "s", "^", "D")
ERROR_TICKS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


def back_jump(
    x: np.ndarray, exact: np.ndarray, gaussian: np.ndarray, jumps: np.ndarray, divergences: np.ndarray, k: int
) -> Figure:
    """Draw q(x_s | x_t) (N,) and its best Gaussian over x (N,); beside them the KL of every jump, the k-th marked."""
    figure, (left, right) = new_figure(6.6, 2.7, 2)
    left.fill_between(x, exact, color=POSTERIOR, alpha=0.35, linewidth=0)
    left.plot(x, exact, color=POSTERIOR, linewidth=2, label="exact")
    left.plot(x, gaussian, color=INK, linewidth=1.5, linestyle="--", label="best Gaussian")
    label(left, "$x_s$", "density", f"jump of {jumps[k]}")
    left.set(xlim=(x[0], x[-1]), ylim=(0, 1.35 * max(exact.max(), gaussian.max())), yticks=[], xticks=[-2, -1, 0, 1, 2])
    legend(left, "upper right")
    right.plot(jumps, divergences, color=GREY, linewidth=1.5)
    right.plot([jumps[k]], [divergences[k]], "o", color=NOISE, markersize=9)
    label(right, "jump  t - s", "KL in nats", "how far from a Gaussian")
    right.set(xscale="log", yscale="log", ylim=(1e-14, 10), yticks=[1e-12, 1e-8, 1e-4, 1])
    right.minorticks_off()
    return figure


def circle(radius: float, angle: float, ddpm_angle: float, line: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw the circle of admissible (sigma, m sqrt(1 - alpha_bar_t)); beside it, x_s given x_t for the chosen point.

    `line` holds x_t (N,), the mean (N,) and the standard deviation sigma of x_s given x_t, and box (2, 2), the corners
    of the dashed rectangle that two standard deviations of x_t and of x_s fill whatever sigma is.
    """
    figure, (left, right) = new_figure(6.6, 3.1, 2)
    turn = np.linspace(0, np.pi / 2, 100)
    left.plot(radius * np.sin(turn), radius * np.cos(turn), color=GREY, linewidth=1.5)
    left.plot([0, radius * np.sin(angle)], [0, radius * np.cos(angle)], color=INK, linewidth=2)
    _mark(left, radius, 0, MODEL, "DDIM", "s")
    _mark(left, radius, ddpm_angle, NOISE, "DDPM", "D")
    left.plot([radius * np.sin(angle)], [radius * np.cos(angle)], "o", color=POSTERIOR, markersize=10, label="chosen")
    label(left, r"fresh noise  $\sigma$", r"old noise  $m\sqrt{1-\bar\alpha_t}$", title)
    left.set(xlim=(-0.06, 1.25), ylim=(-0.06, 1.25), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    legend(left, "upper right")
    _band(right, line)
    return figure


def _mark(axis: Axes, radius: float, angle: float, colour: str, name: str, marker: str) -> None:
    axis.plot([radius * np.sin(angle)], [radius * np.cos(angle)], marker, color=colour, markersize=8, label=name)


def _band(axis: Axes, line: Mapping[str, np.ndarray]) -> None:
    low, high = line["mean"] - 2 * line["sigma"], line["mean"] + 2 * line["sigma"]
    axis.fill_between(line["x_t"], low, high, color=POSTERIOR, alpha=0.35, linewidth=0)
    axis.plot(line["x_t"], line["mean"], color=POSTERIOR, linewidth=2)
    (left, low), (right, high) = line["box"]
    axis.plot([left, right, right, left, left], [low, low, high, high, low], color=INK, linestyle="--", linewidth=1)
    label(axis, "$x_t$", "$x_s$", r"$x_s$ given $x_t$ (band: $\pm 2\sigma$)")
    axis.set(xlim=(line["x_t"][0], line["x_t"][-1]), ylim=(-3.2, 4.2), xticks=[-2, 0, 2], yticks=[-2, 0, 2, 4])


def samples_by_steps(
    x: np.ndarray, density: np.ndarray, samples: Mapping[str, np.ndarray], curves: Mapping, baseline: float, n: int
) -> Figure:
    """Draw what samplers give after n steps over the data (N,); beside it W1 by steps, {name: {steps: W1}}."""
    figure, (left, right) = new_figure(6.8, 3.0, 2)
    left.fill_between(x, density, color=SKY, alpha=0.6, linewidth=0, label="data")
    edges = np.linspace(x[0], x[-1], 61)
    for (name, draws), colour in zip(samples.items(), (NOISE, EXTRA, MODEL), strict=False):
        heights = np.histogram(draws, edges)[0] / len(draws) / np.diff(edges)
        left.stairs(heights, edges, color=colour, linewidth=1.5, label=name)
    label(left, "$x_0$", "density", f"{n} steps")
    left.set(xlim=(x[0], x[-1]), ylim=(0, 2.9), yticks=[], xticks=[-2, -1, 0, 1, 2])
    legend(left, "upper center")
    for (name, distances), colour, marker in zip(curves.items(), (NOISE, EXTRA, MODEL), MARKERS, strict=False):
        right.plot(
            list(distances),
            list(distances.values()),
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1.5,
            label=name,
        )
    right.axhline(baseline, color=GREY, linestyle="--", linewidth=1)
    right.axvline(n, color=INK, linewidth=1, linestyle=":")
    label(right, "steps (dashed: two draws of the data)", "$W_1$ to the data", "distance to the data")
    right.set(xscale="log", yscale="log", ylim=(4e-3, 1))
    return figure


def particle_paths(
    region: np.ndarray, limit: float, paths: np.ndarray, samples: np.ndarray, titles: Sequence[str]
) -> Figure:
    """Draw paths (n, P, 2) of P particles and samples (M, 2) over the region (H, W) where data are likely."""
    figure, axes = new_figure(6.0, 3.2, 2)
    side = np.linspace(-limit, limit, len(region))
    for axis, title in zip(axes, titles, strict=True):
        axis.contourf(side, side, region, levels=[0.5, 1.5], colors=[SKY], alpha=0.5)
        label(axis, "", "", title)
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set_visible(False)
    axes[0].add_collection(LineCollection(paths.transpose(1, 0, 2), colors=INK, linewidths=0.8))
    axes[0].plot(*paths[0].T, "o", color=NOISE, markersize=4, label="start: noise")
    axes[0].plot(*paths[-1].T, "s", color=DATA, markersize=4, label="end")
    axes[0].legend(fontsize=FONT - 1, loc="lower left", framealpha=1, ncols=2)
    axes[1].plot(*samples.T, ".", color=DATA, markersize=3)
    return figure


def errors_by_steps(panels: Mapping[str, Mapping[str, Sequence[float]]], steps: Sequence[int], y: str) -> Figure:
    """Draw error curves against the number of steps, panel by panel, on logarithmic axes, with a guide 1 / steps."""
    figure, axes = new_figure(3.3 * len(panels) + 0.3, 2.9, len(panels))
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for (name, values), colour, marker in zip(curves.items(), (MODEL, NOISE, DATA, EXTRA), MARKERS, strict=False):
            axis.plot(steps, values, color=colour, marker=marker, markersize=5, linewidth=1.5, label=name)
        first = max(values[0] for values in curves.values())
        guide = 1.6 * first * steps[0] / np.asarray(steps)
        axis.plot(steps, guide, color=GREY, linestyle="--", linewidth=1, label="1 / steps")
        label(axis, "steps", y if axis is axes[0] else "", title)
        axis.set(xscale="log", yscale="log", xticks=steps, xticklabels=[str(n) for n in steps])
        ticks = [tick for tick in ERROR_TICKS if axis.get_ylim()[0] <= tick <= axis.get_ylim()[1]]
        axis.set(yticks=ticks, yticklabels=[f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        legend(axis, "lower left")
    return figure


def euler(sigma: np.ndarray, path: np.ndarray, polygons: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Draw exact paths (N, P) over sigma (N,) and, named, the corners (sigma (n,), x (n, P)) of coarser ones."""
    figure, (axis,) = new_figure(6.0, 3.2)
    axis.plot(sigma, path, color=GREY, linewidth=3, alpha=0.6, label=["all 1000 steps"] + [None] * (path.shape[1] - 1))
    for (name, (at, x)), colour, marker in zip(polygons.items(), (NOISE, MODEL), MARKERS, strict=False):
        names = [name] + [None] * (x.shape[1] - 1)
        axis.plot(at, x, color=colour, marker=marker, markersize=4, linewidth=1.2, label=names)
    label(axis, r"noise level $\sigma$ (time runs to the left)", r"$\tilde x$", "")
    axis.set(xlim=(0, 2), ylim=(-2.2, 2.2))
    legend(axis, "upper left")
    return figure


def error_gain(t: np.ndarray, gain: np.ndarray, marks: Sequence[int]) -> Figure:
    """Draw how much an error of eps grows on its way to x_0, gain (T,) against t (T,), with some times marked."""
    figure, (axis,) = new_figure(5.2, 2.7)
    axis.plot(t, gain, color=NOISE, linewidth=2)
    for mark in marks:
        value = float(gain[t == mark][0])
        axis.plot([mark], [value], "o", color=INK, markersize=5)
        side, shift = ("left", 7) if mark < 100 else ("right", -6)
        axis.annotate(f"{value:.3g}", (mark, value), (shift, 5), textcoords="offset points", ha=side, fontsize=FONT)
    axis.axhline(1, color=GREY, linestyle="--", linewidth=1)
    label(axis, "time t", r"error of $\hat x_0$ / error of $\hat\epsilon$", "")
    axis.set(yscale="log", ylim=(5e-3, 500), xlim=(-60, 1040))
    return figure
