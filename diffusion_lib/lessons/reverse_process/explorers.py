"""Lesson 10's explorers: Bayes' rule on a grid, the posterior from T to 1, the width of one step back, one jump."""

import torch
from torch import Tensor

from diffusion_lib.data import digits
from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.densities import Points
from diffusion_lib.gaussians import normal_log_prob
from diffusion_lib.lessons.reverse_process import figures
from diffusion_lib.noise import seeded
from diffusion_lib.process import posterior_coefficients, q_posterior, q_sample
from diffusion_lib.schedules import Schedule, from_beta, linear
from diffusion_lib.teaching.explorer import Control, Explorer, explorer

GRID = torch.linspace(-6, 6, 6001, dtype=torch.float64)
SHOWN = GRID.abs() <= 2.8


def coarse() -> Schedule:
    """Ten large steps, beta from 0.05 to 0.4: large enough for every difference between formulas to be seen."""
    return from_beta(torch.linspace(0.05, 0.40, 10, dtype=torch.float64))


@explorer
def posterior() -> Explorer:
    """Prior x likelihood = posterior on a grid, the formula's Gaussian over it, by x_t, t and x_0."""
    schedule = coarse()

    def curves(x_t, t, x_0):
        alpha_bar, alpha, beta = schedule.alpha_bar[t - 1], schedule.alpha[t], schedule.beta[t]
        prior = normal_log_prob(GRID, alpha_bar.sqrt() * x_0, 1 - alpha_bar).exp()
        likelihood = normal_log_prob(torch.full_like(GRID, x_t), alpha.sqrt() * GRID, beta).exp()
        posterior = prior * likelihood / torch.trapezoid(prior * likelihood, GRID)
        data, state = (torch.tensor([value], dtype=torch.float64) for value in (x_0, x_t))
        formula = normal_log_prob(GRID, *q_posterior(schedule, data, state, t - 1, t)).exp()
        return {"prior": prior, "likelihood": likelihood, "posterior": posterior, "formula": formula}

    def show(x_t, t, x_0):
        found = curves(x_t, t, x_0)
        density = found["posterior"]
        mean = torch.trapezoid(GRID * density, GRID)
        std = torch.trapezoid((GRID - mean) ** 2 * density, GRID).sqrt()
        shown = {name: curve[SHOWN].numpy() for name, curve in found.items()}
        return figures.bayes(GRID[SHOWN].numpy(), shown, x_0, x_t), (
            f"At t = {t}, from x_t = {x_t} and x_0 = {x_0}, the posterior of x_(t-1) on the grid has the mean "
            f"{mean:.3f} and the standard deviation {std:.3f}; the formula's curve lies on it."
        )

    controls = [
        Control("x_t", "noisy value x_t", (-2.0, -1.0, 0.0, 1.0, 2.0), -1.0, "x_t = {}"),
        Control("t", "time t", (2, 4, 7, 10), 4, "t = {}"),
        Control("x_0", "data point x_0", (-1.0, 1.0), 1.0, "x_0 = {}"),
    ]
    return Explorer(show, controls)


TIMES = (1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 20, 2, 1)
X_0 = 1.0  # where every walk ends


@explorer
def posterior_path() -> Explorer:
    """Centre and width of q(x_{t-1} | x_t, x_0) along one walk from x_T to a known x_0, linear schedule."""
    schedule = linear()
    alpha_bar = schedule.alpha_bar
    walks = {x_T: _walk(schedule, x_T, X_0) for x_T in (-2.0, 0.0, 2.0)}
    average, spread = alpha_bar[:-1].sqrt() * X_0, (1 - alpha_bar[:-1]).sqrt()

    def show(t, x_T):
        states, means, stds = walks[x_T]
        now = float(states[t]), float(means[t]), float(stds[t])
        return figures.posterior_along(t, X_0, now, (means[1:].numpy(), average.numpy(), spread.numpy())), (
            f"At t = {t} of a walk from {x_T} to {X_0}, x_t is {states[t]:.3f} and the posterior of x_(t-1) is centred "
            f"at {means[t]:.3f} with the standard deviation {stds[t]:.3f}; the average centre of all walks is "
            f"{average[t - 1]:.3f}."
        )

    controls = [
        Control("t", "time t", TIMES, 1000, "t = {}"),
        Control("x_T", "start of the walk", (-2.0, 0.0, 2.0), 2.0, "x_T = {}"),
    ]
    return Explorer(show, controls)


