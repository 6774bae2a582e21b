"""Samplers: where to step next. Each is a generator that asks a denoiser once a step and yields what it reached.

A sampler with one call a step is a table of `Weights`, one row a step, and one loop walks every such table.

The times to visit count from 1, and 0 is clean data. A walk ends at the last time of its list: where that is not 0, the
noise of that time is still in x. Lists of other libraries often leave the 0 out, and count from 0: add 1, and append 0.

Where noise is drawn on the way (`ddpm`; `ddim` with eta > 0), each step draws it for the whole batch at once. So an
image of a batch does not come out again when it is drawn alone from the same seed.
"""

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
from diffusion_lib.noise import draw_like
from diffusion_lib.process import Denoiser, Prediction, posterior_coefficients, require_schedule
from diffusion_lib.schedules import Schedule


class Step(NamedTuple):
    """One step of a sampler: the time it reached, the state there, and the estimate of x_0 that led there."""

    t: int
    x: Tensor  # (B, *D)
    x0: Tensor  # (B, *D)


class Weights(NamedTuple):
    """The table of a sampler: x_s is the sum of these five, each with its weight; None for what it does not use.

    Each column is (n,) float64, one weight a step.
    """

    x: Tensor | None = None  # of the state x_t
    x0: Tensor | None = None  # of the denoiser's estimate of x_0
    eps: Tensor | None = None  # of its estimate of eps
    x0_before: Tensor | None = None  # of the estimate of x_0 one step earlier; 0 at the first step
    noise: Tensor | None = None  # of fresh standard normal noise


# From t down to s: (s, t, t once more for every example of the batch (B,)), one a step
Visits = list[tuple[int, int, Tensor]]


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

    x_s = c_t x_t + c_0 x_0 + sigma noise, with the denoiser's x_0. The weights c_t and c_0 are the
    `posterior_coefficients`: the mean is that of q(x_s | x_t, x_0), with the estimate in place of the true x_0.

    ``variance="posterior"``: sigma^2 is that posterior's variance too (Ho et al. 2020, eq. 7; 0 at s = 0 by itself).
    ``variance="beta"``: sigma^2 is larger, 1 - alpha_bar_t / alpha_bar_s for s > 0 and 0 at s = 0 (Ho et al. 2020,
    Algorithm 2, line 3).

    Args: x (B, *D), the state at steps[0]; steps, times that fall strictly within T..0 (if they do not end at
    0, noise is left in x); generator, for the noise, drawn for the whole batch: an image drawn alone meets other noise.
    Yields: one Step a pair of times. Raises: TypeError, ValueError, at the call.
    """
    require_choice("variance", variance, ("posterior", "beta"))
    require_generator(generator)
    visits, alpha_bar_s, alpha_bar_t = _visits(denoise, schedule, x, steps)
    c_t, c_0, posterior_variance = posterior_coefficients(alpha_bar_s, alpha_bar_t)
    # The variance of the forward jump from s to t; at s = 0 the algorithm returns the mean, so none is added there.
    beta = torch.where(alpha_bar_s < 1, (alpha_bar_s - alpha_bar_t) / alpha_bar_s, 0.0)
    sigma = (posterior_variance if variance == "posterior" else beta).sqrt()
    return _walk(denoise, x, visits, Weights(x=c_t, x0=c_0, noise=sigma), generator)


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

    Args: x (B, *D), the state at steps[0]; steps, times that fall strictly within T..0 (if they do not end at
    0, noise is left in x); eta in [0, 1]; generator, needed where eta > 0, for noise that is drawn for the whole batch:
    an image drawn alone meets other noise. Yields: one Step a pair of times. Raises: TypeError, ValueError, at
    the call.
    """
    draws = require_generator(generator) if require_between("eta", eta, 0.0, 1.0) > 0 else None
    visits, alpha_bar_s, alpha_bar_t = _visits(denoise, schedule, x, steps)
    c_t, _, posterior_variance = posterior_coefficients(alpha_bar_s, alpha_bar_t)
    sigma = eta * posterior_variance.sqrt()
    # 1 - alpha_bar_s - sigma^2, written as a sum: the difference could round to below zero
    direction_variance = (1 - eta**2) * (1 - alpha_bar_s) + eta**2 * c_t**2 * (1 - alpha_bar_t)
    weights = Weights(x0=alpha_bar_s.sqrt(), eps=direction_variance.sqrt(), noise=sigma if eta > 0 else None)
    return _walk(denoise, x, visits, weights, draws)


