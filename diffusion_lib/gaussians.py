"""Gaussians: log density, KL divergence, reparameterization."""

import math

import torch
from torch import Tensor

from diffusion_lib.arguments import require_real


def normal_log_prob(x: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    """Return log N(x; mean, variance) = -1/2 [log(2 pi variance) + (x - mean)^2 / variance], entry by entry.

    Args: tensors that broadcast, x of floating point (Bishop 2006, eq. 1.46). Units: nats.
    Raises: TypeError, ValueError for a variance not above 0.
    """
    variance = _variance("variance", variance, require_real("x", x))
    return -0.5 * ((2 * math.pi * variance).log() + (x - mean) ** 2 / variance)


def kl_normal(mean_p: Tensor, variance_p: Tensor, mean_q: Tensor | float, variance_q: Tensor | float) -> Tensor:
    """Return KL(p || q) of two Gaussians, entry by entry, in nats (Kingma and Welling 2014, appendix B, for any q).

    KL = 1/2 [log(variance_q / variance_p) + (variance_p + (mean_p - mean_q)^2) / variance_q - 1].
    Raises: TypeError, ValueError for a variance not above 0.
    """
    like = require_real("mean_p", mean_p)
    variance_p, variance_q = _variance("variance_p", variance_p, like), _variance("variance_q", variance_q, like)
    return 0.5 * ((variance_q / variance_p).log() + (variance_p + (mean_p - mean_q) ** 2) / variance_q - 1)


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
