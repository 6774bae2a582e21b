"""Toy densities: `.log_prob(x)` in nats, `.sample(n, generator)`; all but the checkerboard are Gaussian mixtures."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_lib.arguments import require_count, require_data, require_generator
from diffusion_lib.densities import Mixture


def two_moons(std: float = 0.1) -> Mixture:
    """Two interlocking half circles of radius 1, each 16 Gaussians of standard deviation `std`; centred, in 2-D."""
    angle = torch.linspace(0, math.pi, 16, dtype=torch.float64, device="cpu")
    upper = torch.stack([angle.cos(), angle.sin()], 1)  # (16, 2)
    moons = torch.cat([upper, torch.tensor([1.0, 0.5], dtype=torch.float64, device="cpu") - upper])  # (32, 2)
    return _even(moons - moons.mean(0), std)


def rings(std: float = 0.1) -> Mixture:
    """Two rings, radius 0.6 and 1.5, of the same mass: 16 and 40 Gaussians of standard deviation `std`, in 2-D."""
    weights = torch.cat([torch.full((n,), 0.5 / n, dtype=torch.float64, device="cpu") for n in (16, 40)])
    return Mixture.isotropic(weights, torch.cat([0.6 * _circle(16), 1.5 * _circle(40)]), std)


def eight_gaussians(std: float = 0.15) -> Mixture:
    """Eight Gaussians of standard deviation `std` on a circle of radius sqrt(2) (centres of unit variance), in 2-D."""
    return _even(math.sqrt(2) * _circle(8), std)


def bimodal(std: float = 0.2) -> Mixture:
    """Two Gaussians of standard deviation `std` at -1 and 1 with equal weights: the course's 1-D example."""
    return _even(torch.tensor([[-1.0], [1.0]], dtype=torch.float64, device="cpu"), std)


def _circle(n: int) -> Tensor:
    angle = torch.arange(n, dtype=torch.float64, device="cpu") * (2 * math.pi / n)
    return torch.stack([angle.cos(), angle.sin()], 1)  # (n, 2)


def _even(means: Tensor, std: float) -> Mixture:
    return Mixture.isotropic(torch.full((len(means),), 1 / len(means), dtype=torch.float64, device="cpu"), means, std)


@dataclass(frozen=True)
class Checkerboard:
    """The uniform density on the dark cells of a board of `cells` x `cells` unit squares, centred at 0, in 2-D.

    A cell is dark when its column and row numbers add up to an even number; `cells` is even, so half of them are.
    """

    cells: int = 4

    def __post_init__(self) -> None:
        if require_count("cells", self.cells, 2) % 2:
            raise ValueError(f"cells: expected an even number, got {self.cells}")

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, (N, 2) -> (N,): -log(cells^2 / 2) on the dark cells, minus infinity elsewhere.

        Raises: TypeError, ValueError (not floating point, or another shape).
        """
        if require_data("x", x).ndim != 2 or x.shape[1] != 2:
            raise ValueError(f"x: expected shape (N, 2), got {tuple(x.shape)}")
        cell = (x + self.cells / 2).floor()  # (N, 2) column and row
        dark = ((cell >= 0) & (cell < self.cells)).all(1) & (cell.sum(1) % 2 == 0)
        return torch.full_like(x[:, 0], -math.log(self.cells**2 / 2)).masked_fill(~dark, -math.inf)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n points, (n, 2) float64: a dark cell, then a place in it."""
        require_count("n", n)
        require_generator(generator)
        k = torch.randint(self.cells**2 // 2, (n,), generator=generator, device="cpu")  # dark cells, counted row by row
        row = 2 * k // self.cells
        column = 2 * k % self.cells + row % 2
        place = torch.rand(n, 2, generator=generator, dtype=torch.float64, device="cpu")
        return torch.stack([column, row], 1) + place - self.cells / 2


def checkerboard() -> Checkerboard:
    """The board of 4 x 4 unit squares; eight of them are dark and carry the mass."""
    return Checkerboard()
