"""Two independent Gaussians and their sum."""

import math

import torch

from diffusion_lib.gaussians import normal_log_prob
from diffusion_lib.teaching.figures.forward import gaussian_sum
from diffusion_lib.teaching.widgets.explorer import Control, Explorer

X = torch.linspace(-5, 6.5, 231, dtype=torch.float64)
MEANS = (-1.0, 2.0)


def gaussian_sum_explorer() -> Explorer:
    """The densities of X and Y, 20,000 simulated sums and the Gaussian that the rule predicts (lesson 09, row E10)."""
    generator = torch.Generator().manual_seed(3)
    first, second = torch.randn(2, 20_000, generator=generator, dtype=torch.float64)

    def sums(sigma_x, sigma_y):
        return MEANS[0] + sigma_x * first + MEANS[1] + sigma_y * second

    def draw(sigma_x, sigma_y):
        pairs = [(MEANS[0], sigma_x**2), (MEANS[1], sigma_y**2), (sum(MEANS), sigma_x**2 + sigma_y**2)]
        curves = [normal_log_prob(X, mean, variance).exp().numpy() for mean, variance in pairs]
        return gaussian_sum(X.numpy(), *curves, sums(sigma_x, sigma_y).numpy())

    def describe(sigma_x, sigma_y):
        total = sums(sigma_x, sigma_y)
        return (
            f"Deviations {sigma_x} and {sigma_y}: 20,000 sums have the mean {float(total.mean()):.2f} and the "
            f"deviation {float(total.std()):.2f}; the rule says {math.hypot(sigma_x, sigma_y):.2f}."
        )

    controls = [
        Control("sigma_x", "deviation of X", (0.3, 0.6, 1.2), 0.6),
        Control("sigma_y", "deviation of Y", (0.4, 0.8, 1.6), 0.8),
    ]
    return Explorer(draw, describe, controls)
