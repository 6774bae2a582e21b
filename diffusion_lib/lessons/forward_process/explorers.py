"""Lesson 09's explorers: noising, Markov steps, sums of Gaussians, densities, what is left at T, entropy."""

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.densities import Mixture
from diffusion_lib.gaussians import kl_normal, normal_log_prob
from diffusion_lib.images import decode_image
from diffusion_lib.lessons.forward_process import figures
from diffusion_lib.lessons.forward_process.subjects import drawn_digit, photograph, written_digit
from diffusion_lib.metrics import wasserstein
from diffusion_lib.noise import seeded
from diffusion_lib.process import posterior_coefficients, q_sample, q_step
from diffusion_lib.schedules import Schedule, constant, cosine, linear, su
from diffusion_lib.teaching.explorer import Control, Explorer, explorer
from diffusion_lib.toys import bimodal

# ---- an image and its noise

SIDE = 64  # pixels of a reader's own image


@explorer
def noising(seed: int = 0) -> Explorer:
    """Show x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps along t, with one eps all the way.

    Controls: the time; an image (a photograph of 40 x 40 pixels, a digit of 28 x 28 that the shipped network drew, a
    handwritten one of 8 x 8); the linear or the cosine schedule at T = 1000; and, live, the reader's own image in the
    place of these. Args: seed of eps.
    """
    schedules = {"linear": linear(), "cosine": cosine()}
    images = {"photograph": photograph(), "drawn digit": drawn_digit(), "written digit": written_digit()}

    def show(t, image, schedule, own):
        x0 = images[image] if own is None else decode_image(own, SIDE, 3)  # (C, H, W)
        x_t, table = _along(schedules[schedule], x0, t, seed), schedules[schedule].alpha_bar
        rates = float(table[t].sqrt()), float((1 - table[t]).sqrt())
        what = f"the {image}" if own is None else "your image"
        return figures.noising(x_t.numpy(), *rates), (
            f"{what.capitalize()} at t = {t} on the {schedule} schedule: signal rate {rates[0]:.3g}, noise rate "
            f"{rates[1]:.3g}, entries of mean {x_t.mean():.3g} and standard deviation "
            f"{x_t.std():.3g}."
        )

    controls = [
        Control("t", "time t", range(0, 1001, 100), 100, "t = {}"),
        Control("image", "image", tuple(images)),
        Control("schedule", "schedule", tuple(schedules)),
        Control("own", "your own image", kind="image"),
    ]
    return Explorer(show, controls)


def _along(schedule: Schedule, x0: Tensor, t: int, seed: int) -> Tensor:
    """Return x_t of one image x0 (C, H, W); the same noise at every t, and no noise yet at t = 0."""
    eps = torch.randn(x0.shape, generator=seeded(seed), dtype=x0.dtype)
    return q_sample(schedule, x0[None], t, eps[None])[0]


# ---- steps and jumps on a line

WIDE = torch.linspace(-16, 16, 6401, dtype=torch.float64)  # integrated over: a divergence has its share in the tails
STEPS, BETAS = (1, 3, 10, 30, 100), (0.01, 0.1, 0.3)
TIMES = (0, 25, 50, 100, 150, 200, 300, 400, 600, 1000)


def one_peak(mean: float, std: float) -> Mixture:
    """Return a single Gaussian on the line."""
    return Mixture.isotropic(torch.ones(1, dtype=torch.float64), torch.tensor([[mean]], dtype=torch.float64), std)


def divergence_in_words(density: Mixture) -> str:
    """Say the KL divergence of a density on the line to the standard normal, by the trapezium rule."""
    log_prob = density.log_prob(WIDE[:, None])
    kl = float(torch.trapezoid(log_prob.exp() * (log_prob - normal_log_prob(WIDE, 0.0, 1.0)), WIDE))
    size = f"{kl:.2g}" if kl > 1e-9 else "below 1e-9"  # less than that is rounding
    return f"the KL divergence of the density to the standard normal is {size} nats"


