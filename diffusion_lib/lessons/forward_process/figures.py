"""Figures of lesson 09: strips of noise, one step, sums of Gaussians, the jump and its two noises, noise schedules."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from diffusion_lib.teaching.style import (
    CYCLE,
    DATA,
    DPI,
    EXTRA,
    FONT,
    GREY,
    INK,
    MODEL,
    NOISE,
    SKY,
    label,
    legend,
    new_figure,
    show_image,
)


def bars(axis: Axes, draws: np.ndarray, x: np.ndarray, name: str, bins: int = 32) -> None:
    """Draw a histogram of `draws` (n,) over the range of x, scaled like a density: one artist, so it is quick."""
    edges = np.linspace(x[0], x[-1], bins + 1)
    heights = np.histogram(draws, edges)[0] / len(draws) / np.diff(edges)
    axis.stairs(heights, edges, fill=True, color=SKY, label=name)


def density_strip(x: np.ndarray, densities: np.ndarray, limit: np.ndarray, times: Sequence[int]) -> Figure:
    """Draw densities (n, N) over x (N,), one panel a time, each with the curve `limit` (N,) that it tends to."""
    figure, axes = new_figure(1.5 * len(times), 1.9, len(times))
    for axis, density, t in zip(axes, densities, times, strict=True):
        axis.fill_between(x, density, color=DATA, alpha=0.5, linewidth=0)
        axis.plot(x, limit, color=NOISE, linestyle="--", linewidth=1.5)
        label(axis, "x", "", f"t = {t}")
        axis.set(ylim=(0, 1.05 * densities.max()), yticks=[], xticks=[-2, 0, 2])
    return figure


def chain(steps: int = 4) -> Figure:
    """Draw the chain x_0 -> x_1 -> ... -> x_T, each arrow with its conditional density."""
    names = [f"$x_{k}$" for k in range(steps - 1)] + [r"$\cdots$", "$x_T$"]
    figure, (axis,) = new_figure(1.55 * steps, 1.0)
    for k, name in enumerate(names):
        colour = DATA if k == 0 else NOISE if k == steps else INK
        box = {"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": colour, "linewidth": 2}
        axis.text(k, 0, name, ha="center", va="center", fontsize=FONT + 3, bbox=None if "dots" in name else box)
        if k < steps:
            axis.annotate("", (k + 0.75, 0), (k + 0.25, 0), arrowprops={"arrowstyle": "-|>", "color": GREY})
        if k < steps - 2:
            axis.text(k + 0.5, 0.35, f"$q(x_{k + 1}|x_{k})$", ha="center", fontsize=FONT)
    axis.text(steps - 0.5, 0.35, "$q(x_T|x_{T-1})$", ha="center", fontsize=FONT)
    axis.set(xlim=(-0.4, steps + 0.4), ylim=(-0.6, 0.8))
    axis.axis("off")
    return figure


def gaussian_sum(x: np.ndarray, first: np.ndarray, second: np.ndarray, total: np.ndarray, draws: np.ndarray) -> Figure:
    """Draw the densities of X, Y and X + Y, all over x (N,), and a histogram of simulated sums."""
    figure, (axis,) = new_figure(5.0, 2.4)
    bars(axis, draws, x, "simulated X + Y")
    axis.plot(x, first, color=DATA, linewidth=2, label="X")
    axis.plot(x, second, color=EXTRA, linewidth=2, linestyle="--", label="Y")
    axis.plot(x, total, color=INK, linewidth=2, label="X + Y, formula")
    label(axis, "value", "density")
    axis.set(xlim=(x[0], x[-1]), ylim=(0, 1.4), xticks=[-4, -2, 0, 2, 4], yticks=[0, 0.5, 1])
    legend(axis, "upper right")
    return figure


def histogram(x: np.ndarray, draws: np.ndarray, density: np.ndarray, limit: np.ndarray, title: str) -> Figure:
    """Draw a histogram of `draws` (n,) with the exact density (N,) over x (N,) and the Gaussian limit."""
    figure, (axis,) = new_figure(5.0, 2.4)
    bars(axis, draws, x, "simulated")
    axis.plot(x, density, color=DATA, linewidth=2, label="exact density")
    axis.plot(x, limit, color=NOISE, linewidth=2, linestyle="--", label="standard normal")
    label(axis, "x", "density", title)
    axis.set(xlim=(x[0], x[-1]), ylim=(0, 1.2), xticks=[-2, 0, 2], yticks=[0, 0.5, 1])
    legend(axis, "upper right")
    return figure


def noise_bars(signal: np.ndarray, shares: np.ndarray) -> Figure:
    """Stack, for each time, the share of x_0 (of variance 1) in the variance (T+1,) and of each step's noise (T+1, T).

    Every stack reaches 1: what the noise gains, the signal has lost.
    """
    T = len(signal) - 1
    figure, (axis,) = new_figure(6.4, 3.0)
    axis.bar(range(T + 1), signal, color=DATA, label="original-image term")
    base = signal.copy()
    for i in range(T):
        shade = 0.35 + 0.65 * i / max(T - 1, 1)
        name = "noise terms, oldest at the bottom" if i == T - 1 else None
        axis.bar(range(T + 1), shares[:, i], bottom=base, color=NOISE, alpha=shade, edgecolor="white", label=name)
        base = base + shares[:, i]
    label(axis, "time t", "share of the variance")
    axis.set(xticks=range(T + 1), ylim=(0, 1.3), yticks=[0, 0.5, 1])
    axis.legend(fontsize=FONT - 1, frameon=False, loc="upper center", ncols=2)
    return figure


def noise_coefficients(coefficients: np.ndarray, signal: float) -> Figure:
    """Draw the coefficients of eps_1 ... eps_t in x_t, (t,), and beside them that of x_0."""
    t = len(coefficients)
    figure, (axis,) = new_figure(6.4, 2.6)
    axis.bar(range(1, t + 1), coefficients, color=NOISE, width=1.0, label=f"coefficients of the {t} noises")
    axis.axhline(signal, color=DATA, linewidth=2, linestyle="--", label="coefficient of $x_0$")
    label(axis, "step i that drew the noise", "coefficient in $x_t$")
    legend(axis, "upper left")
    return figure


def noise_clouds(pairs: Mapping[int, tuple[np.ndarray, np.ndarray]], correlations: Sequence[float]) -> Figure:
    """Scatter the cumulative noise against the last step's noise, one panel a time."""
    figure, axes = new_figure(1.8 * len(pairs), 2.1, len(pairs))
    for axis, (t, (step, total)), correlation in zip(axes, pairs.items(), correlations, strict=True):
        axis.scatter(step, total, s=3, color=NOISE, linewidths=0)
        label(axis, r"$\epsilon_t$ (this step)", "", f"t = {t}: corr {correlation:.2f}")
        axis.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), xticks=[-2, 0, 2], yticks=[-2, 0, 2], aspect="equal")
    axes[0].set_ylabel(r"$\epsilon$ (all steps)", fontsize=FONT)
    return figure


