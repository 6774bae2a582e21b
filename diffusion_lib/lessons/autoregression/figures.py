"""Figures of lesson 01: arrays in, figures out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from diffusion_lib.teaching import plots
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


def framed(axes: Axes, sequence: np.ndarray, place: int, title: str = "") -> None:
    """Draw the first `place` pixels of an 8 x 8 image of levels 0..16, the rest covered, the next one framed."""
    image = np.full(64, np.nan)
    image[:place] = sequence[:place]
    axes.set_facecolor("#f3d9b5")
    axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16, interpolation="nearest")
    if place < 64:
        row, column = divmod(place, 8)
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5)
        axes.add_patch(frame)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=FONT, loc="left")


def game(sequence: np.ndarray, place: int, odds: np.ndarray | None) -> Figure:
    """Draw a digit covered from one pixel on, and what a guess puts on each level (17,), if there is one."""
    figure, (left, right) = new_figure(5.6, 2.5, columns=2)
    framed(left, sequence, place, "what you see")
    if odds is None:
        right.bar(range(17), np.full(17, 1 / 17), color=GREY)
        label(right, "level (the truth is covered)", "your probability")
    else:
        truth = int(sequence[place])
        right.bar(range(17), odds, color=[DATA if level == truth else GREY for level in range(17)])
        right.plot(truth, odds[truth] + 0.025, "v", color=DATA, markersize=7)
        label(right, "level (blue: the truth)", "your probability")
    right.set(ylim=(0, 0.56), xticks=range(0, 17, 4))
    return figure


def pair_slices(x: np.ndarray, y: np.ndarray, cuts: Sequence[float]) -> Figure:
    """Draw the pair with a sample (n,), the line of conditional means, and the density of y at each x in `cuts`."""
    figure, (left, right) = new_figure(6.6, 3.1, columns=2)
    left.scatter(x, y, s=4, color=GREY, linewidths=0)
    plots.pair(left)
    line = np.array([-2.6, 2.6])
    left.plot(line, 0.8 * line, color=MODEL, linewidth=2, label="mean of y given x")
    legend(left, "upper left")
    levels = np.linspace(-3, 3, 300)
    for cut, colour in zip(cuts, (EXTRA, POSTERIOR), strict=True):
        left.axvline(cut, color=colour, linewidth=1.5)
        density = np.exp(-((levels - 0.8 * cut) ** 2) / 0.72) / np.sqrt(0.72 * np.pi)
        right.plot(levels, density, color=colour, label=f"y, given x = {cut:g}")
    right.plot(levels, np.exp(-(levels**2) / 2) / np.sqrt(2 * np.pi), color=DATA, linestyle="--", label="y alone")
    label(right, "y", "density")
    right.set(ylim=(0, 1.05))
    legend(right, "upper left")
    means = " and ".join(f"{0.8 * cut:g}" for cut in cuts)
    return described(
        figure,
        f"The pair's ellipses with {len(x)} draws and the line of slope 0.8; at x = {cuts[0]:g} and {cuts[1]:g} the "
        f"density of y has the means {means} and the standard deviation 0.6, where y alone has 0 and 1.",
    )


def pad(phi: tuple[float, float], series: np.ndarray, stationary: bool) -> Figure:
    """Draw the triangle of stationary (phi1, phi2) with one point, and a series that it makes."""
    figure, (left, right) = new_figure(5.8, 2.5, columns=2)
    left.fill([-2, 2, 0], [-1, -1, 1], color="#cfe8df")
    bend = np.linspace(-2, 2, 101)
    left.plot(bend, -(bend**2) / 4, color=GREY, linestyle="--", linewidth=1)
    left.plot(*phi, "o", color=MODEL if stationary else NOISE, markersize=9)
    label(left, "phi1", "phi2")
    left.set(xlim=(-2.4, 2.4), ylim=(-1.3, 1.3))
    right.plot(series, color=MODEL if stationary else NOISE, linewidth=1.2)
    right.axhline(0, color=GREY, linewidth=0.8)
    label(right, "t", "Y_t")
    right.set(ylim=(-12, 12))
    return figure


def bands(years: np.ndarray, values: np.ndarray, centres: np.ndarray, spread: float, from_year: float) -> Figure:
    """Draw a series (n,) and, from `from_year` on, the band of 80 % of each next value."""
    figure, (axes,) = new_figure(7.2, 2.7)
    held = years >= from_year
    low, high = centres - 1.2816 * spread, centres + 1.2816 * spread
    inside = float(np.mean((values >= low)[held] & (values <= high)[held]))
    axes.fill_between(years[held], low[held], high[held], color="#cfe8df", label="80 % band, a year ahead")
    axes.plot(years, values, color=DATA, linewidth=1.2, label="sunspots")
    axes.axvline(from_year - 0.5, color=GREY, linestyle="--", linewidth=1)
    axes.set(ylim=(-60, 290))
    label(axes, "year", "yearly mean")
    axes.legend(fontsize=FONT - 1, frameon=False, loc="upper left", ncols=2)
    return described(
        figure,
        f"Sunspots from {years[0]:.0f} to {years[-1]:.0f}; of the {held.sum()} years from {from_year:.0f} on, "
        f"{inside:.0%} lie in a band that is {2 * 1.2816 * spread:.0f} wide and should hold 80 %.",
    )


def weather(years: np.ndarray, values: np.ndarray, centres: np.ndarray, spread: float) -> Figure:
    """Draw degrees away from the month's mean (n,) with the band of 80 % of each month's forecast."""
    figure, (axes,) = new_figure(6.6, 2.7)
    low, high = centres - 1.2816 * spread, centres + 1.2816 * spread
    inside = int(np.sum((values >= low) & (values <= high)))
    axes.fill_between(years, low, high, color="#cfe8df", label="80 % band, a month ahead")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.plot(years, values, "o-", color=DATA, linewidth=1, markersize=3, label="the sea off Peru")
    label(axes, "year", "degrees above the usual")
    axes.set(ylim=(-3, 6))
    axes.legend(fontsize=FONT - 1, frameon=False, loc="upper left", ncols=2)
    return described(
        figure,
        f"The sea off Peru from {int(years[0])} to {int(years[-1])}, {values.max():.1f} degrees too warm at most; "
        f"{inside} of {len(values)} months lie in the band that should hold 80 %.",
    )


def chain(a: np.ndarray, c: np.ndarray, kept: np.ndarray, correlation: float) -> Figure:
    """Draw A against C for all draws, grey, and for those whose B was observed near one value, coloured."""
    figure, (axes,) = new_figure(3.4, 3.0)
    axes.scatter(a, c, s=3, color="#d5d5d5", linewidths=0)
    axes.scatter(a[kept], c[kept], s=7, color=POSTERIOR, linewidths=0)
    label(axes, "A", "C", f"correlation {correlation:+.2f}")
    axes.set(xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), aspect="equal")
    return figure


def moved(changes: np.ndarray, place: int) -> Figure:
    """Draw how far each of 64 predictions moves (8 x 8) when the symbol at `place` is changed."""
    figure, (axes,) = new_figure(3.2, 3.0)
    shown = np.where(changes > 0, 1.0, 0.0).reshape(8, 8)
    axes.imshow(shown, cmap="Greens", vmin=0, vmax=1.6, interpolation="nearest")
    row, column = divmod(place, 8)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=NOISE, linewidth=2.5))
    axes.set_xticks(np.arange(8.5), [""] * 9)
    axes.set_yticks(np.arange(8.5), [""] * 9)
    axes.tick_params(length=0)
    axes.grid(color=GREY, linewidth=0.5)
    axes.set_title("green: predictions that move", fontsize=FONT, loc="left")
    return figure


def drawing(table: np.ndarray, network: np.ndarray, place: int) -> Figure:
    """Draw two sequences of levels up to one pixel: from a table of neighbours, and from a network."""
    figure, (left, right) = new_figure(5.2, 2.7, columns=2)
    framed(left, table, place, "table: pixel on the left")
    framed(right, network, place, "Transformer: all before")
    return figure


def samples(rows: Sequence[np.ndarray], names: Sequence[str]) -> Figure:
    """Draw rows of ten images of levels, (10, 64) each, one row a model; the last could not be asked for any."""
    figure, axes = new_figure(6.6, 0.95 * len(rows), columns=10, rows=len(rows))
    for k, axis in enumerate(axes):
        row, column = divmod(k, 10)
        show_image(
            axis, 8 - np.asarray(rows[row][column], dtype=float).reshape(8, 8), str(column) if row == 0 else "", 8.0
        )
        if column == 0:
            axis.set_ylabel(names[row], fontsize=FONT)
    asked = " and the ".join(names[:-1])
    return described(
        figure, f"Ten draws a row: the {asked} were asked for the digits 0 to 9, the {names[-1]} could not be asked."
    )


def factorisations() -> Figure:
    """Draw the two ways to factorise: along the data, and along the noise."""
    figure, (upper, lower) = new_figure(7.0, 3.4, rows=2)
    data_names = ["$x_1$", "$x_2$", "$x_3$", "...", "$x_{64}$"]
    noise_names = ["$x_T$", "$x_{T-1}$", "$x_{T-2}$", "...", "$x_0$"]
    about = (
        (upper, data_names, DATA, "along the data: one pixel a step, given all before"),
        (lower, noise_names, NOISE, "along the noise: the whole image a step, given the last"),
    )
    for axes, names, colour, title in about:
        for k, name in enumerate(names):
            axes.text(k, 0, name, ha="center", va="center", fontsize=FONT + 2, color=INK)
            for j in range(k) if axes is upper else range(k - 1, k):
                if j >= 0:
                    bend = f"arc3,rad={-0.11 * (k - j - 1):g}"
                    style = {"arrowstyle": "->", "color": colour, "connectionstyle": bend, "linewidth": 1.4}
                    style |= {"shrinkA": 18, "shrinkB": 18}
                    axes.annotate("", (k, 0), (j, 0), arrowprops=style)
        axes.set(xlim=(-0.5, 4.5), ylim=(-0.4, 1.6) if axes is upper else (-0.6, 0.6))
        axes.axis("off")
        axes.set_title(title, fontsize=FONT, loc="left")
    return described(
        figure,
        "Above, each of 64 pixels has arrows from all pixels before it; below, each of T noisy images has one arrow, "
        "from the image before.",
    )


def ladder(names: Sequence[str], bits: Sequence[float], trained: int) -> Figure:
    """Draw bits per pixel as bars, the lower the better; the last `trained` of them are of networks."""
    figure, (axes,) = new_figure(6.8, 0.4 * len(names) + 0.8)
    places = np.arange(len(names))[::-1]
    colours = [GREY] * (len(names) - trained) + [MODEL] * trained
    axes.barh(places, bits, color=colours, height=0.66)
    for place, value in zip(places, bits, strict=True):
        axes.text(value + 0.04, place, f"{value:.2f}", va="center", fontsize=FONT - 1)
    axes.set_yticks(places, names)
    label(axes, "bits per pixel on test digits (less is better)", "")
    axes.set(xlim=(0, 4.6))
    digits = [2] * (len(names) - trained) + [1] * trained
    told = "; ".join(f"{name} {value:.{n}f}" for name, value, n in zip(names, bits, digits, strict=True))
    return described(figure, f"Bits per pixel, from worst to best: {told}.")
