"""Autoregressions AR(p): simulated, fitted in four ways, forecast, and their exact likelihood.

Y_t - mean = phi_1 (Y_{t-1} - mean) + ... + phi_p (Y_{t-p} - mean) + u_t, with u_t independent, normal, of `variance`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.arguments import require_count, require_positive, require_table


class AR(NamedTuple):
    """A fitted autoregression: the mean of the series, the coefficients phi (p,), the variance of its noise."""

    mean: float
    phi: Tensor
    variance: float


def companion(phi: Tensor) -> Tensor:
    """Return the matrix (p, p) that moves the state (Y_t, ..., Y_{t-p+1}) on by a step: phi, above a shifted identity.

    Raises: TypeError, ValueError.
    """
    phi = require_table("phi", phi, "(p,)", 1)
    return torch.cat([phi[None], torch.eye(len(phi), dtype=torch.float64)[:-1]])


def is_stationary(phi: Tensor) -> bool:
    """Return whether every eigenvalue of the companion matrix lies inside the unit circle. Raises: as `companion`."""
    return bool(torch.linalg.eigvals(companion(phi)).abs().max() < 1)


def require_stationary(phi: Tensor) -> Tensor:
    """Return phi if the series it makes is stationary; ValueError with the largest modulus otherwise."""
    phi = require_table("phi", phi, "(p,)", 1)
    if not is_stationary(phi):
        largest = float(torch.linalg.eigvals(companion(phi)).abs().max())
        raise ValueError(
            f"phi: expected a stationary autoregression, got {phi.tolist()} with a root of modulus {largest:.4g}"
        )
    return phi


def simulate(model: AR, n: int, generator: torch.Generator, start: Tensor | None = None) -> Tensor:
    """Return n values of the series, (n,), after `start` (p,), by default p times the mean.

    Raises: TypeError, ValueError.
    """
    p = len(model.phi)
    noise = torch.randn(require_count("n", n), generator=generator, dtype=torch.float64) * model.variance**0.5
    y = [model.mean] * p if start is None else require_table("start", start, f"({p},)", p).tolist()
    phi = model.phi.tolist()
    for u in noise.tolist():
        y.append(model.mean + sum(phi[i] * (y[-1 - i] - model.mean) for i in range(p)) + u)
    return torch.tensor(y[p:], dtype=torch.float64)


def lagged(y: Tensor, p: int) -> Tensor:
    """Return the p values before each y_t, the latest first, for t = p+1 ... n: (n - p, p).

    Raises: TypeError, ValueError.
    """
    y = require_series(y, p)
    return torch.stack([y[p - i : len(y) - i] for i in range(1, p + 1)], 1)


def require_series(y: Tensor, p: int) -> Tensor:
    """Return a series long enough for an AR(p) and not constant; TypeError or ValueError otherwise."""
    y = require_table("y", y, "(n,)", 1)
    require_count("p", p, 1, (len(y) - 1) // 2)
    if float(y.max() - y.min()) == 0:
        raise ValueError(f"y: expected a series that moves, got {len(y)} times {float(y[0]):g}")
    return y


# ---- four estimators


def least_squares(y: Tensor, p: int) -> AR:
    """Return the AR(p) whose one-step errors have the least sum of squares, given the first p values.

    Raises: TypeError, ValueError.
    """
    past, now = lagged(y, p), y[p:]
    design = torch.cat([torch.ones(len(now), 1, dtype=torch.float64), past], 1)  # (n - p, 1 + p)
    weights = torch.linalg.lstsq(design, now[:, None]).solution[:, 0]
    phi, errors = weights[1:], now - design @ weights
    return AR(float(weights[0] / (1 - phi.sum())), phi, float(errors.square().mean()))


def yule_walker(y: Tensor, p: int, *, divide_by_pairs: bool = False) -> AR:
    """Return the AR(p) that has the series' own autocovariances: R phi = r (Yule 1927, Walker 1931).

    The sum of n - k products at lag k is divided by n, or by n - k if asked. Raises: TypeError, ValueError.
    """
    y = require_series(y, p)
    n, z = len(y), y - y.mean()
    sums = torch.stack([z[: n - k] @ z[k:] for k in range(p + 1)])
    gamma = sums / (n - torch.arange(p + 1, dtype=torch.float64) if divide_by_pairs else n)
    lags = torch.arange(p)
    phi = torch.linalg.solve(gamma[(lags[:, None] - lags).abs()], gamma[1:])
    return AR(float(y.mean()), phi, float(gamma[0] - phi @ gamma[1:]))


def burg(y: Tensor, p: int) -> AR:
    """Return the AR(p) of Burg's recursion: at each order, the reflection with the least errors forwards and backwards.

    Raises: TypeError, ValueError.
    """
    y = require_series(y, p)
    z = y - y.mean()
    forward, backward, phi, variance = z[1:], z[:-1], z.new_zeros(0), float(z @ z) / len(z)
    for _ in range(p):
        k = 2 * (forward @ backward) / (forward @ forward + backward @ backward)
        phi = step_up(phi, k)
        variance *= 1 - float(k) ** 2
        forward, backward = (forward - k * backward)[1:], (backward - k * forward)[:-1]
    return AR(float(y.mean()), phi, variance)


def maximum_likelihood(y: Tensor, p: int, steps: int = 100) -> AR:
    """Return the AR(p) with the largest exact likelihood, searched by L-BFGS from mean, variance and no memory.

    What is searched for are reflections in (-1, 1), as Burg's, so that every candidate is stationary.
    Raises: TypeError, ValueError.
    """
    y = require_series(y, p)
    center, scale = y.mean(), y.std()
    unknown = torch.zeros(p + 2, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [unknown], max_iter=steps, tolerance_grad=1e-11, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def model() -> tuple[Tensor, Tensor, Tensor]:
        phi = unknown.new_zeros(0)
        for k in unknown[1:-1].tanh():
            phi = step_up(phi, k)
        return center + scale * unknown[0], phi, scale**2 * unknown[-1].exp()

    def loss() -> Tensor:
        search.zero_grad()
        value = -log_likelihood(y, *model()) / len(y)
        value.backward()
        return value

    search.step(loss)
    mean, phi, variance = (found.detach() for found in model())
    return AR(float(mean), phi, float(variance))


def step_up(phi: Tensor, reflection: Tensor) -> Tensor:
    """Return the coefficients of order p + 1 from those of order p and its reflection (Levinson's step)."""
    return torch.cat([phi - reflection * phi.flip(0), reflection[None]])


# ---- the series as one Gaussian


def autocovariances(phi: Tensor, variance: Tensor | float, n: int) -> Tensor:
    """Return gamma_0 ... gamma_{n-1} of a stationary AR(p): what two values k steps apart have in common, (n,).

    gamma_k = sum_i phi_i gamma_|k-i| + (variance if k = 0), solved for k = 0..p, continued by recursion.
    """
    p = len(phi)
    rows = []
    for k in range(p + 1):
        row = phi.new_zeros(p + 1).index_add(0, torch.tensor([k]), phi.new_ones(1))
        rows.append(row.index_add(0, torch.tensor([abs(k - i) for i in range(1, p + 1)]), -phi))
    right = torch.cat([torch.as_tensor(variance, dtype=phi.dtype).reshape(1), phi.new_zeros(p)])
    gamma = list(torch.linalg.solve(torch.stack(rows), right))
    while len(gamma) < n:
        gamma.append(sum((phi[i] * gamma[-1 - i] for i in range(p)), phi.new_zeros(())))
    return torch.stack(gamma[:n])


def log_likelihood(y: Tensor, mean: Tensor | float, phi: Tensor, variance: Tensor | float) -> Tensor:
    """Return log p(y_1, ..., y_n) of a stationary AR(p), in nats: the first p values jointly, then each given p before.

    Shapes: y (n,), phi (p,); gradients pass in mean, phi and variance. Raises: TypeError, ValueError.
    """
    p = len(require_stationary(phi.detach()))
    z = require_series(y, p) - mean
    gamma, lags = autocovariances(phi, variance, p), torch.arange(p)
    first = torch.distributions.MultivariateNormal(phi.new_zeros(p), gamma[(lags[:, None] - lags).abs()]).log_prob(
        z[:p]
    )
    errors = z[p:] - sum(phi[i] * z[p - 1 - i : len(z) - 1 - i] for i in range(p))
    spread = torch.as_tensor(variance, dtype=phi.dtype)
    return first - 0.5 * ((2 * math.pi * spread).log() + errors.square() / spread).sum()


# ---- forecasts


def forecast(model: AR, past: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return the conditional mean and the standard deviation of the next `steps` values, given `past` (n,), n >= p.

    The errors of k steps add up: variance (1 + psi_1^2 + ... + psi_{k-1}^2), psi the answer to one shock.
    Returns: (steps,) each. Raises: TypeError, ValueError.
    """
    p = len(model.phi)
    y = (require_table("past", past, f"(n,), n >= {p}", p) - model.mean).tolist()
    require_positive("variance", model.variance)
    phi, psi = model.phi.tolist(), [1.0]
    for k in range(1, require_count("steps", steps)):
        psi.append(sum(phi[i] * psi[k - 1 - i] for i in range(min(p, k))))
    for _ in range(steps):
        y.append(sum(phi[i] * y[-1 - i] for i in range(p)))
    spread = model.variance * torch.tensor(psi, dtype=torch.float64).square().cumsum(0)
    return model.mean + torch.tensor(y[-steps:], dtype=torch.float64), spread.sqrt()
