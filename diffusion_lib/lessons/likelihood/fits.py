"""Fits of lesson 04: one Gaussian to two equal peaks by either direction of KL, a table to one pixel's levels."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffusion_lib import data
from diffusion_lib.arguments import require_count, require_positive, require_table
from diffusion_lib.gaussians import normal_log_prob

POINTS = (-2.6, -1.9, -1.1, -0.15, 0.0, 0.1, 0.9, 1.4, 2.2, 2.8)  # the ten points of the bet
PIXEL = 36  # of 64, row by row
GRID = torch.linspace(-16, 16, 6401, dtype=torch.float64)


def peaks(x: Tensor, half: float) -> Tensor:
    """Return the log density of two equal peaks at -half and +half, each normal of variance 1."""
    two = torch.stack([normal_log_prob(x, -half, 1.0), normal_log_prob(x, half, 1.0)])
    return two.logsumexp(0) - math.log(2)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p || q) in nats by quadrature on GRID: integral of p (log p - log q); inf where q is 0 and p is not.

    Args: log densities on GRID, (6401,). Raises: ValueError for another shape.
    """
    for name, value in (("log_p", log_p), ("log_q", log_q)):
        if value.shape != GRID.shape:
            raise ValueError(
                f"{name}: expected a log density on the grid, {tuple(GRID.shape)}, got {tuple(value.shape)}"
            )
    p = log_p.exp()
    return torch.trapezoid(torch.where(p > 0, p * (log_p - log_q), 0.0), GRID)


class Fit(NamedTuple):
    """A Gaussian and how far it is from the two peaks, in nats."""

    mean: float
    std: float
    divergence: float


def forward_fit(half: float) -> Fit:
    """Return the Gaussian q with the least KL(p || q): that of p's own mean and variance."""
    std = (1 + half**2) ** 0.5
    return Fit(0.0, std, float(kl(peaks(GRID, half), normal_log_prob(GRID, 0.0, std**2))))


@cache
def reverse_fit(half: float) -> Fit:
    """Return the Gaussian q with the least KL(q || p), searched from the middle and from one peak."""
    found = [_search(half, torch.tensor(start, dtype=torch.float64)) for start in ([0.0, 0.5], [half, 0.0])]
    return min(found, key=lambda fit: round(fit.divergence, 9))


def reverse_kl(mean: Tensor, std: Tensor, half: float) -> Tensor:
    """Return KL(q || p) in nats of q = N(mean, std^2) and the two peaks, on a grid that moves along with q."""
    u = torch.linspace(-9, 9, 3601, dtype=torch.float64)
    weight = normal_log_prob(u, 0.0, 1.0)
    gap = weight - std.log() - peaks(mean + std * u, half)
    return torch.trapezoid(weight.exp() * gap, u)


def _search(half: float, start: Tensor) -> Fit:
    """Minimise over mean and log std by L-BFGS."""
    unknown = start.clone().requires_grad_()
    search = torch.optim.LBFGS([unknown], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = reverse_kl(unknown[0], unknown[1].exp(), half)
        value.backward()
        return value

    search.step(closure)
    mean, std = unknown.detach()[0], unknown.detach()[1].exp()
    return Fit(float(mean), float(std), float(reverse_kl(mean, std, half)))


def objectives(center: float, std: float) -> tuple[float, float]:
    """Return the sum of a Gaussian's heights at the ten points, and the sum of their logarithms. Raises: ValueError."""
    require_positive("std", std)
    log_heights = normal_log_prob(torch.tensor(POINTS, dtype=torch.float64), center, std**2)
    return float(log_heights.exp().sum()), float(log_heights.sum())


@cache
def pixel_counts() -> Tensor:
    """Return how often each of the 17 levels stands in the middle of a digit (row 5, column 5), (17,), over 1437."""
    middle = data.to_levels(data.digits().train).flatten(1)[:, PIXEL]
    return torch.bincount(middle, minlength=17).double()


def ring(mean: Tensor, covariance: Tensor) -> np.ndarray:
    """Return the ellipse (200, 2) that holds 90 % of a Gaussian in the plane: mean (2,), covariance (2, 2)."""
    turn = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    circle = math.sqrt(-2 * math.log(0.1)) * torch.stack([turn.cos(), turn.sin()], 1)
    ellipse: np.ndarray = (mean + circle @ torch.linalg.cholesky(covariance).T).numpy()
    return ellipse


def two_maxima(points: Tensor, centers: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Return, for each center of a bell curve, the sum of the log heights at the points and the sum of the heights.

    Args: points (N,), centers (C,), std > 0. Returns: (C,) and (C,). Raises: ValueError.
    """
    require_positive("std", std)
    log_heights = normal_log_prob(points, centers[:, None], std**2)  # (C, N)
    return log_heights.sum(1), log_heights.exp().sum(1)


def descent(counts: Tensor, steps: int, size: float) -> Tensor:
    """Return a table after gradient steps on its logits, from equal ones on, towards the least mean -log q.

    The gradient is q - n / N (lesson 02, the softmax's). Args: counts (K,) from 0 on; steps >= 0. Returns: (K,).
    """
    shares, logits = counts / counts.sum(), torch.zeros_like(counts)
    for _ in range(require_count("steps", steps, 0)):
        logits = logits - size * (logits.softmax(0) - shares)
    return logits.softmax(0)


def prices(halves: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(q || p) in nats of the best bridge over two peaks at -half and half, and that of the best single peak.

    Below a half of about 2.4 the search that starts on a peak may end on the bridge. (H,) -> (H,) and (H,).
    """
    starts = lambda half: ([0.0, 0.5], [half, 0.0])  # noqa: E731
    found = [[_search(h, torch.tensor(s, dtype=torch.float64)).divergence for s in starts(h)] for h in halves.tolist()]
    bridge, peak = torch.tensor(found, dtype=torch.float64).T
    return bridge, peak


def discrete_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) = sum p log(p / q) of two tables, in nats; inf where q is 0 and p is not.

    Args: tables (K,) of numbers from 0 on that sum to 1. Raises: TypeError, ValueError.
    """
    tables = []
    for name, value in (("p", p), ("q", q)):
        table = require_table(name, value, "(K,)", 1)
        if bool((table < 0).any()) or abs(float(table.sum()) - 1) > 1e-9:
            raise ValueError(f"{name}: expected numbers from 0 on that sum to 1, got a sum of {float(table.sum()):.6g}")
        tables.append(table)
    if tables[0].shape != tables[1].shape:
        raise ValueError(f"q: expected the shape of p, {tuple(tables[0].shape)}, got {tuple(tables[1].shape)}")
    first, second = tables
    return torch.where(first > 0, first * (first / second).log(), 0.0).sum()
