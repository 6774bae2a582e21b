"""Pictures of noise schedules: signal and SNR over time, what is left at T, entropy against KL."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion_lib.teaching.figures.forward import bars
from diffusion_lib.teaching.figures.style import CYCLE, DATA, GREY, INK, MODEL, NOISE, SKY, label, legend, new_figure

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), "-", "--")  # a second sign beside the colour


def schedules(tables: Mapping[str, np.ndarray]) -> Figure:
    """Draw each table of alpha_bar (T+1,) and its log SNR, over t / T."""
    figure, (left, right) = new_figure(6.4, 2.5, 2)
    for (name, table), colour, dash in zip(tables.items(), CYCLE, DASHES, strict=False):
        share = np.arange(len(table)) / (len(table) - 1)
        left.plot(share, table, color=colour, linestyle=dash, linewidth=1.8, label=name)
        right.plot(share[1:], np.log(table[1:] / (1 - table[1:])), color=colour, linestyle=dash, linewidth=1.8)
    label(left, "t / T", "", r"signal share of the variance, $\bar\alpha_t$")
    label(right, "t / T", "", "log SNR (0: as much signal as noise)")
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
    way_back: tuple[np.ndarray, np.ndarray, np.ndarray],
    distance: float,
) -> Figure:
    """Beside the bound (steps, lost, least, most), marked at `here` (T, lost): samples of a way back against the data.

    Args: way_back (x, density, draws); distance, the Wasserstein distance of the draws to the data.
    """
    (x, density, draws), (T, lost) = way_back, here
    figure, (left, right) = new_figure(6.8, 2.7, 2)
    lost_signal(left, *bound)
    left.plot(T, lost, "o", color=INK, markersize=8)
    label(left, "number of steps T", "", rf"T = {T}: $-\log\bar\alpha_T$ = {lost:.3g}")
    legend(left, "upper left")
    bars(right, draws, x, "came back")
    right.plot(x, density, color=DATA, linewidth=2, label="data")
    label(right, "x", "density", f"the way back: W1 to the data {distance:.2f}")
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
    label(right, "time t", "nats", "KL to N(0, 1): falls, always")
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