def _walk(schedule: Schedule, x_T: float, x_0: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return states x_t, posterior means and standard deviations, t = 1..T (index 0 unused), of one walk drawn back."""
    c_t, c_0, variance = posterior_coefficients(schedule.alpha_bar[:-1], schedule.alpha_bar[1:])
    noise = torch.randn(schedule.T + 1, generator=seeded(10), dtype=torch.float64)
    states, means = torch.zeros(2, schedule.T + 1, dtype=torch.float64)
    states[-1] = x_T
    for t in range(schedule.T, 0, -1):
        means[t] = c_t[t - 1] * states[t] + c_0[t - 1] * x_0
        states[t - 1] = means[t] + variance[t - 1].sqrt() * noise[t]
    return states, means, torch.cat([variance[:1], variance]).sqrt()


@explorer
def reverse_variance() -> Explorer:
    """The exact variance of one step back between its two fixed choices, for Gaussian data."""
    schedule = linear()
    alpha_bar, beta = schedule.alpha_bar[1:], schedule.beta[1:]
    _, c_0, posterior_variance = posterior_coefficients(schedule.alpha_bar[:-1], alpha_bar)
    lower, upper = posterior_variance / beta, torch.ones_like(beta)

    def show(variance):
        unknown = variance * (1 - alpha_bar) / (alpha_bar * variance + 1 - alpha_bar)  # Var[x_0 | x_t]
        exact = (posterior_variance + c_0**2 * unknown) / beta
        shares = {"lower": lower.numpy(), "upper": upper.numpy(), "exact": exact.numpy()}
        values = ", ".join(f"{exact[t - 1]:.3f} at t = {t}" for t in (1, 10, 100))
        return figures.reverse_variance(shares, f"data variance {variance}"), (
            f"With Gaussian data of variance {variance}, the exact variance of one step back is this share of beta_t: "
            f"{values}; the posterior variance is {lower[9]:.3f} of beta_t at t = 10."
        )

    values = (0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1, 1.0, 4.0)
    return Explorer(show, [Control("variance", "data variance", values, 0.0003, "variance {}")])


ONE_SHOT_TIMES = (1, 50, 100, 150, 200, 250, 300, 400, 500, 700, 1000)


@explorer
def one_shot() -> Explorer:
    """A digit, the same with noise, and E[x_0 | x_t], the exact denoiser's answer, by t and digit."""
    schedule, data = linear(), digits()
    denoise = ExactDenoiser(schedule, Points(data.train))
    gain = (1 / schedule.snr[1:]).sqrt().numpy()
    places = {label: int((data.train_labels == label).nonzero()[0]) for label in (0, 3, 8)}
    eps = torch.randn(1, 1, 8, 8, generator=seeded(10), dtype=torch.float64)

    def show(t, digit):
        x0 = data.train[places[digit]][None]  # (1, 1, 8, 8)
        x_t = q_sample(schedule, x0, t, eps)
        answer = denoise(x_t, t).x0
        away = float((answer - x0).square().mean().sqrt())
        return figures.one_shot([image[0, 0].numpy() for image in (x0, x_t, answer)], t, gain), (
            f"At t = {t} the one-jump answer lies {away:.3f} a pixel (root mean square) from the {digit} that was "
            f"noised; an error of the noise is multiplied by {gain[t - 1]:.3g}."
        )

    controls = [
        Control("t", "time t", ONE_SHOT_TIMES, 250, "t = {}"),
        Control("digit", "digit", tuple(places), 3, "digit {}"),
    ]
    return Explorer(show, controls)