def shrink_or_not(variance: np.ndarray, kept: np.ndarray, shrunk: np.ndarray) -> Figure:
    """Compare two recipes by KL to the standard normal over the noise variance (n,): signal kept, and signal shrunk."""
    figure, (axis,) = new_figure(6.0, 2.6)
    axis.semilogy(variance, kept, color=NOISE, linewidth=2, linestyle="--", label="noise added, signal kept")
    axis.semilogy(variance, shrunk, color=MODEL, linewidth=2, label="noise added, signal shrunk")
    label(axis, "variance of the noise", "KL to N(0, I) in nats")
    legend(axis, "lower left")
    return figure


DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), "-", "--")  # a second sign beside the colour


def schedules(tables: Mapping[str, np.ndarray]) -> Figure:
    """Draw each table of alpha_bar (T+1,) and its log SNR, over t / T."""
    figure, (left, right) = new_figure(6.4, 2.5, 2)
    for (name, table), colour, dash in zip(tables.items(), CYCLE, DASHES, strict=False):
        share = np.arange(len(table)) / (len(table) - 1)
        left.plot(share, table, color=colour, linestyle=dash, linewidth=1.8, label=name)
        right.plot(share[1:], np.log(table[1:] / (1 - table[1:])), color=colour, linestyle=dash, linewidth=1.8)
    label(left, "t / T", "", r"$\bar\alpha_t$, the square of the signal rate")
    label(right, "t / T", "", "log SNR (0: equal rates)")
    right.axhline(0, color=GREY, linewidth=1)
    legend(left, "upper right")
    return figure


def lost_signal(axis: Axes, steps: np.ndarray, lost: np.ndarray, least: np.ndarray, most: np.ndarray) -> None:
    """Draw -log alpha_bar_T (n,) against T (n,), between its two bounds, and the goal of 10."""
    axis.fill_between(steps, least, most, color=SKY, alpha=0.6, linewidth=0, label="between the bounds")
    axis.plot(steps, lost, color=DATA, linewidth=2, label=r"$-\log\bar\alpha_T$")
    axis.axhline(10, color=NOISE, linestyle="--", linewidth=1.5, label="goal: 10")
    axis.set(xscale="log", yscale="log", ylim=(0.01, 1000), xlim=(8, 1250))
    axis.set(xticks=[10, 100, 1000], yticks=[0.1, 1, 10, 100])
    axis.minorticks_off()


def terminal_and_return(
    bound: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    here: tuple[int, float],
    samples: tuple[np.ndarray, np.ndarray, np.ndarray],
    distance: float,
) -> Figure:
    """Draw the bound (steps, lost, least, most), `here` (T, lost) marked; beside it samples and the data's density.

    Args: samples (x, density, draws); distance, the Wasserstein distance of the draws to the data.
    """
    (x, density, draws), (T, lost) = samples, here
    figure, (left, right) = new_figure(6.8, 2.7, 2)
    lost_signal(left, *bound)
    left.plot(T, lost, "o", color=INK, markersize=8)
    label(left, "number of steps T", "", rf"T = {T}: $-\log\bar\alpha_T$ = {lost:.3g}")
    legend(left, "upper left")
    bars(right, draws, x, "came back")
    right.plot(x, density, color=DATA, linewidth=2, label="data")
    label(right, "x", "density", f"back from noise: W1 to the data {distance:.2f}")
    right.set(xlim=(x[0], x[-1]), ylim=(0, 2.6))
    legend(right, "upper right")
    return figure


