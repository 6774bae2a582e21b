"""The forward histogram: a line's density on its way to the standard normal."""

import torch

from diffusion_lib.densities import Mixture
from diffusion_lib.gaussians import normal_log_prob
from diffusion_lib.process import q_sample
from diffusion_lib.schedules import cosine, linear
from diffusion_lib.teaching.figures.forward import histogram
from diffusion_lib.teaching.widgets.explorer import Control, Explorer
from diffusion_lib.toys import bimodal

X = torch.linspace(-4, 4, 321, dtype=torch.float64)  # shown
WIDE = torch.linspace(-16, 16, 6401, dtype=torch.float64)  # integrated over: a divergence has its share in the tails
TIMES = (0, 25, 50, 100, 150, 200, 300, 400, 600, 1000)


def one_peak(mean: float, std: float) -> Mixture:
    """Return a single Gaussian on the line."""
    return Mixture.isotropic(torch.ones(1, dtype=torch.float64), torch.tensor([[mean]], dtype=torch.float64), std)


def divergence_in_words(density: Mixture) -> str:
    """Say the KL divergence of a density on the line to the standard normal, by the trapezium rule."""
    log_density = density.log_density(WIDE[:, None])
    kl = float(torch.trapezoid(log_density.exp() * (log_density - normal_log_prob(WIDE, 0.0, 1.0)), WIDE))
    size = f"{kl:.2g}" if kl > 1e-9 else "below 1e-9"  # less than that is rounding
    return f"the KL divergence of the density to the standard normal is {size} nats"


def histogram_explorer() -> Explorer:
    """4,000 draws of x_t, the exact density q(x_t) and the normal it tends to, for three densities (lesson 09)."""
    densities = {"two peaks": bimodal(), "one narrow peak": one_peak(-1.5, 0.4), "one wide peak": one_peak(0.0, 2.0)}
    schedules = {"linear": linear(), "cosine": cosine()}
    generator = torch.Generator().manual_seed(9)
    starts = {name: density.sample(4000, generator) for name, density in densities.items()}
    eps = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    normal = normal_log_prob(X, 0.0, 1.0).exp()

    def state(t, data, schedule):
        a, b = schedules[schedule].rates(t, X)
        density = densities[data].diffuse(float(a), float(b))
        return density, starts[data] if t == 0 else q_sample(schedules[schedule], starts[data], t, eps)

    def draw(t, data, schedule):
        density, x_t = state(t, data, schedule)
        exact = density.log_density(X[:, None]).exp().numpy()
        return histogram(X.numpy(), x_t[:, 0].numpy(), exact, normal.numpy(), f"{data}, {schedule}, t = {t}")

    def describe(t, data, schedule):
        density, x_t = state(t, data, schedule)
        return (
            f"At t = {t} on the {schedule} schedule, 4,000 draws that began as {data} have the standard deviation "
            f"{float(x_t.std()):.2f}; {divergence_in_words(density)}."
        )

    controls = [
        Control("t", "time t", TIMES, 100, "t = {}"),
        Control("data", "data", tuple(densities)),
        Control("schedule", "schedule", tuple(schedules), kind="live"),
    ]
    return Explorer(draw, describe, controls)
