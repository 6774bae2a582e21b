"""The process that turns data into noise, and the exact way back when the data point is known."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from diffusion_lib.arguments import require_alike, require_data, require_earlier, require_time
from diffusion_lib.schedules import Schedule


def q_step(schedule: Schedule, x_prev: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
    """Take one Markov step: x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) noise (Ho et al. 2020, eq. 2).

    Args: x_prev (B, *D), the state at t-1; t in 1..T, int or integer (B,); noise like x_prev. Returns: x_t (B, *D).
    Raises: TypeError, ValueError.
    """
    require_data("x_prev", x_prev), require_alike("noise", noise, "x_prev", x_prev)
    times = require_time("t", t, 1, schedule.T, len(x_prev))
    beta = schedule.beta[times].reshape(-1, *[1] * (x_prev.ndim - 1))  # (B or 1, 1, ..., 1)
    return (1 - beta).sqrt().to(x_prev) * x_prev + beta.sqrt().to(x_prev) * noise


def q_sample(schedule: Schedule, x0: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
    """Jump from x_0 to x_t: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (Ho et al. 2020, eq. 4).

    Args: x0 (B, *D); t in 1..T, int or integer (B,); eps like x0, standard normal. Returns: x_t (B, *D).
    Raises: TypeError, ValueError.
    """
    require_data("x0", x0), require_alike("eps", eps, "x0", x0)
    signal_rate, noise_rate = schedule.rates(require_time("t", t, 1, schedule.T, len(x0)), x0)
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
    require_data("x0", x0), require_alike("x_t", x_t, "x0", x0), require_data("x_t", x_t)
    earlier, later = require_time("s", s, 0, schedule.T - 1, len(x0)), require_time("t", t, 1, schedule.T, len(x0))
    require_earlier(earlier, later)
    c_t, c_0, variance = posterior_coefficients(schedule.at(earlier, x0), schedule.at(later, x0))
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
    """What a denoiser says of x_t: its estimates of x_0 and of eps; always x_t = signal_rate x0 + noise_rate eps."""

    x0: Tensor  # (B, *D)
    eps: Tensor  # (B, *D)


class Parameterization(NamedTuple):
    """What a network is asked for: `target` makes it from (x0, eps), `solve` turns an output into a Prediction."""

    target: Callable[[Schedule, Tensor, Tensor, int | Tensor], Tensor]  # (schedule, x0, eps, t) -> (B, *D)
    solve: Callable[[Schedule, Tensor, Tensor, int | Tensor], Prediction]  # (schedule, x_t, output, t) -> Prediction


def _rates(
    schedule: Schedule, t: int | Tensor, names: tuple[str, str], left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    require_data(names[0], left), require_alike(names[1], right, names[0], left)
    return schedule.rates(require_time("t", t, 1, schedule.T, len(left)), left)


def _eps_target(schedule: Schedule, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
    _rates(schedule, t, ("x0", "eps"), x0, eps)
    return eps


def _eps_solve(schedule: Schedule, x_t: Tensor, output: Tensor, t: int | Tensor) -> Prediction:
    a, b = _rates(schedule, t, ("x_t", "output"), x_t, output)
    return Prediction((x_t - b * output) / a, output)


def _x0_target(schedule: Schedule, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
    _rates(schedule, t, ("x0", "eps"), x0, eps)
    return x0


def _x0_solve(schedule: Schedule, x_t: Tensor, output: Tensor, t: int | Tensor) -> Prediction:
    a, b = _rates(schedule, t, ("x_t", "output"), x_t, output)
    return Prediction(output, (x_t - a * output) / b)


def _v_target(schedule: Schedule, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
    a, b = _rates(schedule, t, ("x0", "eps"), x0, eps)
    return a * eps - b * x0


def _v_solve(schedule: Schedule, x_t: Tensor, output: Tensor, t: int | Tensor) -> Prediction:
    a, b = _rates(schedule, t, ("x_t", "output"), x_t, output)
    return Prediction(a * x_t - b * output, b * x_t + a * output)


# The network predicts the noise (Ho et al. 2020, eq. 14), the clean data, or v = signal_rate eps - noise_rate x0
# (Salimans and Ho 2022, section 4).
EPS = Parameterization(_eps_target, _eps_solve)
X0 = Parameterization(_x0_target, _x0_solve)
V = Parameterization(_v_target, _v_solve)
PARAMETERIZATIONS = {"eps": EPS, "x0": X0, "v": V}  # by the names that files and command lines use
