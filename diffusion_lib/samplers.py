"""Samplers: where to step next. Each is a generator that asks a denoiser once a step and yields what it reached."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.arguments import (
    require_alike,
    require_between,
    require_choice,
    require_data,
    require_generator,
    require_steps,
)
from diffusion_lib.denoisers import Denoiser
from diffusion_lib.process import Prediction, posterior_coefficients
from diffusion_lib.schedules import Schedule


class Step(NamedTuple):
    """One step of a sampler: the time it reached, the state there, and the estimate of x_0 that led there."""

    t: int
    x: Tensor  # (B, *D)
    x0: Tensor  # (B, *D)


def final(trajectory: Iterable[Step]) -> Tensor:
    """Run a sampler to its end and return the last state, (B, *D); ValueError if it takes no step."""
    last = deque(trajectory, maxlen=1)
    if not last:
        raise ValueError("trajectory: expected at least one step, got none")
    return last[0].x


def ddpm(
    denoise: Denoiser,
    schedule: Schedule,
    x: Tensor,
    steps: Sequence[int] | Tensor,
    *,
    variance: str = "posterior",
    generator: torch.Generator,
) -> Iterator[Step]:
    """Ancestral sampling (Ho et al. 2020, Algorithm 2).

    x_s is drawn from q(x_s | x_t, x_0) with the denoiser's x_0 in place of the true one.

    ``variance="posterior"`` uses the variance of that posterior (Ho et al. 2020, eq. 7; 0 at s = 0 by itself).
    ``variance="beta"`` is 1 - alpha_bar_t / alpha_bar_s for s > 0 and 0 at s = 0 (Ho et al. 2020, Algorithm 2, line 3).

    Args: x (B, *D), the state at steps[0]; steps, times that fall strictly within T..0; generator, for the noise.
    Yields: one Step a pair of times. Raises: TypeError, ValueError, at the call.
    """
    require_choice("variance", variance, ("posterior", "beta")), require_generator(generator)
    visits, alpha_bar_s, alpha_bar_t = _visits(schedule, x, steps)
    c_t, c_0, posterior_variance = posterior_coefficients(alpha_bar_s, alpha_bar_t)
    # The variance of the forward jump from s to t; at s = 0 the algorithm returns the mean, so none is added there.
    beta = torch.where(alpha_bar_s < 1, (alpha_bar_s - alpha_bar_t) / alpha_bar_s, 0.0)
    std = (posterior_variance if variance == "posterior" else beta).sqrt()
    return _ddpm(denoise, x.detach(), visits, _rows(x, c_t, c_0, std), generator)


def _ddpm(denoise, x, visits, rows, generator):
    for (s, _, times), (c_t, c_0, std) in zip(visits, rows, strict=True):
        x0 = _ask(denoise, x, times).x0
        x = (c_t * x).add_(x0, alpha=c_0).add_(_noise(x, generator), alpha=std)
        yield Step(s, x, x0)


def ddim(
    denoise: Denoiser,
    schedule: Schedule,
    x: Tensor,
    steps: Sequence[int] | Tensor,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """DDIM: recombine the denoiser's x_0 and eps at the next noise level (Song et al. 2021, eq. 12 and 16).

    x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s - sigma^2) eps + sigma noise, where sigma is eta times the
    posterior's standard deviation: eta = 0 is deterministic, eta = 1 is DDPM with the posterior variance.

    Args: x (B, *D), the state at steps[0]; steps, times that fall strictly within T..0; eta in [0, 1];
    generator, needed where eta > 0. Yields: one Step a pair of times. Raises: TypeError, ValueError, at the call.
    """
    if require_between("eta", eta, 0.0, 1.0) > 0:
        require_generator(generator)
    visits, alpha_bar_s, alpha_bar_t = _visits(schedule, x, steps)
    c_t, _, posterior_variance = posterior_coefficients(alpha_bar_s, alpha_bar_t)
    # 1 - alpha_bar_s - sigma^2, written as a sum: the difference could round to below zero
    direction_variance = (1 - eta**2) * (1 - alpha_bar_s) + eta**2 * c_t**2 * (1 - alpha_bar_t)
    rows = _rows(x, alpha_bar_s.sqrt(), direction_variance.sqrt(), eta * posterior_variance.sqrt())
    return _ddim(denoise, x, visits, rows, generator if eta > 0 else None)


def _ddim(denoise, x, visits, rows, generator):
    for (s, _, times), (c_0, c_eps, sigma) in zip(visits, rows, strict=True):
        x0, eps = _ask(denoise, x, times)
        x = (c_0 * x0).add_(eps, alpha=c_eps)
        if generator is not None:
            x.add_(_noise(x, generator), alpha=sigma)
        yield Step(s, x, x0)


def ddim_invert(denoise: Denoiser, schedule: Schedule, x: Tensor, steps: Sequence[int] | Tensor) -> Iterator[Step]:
    """Walk DDIM's path backwards, from data to noise (Song et al. 2021, section 4.3 and eq. 13-14).

    From s up to t: x_0 = (x_s - sqrt(1 - alpha_bar_s) eps) / sqrt(alpha_bar_s), then
    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, with eps from the denoiser asked at x_s and the later
    time t, so that t = 0 is never asked. The denoiser's own x_0 fits the pair (x_s, t), not (x_s, s), and is not used:
    recombined at t it would give x_s back.
    The inversion is not exact; its error falls with the number of steps.

    Args: x (B, *D), the state at steps[-1]; steps, the falling list that `ddim` takes.
    Yields: one Step a pair of times, t rising. Raises: TypeError, ValueError, at the call.
    """
    visits, alpha_bar_s, alpha_bar_t = _visits(schedule, x, steps)
    rows = _rows(x, alpha_bar_s.sqrt(), (1 - alpha_bar_s).sqrt(), alpha_bar_t.sqrt(), (1 - alpha_bar_t).sqrt())
    return _ddim_invert(denoise, x.detach(), visits[::-1], rows[::-1])


def _ddim_invert(denoise, x, visits, rows):
    for (_, t, times), (a_s, b_s, a_t, b_t) in zip(visits, rows, strict=True):
        eps = _ask(denoise, x, times).eps
        x0 = (x - b_s * eps) / a_s
        x = a_t * x0 + b_t * eps
        yield Step(t, x, x0)


def dpmpp_2m(denoise: Denoiser, schedule: Schedule, x: Tensor, steps: Sequence[int] | Tensor) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, DPM-Solver++, Algorithm 2).

    The estimate of x_0 is carried on along a straight line through the last two, in lambda, half the log SNR.
    With h = lambda_s - lambda_t and r = h_before / h: D = (1 + 1/(2r)) x_0 - 1/(2r) x_0_before and
    x_s = noise_rate_s / noise_rate_t x_t - signal_rate_s (e^-h - 1) D. The first step has no estimate before it and
    takes D = x_0; the step to t = 0, where lambda is infinite, is taken at first order too.

    Args: x (B, *D), the state at steps[0]; steps, times that fall strictly within T..0; `log_snr_steps` suit it.
    Yields: one Step a pair of times. Raises: TypeError, ValueError, at the call.
    """
    visits, alpha_bar_s, alpha_bar_t = _visits(schedule, x, steps)
    h = 0.5 * (torch.logit(alpha_bar_s) - torch.logit(alpha_bar_t))  # infinite for a step to t = 0
    h_before = torch.cat([torch.full_like(h[:1], torch.inf), h[:-1]])
    extrapolation = torch.where(h.isfinite(), h / (2 * h_before), 0.0)  # 1 / (2r); 0 is first order
    c_t = ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt()
    return _dpmpp_2m(denoise, x.detach(), visits, _rows(x, c_t, -alpha_bar_s.sqrt() * torch.expm1(-h), extrapolation))


