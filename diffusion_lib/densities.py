"""Densities with exact answers: Gaussian mixtures, EM, finite data sets, and what a noisy observation of them tells."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.arguments import (
    require_between,
    require_count,
    require_data,
    require_generator,
    require_positive,
)
from diffusion_lib.gaussians import normal_log_prob


class View(NamedTuple):
    """What x = signal x_0 + noise eps tells: the mean of x_0 given x, the density of x and its score."""

    x0: Tensor  # (B, D) E[x_0 | x]
    score: Tensor  # (B, D) gradient of log p(x), equal to -E[eps | x] / noise
    log_prob: Tensor  # (B,) log p(x), in nats


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians: p(x) = sum_k weight_k N(x; mean_k, covariance_k) (Bishop 2006, eq. 9.7).

    Args: weights (K,) positive, summing to 1; means (K, D); covariances (K, D, D), symmetric, not
    negative; all kept in float64, the rounding errors of float32 in weights and covariances evened out.
    Raises: TypeError, ValueError.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            object.__setattr__(self, name, require_data(name, getattr(self, name)).detach().to("cpu", torch.float64))
        K, D = len(self.weights), self.means.shape[-1]
        if self.weights.ndim != 1 or self.means.shape != (K, D) or self.covariances.shape != (K, D, D):
            shapes = tuple(self.weights.shape), tuple(self.means.shape), tuple(self.covariances.shape)
            raise ValueError(f"weights, means, covariances: expected shapes (K,), (K, D), (K, D, D), got {shapes}")
        total = float(self.weights.sum())
        if bool((self.weights <= 0).any()) or abs(total - 1) > 1e-6:
            raise ValueError(f"weights: expected positive numbers that sum to 1, got {self.weights.tolist()}")
        object.__setattr__(self, "weights", self.weights / total)
        asymmetry = float((self.covariances - self.covariances.mT).abs().max())
        if asymmetry > 1e-5 * float(self.covariances.abs().max()):
            raise ValueError(
                f"covariances: expected symmetric matrices, got entries {asymmetry} from their mirror image"
            )
        object.__setattr__(self, "covariances", (self.covariances + self.covariances.mT) / 2)
        if float(self._axes[0].min()) < -1e-9 * float(self._axes[0].max()):
            raise ValueError(f"covariances: expected no negative variance, got {float(self._axes[0].min())}")

    @classmethod
    def isotropic(cls, weights: Tensor, means: Tensor, std: float) -> "Mixture":
        """Return the mixture of isotropic components, all of one standard deviation. Raises: TypeError, ValueError."""
        if require_data("means", means).ndim != 2:
            raise ValueError(f"means: expected shape (K, D), got {tuple(means.shape)}")
        K, D = means.shape
        round_covariance = require_positive("std", std) ** 2 * torch.eye(D, dtype=torch.float64, device="cpu")
        return cls(weights, means, round_covariance.expand(K, D, D))

    @property
    def D(self) -> int:
        """The dimension of the data."""
        return self.means.shape[1]

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(self.covariances)  # variances along the axes (K, D), the axes as columns (K, D, D)

    def view(self, x: Tensor, signal: Tensor, noise: Tensor) -> View:
        """Return E[x_0 | x], the score and log p(x) of x = signal x_0 + noise eps, x_0 from the mixture.

        Given component k, with C_k = signal^2 covariance_k + noise^2 I and d = C_k^-1 (x - signal mean_k): E[x_0] =
        mean_k + signal covariance_k d, and the score is -d (Bishop 2006, eq. 2.116); the components then count by
        their posterior weight.

        Args: x (B, D) float64; signal, noise (B,) float64. No difference of large numbers is taken, so it is stable
        at every noise.
        """
        axis_variances, axes = self._axes[0][..., None], self._axes[1]  # (K, D, 1), (K, D, D)
        variances = signal**2 * axis_variances + noise**2  # (K, D, B): the points come last, there are many of them
        along = axes.mT @ (x.T - signal * self.means[..., None])  # (K, D, B) in each component's own axes
        log_joint = self.weights.log()[:, None] + normal_log_prob(along, 0.0, variances).sum(1)  # (K, B)
        weight = log_joint.softmax(0)[:, None]  # (K, 1, B)
        whitened = along / variances  # (K, D, B)
        x0 = weight * (self.means[..., None] + signal * (axes @ (axis_variances * whitened)))
        score = -weight * (axes @ whitened)
        return View(x0.sum(0).T, score.sum(0).T, log_joint.logsumexp(0))

    def _solid(self) -> "Mixture":
        smallest, largest = self._axes[0].amin(1), self._axes[0].amax(1)  # (K,)
        if bool((smallest <= 1e-12 * largest).any()):
            raise ValueError(f"covariances: expected some width along every axis, got variance {float(smallest.min())}")
        return self

    def diffuse(self, signal: float, noise: float) -> "Mixture":
        """Return the density of signal x_0 + noise eps: the means shrink, the covariances shrink and widen."""
        widened = signal**2 * self.covariances + noise**2 * torch.eye(self.D, dtype=torch.float64, device="cpu")
        return Mixture(self.weights, signal * self.means, widened)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, (N, D) -> (N,). Raises: ValueError for another dimension or a flat covariance."""
        return _clean_view(self._solid(), x).log_prob

    def score(self, x: Tensor) -> Tensor:
        """Return the gradient of log p at x, (N, D) -> (N, D): -sum_k p(k | x) covariance_k^-1 (x - mean_k).

        Raises: as `log_prob`.
        """
        return _clean_view(self._solid(), x).score

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n points, (n, D) float64."""
        require_count("n", n)
        require_generator(generator)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)  # (n,)
        axis_variances, axes = self._axes
        normal = torch.randn(n, self.D, generator=generator, dtype=torch.float64, device="cpu")
        along = normal * axis_variances.clamp(min=0).sqrt()[k]
        return self.means[k] + torch.einsum("ne,nde->nd", along, axes[k])


@dataclass(frozen=True, eq=False)
class Points:
    """A finite data set as a density: each point an isotropic Gaussian of standard deviation `width` (0: bare points).

    Args: data (N, *D), finite, kept flat in float64; width >= 0. Raises: TypeError, ValueError.
    """

    data: Tensor
    width: float = 0.0

    def __post_init__(self) -> None:
        data = require_data("data", self.data)
        if data.ndim < 2 or len(data) < 1:
            raise ValueError(f"data: expected shape (N, *D) with at least one point, got {tuple(data.shape)}")
        require_between("width", self.width, 0.0, 1e6)
        object.__setattr__(self, "data", data.detach().to("cpu", torch.float64).flatten(1))

    @property
    def D(self) -> int:
        """The dimension of a point."""
        return self.data.shape[1]

    @cached_property
    def _squared_norms(self) -> Tensor:
        return (self.data**2).sum(1)

    def view(self, x: Tensor, signal: Tensor, noise: Tensor) -> View:
        """Return E[x_0 | x], the score and log p(x) of x = signal x_0 + noise eps, as `Mixture.view` does.

        Every covariance is width^2 I here, so that a matrix product with the data is all it takes.

        Args: x (B, D) float64; signal, noise (B,) float64. Memory: (B, N), never (B, N, D).
        Raises: ValueError where neither width nor noise is above 0: bare points have no density.
        """
        a, b = signal[:, None], noise[:, None]  # (B, 1)
        variance = a**2 * self.width**2 + b**2  # (B, 1)
        if not bool((variance > 0).all()):
            raise ValueError("width: bare points have no density without noise; give the points a width above 0")
        squared = (x**2).sum(1, keepdim=True) - 2 * a * (x @ self.data.T) + a**2 * self._squared_norms  # (B, N)
        log_weights = -0.5 * squared / variance  # (B, N)
        nearest = log_weights.softmax(-1) @ self.data  # (B, D) the average of the points that x may come from
        score = (a * nearest - x) / variance
        log_prob = (
            log_weights.logsumexp(-1) - 0.5 * self.D * (2 * math.pi * variance[:, 0]).log() - math.log(len(self.data))
        )
        return View(nearest - a * self.width**2 * score, score, log_prob)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, (N, D) -> (N,). Raises: ValueError for another dimension or width 0."""
        return _clean_view(self, x).log_prob

    def score(self, x: Tensor) -> Tensor:
        """Return the gradient of log p at x, (N, D) -> (N, D). Raises: ValueError for another dimension or width 0."""
        return _clean_view(self, x).score

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n points with replacement, each moved by its Gaussian, (n, D) float64."""
        require_count("n", n)
        require_generator(generator)
        k = torch.randint(len(self.data), (n,), generator=generator, device="cpu")
        normal = torch.randn(n, self.D, generator=generator, dtype=torch.float64, device="cpu")
        return self.data[k] + self.width * normal


def _clean_view(density: Mixture | Points, x: Tensor) -> View:
    points = require_data("x", x)
    if points.ndim != 2 or points.shape[1] != density.D:
        raise ValueError(f"x: expected shape (N, {density.D}), got {tuple(points.shape)}")
    ones = torch.ones(len(points), dtype=torch.float64, device="cpu")
    return density.view(points.to(torch.float64), ones, 0 * ones)


def fit_mixture(
    x: Tensor, K: int, generator: torch.Generator, *, iterations: int = 100, floor: float = 1e-3
) -> Mixture:
    """Fit a mixture of K full-covariance Gaussians by expectation-maximization (Bishop 2006, section 9.2.2).

    Each iteration takes the posterior weights of the components at every point, r_nk = p(k | x_n), then the weighted
    shares, means and covariances; `floor` is added to every variance, so that a component of few points keeps a
    volume.

    Args: x (N, D), N >= K; iterations; `floor` > 0, in squared units of x. Returns: the mixture. Raises: TypeError,
    ValueError.
    """
    points = require_data("x", x).detach().to("cpu", torch.float64)
    if points.ndim != 2:
        raise ValueError(f"x: expected shape (N, D), got {tuple(points.shape)}")
    require_count("K", K, 1, len(points))
    require_count("iterations", iterations)
    require_positive("floor", floor)
    mixture = _maximization(points, _first_weights(points, K, require_generator(generator)), floor)
    for _ in range(iterations):
        mixture = _maximization(points, responsibilities(mixture, points), floor)
    return mixture


def responsibilities(mixture: Mixture, x: Tensor) -> Tensor:
    """Return p(k | x_n), each component's posterior weight, x (N, D) float64 -> (N, K) (Bishop 2006, eq. 9.13)."""
    axis_variances, axes = mixture._axes
    along = torch.einsum("nkd,kde->nke", x[:, None] - mixture.means, axes)
    return (mixture.weights.log() + normal_log_prob(along, 0.0, axis_variances.expand_as(along)).sum(-1)).softmax(-1)


