"""Pictures of the reverse chain: what a denoiser answers, one jump to x_0, the width of a step, where samples end.

The frames of explorers write subscripts in Unicode: matplotlib takes longer to set a formula than to draw a curve.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from diffusion_lib.teaching.figures.style import (
    CYCLE,
    DATA,
    FONT,
    INK,
    MODEL,
    NOISE,
    POSTERIOR,
    SKY,
    label,
    legend,
    new_figure,
    show_image,
)


def denoiser_curves(x: np.ndarray, answers: Mapping[int, np.ndarray]) -> Figure:
    """Draw E[x_0 | x_t] (N,) as a function of x_t, x (N,), one curve for each time t."""
    figure, (axis,) = new_figure(5.4, 3.0)
    styles = ("-", "--", "-.", ":")
    for (t, answer), colour, style in zip(answers.items(), CYCLE, styles, strict=False):
        axis.plot(x, answer, color=colour, linestyle=style, linewidth=2, label=f"t = {t}")
    label(axis, "what the denoiser sees, $x_t$", "its answer, $E[x_0|x_t]$")
    axis.set(xlim=(x[0], x[-1]), ylim=(-1.6, 1.6), yticks=[-1, 0, 1])
    legend(axis, "upper left")
    return figure


def one_shot(pictures: Sequence[np.ndarray], t: int, gain: np.ndarray) -> Figure:
    """Draw x_0, x_t and the one-jump answer, each (H, W), and the error gain (T,) over t = 1..T, with t marked."""
    figure = new_figure(7.0, 2.3, 4)[0]
    axes = figure.axes
    for axis, picture, title in zip(axes, pictures, ("x₀", f"xₜ at t = {t}", "x̂₀ in one jump"), strict=False):
        show_image(axis, picture, title)
    axes[3].semilogy(np.arange(1, len(gain) + 1), gain, color=NOISE, linewidth=2)
    axes[3].plot([t], [gain[t - 1]], "o", color=INK, markersize=8, clip_on=False, zorder=5)
    label(axes[3], "time t", "", f"error gain {gain[t - 1]:.3g}")
    axes[3].set(xticks=[1, len(gain) // 2, len(gain)], ylim=(0.006, 300))
    axes[3].set_yticks([0.01, 1, 100], ["0.01", "1", "100"])
    axes[3].minorticks_off()
    return figure


def reverse_variance(shares: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw variances of one step back as shares of beta_t (T,), over t = 1..T on a log axis.

    `shares` holds lower (posterior variance), upper (beta_t itself) and exact.
    """
    figure, (axis,) = new_figure(6.2, 3.0)
    times = np.arange(1, len(shares["lower"]) + 1)
    axis.plot(times, shares["upper"], color=NOISE, linewidth=2, linestyle="--", label="βₜ")
    axis.plot(times, shares["exact"], color=POSTERIOR, linewidth=2.5, label="exact, E Var[xₜ₋₁ | xₜ]")
    axis.plot(times, shares["lower"], color=MODEL, linewidth=2, linestyle="-.", label="posterior variance β̃ₜ")
    label(axis, "time t (log scale)", "variance / βₜ", title)
    axis.set(xscale="log", xlim=(1, times[-1]), ylim=(0, 1.55), yticks=[0, 0.5, 1])
    axis.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    axis.minorticks_off()
    axis.legend(fontsize=FONT - 1, frameon=False, loc="upper center", ncols=3)
    return figure


def chain_paths(times: np.ndarray, paths: np.ndarray, ends: np.ndarray, x: np.ndarray, density: np.ndarray) -> Figure:
    """Draw walks back, paths (n+1, P) at times (n+1,); on their right a histogram of all ends with the density (N,)."""
    figure, (left, right) = new_figure(7.0, 3.0, 2)
    left.plot(times, paths, color=POSTERIOR, linewidth=0.8, alpha=0.7)
    label(left, "time t (read from left: T down to 0)", "x", f"{paths.shape[1]} walks")
    left.set(xlim=(times[0], 0), ylim=(x[0], x[-1]), yticks=[-2, -1, 0, 1, 2])
    right.hist(ends, bins=40, range=(x[0], x[-1]), density=True, orientation="horizontal", color=SKY, label="ends")
    right.plot(density, x, color=DATA, linewidth=2, label="data density")
    label(right, "density", "", f"{len(ends):,} ends")
    right.set(ylim=(x[0], x[-1]), yticks=[-2, -1, 0, 1, 2], xticks=[0, 0.5, 1])
    legend(right, "upper right")
    return figure


def candidates(x: np.ndarray, density: np.ndarray, ends: Mapping[str, np.ndarray]) -> Figure:
    """Draw, one panel a candidate, the histogram of its ends inside x (N,) against the density (N,) of the data."""
    figure, axes = new_figure(1.9 * len(ends), 2.4, len(ends))
    for axis, (name, values) in zip(axes, ends.items(), strict=True):
        inside = np.mean((values >= x[0]) & (values <= x[-1]))
        heights, edges = np.histogram(values, bins=60, range=(x[0], x[-1]))
        axis.stairs(heights / len(values) / np.diff(edges), edges, fill=True, color=SKY)
        axis.plot(x, density, color=DATA, linewidth=1.5)
        label(axis, "$x_0$", "", f"{name}: {inside:.0%} in view")
        axis.set(xlim=(x[0], x[-1]), ylim=(0, 2.2), yticks=[], xticks=[-2, 0, 2])
    return figure