def entropy_and_kl(times: np.ndarray, entropy: np.ndarray, divergence: np.ndarray, title: str) -> Figure:
    """Draw the differential entropy of x_t and its KL to the standard normal over t (n,), in nats."""
    figure, (left, right) = new_figure(6.4, 2.3, 2)
    left.plot(times, entropy, color=NOISE, linewidth=2)
    left.axhline(0.5 * np.log(2 * np.pi * np.e), color=GREY, linestyle="--", linewidth=1.5)
    label(left, "time t", "nats", f"entropy, {title}")
    left.set(ylim=(-0.2, 2.4))
    right.plot(times, divergence, color=MODEL, linewidth=2)
    label(right, "time t", "nats", "KL to N(0, 1): never rises")
    right.set(ylim=(-0.05, 1.7))
    return figure


def reverse_shapes(x: np.ndarray, exact: np.ndarray, gaussian: np.ndarray, titles: Sequence[str]) -> Figure:
    """Draw exact densities (n, N) of x_s given x_t with the Gaussian of the same mean and variance (n, N)."""
    figure, axes = new_figure(2.1 * len(titles), 2.3, len(titles))
    for axis, density, normal, title in zip(axes, exact, gaussian, titles, strict=True):
        axis.fill_between(x, density / normal.max(), color=DATA, alpha=0.5, linewidth=0)
        axis.plot(x, normal / normal.max(), color=NOISE, linestyle="--", linewidth=1.5)
        label(axis, "$x_s$", "", title)
        axis.set(yticks=[], xlim=(-2, 2), ylim=(0, None))
    return figure


LIMIT = 1.0  # entries beyond are drawn as black, white or a full colour: a photograph keeps its contrast
SHADES = 20  # of a channel: more cost bytes in every frame of a slider, and look the same


def displayed(image: ArrayLike) -> np.ndarray:
    """Return an image (C, H, W) as matplotlib wants it, (H, W) or (H, W, 3), in SHADES steps from -LIMIT to LIMIT."""
    cut = np.clip(np.asarray(image), -LIMIT, LIMIT)
    steps = np.round((cut / LIMIT + 1) / 2 * (SHADES - 1))
    shades = (2 * steps / (SHADES - 1) - 1) * LIMIT
    return shades[0] if len(shades) == 1 else shades.transpose(1, 2, 0)


def noising(x_t: np.ndarray, signal_rate: float, noise_rate: float) -> Figure:
    """Draw x_t (C, H, W) beside the two rates that it is made with, as bars."""
    figure, (image, rates) = new_figure(5.0, 2.6, columns=2)  # 400 x 208 pixels
    figure.set_layout_engine("none")
    image.set_position((0.01, 0.02, 0.5, 200 / 208))  # 200 x 200: five pixels of the screen for one of a photograph
    rates.set_position((0.62, 0.13, 0.36, 0.85))
    show_image(image, displayed(x_t), limit=LIMIT)
    for place, (rate, colour) in enumerate(((signal_rate, DATA), (noise_rate, NOISE))):
        rates.bar(place, rate, width=0.6, color=colour)
        rates.text(place, rate + 0.03, f"{rate:.2f}", ha="center", color=colour, fontsize=FONT + 1, weight="bold")
    label(rates)
    rates.set(xlim=(-0.6, 1.6), ylim=(0, 1.15), xticks=[0, 1], xticklabels=["signal rate", "noise rate"], yticks=[])
    rates.spines["left"].set_visible(False)
    return figure


PANEL, GAP, EDGE = 80, 6, 24  # pixels of the screen: two for one of a photograph, which keeps the file small


def image_rows(rows: Sequence[Sequence[ArrayLike]], titles: Sequence[str], names: Sequence[str]) -> Figure:
    """Draw rows of images (C, H, W), of a size of its own each, with a title a column and a name a row."""
    width, height = (EDGE + n * (PANEL + GAP) for n in (len(titles), len(rows)))
    figure, axes = new_figure(width / DPI, height / DPI, len(titles), len(rows))
    figure.set_layout_engine("none")
    for k, axis in enumerate(axes):
        row, column = divmod(k, len(titles))
        left, bottom = EDGE + column * (PANEL + GAP), (len(rows) - 1 - row) * (PANEL + GAP)
        axis.set_position((left / width, (bottom + GAP) / height, PANEL / width, PANEL / height))
        show_image(axis, displayed(rows[row][column]), titles[column] if row == 0 else "", LIMIT)
        if column == 0:
            axis.set_ylabel(names[row], fontsize=FONT)
    return figure