def _maximization(x: Tensor, r: Tensor, floor: float) -> Mixture:
    share = r.sum(0)  # (K,) how many points each component holds
    means = (r.T @ x) / share[:, None]  # (K, D)
    covariances = torch.stack([_covariance(x - mean, r[:, k] / share[k]) for k, mean in enumerate(means)])
    return Mixture(share / share.sum(), means, covariances + floor * torch.eye(x.shape[1], dtype=x.dtype, device="cpu"))


def _covariance(offsets: Tensor, weights: Tensor) -> Tensor:
    scaled = offsets * weights[:, None].sqrt()  # (N, D)
    return scaled.T @ scaled  # (D, D), symmetric to the last bit


def _first_weights(x: Tensor, K: int, generator: torch.Generator) -> Tensor:
    """Seeds far apart (k-means++, Arthur and Vassilvitskii 2007), each point given to its nearest seed, softly."""
    seeds = x[torch.randint(len(x), (1,), generator=generator, device="cpu")]
    for _ in range(K - 1):
        squared = torch.cdist(x, seeds).amin(1) ** 2  # (N,)
        if not bool((squared > 0).any()):
            raise ValueError(f"x: expected at least {K} distinct points, got {len(seeds)}")
        seeds = torch.cat([seeds, x[torch.multinomial(squared, 1, generator=generator)]])
    squared = torch.cdist(x, seeds) ** 2  # (N, K)
    return (-squared / squared.amin(1).mean().clamp(min=1e-12)).softmax(-1)