def _dpmpp_2m(denoise, x, visits, rows):
    before = torch.zeros_like(x)
    for (s, _, times), (c_t, c_0, extrapolation) in zip(visits, rows, strict=True):
        x0 = _ask(denoise, x, times).x0
        x = (c_t * x).add_(torch.lerp(x0, before, -extrapolation), alpha=c_0)
        before = x0
        yield Step(s, x, x0)


def _visits(
    schedule: Schedule, x: Tensor, steps: Sequence[int] | Tensor
) -> tuple[list[tuple[int, int, Tensor]], Tensor, Tensor]:
    """Check the start and the times; return every visit, and alpha_bar at its s and its t, (n,) float64.

    A visit is (s, t, times): from t down to s, and t once more for every point of the batch, (B,).
    """
    require_data("x", x)
    times = require_steps(steps, schedule.T)
    index = torch.tensor(times)
    alpha_bar = schedule.alpha_bar[index]
    batches = index[:-1, None].to(x.device).expand(-1, len(x)).unbind(0)  # n times (B,)
    return list(zip(times[1:], times, batches, strict=False)), alpha_bar[1:], alpha_bar[:-1]


def _rows(x: Tensor, factor: Tensor, *others: Tensor) -> list[tuple]:
    # One row of coefficients a step. PyTorch multiplies by a tensor of x's dtype in two thirds of the time that a
    # number takes, so the first is one. Where a tensor would round it to a few digits (bfloat16), it stays a number.
    factors = factor.to(x.dtype).unbind() if torch.finfo(x.dtype).bits >= 32 else factor.tolist()
    return list(zip(factors, *(column.tolist() for column in others), strict=True))


def _ask(denoise: Denoiser, x: Tensor, times: Tensor) -> Prediction:
    # Here alone: nothing else on a walk can ask for a gradient. (`no_grad` does the same at twice the price.)
    with torch.set_grad_enabled(False):
        prediction = denoise(x, times)
    require_alike("x0 of the denoiser", prediction.x0, "x", x)
    require_alike("eps of the denoiser", prediction.eps, "x", x)
    return prediction


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator, dtype=like.dtype)  # on the CPU: one seed, one picture
    return noise.to(like.device)
