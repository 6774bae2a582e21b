"""Entropy and KL along the forward process, for Gaussian data of any variance."""

import torch

from diffusion_lib.gaussians import kl_normal
from diffusion_lib.schedules import linear
from diffusion_lib.teaching.figures.noise_schedules import entropy_and_kl
from diffusion_lib.teaching.widgets.explorer import Control, Explorer

VARIANCES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0)


def entropy_explorer() -> Explorer:
    """Entropy of x_t and KL to N(0, 1) over t for data N(0, variance); slider: that variance (lesson 09, row I3)."""
    schedule = linear()

    def curves(variance):
        now = 1 + schedule.alpha_bar * (variance - 1)  # variance of x_t, (T+1,)
        entropy = 0.5 * (2 * torch.pi * torch.e * now).log()
        return entropy, kl_normal(torch.zeros_like(now), now, 0.0, 1.0)

    def draw(variance):
        entropy, divergence = curves(variance)
        return entropy_and_kl(
            torch.arange(schedule.T + 1).numpy(), entropy.numpy(), divergence.numpy(), f"data N(0, {variance:g})"
        )

    def describe(variance):
        entropy, divergence = curves(variance)
        return (
            f"For data of variance {variance:g} the entropy goes from {float(entropy[0]):.3g} to "
            f"{float(entropy[-1]):.3g} nats, while the KL divergence to the standard normal falls from "
            f"{float(divergence[0]):.2f} to 0."
        )

    return Explorer(draw, describe, [Control("variance", "variance of the data", VARIANCES, 4.0)])
