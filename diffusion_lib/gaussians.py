"""Gaussians: log density, KL divergence, reparameterization."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.special import log_ndtr

from diffusion_lib.arguments import require_count, require_real, shown


def normal_log_prob(x: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    """Return log N(x; mean, variance) = -1/2 [log(2 pi variance) + (x - mean)^2 / variance], entry by entry.

    Args: tensors that broadcast, x of floating point (Bishop 2006, eq. 1.46). Units: nats.
    Raises: TypeError, ValueError for a variance not above 0.
    """
    variance = _variance("variance", variance, require_real("x", x))
    return -0.5 * ((2 * math.pi * variance).log() + (x - mean) ** 2 / variance)


def discretized_normal_log_prob(x: Tensor, mean: Tensor, variance: Tensor | float, levels: int) -> Tensor:
    """Return the log of a Gaussian's mass within half a level of each entry of x, in nats (Ho et al. 2020, eq. 13).

    Levels lie evenly from -1 to 1: 17 for the 8x8 digits, 256 for MNIST. The lowest and the highest take the tails, so
    that the probabilities of all levels add up to 1. Gradients in mean and variance are finite, however far away x is.

    Args: x, of floating point, on the levels; mean, variance > 0, tensors that broadcast; levels >= 2.
    Raises: TypeError; ValueError, also for an x between the levels.
    """
    std = _variance("variance", variance, require_real("x", x)).sqrt()
    half, level = 1 / (require_count("levels", levels, 2) - 1), _level_of(x, levels)
    low = torch.where(level > 0, ((2 * level - 1) * half - 1 - mean) / std, -math.inf)
    high = torch.where(level < levels - 1, ((2 * level + 1) * half - 1 - mean) / std, math.inf)
    return _log_mass(low, high)


def kl_normal(mean_p: Tensor, variance_p: Tensor, mean_q: Tensor | float, variance_q: Tensor | float) -> Tensor:
    """Return KL(p || q) of two Gaussians, entry by entry, in nats (Kingma and Welling 2014, appendix B, for any q).

    KL = 1/2 [log(variance_q / variance_p) + (variance_p + (mean_p - mean_q)^2) / variance_q - 1].
    Raises: TypeError, ValueError for a variance not above 0.
    """
    like = require_real("mean_p", mean_p)
    variance_p, variance_q = _variance("variance_p", variance_p, like), _variance("variance_q", variance_q, like)
    return 0.5 * ((variance_q / variance_p).log() + (variance_p + (mean_p - mean_q) ** 2) / variance_q - 1)


def condition(mean: Tensor, covariance: Tensor, known: Sequence[int], value: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of a Gaussian's other entries once those at the places `known` have a value.

    m_a + C_ab C_bb^-1 (value - m_b) and C_aa - C_ab C_bb^-1 C_ba, a the others in order, b the known (Bishop 2006, eq.
    2.81, 2.82).

    Args: mean (D,); covariance (D, D), symmetric, positive definite; known, different places in 0..D-1, not all; value
    (..., len(known)). Returns: (..., D - len(known)) and (D - len(known), D - len(known)). Raises: TypeError,
    ValueError.
    """
    D = len(require_real("mean", mean))
    if require_real("covariance", covariance).shape != (D, D) or not torch.allclose(covariance, covariance.T):
        raise ValueError(f"covariance: expected a symmetric matrix ({D}, {D}), got {shown(covariance)}")
    b = [require_count("known", place, 0, D - 1) for place in known]
    if len(set(b)) != len(b) or not 0 < len(b) < D:
        raise ValueError(f"known: expected 1 to {D - 1} different places in 0..{D - 1}, got {shown(b)}")
    if require_real("value", value).shape[-1:] != (len(b),):
        raise ValueError(f"value: expected {len(b)} entries, one for each known place, got {tuple(value.shape)}")
    a = [place for place in range(D) if place not in b]
    if torch.linalg.cholesky_ex(covariance).info:
        raise ValueError("covariance: expected a positive definite matrix, got one with a direction of no variance")
    slope = torch.linalg.solve(covariance[b][:, b], covariance[b][:, a]).T  # (|a|, |b|)
    return mean[a] + (value - mean[b]) @ slope.T, covariance[a][:, a] - slope @ covariance[b][:, a]


def reparameterize(mean: Tensor, std: Tensor, eps: Tensor) -> Tensor:
    """Return mean + std eps, a draw from N(mean, std^2) that lets gradients pass (Kingma and Welling 2014, 2.4).

    Args: tensors that broadcast, so that one std may serve a whole image; eps standard normal.
    """
    return mean + std * eps


def _variance(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    variance = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if not bool((variance > 0).all()):
        raise ValueError(f"{name}: expected numbers above 0, got {float(variance.min())}")
    return variance


def _level_of(x: Tensor, levels: int) -> Tensor:
    level = (x + 1) / 2 * (levels - 1)
    nearest = level.round()
    if not bool(((level - nearest).abs() < 1e-3).all() and (nearest >= 0).all() and (nearest < levels).all()):
        worst = x.flatten()[(x - (2 * nearest.clamp(0, levels - 1) / (levels - 1) - 1)).abs().argmax()]
        raise ValueError(f"x: expected numbers on the {levels} levels from -1 to 1, got {float(worst)}")
    return nearest


def _log_mass(low: Tensor, high: Tensor) -> Tensor:
    """log of the standard normal's mass in (low, high), however small: the upper tail is read as the lower one."""
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_high = log_ndtr(high)
    return log_high + (-torch.expm1(log_ndtr(low) - log_high)).log()
