"""What is left of the data at T, and what that costs on the way back."""

from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.gaussians import Mixture
from diffusion_lib.metrics import wasserstein
from diffusion_lib.process import posterior_coefficients
from diffusion_lib.schedules import su
from diffusion_lib.teaching.figures.noise_schedules import terminal_and_return
from diffusion_lib.teaching.widgets.explorer import Control, Explorer

X = torch.linspace(-2.5, 2.5, 251, dtype=torch.float64)
STEPS = (10, 30, 100, 300, 1000)
SLOPES = (0.005, 0.02, 0.1, 0.4)
MANY = torch.tensor([8, 10, 15, 22, 30, 50, 75, 100, 150, 220, 300, 500, 750, 1000, 1250])


class Return(NamedTuple):
    """Where a schedule ends, and the points that came back from pure noise."""

    lost: float  # -log alpha_bar_T
    draws: np.ndarray  # (n,)
    distance: float  # Wasserstein distance of the draws to the data, order 1


def mostly_paper() -> Mixture:
    """Return a pixel's density: three times in four near -1 (paper), else near 1 (ink); off centre, as pictures are."""
    weights, means = torch.tensor([[0.75, 0.25], [-1.0, 1.0]], dtype=torch.float64)
    return Mixture.isotropic(weights, means[:, None], 0.2)


def bounds(T: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """Return the least and the most that -log alpha_bar_T can be for beta_t = slope t / T (lesson 09, last bound)."""
    first, second = slope * (T + 1) / 2, slope**2 * (T + 1) * (2 * T + 1) / (6 * T)  # sums of beta and of its square
    return first, first + second / (2 * (1 - slope))


def way_back(data: Mixture, truth: Tensor, T: int, slope: float, n: int = 2000) -> Return:
    """Walk n points from N(0, 1) to t = 0, every step of Su's schedule, by DDPM's rule; `truth` (N, 1) are data.

    The exact denoiser is asked once, at 201 places for every t, and read off that table: 2,000 points a step are too
    few to be worth a call each, and in numpy the walk takes the same time on one thread as on many.
    """
    schedule, generator = su(T, slope), np.random.default_rng(5)
    places, times = torch.linspace(-6, 6, 201, dtype=torch.float64), torch.arange(1, T + 1)
    asked = ExactDenoiser(schedule, data)(places.repeat(T)[:, None], times.repeat_interleave(201))
    guesses = asked.x0.reshape(T, 201).numpy()
    c_t, c_0, variance = posterior_coefficients(schedule.alpha_bar[:-1], schedule.alpha_bar[1:])  # (T,) each
    x = generator.standard_normal(n)
    for t in range(T - 1, -1, -1):
        x0 = np.interp(x, places, guesses[t])
        x = float(c_t[t]) * x + float(c_0[t]) * x0 + float(variance[t]) ** 0.5 * generator.standard_normal(n)
    return Return(-float(schedule.alpha_bar[-1].log()), x, float(wasserstein(torch.from_numpy(x), truth)))


def terminal_explorer() -> Explorer:
    """-log alpha_bar_T with its bounds, and 2,000 points that came back from noise: sliders T and slope (lesson 09)."""
    data = mostly_paper()
    truth = data.sample(50_000, torch.Generator().manual_seed(5))
    returns = {(T, slope): way_back(data, truth, T, slope) for T, slope in product(STEPS, SLOPES)}
    density = data.log_density(X[:, None]).exp()
    lost = {slope: torch.stack([-su(int(n), slope).alpha_bar[-1].log() for n in MANY]) for slope in SLOPES}

    def draw(T, slope):
        bound = tuple(curve.numpy() for curve in (MANY, lost[slope], *bounds(MANY, slope)))
        here = returns[T, slope]
        curves = (X.numpy(), density.numpy(), here.draws)
        return terminal_and_return(bound, (T, here.lost), curves, here.distance)

    def describe(T, slope):
        here = returns[T, slope]
        return (
            f"With T = {T} steps and a largest step variance of {slope}, -log alpha_bar_T is {here.lost:.3g}; "
            f"2,000 points that came back from noise lie at Wasserstein distance {here.distance:.2f} from the data."
        )

    controls = [Control("T", "steps T", STEPS, 1000, "T = {}"), Control("slope", "largest variance", SLOPES, 0.02)]
    return Explorer(draw, describe, controls)
