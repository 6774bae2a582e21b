"""Figures of lesson 11: the bound's terms, the circle of targets, weights, estimates, samples.

The frames of explorers write subscripts in Unicode: matplotlib takes longer to set a formula than to draw a curve.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffusion_lib.teaching.style import (
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

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def bound_terms(terms: np.ndarray, surprise: float) -> Figure:
    """Draw L_0, ..., L_T (T+1,) as bars, and beside them their sum over the exact -log p(x_0), all in nats."""
    figure, (left, right) = new_figure(7.0, 2.8, 2)
    T = len(terms) - 1
    colours = [DATA, *[POSTERIOR] * (T - 1), NOISE]
    left.bar(range(T + 1), terms, color=colours)
    left.axhline(0, color=INK, linewidth=0.8)
    label(left, "term", "nats", "each term")
    left.set(ylim=(-0.5, 2.0))
    left.set_xticks(range(T + 1), [f"L{k}".translate(SUBSCRIPTS) for k in range(T + 1)])
    right.barh([1, 0], [terms.sum(), surprise], color=[POSTERIOR, MODEL], height=0.55)
    right.axvline(surprise, color=INK, linewidth=1, linestyle="--")
    for row, value in ((1, terms.sum()), (0, surprise)):
        right.annotate(f"{value:.3f}", (value, row), (4, 0), textcoords="offset points", va="center", fontsize=FONT)
    label(right, "nats", "", f"gap {terms.sum() - surprise:.3f}")
    right.set(xlim=(0, 4.2), ylim=(-0.6, 1.6))
    right.set_yticks([1, 0], ["sum of the terms", "−log p(x₀)"])
    return figure


def rotation(t: int, angle: float, images: Sequence[np.ndarray]) -> Figure:
    """Draw the plane of x_0 and eps at time t: x_t at `angle` (radians) and v a quarter turn on; beside it x_t and v.

    `images` holds x_t and v, each (H, W).
    """
    figure = new_figure(7.0, 2.7, 3)[0]
    circle, *places = figure.axes
    turn = np.linspace(0, 2 * np.pi, 200)
    circle.plot(np.cos(turn), np.sin(turn), color=GREY, linewidth=0.8)
    _arrow(circle, 0.0, DATA, "x₀")
    _arrow(circle, np.pi / 2, NOISE, "ε")
    _arrow(circle, angle, INK, "xₜ")
    _arrow(circle, angle + np.pi / 2, MODEL, "v")
    label(circle, title=f"t = {t}: angle {np.degrees(angle):.1f}°")
    circle.set(xlim=(-1.5, 1.5), ylim=(-0.45, 1.5), xticks=[], yticks=[], aspect="equal")
    circle.spines[:].set_visible(False)
    for place, image, name in zip(places, images, ("xₜ, what the network sees", "v, what it is asked"), strict=True):
        show_image(place, image, name, 1.5)
    return figure


def _arrow(axis: Axes, angle: float, colour: str, name: str) -> None:
    tip = np.array([np.cos(angle), np.sin(angle)])
    axis.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkB": 0})
    inward = name in ("xₜ", "v")  # two labels may meet at the same angle: one outside the circle, one inside
    aside = 13 * np.array([tip[1], -tip[0]]) if inward else (0, 0)
    axis.annotate(name, (0.62 if inward else 1.25) * tip, aside, textcoords="offset points")
    axis.texts[-1].set(color=colour, fontsize=FONT + 1, ha="center", va="center")


def weights(curves: Mapping[str, np.ndarray], snr: np.ndarray, title: str) -> Figure:
    """Draw weights on the squared error of x_0 over t = 1..T, each (T,), and the same as weights on the error of eps.

    `curves` holds up to five named weightings; an error of x_0 counts 1/snr times what the same error of eps counts.
    """
    figure, axes = new_figure(7.2, 3.0, 2)
    styles = zip((DATA, NOISE, MODEL, INK, POSTERIOR), ("-", "-", "--", ":", "-."), strict=True)
    times = np.arange(1, len(snr) + 1)
    for (name, curve), (colour, style) in zip(curves.items(), styles, strict=False):
        for axis, values in zip(axes, (curve, curve / snr), strict=True):
            axis.semilogy(times, values, color=colour, linestyle=style, linewidth=2, label=name)
    for axis, what in zip(axes, ("x₀", "ε"), strict=True):
        label(axis, "time t", "", f"weight on the error of {what}")
        axis.set(xlim=(1, len(snr)), ylim=(1e-5, 1e5), xticks=[1, len(snr) // 2, len(snr)])
        axis.set_yticks([1e-4, 1e-2, 1, 1e2, 1e4], ["0.0001", "0.01", "1", "100", "10,000"])
        axis.minorticks_off()
    axes[0].annotate(title, (0.97, 0.93), xycoords="axes fraction", ha="right", fontsize=FONT, color=INK)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=FONT - 1
    )
    return figure


def estimators(
    estimates: Mapping[str, np.ndarray], true: float, x: np.ndarray, fits: Mapping[str, np.ndarray]
) -> Figure:
    """Draw histograms of two estimates of one gradient, and what networks fitted with each loss say at x (N,).

    `estimates` holds two samples (n,); `fits`, under the same names, some fitted curves (m, N).
    """
    figure, (left, right) = new_figure(7.2, 2.9, 2)
    spread = 4 * max(values.std() for values in estimates.values())
    bins = np.linspace(true - spread, true + spread, 60)
    for (name, values), colour in zip(estimates.items(), (SKY, NOISE), strict=True):
        left.hist(values, bins, color=colour, alpha=0.75, label=name, density=True)
        for k, curve in enumerate(fits[name]):
            right.plot(x, curve, color=colour, linewidth=1, alpha=0.8, label=name if k == 0 else None)
    left.axvline(true, color=INK, linewidth=1, linestyle="--")
    label(left, "estimate of the gradient from 64 examples", "density")
    left.set(yticks=[])
    label(right, "$x_t$", "the network's answer")
    right.set(xlim=(x[0], x[-1]))
    for axis in (left, right):
        axis.set_ylim(axis.get_ylim()[0], 1.25 * axis.get_ylim()[1])
        legend(axis, "upper left")
    return figure


def clouds(real: np.ndarray, samples: Mapping[str, np.ndarray]) -> Figure:
    """Draw four samples (n, 2) in the plane, one panel a name, each over the same grey draw of the data (N, 2)."""
    figure, axes = new_figure(6.6, 4.2, 2, 2)
    for axis, (name, points) in zip(axes, samples.items(), strict=True):
        axis.plot(*real.T, ".", color=GREY, markersize=6, alpha=0.35)
        axis.plot(*points.T, ".", color=MODEL, markersize=2)
        label(axis, title=name)
        axis.set(xlim=(-2.4, 2.4), ylim=(-1.25, 1.25), xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set_visible(False)
    return figure


def terms_along(curves: Mapping[str, np.ndarray]) -> Figure:
    """Draw the terms L_1, ..., L_{T-1} of the bound (T-1,) over t = 2..T on logarithmic axes, one curve a name."""
    figure, (axis,) = new_figure(6.2, 3.0)
    styles = zip((DATA, NOISE, MODEL), ("-", "--", "-."), strict=True)
    for (name, curve), (colour, style) in zip(curves.items(), styles, strict=False):
        axis.loglog(np.arange(2, len(curve) + 2), curve, color=colour, linestyle=style, linewidth=1.8, label=name)
    label(axis, "time t", "nats a point", r"each $L_{t-1}$")
    legend(axis, "upper right")
    return figure
