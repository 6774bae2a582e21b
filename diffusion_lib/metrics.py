"""Distances between samples; compare each with its baseline, that of two independent samples of one distribution."""

import torch
from torch import Tensor

from diffusion_lib.arguments import require_count, require_data, require_generator, require_positive


def wasserstein(x: Tensor, y: Tensor) -> Tensor:
    """Return the exact Wasserstein distance W1 of two samples on a line: the least mean distance that mass must move.

    W1 = integral over u in (0, 1) of |F_x^-1(u) - F_y^-1(u)| (Peyre and Cuturi 2019, remark 2.30): both samples are
    sorted and their quantile functions, two staircases, compared; for samples of one size, the mean of |x_(i) - y_(i)|.

    Args: x (N,) or (N, 1); y (M,) or (M, 1): samples, never probabilities or counts; sizes may differ.
    Returns: () float64, in the units of x.
    Raises: TypeError, ValueError.
    """
    return _along(_line("x", x), _line("y", y))[0]


def sliced_wasserstein(x: Tensor, y: Tensor, directions: int, generator: torch.Generator) -> Tensor:
    """Return the mean W1 of the projections of two samples on random lines, in any dimension (Bonneel et al. 2015).

    A line is u in R^D with |u| = 1, drawn evenly; the projection of x on it is <x, u>. It is never above W1, and with
    many lines it is 0 only for equal samples; where D = 1 it is W1 itself.

    Args: x (N, D); y (M, D); directions, the number of lines; generator, for them. Returns: () float64.
    Raises: TypeError, ValueError.
    """
    points, others = _cloud("x", x), _cloud("y", y)
    if points.shape[1] != others.shape[1]:
        raise ValueError(f"y: expected {points.shape[1]} dimensions a point like x, got {others.shape[1]}")
    require_count("directions", directions)
    require_generator(generator)
    u = torch.randn(points.shape[1], directions, generator=generator, dtype=torch.float64, device="cpu")
    u = u / u.norm(dim=0)  # (D, directions)
    return _along((points @ u).T, (others @ u).T).mean()


def mmd(x: Tensor, y: Tensor, width: float) -> Tensor:
    """Return the squared maximum mean discrepancy of two samples, for k(x, y) = exp(-|x - y|^2 / (2 width^2)).

    Mean of k over pairs within x, plus that within y, minus twice that between them; no point is paired with itself, so
    the mean over samples of one distribution is 0 and a single value may be negative (Gretton et al. 2012, eq. 3).

    Args: x (N, D); y (M, D), at least 2 points each; width, above 0, in the units of x. Returns: () float64.
    Raises: TypeError, ValueError.
    """
    points, others = _clouds(x, y)
    require_positive("width", width)
    within = [_kernel(p, p, width).fill_diagonal_(0).sum() / (len(p) * (len(p) - 1)) for p in (points, others)]
    return within[0] + within[1] - 2 * _kernel(points, others, width).mean()


def _kernel(x: Tensor, y: Tensor, width: float) -> Tensor:
    return torch.exp(-torch.cdist(x, y).square() / (2 * width**2))  # (N, M)


def _clouds(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two samples of points of one dimension, at least 2 points each."""
    points, others = _cloud("x", x), _cloud("y", y)
    if points.shape[1] != others.shape[1]:
        raise ValueError(f"y: expected {points.shape[1]} dimensions a point like x, got {others.shape[1]}")
    require_count("points of x", len(points), 2)
    require_count("points of y", len(others), 2)
    return points, others


def frechet(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared Frechet distance of the Gaussians with the means and covariances of two samples.

    |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)) (Dowson and Landau 1982, eq. 4; on the features of a classifier
    it is the "FID" of Heusel et al. 2017, eq. 6). The trace of the root is the sum of the singular values of
    C_x^(1/2) C_y^(1/2). It is never 0 for two finite samples of one distribution: compare it with its baseline, the
    distance of two real samples.

    Args: x (N, D); y (M, D), at least 2 points each. Returns: () float64, in squared units of x.
    Raises: TypeError, ValueError.
    """
    points, others = _clouds(x, y)
    centred = [p - p.mean(0) for p in (points, others)]
    covariances = [c.T @ c / (len(c) - 1) for c in centred]  # (D, D)
    root = _root(covariances[0]) @ _root(covariances[1])
    means = (points.mean(0) - others.mean(0)).square().sum()
    return means + sum(c.trace() for c in covariances) - 2 * torch.linalg.svdvals(root).sum()


def _root(covariance: Tensor) -> Tensor:
    """The symmetric square root of a covariance (D, D); eigenvalues that round to below zero count as zero."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def _along(x: Tensor, y: Tensor) -> Tensor:
    """W1 of each row, (L, N) and (L, M) -> (L,)."""
    N, M = x.shape[1], y.shape[1]
    stairs = (torch.arange(1, n + 1, device="cpu") * m for n, m in ((N, M), (M, N)))
    ends = torch.cat(list(stairs)).unique()  # of the stairs, in 1 / (N M)
    widths = ends.diff(prepend=ends.new_zeros(1)).to(torch.float64) / (N * M)
    stair_x = x.sort(1).values[:, (ends - 1) // M]  # (L, stairs)
    stair_y = y.sort(1).values[:, (ends - 1) // N]
    return (stair_x - stair_y).abs() @ widths


def _line(name: str, value: Tensor) -> Tensor:
    points = require_data(name, value)
    if points.ndim > 2 or (points.ndim == 2 and points.shape[1] != 1) or len(points) == 0:
        raise ValueError(f"{name}: expected a sample of numbers (N,) or (N, 1), got shape {tuple(points.shape)}")
    return points.detach().to("cpu", torch.float64).reshape(1, -1)


def _cloud(name: str, value: Tensor) -> Tensor:
    points = require_data(name, value)
    if points.ndim != 2 or points.numel() == 0:
        raise ValueError(f"{name}: expected a sample of points (N, D), got shape {tuple(points.shape)}")
    return points.detach().to("cpu", torch.float64)
