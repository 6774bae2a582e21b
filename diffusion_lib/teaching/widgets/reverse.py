"""Explorers of the reverse chain: how wide one step back is, and what one jump to x_0 shows."""

import torch

from diffusion_lib.data import digits
from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.densities import Points
from diffusion_lib.process import posterior_coefficients, q_sample
from diffusion_lib.schedules import linear
from diffusion_lib.teaching.figures import reverse as figures
from diffusion_lib.teaching.widgets.explorer import Control, Explorer


def reverse_variance_explorer() -> Explorer:
    """Lesson 10: the exact variance of one step back between its two fixed choices, for Gaussian data."""
    schedule = linear()
    alpha_bar, beta = schedule.alpha_bar[1:], schedule.beta[1:]
    _, c_0, posterior_variance = posterior_coefficients(schedule.alpha_bar[:-1], alpha_bar)

    def share(variance):
        unknown = variance * (1 - alpha_bar) / (alpha_bar * variance + 1 - alpha_bar)  # Var[x_0 | x_t]
        return (posterior_variance + c_0**2 * unknown) / beta

    def draw(variance):
        shares = {"lower": posterior_variance / beta, "upper": torch.ones_like(beta), "exact": share(variance)}
        return figures.reverse_variance({k: v.numpy() for k, v in shares.items()}, f"data variance {variance}")

    def describe(variance):
        values = ", ".join(f"{share(variance)[t - 1]:.3f} at t = {t}" for t in (1, 10, 100))
        lower = (posterior_variance / beta)[9]
        return (
            f"With Gaussian data of variance {variance}, the exact variance of one step back is this share of beta_t: "
            f"{values}; the posterior variance is {lower:.3f} of beta_t at t = 10."
        )

    values = (0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1, 1.0, 4.0)
    return Explorer(draw, describe, [Control("variance", "data variance", values, 0.0003, "variance {}")])


ONE_SHOT_TIMES = (1, 50, 100, 150, 200, 250, 300, 400, 500, 700, 1000)


def one_shot_explorer() -> Explorer:
    """Lesson 10: a digit, the same with noise, and E[x_0 | x_t], the exact denoiser's answer, by t and digit."""
    schedule, data = linear(), digits()
    denoise = ExactDenoiser(schedule, Points(data.train))
    gain = (1 / schedule.snr[1:]).sqrt().numpy()
    places = {label: int((data.train_labels == label).nonzero()[0]) for label in (0, 3, 8)}
    eps = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(10), dtype=torch.float64)

    def pictures(t, digit):
        x0 = data.train[places[digit]][None]  # (1, 1, 8, 8)
        x_t = q_sample(schedule, x0, t, eps)
        return x0, x_t, denoise(x_t, t).x0

    def draw(t, digit):
        return figures.one_shot([picture[0, 0].numpy() for picture in pictures(t, digit)], t, gain)

    def describe(t, digit):
        x0, _, answer = pictures(t, digit)
        away = float((answer - x0).square().mean().sqrt())
        return (
            f"At t = {t} the one-jump answer lies {away:.3f} a pixel (root mean square) from the {digit} that was "
            f"noised; an error of the noise is multiplied by {gain[t - 1]:.3g}."
        )

    controls = [
        Control("t", "time t", ONE_SHOT_TIMES, 250, "t = {}"),
        Control("digit", "digit", tuple(places), 3, "digit {}"),
    ]
    return Explorer(draw, describe, controls)
