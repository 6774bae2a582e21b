"""Explorers of one step back: Bayes' rule on a grid, and the posterior on its way from T to 1."""

import torch
from torch import Tensor

from diffusion_lib.gaussians import log_normal
from diffusion_lib.process import posterior_coefficients, q_posterior
from diffusion_lib.schedules import Schedule, from_beta, linear
from diffusion_lib.teaching.figures import posterior as figures
from diffusion_lib.teaching.widgets.explorer import Control, Explorer

GRID = torch.linspace(-6, 6, 6001, dtype=torch.float64)
SHOWN = GRID.abs() <= 2.8


def coarse() -> Schedule:
    """Ten large steps, beta from 0.05 to 0.4: large enough for every difference between formulas to be seen."""
    return from_beta(torch.linspace(0.05, 0.40, 10, dtype=torch.float64))


def posterior_explorer() -> Explorer:
    """Lesson 10: prior x likelihood = posterior on a grid, the formula's Gaussian over it, by x_t, t and x_0."""
    schedule = coarse()

    def curves(x_t, t, x_0):
        alpha_bar, alpha, beta = schedule.alpha_bar[t - 1], schedule.alpha[t], schedule.beta[t]
        prior = log_normal(GRID, alpha_bar.sqrt() * x_0, 1 - alpha_bar).exp()
        likelihood = log_normal(torch.full_like(GRID, x_t), alpha.sqrt() * GRID, beta).exp()
        posterior = prior * likelihood / torch.trapezoid(prior * likelihood, GRID)
        data, state = (torch.tensor([value], dtype=torch.float64) for value in (x_0, x_t))
        formula = log_normal(GRID, *q_posterior(schedule, data, state, t - 1, t)).exp()
        return {"prior": prior, "likelihood": likelihood, "posterior": posterior, "formula": formula}

    def draw(x_t, t, x_0):
        shown = {name: curve[SHOWN].numpy() for name, curve in curves(x_t, t, x_0).items()}
        return figures.bayes(GRID[SHOWN].numpy(), shown, x_0, x_t)

    def describe(x_t, t, x_0):
        density = curves(x_t, t, x_0)["posterior"]
        mean = torch.trapezoid(GRID * density, GRID)
        std = torch.trapezoid((GRID - mean) ** 2 * density, GRID).sqrt()
        return (
            f"At t = {t}, from x_t = {x_t} and x_0 = {x_0}, the posterior of x_(t-1) on the grid has the mean "
            f"{mean:.3f} and the standard deviation {std:.3f}; the formula's curve lies on it."
        )

    controls = [
        Control("x_t", "noisy value x_t", (-2.0, -1.0, 0.0, 1.0, 2.0), -1.0, "x_t = {}"),
        Control("t", "time t", (2, 4, 7, 10), 4, "t = {}"),
        Control("x_0", "data point x_0", (-1.0, 1.0), 1.0, "x_0 = {}"),
    ]
    return Explorer(draw, describe, controls)


TIMES = (1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 20, 2, 1)
X_0 = 1.0  # where every walk ends


def posterior_path_explorer() -> Explorer:
    """Lesson 10: centre and width of q(x_{t-1} | x_t, x_0) along one walk from x_T to a known x_0, linear schedule."""
    schedule = linear()
    alpha_bar = schedule.alpha_bar
    walks = {x_T: _walk(schedule, x_T, X_0) for x_T in (-2.0, 0.0, 2.0)}

    def draw(t, x_T):
        states, means, stds = walks[x_T]
        average, spread = alpha_bar[:-1].sqrt() * X_0, (1 - alpha_bar[:-1]).sqrt()
        now = float(states[t]), float(means[t]), float(stds[t])
        return figures.posterior_along(t, X_0, now, (means[1:].numpy(), average.numpy(), spread.numpy()))

    def describe(t, x_T):
        states, means, stds = walks[x_T]
        return (
            f"At t = {t} of a walk from {x_T} to {X_0}, x_t is {states[t]:.3f} and the posterior of x_(t-1) is centred "
            f"at {means[t]:.3f} with the standard deviation {stds[t]:.3f}; the average centre of all walks is "
            f"{alpha_bar[t - 1].sqrt() * X_0:.3f}."
        )

    controls = [
        Control("t", "time t", TIMES, 1000, "t = {}"),
        Control("x_T", "start of the walk", (-2.0, 0.0, 2.0), 2.0, "x_T = {}"),
    ]
    return Explorer(draw, describe, controls)


def _walk(schedule: Schedule, x_T: float, x_0: float) -> tuple[Tensor, Tensor, Tensor]:
    """States x_t, posterior means and deviations at t = 1..T (index 0 unused) of one walk drawn from the posteriors."""
    c_t, c_0, variance = posterior_coefficients(schedule.alpha_bar[:-1], schedule.alpha_bar[1:])
    noise = torch.randn(schedule.T + 1, generator=torch.Generator().manual_seed(10), dtype=torch.float64)
    states, means = torch.zeros(2, schedule.T + 1, dtype=torch.float64)
    states[-1] = x_T
    for t in range(schedule.T, 0, -1):
        means[t] = c_t[t - 1] * states[t] + c_0[t - 1] * x_0
        states[t - 1] = means[t] + variance[t - 1].sqrt() * noise[t]
    return states, means, torch.cat([variance[:1], variance]).sqrt()
