"""Explorers of lesson 04: a bet in two currencies, areas under a density, one formula read two ways, KL fits."""

import math

import numpy as np

from diffusion_lib.lessons.likelihood import figures, fits
from diffusion_lib.teaching.explorer import Control, Explorer, explorer


@explorer
def bet() -> Explorer:
    """A Gaussian over ten points: the sum of its heights, and their product as a sum of logarithms."""

    def show(std, center):
        total, logs = fits.objectives(center, std)
        sentence = (
            f"Center {center:g}, width {std:g}: the heights sum to {total:.2f}, their logarithms to {logs:.1f} nats."
        )
        return figures.bet(np.array(fits.POINTS), center, std), sentence

    controls = [
        Control("std", "width", (0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.2, 1.7, 2.4, 3.2), 0.5, form="{:g}"),
        Control("center", "center", (-1.0, -0.5, 0.0, 0.2, 0.5, 1.0), 0.0, form="{:g}"),
    ]
    return Explorer(show, controls)


@explorer
def area() -> Explorer:
    """The normal density of one standard deviation, its height at 0 and its area between -0.1 and 0.3."""

    def show(std):
        inside = 0.5 * (math.erf(0.3 / (std * 2**0.5)) - math.erf(-0.1 / (std * 2**0.5)))
        height = 1 / (math.sqrt(2 * math.pi) * std)
        sentence = f"Standard deviation {std:g}: the density at 0 is {height:.2f}, the probability of (-0.1, 0.3) is"
        return figures.area(std, -0.1, 0.3), f"{sentence} {inside:.3f}."

    return Explorer(show, [Control("std", "standard deviation", (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5), 0.5)])


WAYS = ("x runs, the rate is fixed", "the rate runs, x is fixed")


@explorer
def two_ways() -> Explorer:
    """p(x | rate) = rate exp(-rate x), read along x and read along the rate."""

    def show(fixed, way):
        along_x = way == WAYS[0]
        whole = 1.0 if along_x else 1 / fixed**2
        what = "a density of x" if along_x else "the likelihood of the rate"
        sentence = f"{'Rate' if along_x else 'x ='} {fixed:g} fixed: {what}, with a whole area of {whole:.2f}."
        return figures.two_ways(fixed, along_x), sentence

    controls = [
        Control("fixed", "the fixed one", (0.5, 0.75, 1.0, 1.25, 1.5, 2.0), 2.0, form="{:g}"),
        Control("way", "which one runs", WAYS),
    ]
    return Explorer(show, controls)


@explorer
def two_peaks() -> Explorer:
    """One Gaussian for two equal peaks at -d and +d: the best by KL(p || q) and the best by KL(q || p)."""
    x = np.linspace(-8, 8, 600)

    def show(half):
        density = 0.5 * (figures.bell(x, -half, 1.0) + figures.bell(x, half, 1.0))
        forth, back = fits.forward_fit(half), fits.reverse_fit(half)
        curves = {"best by KL(p || q)": forth[:2], "best by KL(q || p)": back[:2]}
        where = "between the peaks" if abs(back.mean) < 0.05 else "on one peak"
        bits = [fit.divergence / math.log(2) for fit in (forth, back)]
        numbers = f"KL(p || q) is {bits[0]:.2f} bits, KL(q || p) {bits[1]:.2f} bits"
        return figures.fits(x, density, curves), f"Peaks at -{half:g} and {half:g}: {numbers}; the second lies {where}."

    halves = (0.5, 1.0, 1.5, 2.0, 2.4, 2.6, 2.7, 2.9, 3.0, 3.5, 4.0)
    return Explorer(show, [Control("half", "half the distance d", halves, 2.0, form="{:g}")])
