"""Figures of lesson 10: Bayes on a line, jumps back, the posterior along the chain, a denoiser, variances, samples.

The frames of explorers write subscripts in Unicode: matplotlib takes longer to set a formula than to draw a curve.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion_lib.teaching.style import (
    CYCLE,
    DATA,
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
    show_image,
)


def jumps_back(x: np.ndarray, exact: np.ndarray, gaussian: np.ndarray, titles: Sequence[str]) -> Figure:
    """Draw densities q(x_s | x_t) (n, N) over x (N,), one panel a jump, each with its best Gaussian (n, N)."""
    figure, axes = new_figure(7.2, 2.5, len(titles))
    for axis, density, bell, title in zip(axes, exact, gaussian, titles, strict=True):
        axis.fill_between(x, density, color=POSTERIOR, alpha=0.4, linewidth=0)
        axis.plot(x, density, color=POSTERIOR, linewidth=2, label="exact")
        axis.plot(x, bell, color=INK, linewidth=1.5, linestyle="--", label="Gaussian")
        label(axis, "$x_s$", "", title)
        axis.set(xlim=(x[0], x[-1]), ylim=(0, 1.35 * max(density.max(), bell.max())), yticks=[])
        legend(axis, "upper right")
    axes[0].set_ylabel("density", fontsize=FONT)
    return figure


def bayes(x: np.ndarray, curves: Mapping[str, np.ndarray], x_0: float, x_t: float) -> Figure:
    """Draw one use of Bayes' rule over x (N,), and mark x_0 and x_t on the axis.

    `curves` holds prior, likelihood and posterior (N,), all from a grid, and formula (N,), the Gaussian claimed.
    """
    figure, (axis,) = new_figure(5.2, 2.7)
    axis.plot(x, curves["prior"], color=DATA, linewidth=2, label="prior q(xₜ₋₁ | x₀)")
    axis.plot(x, curves["likelihood"], color=NOISE, linewidth=2, linestyle="-.", label="likelihood q(xₜ | xₜ₋₁)")
    axis.fill_between(x, curves["posterior"], color=POSTERIOR, alpha=0.4, linewidth=0, label="posterior, on the grid")
    axis.plot(x, curves["formula"], color=INK, linewidth=1.5, linestyle="--", label="posterior, by the formula")
    for value, colour, name, side in ((x_0, DATA, "x₀", -12), (x_t, NOISE, "xₜ", 12)):
        axis.plot([value], [0], "^", color=colour, markersize=10, clip_on=False, zorder=5)
        axis.annotate(name, (value, 0), (side, 4), textcoords="offset points", ha="center", color=colour, fontsize=FONT)
    label(axis, "xₜ₋₁", "density")
    axis.set(xlim=(x[0], x[-1]), ylim=(0, 3.3), yticks=[0, 1, 2], xticks=[-2, -1, 0, 1, 2])
    axis.legend(fontsize=FONT - 1, frameon=False, loc="upper center", ncols=2)
    return figure


def with_and_without(x: np.ndarray, given: np.ndarray, without: np.ndarray, names: tuple[str, str]) -> Figure:
    """Draw two densities (N,) over x (N,), and shade where they differ: half that area is their total variation."""
    figure, (axis,) = new_figure(6.0, 2.8)
    axis.fill_between(x, given, without, color=GREY, alpha=0.3, linewidth=0, label="difference")
    axis.plot(x, given, color=MODEL, linewidth=2, linestyle="--", label=names[0])
    axis.plot(x, without, color=POSTERIOR, linewidth=2, label=names[1])
    label(axis, "$x_{t-1}$", "density")
    axis.set(xlim=(x[0], x[-1]), ylim=(0, 1.45 * max(given.max(), without.max())))
    legend(axis, "upper left")
    return figure


def posterior_along(t: int, x_0: float, now: tuple[float, float, float], walk: tuple[np.ndarray, ...]) -> Figure:
    """Draw q(x_{t-1} | x_t, x_0) at time t, `now` = (x_t, mean, std), peak scaled to 1; beside it the whole walk.

    `walk` holds, for t = 1..T, each (T,): the centres of the posterior along one walk back, and the mean and standard
    deviation of x_{t-1} given x_0 alone, that is, over all walks.
    """
    figure, (left, right) = new_figure(6.4, 2.7, 2)
    x_t, mean, std = now
    x = np.linspace(-2.5, 2.5, 501)
    if std > 0:
        left.fill_between(x, np.exp(-0.5 * ((x - mean) / std) ** 2), color=POSTERIOR, alpha=0.5, linewidth=0)
    left.vlines(mean, 0, 1, color=POSTERIOR, linewidth=2)
    for value, colour, name in ((x_0, DATA, "x₀"), (x_t, NOISE, "xₜ")):
        left.plot([value], [0], "^", color=colour, markersize=10, clip_on=False, zorder=5, label=name)
    label(left, "xₜ₋₁", "peak = 1", f"t = {t}:  width {std:.3f}")
    left.set(xlim=(-2.5, 2.5), ylim=(0, 1.35), yticks=[], xticks=[-2, -1, 0, 1, 2])
    left.legend(fontsize=FONT - 1, frameon=False, loc="upper center", ncols=2)
    _walk(right, t, x_0, walk)
    return figure


def _walk(axis: Axes, t: int, x_0: float, walk: tuple[np.ndarray, ...]) -> None:
    centres, average, spread = walk
    times = np.arange(1, len(centres) + 1)
    axis.fill_between(times, average - spread, average + spread, color=DATA, alpha=0.18, linewidth=0)
    axis.plot(times, average, color=DATA, linewidth=1.5, linestyle="--", label="average of all walks")
    axis.plot(times, centres, color=POSTERIOR, linewidth=1.2, label="centre, this walk")
    axis.plot([t], [centres[t - 1]], "o", color=POSTERIOR, markersize=8, zorder=5, clip_on=False)
    axis.axhline(x_0, color=DATA, linewidth=0.8)
    label(axis, "time t (read from left: T down to 1)")
    T = len(centres)
    axis.set(xlim=(T, 1), ylim=(-2.7, 4.2), yticks=[-2, -1, 0, 1, 2], xticks=[T, T // 2, 1])
    legend(axis, "upper right")


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


def one_shot(images: Sequence[np.ndarray], t: int, gain: np.ndarray) -> Figure:
    """Draw x_0, x_t and the one-jump answer, each (H, W), and the error gain (T,) over t = 1..T, with t marked."""
    figure = new_figure(7.0, 2.3, 4)[0]
    axes = figure.axes
    for axis, image, title in zip(axes, images, ("x₀", f"xₜ at t = {t}", "x̂₀ in one jump"), strict=False):
        show_image(axis, image, title)
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


def chain_paths(
    times: np.ndarray, paths: np.ndarray, samples: np.ndarray, x: np.ndarray, density: np.ndarray
) -> Figure:
    """Draw walks back, paths (n+1, P) at times (n+1,); beside them a histogram of all samples and the density (N,)."""
    figure, (left, right) = new_figure(7.0, 3.0, 2)
    left.plot(times, paths, color=POSTERIOR, linewidth=0.8, alpha=0.7)
    label(left, "time t (read from left: T down to 0)", "x", f"{paths.shape[1]} walks")
    left.set(xlim=(times[0], 0), ylim=(x[0], x[-1]), yticks=[-2, -1, 0, 1, 2])
    right.hist(
        samples, bins=40, range=(x[0], x[-1]), density=True, orientation="horizontal", color=SKY, label="samples"
    )
    right.plot(density, x, color=DATA, linewidth=2, label="data density")
    label(right, "density", "", f"{len(samples):,} samples")
    right.set(ylim=(x[0], x[-1]), yticks=[-2, -1, 0, 1, 2], xticks=[0, 0.5, 1])
    legend(right, "upper right")
    return figure


def candidates(x: np.ndarray, density: np.ndarray, samples: Mapping[str, np.ndarray]) -> Figure:
    """Draw, one panel a candidate, the histogram of its samples inside x (N,) against the density (N,) of the data."""
    figure, axes = new_figure(1.9 * len(samples), 2.4, len(samples))
    for axis, (name, values) in zip(axes, samples.items(), strict=True):
        inside = np.mean((values >= x[0]) & (values <= x[-1]))
        heights, edges = np.histogram(values, bins=60, range=(x[0], x[-1]))
        axis.stairs(heights / len(values) / np.diff(edges), edges, fill=True, color=SKY)
        axis.plot(x, density, color=DATA, linewidth=1.5)
        label(axis, "$x_0$", "", f"{name}: {inside:.0%} in view")
        axis.set(xlim=(x[0], x[-1]), ylim=(0, 2.2), yticks=[], xticks=[-2, 0, 2])
    return figure
