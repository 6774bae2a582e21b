"""Lesson 14's explorers: one jump back, the circle of DDIM, samplers against steps, and the paths of particles."""

import math

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.densities import Mixture
from diffusion_lib.gaussians import normal_log_prob
from diffusion_lib.lessons.ddim import figures
from diffusion_lib.metrics import sliced_wasserstein, wasserstein
from diffusion_lib.noise import seeded
from diffusion_lib.process import posterior_coefficients
from diffusion_lib.samplers import ddim, ddpm, final
from diffusion_lib.schedules import linear, uniform_steps
from diffusion_lib.teaching.explorer import Control, Explorer, explorer
from diffusion_lib.toys import bimodal, eight_gaussians

JUMPS = (1, 2, 5, 10, 20, 50, 100, 150, 200, 250, 300, 350, 400, 450, 480, 490)


@explorer
def jump() -> Explorer:
    """q(x_s | x_t) of the bimodal line and its best Gaussian, at t = 500 and x_t = 0.05, by jump t - s."""
    x = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    views = {jump: _back(x, 500, 500 - jump, 0.05) for jump in JUMPS}
    jumps, divergences = np.array(JUMPS), np.array([kl for _, _, kl in views.values()])
    shown = (x.abs() <= 2.2).numpy()

    def show(jump):
        exact, gaussian, kl = views[jump]
        curves = x.numpy()[shown], exact[shown], gaussian[shown]
        size = f"{kl:.2g}" if kl > 1e-9 else "below 1e-9"
        way = f"For a jump of {jump}, from t = 500 to s = {500 - jump}"
        return (
            figures.back_jump(*curves, jumps, divergences, JUMPS.index(jump)),
            f"{way}, the exact q(x_s | x_t) lies {size} nats from the best Gaussian.",
        )

    return Explorer(show, [Control("jump", "jump t - s", JUMPS, default=200, form="{} steps back")])


