"""The Markov step repeated: how many steps, of which variance, until the data are forgotten."""

from collections.abc import Iterator

import torch
from torch import Tensor

from diffusion_lib.gaussians import normal_log_prob
from diffusion_lib.process import q_step
from diffusion_lib.schedules import Schedule, constant
from diffusion_lib.teaching.figures.forward import histogram
from diffusion_lib.teaching.widgets.explorer import Control, Explorer
from diffusion_lib.teaching.widgets.histogram import divergence_in_words
from diffusion_lib.toys import bimodal

X = torch.linspace(-3.5, 3.5, 281, dtype=torch.float64)
STEPS = (1, 3, 10, 30, 100)
BETAS = (0.01, 0.1, 0.3)


def walk(schedule: Schedule, x: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield x_1 ... x_T, one Markov step after the other, each with its own noise."""
    for t in range(1, schedule.T + 1):
        x = q_step(schedule, x, t, torch.randn(x.shape, generator=generator, dtype=x.dtype))
        yield x


def markov_step_explorer() -> Explorer:
    """4,000 points after T steps of variance beta, with the exact density of x_T and the normal (lesson 09, row J1)."""
    data = bimodal()
    start = data.sample(4000, torch.Generator().manual_seed(0))
    schedules = {beta: constant(max(STEPS), beta) for beta in BETAS}
    walks = {beta: list(walk(schedules[beta], start, torch.Generator().manual_seed(1))) for beta in BETAS}
    normal = normal_log_prob(X, 0.0, 1.0).exp()

    def density(steps, beta):
        a, b = schedules[beta].rates(steps, X)
        return data.diffuse(float(a), float(b))

    def draw(steps, beta):
        left_over = float(schedules[beta].alpha_bar[steps])
        title = rf"T = {steps}, step variance {beta}: $\bar\alpha_T$ = {left_over:.2g}"
        x_t = walks[beta][steps - 1][:, 0]
        exact = density(steps, beta).log_density(X[:, None]).exp()
        return histogram(X.numpy(), x_t.numpy(), exact.numpy(), normal.numpy(), title)

    def describe(steps, beta):
        left_over = float(schedules[beta].alpha_bar[steps])
        words = divergence_in_words(density(steps, beta))
        return f"At T = {steps} with steps of variance {beta}, alpha_bar is {left_over:.2g} and {words}."

    controls = [Control("steps", "steps T", STEPS, 30, "T = {}"), Control("beta", "variance of a step", BETAS, 0.01)]
    return Explorer(draw, describe, controls)
