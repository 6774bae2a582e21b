"""The variational bound, term by term, in nats and bits; the weighting that turns denoising losses into its terms."""

import math

import torch
from torch import Tensor

from diffusion_lib.arguments import (
    require_alike,
    require_choice,
    require_count,
    require_data,
    require_generator,
    require_positive,
    require_time,
)
from diffusion_lib.gaussians import discretized_normal_log_prob, kl_normal, normal_log_prob
from diffusion_lib.noise import draw_like
from diffusion_lib.process import Denoiser, posterior_coefficients, q_sample, require_schedule
from diffusion_lib.schedules import Schedule


def bound_weighting(schedule: Schedule, t: int | Tensor) -> Tensor:
    """Return the weighting with which the denoising loss, summed over t = 1..T, is the variational bound.

    In nats a dimension, without L_T and the constant of L_0, which no network can change. It is a sum: with t drawn
    uniformly, as `losses.denoising_draw` does, the mean of the loss has to be multiplied by T.

    (snr_{t-1} - snr_t) / 2 for t > 1 (Kingma et al. 2021, section 4), the term L_{t-1} with the posterior variance. At
    t = 1, where that is infinite, it is what L_0 has in its place with a Gaussian decoder: 1 / (2 decoder variance),
    with the variance of `default_decoder_variance`.

    Args: t in 1..T, int or (B,). Returns: float64, the shape of t. Raises: TypeError, ValueError (T = 1 too).
    """
    times = require_time("t", t, 1, schedule.T)
    first = torch.tensor(0.5 / default_decoder_variance(schedule), dtype=torch.float64, device="cpu")
    return torch.where(times > 1, (schedule.snr[times - 1] - schedule.snr[times]) / 2, first)


# ---- the variational bound, term by term, in nats


def prior_term(schedule: Schedule, x0: Tensor) -> Tensor:
    """Return L_T = KL(q(x_T | x_0) || N(0, I)), which no network can change (Ho et al. 2020, eq. 5).

    Args: x0 (B, *D). Returns: (B,) float64 on the CPU. Raises: TypeError, ValueError.
    """
    alpha_bar = schedule.alpha_bar[-1]
    return kl_normal(alpha_bar.sqrt() * _rows(require_data("x0", x0)), 1 - alpha_bar, 0.0, 1.0).sum(1)


def denoising_term(
    schedule: Schedule, denoise: Denoiser, x0: Tensor, t: int | Tensor, eps: Tensor, variance: str = "posterior"
) -> Tensor:
    """Return L_{t-1} = KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) at the x_t that eps makes (Ho et al. 2020, eq. 5).

    Both are Gaussian. The model's mean has the denoiser's x_0 in place of the true one; its variance is that of the
    posterior or beta_t, as in `samplers.ddpm`. The bound has the mean of this over eps.

    Args: x0, eps (B, *D) alike; t in 2..T, int or (B,); variance "posterior" or "beta". Returns: (B,) float64 on the
    CPU. Raises: TypeError, ValueError.
    """
    times = require_time("t", t, 2, schedule.T, len(require_data("x0", x0))).expand(len(x0))
    require_choice("variance", variance, ("posterior", "beta"))
    require_schedule("denoise", denoise, schedule)
    _, c_0, posterior = posterior_coefficients(schedule.alpha_bar[times - 1], schedule.alpha_bar[times])  # (B,) each
    reverse = posterior if variance == "posterior" else schedule.beta[times]
    guess = _guess(schedule, denoise, x0, times, eps)
    gap = c_0[:, None] * (_rows(x0) - _rows(guess))  # of the means: what they say of x_t is the same
    return kl_normal(gap, posterior[:, None], 0.0, reverse[:, None]).sum(1)