def _back(x: Tensor, t: int, s: int, x_t: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Bayes on the grid x: q(x_s | x_t), the Gaussian of its mean and variance, and the KL between the two."""
    alpha_bar = linear().alpha_bar
    r = alpha_bar[t] / alpha_bar[s]
    prior = bimodal().diffuse(float(alpha_bar[s].sqrt()), float((1 - alpha_bar[s]).sqrt())).log_prob(x[:, None])
    exact = (normal_log_prob(torch.tensor(x_t, dtype=torch.float64), r.sqrt() * x, 1 - r) + prior).exp()
    exact = exact / torch.trapezoid(exact, x)
    mean = torch.trapezoid(x * exact, x)
    variance = torch.trapezoid((x - mean) ** 2 * exact, x)
    log_gaussian = normal_log_prob(x, mean, variance)
    gap = torch.where(exact > 0, exact * (exact.clamp(min=1e-300).log() - log_gaussian), 0.0)
    return exact.numpy(), log_gaussian.exp().numpy(), abs(float(torch.trapezoid(gap, x)))


@explorer
def circle() -> Explorer:
    """The circle m^2 (1 - alpha_bar_t) + sigma^2 = 1 - alpha_bar_s for t = 500, with DDPM and DDIM marked."""
    alpha_bar = linear().alpha_bar
    x_t = np.linspace(-2.5, 3.0, 60)

    def show(angle, s):
        radius, turn = float((1 - alpha_bar[s]).sqrt()), math.radians(angle)
        sigma, m = radius * math.sin(turn), radius * math.cos(turn) / float((1 - alpha_bar[500]).sqrt())
        k = float(alpha_bar[s].sqrt() - alpha_bar[500].sqrt() * m)
        ddpm_sigma = float(posterior_coefficients(alpha_bar[s], alpha_bar[500])[2].sqrt())
        means, spreads = alpha_bar[[500, s]].sqrt(), (1 - alpha_bar[[500, s]]).sqrt()  # of x_t and x_s given x_0 = 1
        box = torch.stack([means - 2 * spreads, means + 2 * spreads]).numpy()
        line = {"x_t": x_t, "mean": k + m * x_t, "sigma": sigma, "box": box}
        title = f"t = 500, s = {s}: k = {k:.2f}, m = {m:.2f}"
        numbers = f"sigma = {sigma:.3f}, m = {m:.3f}, k = {k:.3f}"
        return (
            figures.circle(radius, turn, math.asin(ddpm_sigma / radius), line, title),
            f"From t = 500 to s = {s} at {angle} degrees from DDIM: {numbers}; x_s given x_0 keeps its distribution.",
        )

    controls = [
        Control("angle", "angle from DDIM", range(0, 91, 10), default=40, form="{} degrees"),
        Control("s", "earlier time s", (450, 250, 50), default=250, form="s = {}"),
    ]
    return Explorer(show, controls)


STEPS = (3, 5, 10, 20, 50, 100)
SAMPLERS = ("DDPM, posterior", "DDPM, beta", "DDIM")


@explorer
def steps(samples: int = 10000) -> Explorer:
    """DDPM with either variance and DDIM on the bimodal line: samples and W1, by number of steps."""
    data, again, found = _by_steps(samples)
    distances = {name: {n: float(wasserstein(found[name, n], data)) for n in STEPS} for name in SAMPLERS}
    baseline = float(wasserstein(data, again))
    x = torch.linspace(-2, 2, 201, dtype=torch.float64)
    density = bimodal().log_prob(x[:, None]).exp().numpy()

    def show(steps):
        drawn = {name: found[name, steps][:, 0].numpy() for name in SAMPLERS}
        values = ", ".join(f"{name} {distances[name][steps]:.2g}" for name in SAMPLERS)
        return (
            figures.samples_by_steps(x.numpy(), density, drawn, distances, baseline, steps),
            f"W1 to the data after {steps} steps: {values}; two draws of the data: {baseline:.2g}.",
        )

    return Explorer(show, [Control("steps", "steps", STEPS, default=10, form="{} steps")])


def _by_steps(samples: int) -> tuple[Tensor, Tensor, dict[tuple[str, int], Tensor]]:
    """Two draws of the bimodal line (N, 1), and what each sampler makes of one x_T by each number of `STEPS`."""
    schedule, generator = linear(), seeded(14)
    denoise = ExactDenoiser(schedule, bimodal())
    data, again = bimodal().sample(samples, generator), bimodal().sample(samples, generator)
    x_T = torch.randn(samples, 1, generator=generator, dtype=torch.float64)
    found = {}
    for n in STEPS:
        steps = uniform_steps(schedule, n)
        found[SAMPLERS[0], n] = final(ddpm(denoise, schedule, x_T, steps, generator=generator))
        found[SAMPLERS[1], n] = final(ddpm(denoise, schedule, x_T, steps, variance="beta", generator=generator))
        found[SAMPLERS[2], n] = final(ddim(denoise, schedule, x_T, steps))
    return data, again, found


PARTICLES = 12  # paths that are drawn
LIMIT = 2.8  # half the width of what is shown


@explorer
def sampler(samples: int = 1000) -> Explorer:
    """Particles on their way from noise to eight Gaussians from one x_T, by number of steps and eta."""
    density, generator = eight_gaussians(), seeded(14)
    data = density.sample(samples, generator)
    x_T = torch.randn(samples, 2, generator=generator, dtype=torch.float64)
    region = _likely(density)
    runs = {(n, eta): _run(density, x_T, n, eta) for n in (2, 5, 10, 20, 50) for eta in (0.0, 0.25, 0.5, 0.75, 1.0)}

    def show(steps, eta):
        path = runs[steps, eta]
        far = float(sliced_wasserstein(path[-1], data, 50, seeded(0)))
        titles = f"{PARTICLES} paths, $\\eta$ = {eta}", f"200 samples, {steps} steps"
        return (
            figures.particle_paths(region, LIMIT, path[:, :PARTICLES].numpy(), path[-1, :200].numpy(), titles),
            f"After {steps} steps with eta = {eta} the sliced W1 from the samples to the data is {far:.2g}.",
        )

    controls = [
        Control("steps", "steps", (2, 5, 10, 20, 50), default=10, form="{} steps"),
        Control("eta", "eta", (0.0, 0.25, 0.5, 0.75, 1.0), default=0.0, form="eta = {}"),
    ]
    return Explorer(show, controls)


def _run(density: Mixture, x_T: Tensor, n: int, eta: float) -> Tensor:
    """The states of DDIM from x_T (B, 2) on, all with one stream of noise, (n+1, B, 2)."""
    schedule = linear()
    noise = seeded(1)
    trajectory = ddim(
        ExactDenoiser(schedule, density), schedule, x_T, uniform_steps(schedule, n), eta=eta, generator=noise
    )
    return torch.stack([x_T, *(step.x for step in trajectory)])


def _likely(density: Mixture) -> np.ndarray:
    """1 on a grid of what is shown where the density is above a tenth of its highest value, 0 elsewhere."""
    line = torch.linspace(-LIMIT, LIMIT, 120, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    log_prob = density.log_prob(torch.stack([x.flatten(), y.flatten()], 1)).reshape(x.shape)
    return (log_prob > log_prob.max() + math.log(0.1)).double().numpy()
