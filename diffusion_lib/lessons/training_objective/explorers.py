"""Lesson 11's explorers: the bound's terms, the circle of targets, the weights of the losses."""

import math

import torch
from torch import Tensor

from diffusion_lib import losses
from diffusion_lib.bound import bound_weighting, decoder_term, denoising_term, prior_term
from diffusion_lib.data import digits
from diffusion_lib.gaussians import normal_log_prob
from diffusion_lib.lessons.training_objective import figures
from diffusion_lib.noise import seeded
from diffusion_lib.process import X0, V, posterior_coefficients, q_sample
from diffusion_lib.schedules import Schedule, cosine, from_beta, linear, scaled_linear
from diffusion_lib.teaching.explorer import Control, Explorer, explorer

DECODER_VARIANCE = 0.05
# The mean of a polynomial up to degree 5 over a standard normal number (the Gauss-Hermite rule with three points)
NODES = torch.tensor([[-math.sqrt(3)], [0.0], [math.sqrt(3)]], dtype=torch.float64)
SHARES = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)


@explorer
def bound() -> Explorer:
    """L_0, ..., L_T of a chain of eight steps whose denoiser is a line, over the exact -log p(x_0)."""
    schedule = from_beta(torch.linspace(0.05, 0.5, 8, dtype=torch.float64))

    def show(slope, variance, x_0):
        terms, surprise = _terms(schedule, slope, variance, x_0), _surprise(schedule, slope, variance, x_0)
        return figures.bound_terms(terms.numpy(), surprise), (
            f"With the guess {slope} x_t + 0.1 and the {variance} variance, at x_0 = {x_0}: L_0 is {terms[0]:.3f}, the "
            f"denoising terms are {terms[1:-1].sum():.3f} together and L_T is {terms[-1]:.3f} nats; their sum is "
            f"{terms.sum():.3f}, above the exact -log p(x_0), {surprise:.3f}."
        )

    controls = [
        Control("slope", "slope of the denoiser", (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1), 0.8, "{} xₜ + 0.1"),
        Control("variance", "variance of a step back", ("posterior", "beta")),
        Control("x_0", "data point", (-0.4, 0.7), 0.7, "x_0 = {}"),
    ]
    return Explorer(show, controls)


def _terms(schedule: Schedule, slope: float, variance: str, x_0: float) -> Tensor:
    """L_0, ..., L_T, (T+1,), each with its exact mean over the noise: the terms are squares of the noise."""

    def denoise(x_t, t):
        return X0.solve(schedule, x_t, slope * x_t + 0.1, t)

    x0 = torch.full_like(NODES, x_0)
    first = decoder_term(schedule, denoise, x0, NODES, variance=DECODER_VARIANCE)
    inner = [denoising_term(schedule, denoise, x0, t, NODES, variance) for t in range(2, schedule.T + 1)]
    return SHARES @ torch.stack([first, *inner, prior_term(schedule, x0)], 1)


def _surprise(schedule: Schedule, slope: float, variance: str, x_0: float) -> float:
    """-log p(x_0): mean and variance carried from x_T ~ N(0, 1) down the chain, whose every step is a line."""
    mean, spread = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for t in range(schedule.T, 0, -1):
        c_t, c_0, width = posterior_coefficients(schedule.alpha_bar[t - 1], schedule.alpha_bar[t])
        width = DECODER_VARIANCE if t == 1 else width if variance == "posterior" else schedule.beta[t]
        mean, spread = (c_t + c_0 * slope) * mean + 0.1 * c_0, (c_t + c_0 * slope) ** 2 * spread + width
    return -float(normal_log_prob(torch.tensor([x_0], dtype=torch.float64), mean, spread))


ROTATION_TIMES = (1, 50, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000)


@explorer
def rotation() -> Explorer:
    """x_t and v as one plane turned by the angle whose cosine is the signal rate; a digit's x_t and v."""
    schedules = {"linear": linear(), "cosine": cosine()}
    x0 = digits().train[:1]  # (1, 1, 8, 8)
    eps = torch.randn(x0.shape, generator=seeded(11), dtype=torch.float64)

    def show(t, schedule):
        table = schedules[schedule]
        angle = math.acos(float(table.alpha_bar[t].sqrt()))
        x_t, v = q_sample(table, x0, t, eps), V.target(table, x0, eps, t)
        return figures.rotation(t, angle, [x_t[0, 0].numpy(), v[0, 0].numpy()]), (
            f"At t = {t} of the {schedule} schedule the angle is {math.degrees(angle):.1f} degrees: x_t is "
            f"{math.cos(angle):.3f} x_0 + {math.sin(angle):.3f} eps, and v is {math.cos(angle):.3f} eps - "
            f"{math.sin(angle):.3f} x_0."
        )

    controls = [
        Control("t", "time t", ROTATION_TIMES, 250, "t = {}"),
        Control("schedule", "schedule", tuple(schedules)),
    ]
    return Explorer(show, controls)


@explorer
def weights() -> Explorer:
    """What an error counts at each time in the plain losses, min-SNR and the bound."""
    schedules = {"linear": linear(), "cosine": cosine(), "scaled linear": scaled_linear()}

    def curves(gamma, table):
        times, snr = torch.arange(1, table.T + 1), table.snr[1:]
        plain = {"plain ε": snr, "plain x₀": torch.ones_like(snr), "plain v": snr + 1}
        return plain | {"min-SNR": losses.min_snr(gamma)(table, times), "bound": bound_weighting(table, times)}

    def show(gamma, schedule):
        found, snr = curves(gamma, schedules[schedule]), schedules[schedule].snr
        drawn = {name: curve.numpy() for name, curve in found.items()}
        at = ", ".join(
            f"{found['min-SNR'][t - 1] / snr[t]:.3g} and {found['bound'][t - 1] / snr[t]:.3g} at t = {t}"
            for t in (2, 100, 500, 1000)
        )
        return figures.weights(drawn, snr[1:].numpy(), f"γ = {gamma:g}"), (
            f"On the {schedule} schedule an error of eps counts 1 at every time in L_simple; with min-SNR at gamma = "
            f"{gamma:g} and in the bound it counts {at}."
        )

    controls = [
        Control("gamma", "gamma of min-SNR", (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 100.0), 5.0, "γ = {:g}"),
        Control("schedule", "schedule", tuple(schedules)),
    ]
    return Explorer(show, controls)
