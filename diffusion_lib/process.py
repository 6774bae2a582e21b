"""The process that turns data into noise, its exact reverse when x_0 is known, and what a denoiser returns."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from diffusion_lib.arguments import require_alike, require_data, require_earlier, require_time
from diffusion_lib.schedules import Schedule, per_example, rates_of


def q_step(schedule: Schedule, x_prev: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
    """Take one Markov step: x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise (Ho et al. 2020, eq. 2).

    Args: x_prev (B, *D), the state at t-1; t in 1..T, int or integer (B,); noise like x_prev. Returns: x_t (B, *D).
    Raises: TypeError, ValueError.
    """
    require_data("x_prev", x_prev)
    require_alike("noise", noise, "x_prev", x_prev)
    times = require_time("t", t, 1, schedule.T, len(x_prev))
    beta = per_example(schedule.beta[times], x_prev)
    return (1 - beta).sqrt().to(x_prev) * x_prev + beta.sqrt().to(x_prev) * noise


def q_sample(schedule: Schedule, x0: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
    """Jump from x_0 to x_t: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (Ho et al. 2020, eq. 4).

    Args: x0 (B, *D); t in 0..T, int or integer (B,), 0 gives x0 back; eps like x0, standard normal.
    Returns: x_t (B, *D). Raises: TypeError, ValueError.
    """
    require_data("x0", x0)
    require_alike("eps", eps, "x0", x0)
    signal_rate, noise_rate = schedule.rates(t, x0)
    return signal_rate * x0 + noise_rate * eps


def q_posterior(schedule: Schedule, x0: Tensor, x_t: Tensor, s: int | Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of q(x_s | x_t, x_0) for any s < t (Ho et al. 2020, eq. 6 and 7, where s = t-1).

    With r = alpha_bar_t / alpha_bar_s,
    mean = [sqrt(r) (1 - alpha_bar_s) x_t + sqrt(alpha_bar_s) (1 - r) x_0] / (1 - alpha_bar_t),
    variance = (1 - alpha_bar_s) (1 - r) / (1 - alpha_bar_t).

    Args: x0, x_t (B, *D) alike; s in 0..T-1 and t in 1..T, int or integer (B,), s < t.
    Returns: posterior_mean (B, *D), posterior_variance (B, 1, ..., 1), with one entry for all where s and t are ints.
    Raises: TypeError, ValueError.
    """
    require_data("x0", x0)
    require_data("x_t", require_alike("x_t", x_t, "x0", x0))
    earlier = require_time("s", s, 0, schedule.T - 1, len(x0))
    later = require_time("t", t, 1, schedule.T, len(x0))
    require_earlier(earlier, later)
    alpha_bar_s, alpha_bar_t = per_example(schedule.alpha_bar[earlier], x0), per_example(schedule.alpha_bar[later], x0)
    c_t, c_0, variance = posterior_coefficients(alpha_bar_s, alpha_bar_t)
    return c_t.to(x0) * x_t + c_0.to(x0) * x0, variance.to(x0)


def posterior_coefficients(alpha_bar_s: Tensor, alpha_bar_t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of x_t and x_0 in the mean of q(x_s | x_t, x_0), and its variance (formulas of `q_posterior`).

    Args: alpha_bar at s and at t, s < t, float64 tensors that broadcast. Returns: three such tensors.
    """
    noise_between = (alpha_bar_s - alpha_bar_t) / alpha_bar_s  # 1 - r, without its cancellation
    c_t = (alpha_bar_t / alpha_bar_s).sqrt() * (1 - alpha_bar_s) / (1 - alpha_bar_t)
    c_0 = alpha_bar_s.sqrt() * noise_between / (1 - alpha_bar_t)
    return c_t, c_0, (1 - alpha_bar_s) * noise_between / (1 - alpha_bar_t)


class Prediction(NamedTuple):
    """A denoiser's estimates of x_0 and of eps; together they give x_t = signal_rate x0 + noise_rate eps."""

    x0: Tensor  # (B, *D)
    eps: Tensor  # (B, *D)


class Denoiser(Protocol):
    """A function of x_t (B, *D) and t in 1..T, int or integer (B,); at t = 0 nothing is left to predict.

    One that was made for a schedule has it as its attribute `schedule`; samplers and wrappers compare it with theirs.
    """

    def __call__(self, x_t: Tensor, t: int | Tensor, /) -> Prediction:
        """Return the estimates of x_0 and eps, each of the shape, dtype and device of x_t."""
        ...


def schedule_of(denoise: Denoiser) -> Schedule | None:
    """Return the schedule that a denoiser was made for; None for one that has no such attribute, a plain function."""
    schedule = getattr(denoise, "schedule", None)
    return schedule if isinstance(schedule, Schedule) else None


def require_schedule(name: str, denoise: Denoiser, schedule: Schedule) -> None:
    """ValueError if a denoiser was made for a schedule with another table; one without a schedule is let through."""
    own = schedule_of(denoise)
    if own is None or torch.equal(own.alpha_bar, schedule.alpha_bar):
        return
    both = min(own.T, schedule.T)
    differs = (own.alpha_bar[: both + 1] != schedule.alpha_bar[: both + 1]).nonzero()
    t = int(differs[0]) if len(differs) else both
    expected, got = (f"T = {s.T} and alpha_bar[{t}] = {float(s.alpha_bar[t])}" for s in (schedule, own))
    raise ValueError(f"{name}: expected a denoiser for the schedule with {expected}, got one for {got}")


class Parameterization(NamedTuple):
    """What a network is asked for: two formulas, in a = signal_rate and b = noise_rate, that invert each other."""

    target_from: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (a, b, x0, eps) -> (B, *D)
    solve_from: Callable[[Tensor, Tensor, Tensor, Tensor], Prediction]  # (a, b, x_t, output) -> Prediction

    def target(self, schedule: Schedule, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
        """Return what the network should answer at x_t = signal_rate x0 + noise_rate eps.

        Args: x0, eps (B, *D) alike; t in 1..T, int or integer (B,). Returns: (B, *D). Raises: TypeError, ValueError.
        """
        require_data("x0", x0)
        require_alike("eps", eps, "x0", x0)
        return self.target_from(*_rates(schedule, t, x0), x0, eps)

    def solve(self, schedule: Schedule, x_t: Tensor, output: Tensor, t: int | Tensor) -> Prediction:
        """Return the x_0 and eps that a network's output at x_t stands for.

        Args: x_t, output (B, *D) alike; t in 1..T, int or integer (B,). Raises: TypeError, ValueError.
        """
        require_data("x_t", x_t)
        require_alike("output", output, "x_t", x_t)
        return self.solve_from(*_rates(schedule, t, x_t), x_t, output)


def _rates(schedule: Schedule, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    return rates_of(schedule.alpha_bar[require_time("t", t, 1, schedule.T, len(like))], like)


# The network predicts the noise (Ho et al. 2020, eq. 14), the clean data, or v = signal_rate eps - noise_rate x0
# (Salimans and Ho 2022, section 4).
EPS = Parameterization(
    lambda a, b, x0, eps: eps,
    lambda a, b, x_t, eps: Prediction((x_t - b * eps) / a, eps),
)
X0 = Parameterization(
    lambda a, b, x0, eps: x0,
    lambda a, b, x_t, x0: Prediction(x0, (x_t - a * x0) / b),
)
V = Parameterization(
    lambda a, b, x0, eps: a * eps - b * x0,
    lambda a, b, x_t, v: Prediction(a * x_t - b * v, b * x_t + a * v),
)
PARAMETERIZATIONS = {"eps": EPS, "x0": X0, "v": V}  # by the names that files and command lines use