def decoder_term(
    schedule: Schedule,
    denoise: Denoiser,
    x0: Tensor,
    eps: Tensor,
    levels: int | None = None,
    variance: float | None = None,
) -> Tensor:
    """Return L_0 = -log p(x_0 | x_1) at the x_1 that eps makes (Ho et al. 2020, eq. 5 and 13).

    The decoder is a Gaussian around the denoiser's x_0; see `decoder_log_prob`. The posterior variance at t = 1 is 0,
    so it needs a variance of its own: `default_decoder_variance` if none is given.

    Args: x0, eps (B, *D) alike; levels, of grey, or None for a density. Returns: (B,) float64 on the CPU. Raises:
    TypeError, ValueError.
    """
    require_schedule("denoise", denoise, schedule)
    guess = _guess(schedule, denoise, x0, torch.ones(len(require_data("x0", x0)), dtype=torch.int64, device="cpu"), eps)
    width = default_decoder_variance(schedule) if variance is None else variance
    return -_rows(decoder_log_prob(x0, guess, width, levels)).sum(1)


def default_decoder_variance(schedule: Schedule) -> float:
    """Return the posterior variance at t = 2 (Nichol and Dhariwal 2021, code); ValueError where T is 1."""
    if schedule.T < 2:
        raise ValueError("variance: expected a decoder variance for a schedule of T = 1, which has no step 2, got None")
    return float(posterior_coefficients(schedule.alpha_bar[1], schedule.alpha_bar[2])[2])


def decoder_log_prob(x0: Tensor, mean: Tensor, variance: float, levels: int | None = None) -> Tensor:
    """Return how likely the decoder makes each entry of x0: log of a density, or of a probability with levels.

    Without levels: log N(x0; mean, variance). With them: the log of the Gaussian's mass within half a level of x0, as
    `gaussians.discretized_normal_log_prob` has it (Ho et al. 2020, eq. 13, where levels is 256).

    Args: x0, mean (B, *D) alike; variance > 0; levels >= 2. Returns: (B, *D) float64 on the CPU, in nats.
    Raises: TypeError; ValueError, also for an x0 between the levels (an interpolated image).
    """
    require_alike("mean", mean, "x0", require_data("x0", x0))
    x, middle, width = _double(x0), _double(mean), require_positive("variance", variance)
    if levels is None:
        return normal_log_prob(x, middle, width)
    return discretized_normal_log_prob(x, middle, width, levels)


@torch.no_grad()
def variational_bound(
    schedule: Schedule,
    denoise: Denoiser,
    x0: Tensor,
    generator: torch.Generator,
    *,
    levels: int | None = None,
    variance: str = "posterior",
    decoder_variance: float | None = None,
) -> Tensor:
    """Return every term of the bound -log p(x_0) <= E[L_0 + L_1 + ... + L_T], indexed as in Ho et al. 2020, eq. 5.

    terms[:, 0] is `decoder_term`, terms[:, t-1] is `denoising_term` at t, terms[:, T] is `prior_term`. Each time has
    fresh noise from the generator, once: `terms.sum(1)` is an unbiased estimate. It asks the denoiser T times.

    Args: x0 (B, *D); levels, variance, decoder_variance as in the terms. Returns: terms (B, T+1), nats, float64 on the
    CPU. Raises: TypeError, ValueError.
    """
    require_data("x0", x0)
    require_generator(generator)
    terms = [decoder_term(schedule, denoise, x0, draw_like(x0, generator), levels, decoder_variance)]
    terms += [
        denoising_term(schedule, denoise, x0, t, draw_like(x0, generator), variance) for t in range(2, schedule.T + 1)
    ]
    return torch.stack([*terms, prior_term(schedule, x0)], 1)  # (B, T+1)


def bits_per_dim(nats: Tensor, D: int) -> Tensor:
    """Return nats / (D log 2), bits for each of the D dimensions; nats of any shape; ValueError for a bad D."""
    return nats / (require_count("D", D) * math.log(2))


def _double(value: Tensor) -> Tensor:
    return value.to("cpu", torch.float64)


def _rows(value: Tensor) -> Tensor:
    return _double(value).reshape(len(value), math.prod(value.shape[1:]))  # (B, D)


def _guess(schedule: Schedule, denoise: Denoiser, x0: Tensor, times: Tensor, eps: Tensor) -> Tensor:
    return require_alike("x0 of the denoiser", denoise(q_sample(schedule, x0, times, eps), times).x0, "x0", x0)