def dpmpp_2m(denoise: Denoiser, schedule: Schedule, x: Tensor, steps: Sequence[int] | Tensor) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, DPM-Solver++, Algorithm 2).

    The estimate of x_0 is continued along a straight line through the last two, in lambda, half the log SNR. With
    h = lambda_s - lambda_t and r = h_before / h: D = (1 + 1/(2r)) x_0 - 1/(2r) x_0_before and
    x_s = noise_rate_s / noise_rate_t x_t - signal_rate_s (e^-h - 1) D. The first step has no estimate before it and
    takes D = x_0; the step to t = 0, where lambda is infinite, is taken at first order too.

    Args: x (B, *D), the state at steps[0]; steps, times that fall strictly within T..0 (if they do not end at
    0, noise is left in x); `log_snr_steps` suit it.
    Yields: one Step a pair of times. Raises: TypeError, ValueError, at the call.
    """
    visits, alpha_bar_s, alpha_bar_t = _visits(denoise, schedule, x, steps)
    h = 0.5 * (torch.logit(alpha_bar_s) - torch.logit(alpha_bar_t))  # infinite for a step to t = 0
    h_before = torch.cat([torch.full_like(h[:1], torch.inf), h[:-1]])
    extrapolation = torch.where(h.isfinite(), h / (2 * h_before), 0.0)  # 1 / (2r); 0 is first order
    c_t = ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt()
    c_0 = -alpha_bar_s.sqrt() * torch.expm1(-h)
    return _walk(denoise, x, visits, Weights(x=c_t, x0=c_0 * (1 + extrapolation), x0_before=-c_0 * extrapolation))


def _walk(
    denoise: Denoiser, x: Tensor, visits: Visits, weights: Weights, generator: torch.Generator | None = None
) -> Iterator[Step]:
    """Walk a table: at each visit ask the denoiser once, then x_s is the weighted sum of what the table uses."""
    (first, factors), *others = [(i, column) for i, column in enumerate(weights) if column is not None]
    # what is added to the first product at each step: n tuples of (which term, its weight)
    summands = zip(*([(i, weight) for weight in column.tolist()] for i, column in others), strict=True)
    x = x0_before = x.detach()  # no estimate yet: at the first step its weight is 0
    for (s, _, times), factor, rest in zip(visits, _factors(x, factors), summands, strict=True):
        x0, eps = _ask(denoise, x, times)
        terms = [x, x0, eps, x0_before]
        if generator is not None:
            terms.append(draw_like(x, generator))
        x = factor * terms[first]
        for i, weight in rest:
            x.add_(terms[i], alpha=weight)
        x0_before = x0
        yield Step(s, x, x0)


def ddim_invert(denoise: Denoiser, schedule: Schedule, x: Tensor, steps: Sequence[int] | Tensor) -> Iterator[Step]:
    """Walk DDIM's path backwards, from data to noise (Song et al. 2021, section 4.3 and eq. 13-14).

    From s up to t: x_0 = (x_s - sqrt(1 - alpha_bar_s) eps) / sqrt(alpha_bar_s), then
    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, with eps from the denoiser asked at x_s and the later
    time t, so that t = 0 is never asked. The denoiser's own x_0 fits the pair (x_s, t), not (x_s, s), and is not used:
    recombined at t it would give x_s back.
    The inversion is not exact; its error falls with the number of steps.

    Args: x (B, *D), the state at steps[-1] (data only where that is 0); steps, the falling list that `ddim` takes.
    Yields: one Step a pair of times, t rising. Raises: TypeError, ValueError, at the call.
    """
    visits, alpha_bar_s, alpha_bar_t = _visits(denoise, schedule, x, steps)
    rates = [alpha_bar_s.sqrt(), (1 - alpha_bar_s).sqrt(), alpha_bar_t.sqrt(), (1 - alpha_bar_t).sqrt()]
    return _ddim_invert(denoise, x.detach(), visits[::-1], [column.flip(0) for column in rates])


def _ddim_invert(denoise: Denoiser, x: Tensor, visits: Visits, rates: list[Tensor]) -> Iterator[Step]:
    rows = zip(visits, _factors(x, rates[0]), *(column.tolist() for column in rates[1:]), strict=True)
    for (_, t, times), a_s, b_s, a_t, b_t in rows:
        eps = _ask(denoise, x, times).eps
        x0 = (x - b_s * eps) / a_s
        x = a_t * x0 + b_t * eps
        yield Step(t, x, x0)


def _visits(
    denoise: Denoiser, schedule: Schedule, x: Tensor, steps: Sequence[int] | Tensor
) -> tuple[Visits, Tensor, Tensor]:
    """Check what every sampler takes; return every visit, and alpha_bar at its s and its t, (n,) float64."""
    require_schedule("denoise", denoise, schedule)
    require_data("x", x)
    times = require_steps(steps, schedule.T)
    index = torch.tensor(times, device="cpu")
    alpha_bar = schedule.alpha_bar[index]
    batches = index[:-1, None].to(x.device).expand(-1, len(x)).unbind(0)  # n times (B,)
    return list(zip(times[1:], times, batches, strict=False)), alpha_bar[1:], alpha_bar[:-1]


def _factors(x: Tensor, column: Tensor) -> Sequence[Tensor | float]:
    # PyTorch multiplies by a tensor of x's dtype in two thirds of the time that a number takes, so the first weight of
    # a step is one. Where a tensor would round it to a few digits (bfloat16), it stays a number.
    return column.to(x.dtype).unbind() if torch.finfo(x.dtype).bits >= 32 else column.tolist()


def _ask(denoise: Denoiser, x: Tensor, times: Tensor) -> Prediction:
    # Gradients are disabled only around the denoiser; everything else works on detached tensors. (`no_grad` does the
    # same at twice the price.)
    with torch.set_grad_enabled(False):
        prediction = denoise(x, times)
    require_alike("x0 of the denoiser", prediction.x0, "x", x)
    require_alike("eps of the denoiser", prediction.eps, "x", x)
    return prediction