def walk(schedule: Schedule, x: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield x_1 ... x_T, one Markov step after the other, each with its own noise."""
    for t in range(1, schedule.T + 1):
        x = q_step(schedule, x, t, torch.randn(x.shape, generator=generator, dtype=x.dtype))
        yield x


@explorer
def markov_step() -> Explorer:
    """4,000 points after T steps of variance beta, with the exact density of x_T and the standard normal (row J1)."""
    x, data = torch.linspace(-3.5, 3.5, 281, dtype=torch.float64), bimodal()
    start = data.sample(4000, seeded(0))
    schedules = {beta: constant(max(STEPS), beta) for beta in BETAS}
    walks = {beta: list(walk(schedules[beta], start, seeded(1))) for beta in BETAS}
    normal = normal_log_prob(x, 0.0, 1.0).exp()

    def show(steps, beta):
        a, b = schedules[beta].rates(steps, x)
        density, left_over = data.diffuse(float(a), float(b)), float(schedules[beta].alpha_bar[steps])
        exact, x_t = density.log_prob(x[:, None]).exp(), walks[beta][steps - 1][:, 0]
        title = rf"T = {steps}, step variance {beta}: $\bar\alpha_T$ = {left_over:.2g}"
        words = divergence_in_words(density)
        return (
            figures.histogram(x.numpy(), x_t.numpy(), exact.numpy(), normal.numpy(), title),
            f"At T = {steps} with steps of variance {beta}, alpha_bar is {left_over:.2g} and {words}.",
        )

    controls = [Control("steps", "steps T", STEPS, 30, "T = {}"), Control("beta", "variance of a step", BETAS, 0.01)]
    return Explorer(show, controls)


@explorer
def gaussian_sum() -> Explorer:
    """The densities of X and Y, 20,000 simulated sums and the Gaussian that the rule predicts (row E10)."""
    x, (m_x, m_y) = torch.linspace(-5, 6.5, 231, dtype=torch.float64), (-1.0, 2.0)
    first, second = torch.randn(2, 20_000, generator=seeded(3), dtype=torch.float64)

    def show(sigma_x, sigma_y):
        total = m_x + sigma_x * first + m_y + sigma_y * second
        pairs = [(m_x, sigma_x**2), (m_y, sigma_y**2), (m_x + m_y, sigma_x**2 + sigma_y**2)]
        curves = [normal_log_prob(x, mean, variance).exp().numpy() for mean, variance in pairs]
        return figures.gaussian_sum(x.numpy(), *curves, total.numpy()), (
            f"Standard deviations {sigma_x} and {sigma_y}: 20,000 sums have the mean {float(total.mean()):.2f} and the "
            f"standard deviation {float(total.std()):.2f}; the rule says {math.hypot(sigma_x, sigma_y):.2f}."
        )

    controls = [
        Control("sigma_x", "standard deviation of X", (0.3, 0.6, 1.2), 0.6),
        Control("sigma_y", "standard deviation of Y", (0.4, 0.8, 1.6), 0.8),
    ]
    return Explorer(show, controls)


@explorer
def histogram() -> Explorer:
    """4,000 draws of x_t, the exact density q(x_t) and the standard normal that it tends to, for three densities."""
    x = torch.linspace(-4, 4, 321, dtype=torch.float64)
    densities = {"two peaks": bimodal(), "one narrow peak": one_peak(-1.5, 0.4), "one wide peak": one_peak(0.0, 2.0)}
    schedules = {"linear": linear(), "cosine": cosine()}
    generator = seeded(9)
    starts = {name: density.sample(4000, generator) for name, density in densities.items()}
    eps = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    normal = normal_log_prob(x, 0.0, 1.0).exp()

    def show(t, data, schedule):
        a, b = schedules[schedule].rates(t, x)
        density = densities[data].diffuse(float(a), float(b))
        x_t = q_sample(schedules[schedule], starts[data], t, eps)
        exact = density.log_prob(x[:, None]).exp().numpy()
        title = f"{data}, {schedule}, t = {t}"
        return figures.histogram(x.numpy(), x_t[:, 0].numpy(), exact, normal.numpy(), title), (
            f"At t = {t} on the {schedule} schedule, 4,000 draws that began as {data} have the standard deviation "
            f"{float(x_t.std()):.2f}; {divergence_in_words(density)}."
        )

    controls = [
        Control("t", "time t", TIMES, 100, "t = {}"),
        Control("data", "data", tuple(densities)),
        Control("schedule", "schedule", tuple(schedules), kind="live"),
    ]
    return Explorer(show, controls)


VARIANCES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0)


@explorer
def entropy() -> Explorer:
    """Entropy of x_t and its KL divergence to N(0, 1) over t, for data N(0, variance); slider: variance (row I3)."""
    schedule = linear()
    times = torch.arange(schedule.T + 1).numpy()

    def show(variance):
        now = 1 + schedule.alpha_bar * (variance - 1)  # Var[x_t], (T+1,)
        entropy = 0.5 * (2 * torch.pi * torch.e * now).log()
        divergence = kl_normal(torch.zeros_like(now), now, 0.0, 1.0)
        title = f"data N(0, {variance:g})"
        return figures.entropy_and_kl(times, entropy.numpy(), divergence.numpy(), title), (
            f"For data of variance {variance:g} the entropy goes from {float(entropy[0]):.3g} to "
            f"{float(entropy[-1]):.3g} nats, while the KL divergence to the standard normal goes from "
            f"{float(divergence[0]):.2f} to 0."
        )

    return Explorer(show, [Control("variance", "variance of the data", VARIANCES, 4.0)])


# ---- what is left of the data at T, and what that costs when sampling

TERMINAL_STEPS, SLOPES = (10, 30, 100, 300, 1000), (0.005, 0.02, 0.1, 0.4)
MANY = torch.tensor([8, 10, 15, 22, 30, 50, 75, 100, 150, 220, 300, 500, 750, 1000, 1250])


class Return(NamedTuple):
    """Where a schedule ends, and the points that were sampled from pure noise."""

    lost: float  # -log alpha_bar_T
    draws: np.ndarray  # (n,)
    distance: float  # Wasserstein distance of the draws to the data, order 1


def mostly_paper() -> Mixture:
    """Return a pixel's density: three times in four near -1 (paper), else near 1 (ink); off centre, as images are."""
    weights, means = torch.tensor([[0.75, 0.25], [-1.0, 1.0]], dtype=torch.float64)
    return Mixture.isotropic(weights, means[:, None], 0.2)


def bounds(T: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """Return the least and the most that -log alpha_bar_T can be for beta_t = slope t / T, twice those of (9.22)."""
    first, second = slope * (T + 1) / 2, slope**2 * (T + 1) * (2 * T + 1) / (6 * T)  # sums of beta and of its square
    return first, first + second / (2 * (1 - slope))


def sample_back(data: Mixture, truth: Tensor, T: int, slope: float, n: int = 2000) -> Return:
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


@explorer
def terminal() -> Explorer:
    """-log alpha_bar_T with its bounds, and 2,000 points sampled from pure noise: sliders T and slope."""
    x, data = torch.linspace(-2.5, 2.5, 251, dtype=torch.float64), mostly_paper()
    truth = data.sample(50_000, seeded(5))
    returns = {(T, slope): sample_back(data, truth, T, slope) for T, slope in product(TERMINAL_STEPS, SLOPES)}
    density = data.log_prob(x[:, None]).exp()
    lost = {slope: torch.stack([-su(int(n), slope).alpha_bar[-1].log() for n in MANY]) for slope in SLOPES}

    def show(T, slope):
        bound = tuple(curve.numpy() for curve in (MANY, lost[slope], *bounds(MANY, slope)))
        here = returns[T, slope]
        samples = x.numpy(), density.numpy(), here.draws
        return figures.terminal_and_return(bound, (T, here.lost), samples, here.distance), (
            f"With T = {T} steps and a largest beta of {slope}, -log alpha_bar_T is {here.lost:.3g}; "
            f"2,000 points that came back from noise lie at Wasserstein distance {here.distance:.2f} from the data."
        )

    controls = [
        Control("T", "steps T", TERMINAL_STEPS, 1000, "T = {}"),
        Control("slope", "largest beta", SLOPES, 0.02),
    ]
    return Explorer(show, controls)
