"""Figures of lesson 13: the loss, the loss at each time, clouds of samples, and the states of a sampler."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from diffusion_lib.teaching.style import (
    DATA,
    EXTRA,
    FONT,
    GREY,
    INK,
    MODEL,
    NOISE,
    colours,
    label,
    legend,
    new_figure,
    show_image,
)

LINES = ((GREY, "--", "s"), (MODEL, "-", "o"), (NOISE, "-.", "^"), (DATA, ":", "D"), (EXTRA, "-", "v"))


def training_curve(losses: np.ndarray, least: float, window: int = 50) -> Figure:
    """Draw the loss of each step (n,), its mean over `window` steps, and the `least` that any network can reach."""
    figure, (axis,) = new_figure(6.4, 2.6)
    steps = np.arange(1, len(losses) + 1)
    axis.plot(steps, losses, color=GREY, linewidth=0.6, alpha=0.6, label="loss of one batch")
    smooth = np.convolve(losses, np.full(window, 1 / window), "valid")
    axis.plot(steps[window - 1 :], smooth, color=MODEL, linewidth=2, label=f"mean of {window}")
    axis.axhline(least, color=INK, linestyle="--", linewidth=1.5, label="the exact denoiser")
    label(axis, "training step", "mean squared error of $\\epsilon$")
    axis.set(xlim=(0, len(losses)), ylim=(0, min(1.1, 1.05 * losses.max())))
    legend(axis, "upper right")
    return figure


def by_time(times: np.ndarray, curves: Mapping[str, np.ndarray], y: str, low: float, high: float) -> Figure:
    """Draw named curves (n,) over times (n,), both axes logarithmic; what lies outside low..high is put on the edge."""
    figure, (axis,) = new_figure(6.6, 3.2)
    for (name, values), (colour, style, marker) in zip(curves.items(), LINES, strict=False):
        shown = np.clip(values, low, high)
        axis.plot(times, shown, color=colour, linestyle=style, marker=marker, markersize=5, linewidth=1.8, label=name)
    label(axis, "time t (log scale)", y)
    axis.set(xscale="log", yscale="log", ylim=(low, high))
    axis.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    axis.set_xlim(0.9 * times[0], 1.1 * times[-1])
    axis.minorticks_off()
    axis.legend(fontsize=FONT - 1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def clouds(panels: Mapping[str, np.ndarray], reach: float = 2.4) -> Figure:
    """Scatter samples (n, 2), one panel a name; the first panel is the data."""
    figure, axes = new_figure(2.1 * len(panels) + 0.2, 2.3, len(panels))
    for k, (axis, (name, points)) in enumerate(zip(axes, panels.items(), strict=True)):
        axis.plot(*points.T, ".", color=MODEL if k else DATA, markersize=2)
        label(axis, "", "", name)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[-2, 0, 2], yticks=[-2, 0, 2], aspect="equal")
    return figure


def contenders(times: Sequence[int], errors: Mapping[str, np.ndarray]) -> Figure:
    """Draw the error of eps of named contenders, each (n,), side by side as bars at each time, logarithmic."""
    figure, (axis,) = new_figure(6.6, 2.8)
    width, at = 0.8 / len(errors), np.arange(len(times))
    for k, ((name, values), colour) in enumerate(zip(errors.items(), colours(len(errors)), strict=True)):
        axis.bar(at + (k - (len(errors) - 1) / 2) * width, values, width, color=colour, label=name)
    label(axis, "time t", r"squared error against $\epsilon^*$")
    axis.set(yscale="log", xticks=at, xticklabels=[str(t) for t in times])
    axis.minorticks_off()
    axis.legend(fontsize=FONT - 1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def states_and_guesses(x: np.ndarray, x0: np.ndarray, t: int, limit: float = 1.0) -> Figure:
    """Draw the states (P, H, W) of a sampler at time t and, below each, what the denoiser guesses it will become."""
    figure, (above, below) = new_figure(1.15 * len(x) + 0.9, 2.6, 1, 2)
    for axis, images, name in ((above, x, f"xₜ\nt = {t}"), (below, x0, "guess\nx̂₀")):
        show_image(axis, in_a_row(images), "", limit)
        axis.set_ylabel(name, fontsize=FONT + 1, rotation=0, ha="right", va="center")
    return figure


def in_a_row(images: np.ndarray) -> np.ndarray:
    """Lay images (P, H, W) side by side in one, an eighth of their width apart, with NaN, drawn white, between."""
    gap = np.full((len(images), images.shape[1], max(images.shape[2] // 8, 1)), np.nan)
    return np.concatenate([*np.concatenate([images, gap], axis=2)], axis=1)[:, : -gap.shape[2]]
