"""Toy densities against quadrature and their own samples."""

import numpy as np
import pytest
import torch
from oracles import seeded
from scipy import stats

from diffusion_lib import toys

PLANE = {f.__name__: f for f in (toys.two_moons, toys.rings, toys.eight_gaussians, toys.checkerboard)}


# ---- toys ----


def cell_masses(density, cells: int, half: float, fine: int) -> torch.Tensor:
    """The mass of each cell of a grid over [-half, half]^2, by the midpoint rule with `fine`^2 points a cell."""
    n = cells * fine
    axis = (torch.arange(n, dtype=torch.float64) + 0.5) * (2 * half / n) - half
    points = torch.cartesian_prod(axis, axis)
    p = torch.cat([density.log_prob(part) for part in points.split(20_000)]).exp() * (2 * half / n) ** 2
    return p.reshape(cells, fine, cells, fine).sum((1, 3))


@pytest.mark.parametrize("name", PLANE)
def test_a_toy_integrates_to_one_and_its_samples_follow_it(name):
    density, half, cells = PLANE[name](), 3.0, 12
    mass = cell_masses(density, cells, half, fine=16).flatten()
    assert mass.sum() == pytest.approx(1, abs=1e-9)
    x = density.sample(20_000, seeded())
    assert x.shape == (20_000, 2)
    assert x.dtype == torch.float64
    index = ((x + half) / (2 * half / cells)).floor().long()
    found = torch.bincount((index[:, 0] * cells + index[:, 1]).clamp(0, cells**2 - 1), minlength=cells**2)
    assert found[mass < 1e-15].sum() == 0
    keep = mass * 20_000 > 5  # chi-square needs a few in each cell; the rest is one cell more
    expected = torch.cat([mass[keep], mass[~keep].sum(0, keepdim=True)]) * 20_000
    counted = torch.cat([found[keep], found[~keep].sum(0, keepdim=True)])
    if expected[-1] < 1e-9:
        expected, counted = expected[:-1], counted[:-1]
    assert (
        stats.chisquare(counted.numpy(), expected.numpy() * counted.sum().item() / expected.sum().item()).pvalue > 1e-3
    )


def test_the_line_integrates_to_one_and_its_samples_follow_it():
    density = toys.bimodal()
    axis = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    p = density.log_prob(axis[:, None]).exp()
    assert torch.trapezoid(p, axis) == pytest.approx(1, abs=1e-12)
    cumulative = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(p, axis)])
    x = density.sample(5_000, seeded())[:, 0]
    assert stats.kstest(x.numpy(), lambda v: np.interp(v, axis, cumulative)).pvalue > 1e-3


@pytest.mark.parametrize("name", PLANE)
def test_a_seed_is_a_sample(name):
    density = PLANE[name]()
    assert density.sample(7, seeded(3)).equal(density.sample(7, seeded(3)))
    assert not density.sample(7, seeded(3)).equal(density.sample(7, seeded(4)))


def test_the_toys_have_the_shapes_that_they_promise():
    assert toys.rings().weights.tolist() == pytest.approx([1 / 32] * 16 + [1 / 80] * 40)
    radius = toys.rings().means.norm(dim=1)
    assert radius.tolist() == pytest.approx([0.6] * 16 + [1.5] * 40)
    assert toys.eight_gaussians().means.var(0, correction=0).tolist() == pytest.approx([1, 1])
    moons = toys.two_moons().means
    assert moons.mean(0).tolist() == pytest.approx([0, 0], abs=1e-15)
    centre = torch.tensor([-0.5, -0.25], dtype=torch.float64)
    assert (moons[:16] - centre).norm(dim=1).tolist() == pytest.approx([1] * 16)
    assert (moons[16:] + centre).norm(dim=1).tolist() == pytest.approx([1] * 16)


def test_the_checkerboard_has_dark_and_light_cells():
    x = torch.tensor([[-1.5, -1.5], [-0.5, -1.5], [0.5, 0.5], [2.5, 0.5], [-2.5, -1.5]], dtype=torch.float64)
    assert toys.checkerboard().log_prob(x).exp().tolist() == pytest.approx([1 / 8, 0, 1 / 8, 0, 0])
    drawn = toys.checkerboard().sample(1000, seeded())
    assert toys.checkerboard().log_prob(drawn).isfinite().all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: toys.Checkerboard(3), ValueError, "cells: expected an even number, got 3"),
        (lambda: toys.Checkerboard(2.0), TypeError, "cells"),
        (
            lambda: toys.checkerboard().log_prob(torch.zeros(3)),
            ValueError,
            r"x: expected shape \(N, 2\), got \(3,\)",
        ),
        (lambda: toys.checkerboard().sample(0, seeded()), ValueError, "n: expected at least 1, got 0"),
        (lambda: toys.checkerboard().sample(1, None), TypeError, "generator"),
        (lambda: toys.two_moons(std=0.0), ValueError, "std"),
    ],
)
def test_bad_input_to_toys_and_digits(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_line_has_its_two_means():
    assert toys.bimodal(0.3).means.tolist() == [[-1.0], [1.0]]
    assert toys.bimodal(0.3).covariances.flatten().tolist() == pytest.approx([0.09, 0.09])


@pytest.mark.parametrize(
    ("toy", "count", "std"), [(toys.two_moons, 32, 0.1), (toys.rings, 56, 0.1), (toys.eight_gaussians, 8, 0.15)]
)
def test_a_toy_has_its_number_of_gaussians_and_its_width(toy, count, std):
    mixture = toy()
    assert mixture.means.shape == (count, 2)
    assert torch.allclose(mixture.covariances, std**2 * torch.eye(2, dtype=torch.float64))
