"""Explorers of lesson 04: two objectives, areas under a density, one formula and two sliders, a fit, two peaks."""

import math

import numpy as np
import torch

from diffusion_lib.lessons.likelihood import figures, fits
from diffusion_lib.teaching.explorer import Control, Explorer, explorer

STEP = 1.0  # of the gradient steps on the logits


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
        Control("center", "center", (-1.0, 0.0, 0.5, 1.0), 0.0, form="{:g}"),
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


@explorer
def objectives() -> Explorer:
    """Three points at 0 and one that moves: where the product of a bell curve's heights is largest, and their sum."""
    centers = torch.linspace(-3, 13, 641, dtype=torch.float64)

    def show(last, std):
        points = torch.tensor([0.0, 0.0, 0.0, last], dtype=torch.float64)
        logs, sums = fits.two_maxima(points, centers, std)
        best = tuple(float(centers[values.argmax()]) for values in (logs, sums))
        sentence = (
            f"Points 0, 0, 0 and {last:g}, width {std:g}: the product is largest at {best[0]:.2f}, the sum at"
            f" {best[1]:.2f}."
        )
        return figures.two_objectives(*(v.numpy() for v in (points, centers, logs, sums)), best), sentence

    controls = [
        Control("last", "the fourth point", (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0), 2.0, form="{:g}"),
        Control("std", "width", (1.0, 3.0), 1.0, form="{:g}"),
    ]
    return Explorer(show, controls)


@explorer
def same_formula() -> Explorer:
    """One formula p(x | rate) = rate exp(-rate x) and two sliders: read along x, and along the rate."""

    def show(x, rate):
        height = rate * math.exp(-rate * x)
        sentence = (
            f"x = {x:g}, rate {rate:g}: both dots are {height:.3f} high; the area along x is 1, along the rate"
            f" {1 / x**2:.2f}; the likelihood is largest at rate {1 / x:.2f}."
        )
        return figures.same_formula(x, rate), sentence

    controls = [
        Control("x", "x", (0.5, 0.75, 1.0, 1.5, 2.0, 3.0), 2.0, form="{:g}"),
        Control("rate", "rate", (0.25, 0.5, 0.75, 1.0, 1.5, 2.0), 1.0, form="{:g}"),
    ]
    return Explorer(show, controls)


@explorer
def competition() -> Explorer:
    """Seventeen probabilities that sum to 1, moved towards the data by gradient steps."""
    counts = fits.pixel_counts()
    shares = counts / counts.sum()
    least = float(-(shares * shares.log()).sum())

    def show(step):
        said = fits.descent(counts, step, STEP)
        cost = float(-(shares * said.log()).sum())
        sentence = (
            f"Step {step}: level 0 has {said[0]:.3f}, level 16 has {said[16]:.3f}; the model costs {cost:.3f} nats a"
            f" pixel, the data's own table {least:.3f}; the sum is {said.sum():.2f}."
        )
        return figures.competition(shares.numpy(), said.numpy()), sentence

    return Explorer(show, [Control("step", "gradient step", (0, 1, 2, 3, 5, 8, 12, 20, 40, 80, 160, 320), 0)])


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
        first, second = (
            f"{price:.2f} bits at width {fit.std:.2f}" for price, fit in zip(bits, (forth, back), strict=True)
        )
        numbers = f"KL(p || q) is {first}, KL(q || p) {second}"
        return figures.fits(x, density, curves), f"Peaks at -{half:g} and {half:g}: {numbers}; the second lies {where}."

    halves = (0.5, 1.0, 1.5, 2.0, 2.4, 2.6, 2.7, 2.9, 3.0, 3.5, 4.0)
    return Explorer(show, [Control("half", "half the distance d", halves, 2.0, form="{:g}")])
