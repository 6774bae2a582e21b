"""Distances between samples, against scipy, sorting by hand, and distributions whose distance is known."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from diffusion_lib.metrics import frechet, mmd, sliced_wasserstein, wasserstein


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (50, 50), (40, 60), (97, 31), (1000, 999)])
def test_wasserstein_equals_scipy(n, m):
    x, y = draw(n), 0.3 + 1.7 * draw(m, seed=1)
    expected = wasserstein_distance(x.numpy(), y.numpy())
    assert float(wasserstein(x, y)) == pytest.approx(expected, rel=1e-12)
    assert float(wasserstein(x[:, None], y[:, None])) == pytest.approx(expected, rel=1e-12)


def test_wasserstein_equals_scipy_with_ties():
    x, y = draw(60).round(), draw(45, seed=1).round()
    assert float(wasserstein(x, y)) == pytest.approx(wasserstein_distance(x.numpy(), y.numpy()), rel=1e-12)


def test_wasserstein_of_equal_sizes_is_the_best_matching():
    x, y = draw(30), draw(30, seed=1) + 1
    cost = (x[:, None] - y).abs().numpy()
    rows, columns = linear_sum_assignment(cost)
    assert float(wasserstein(x, y)) == pytest.approx(cost[rows, columns].mean(), rel=1e-12)


def test_wasserstein_is_a_distance_in_the_units_of_x():
    x, y, z = draw(40), draw(50, seed=1) + 1, draw(60, seed=2) - 1
    assert float(wasserstein(x, x.flip(0))) == 0
    assert float(wasserstein(x, y)) == pytest.approx(float(wasserstein(y, x)), rel=1e-12)
    assert float(wasserstein(3 * x, 3 * y)) == pytest.approx(3 * float(wasserstein(x, y)), rel=1e-12)
    assert float(wasserstein(x, x + 0.25)) == pytest.approx(0.25, rel=1e-12)
    assert float(wasserstein(x, z)) <= float(wasserstein(x, y) + wasserstein(y, z))


def test_wasserstein_of_two_gaussians_of_one_mean():
    n = 200_000
    exact = 0.5 * math.sqrt(2 / math.pi)  # E|2 z - 1.5 z|
    assert float(wasserstein(1.5 * draw(n), 2 * draw(n, seed=1))) == pytest.approx(exact, abs=0.02)


def test_float32_is_measured_in_float64():
    distance = wasserstein(draw(9, dtype=torch.float32), draw(9, seed=1, dtype=torch.float32))
    assert distance.dtype == torch.float64
    assert distance.shape == ()


def test_sliced_wasserstein_is_the_mean_over_lines_of_scipys_distance():
    x, y = draw(40, 3), draw(30, 3, seed=1) + 1
    u = draw(3, 5, seed=2).numpy()  # the same stream of numbers as the generator below gives
    u = u / np.linalg.norm(u, axis=0)
    expected = np.mean([wasserstein_distance(x.numpy() @ line, y.numpy() @ line) for line in u.T])
    assert float(sliced_wasserstein(x, y, 5, torch.Generator().manual_seed(2))) == pytest.approx(expected, rel=1e-12)


def test_sliced_wasserstein_of_a_shift_in_the_plane_is_two_over_pi_of_its_length():
    x = draw(200, 2)
    shifted = x + torch.tensor([3.0, 4.0], dtype=torch.float64)
    distance = float(sliced_wasserstein(x, shifted, 20_000, torch.Generator().manual_seed(0)))
    assert distance == pytest.approx(5 * 2 / math.pi, abs=0.05)  # the mean of |cos| over a circle


def test_sliced_wasserstein_is_wasserstein_on_a_line_and_below_the_best_matching_elsewhere():
    x, y = draw(30, 1), draw(20, 1, seed=1)
    line = float(sliced_wasserstein(x, y, 4, torch.Generator().manual_seed(0)))
    assert line == pytest.approx(float(wasserstein(x, y)))
    x, y = draw(30, 2), draw(30, 2, seed=1) + 1
    cost = torch.cdist(x, y).numpy()
    rows, columns = linear_sum_assignment(cost)
    assert 0 < float(sliced_wasserstein(x, y, 100, torch.Generator().manual_seed(0))) < cost[rows, columns].mean()


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        ([1.0, 2.0], draw(3), TypeError, "x: expected a torch.Tensor, got list"),
        (draw(3), torch.tensor([1, 2]), TypeError, "y: expected floating point, got torch.int64"),
        (draw(3), torch.tensor([1.0, math.nan]), ValueError, "y: expected finite numbers"),
        (draw(3, 2), draw(3), ValueError, r"x: expected a sample of numbers \(N,\) or \(N, 1\), got shape \(3, 2\)"),
        (draw(3), draw(3, 1, 1), ValueError, "y: expected a sample of numbers"),
        (draw(0), draw(3), ValueError, "x: expected a sample of numbers"),
    ],
)
def test_wasserstein_refuses(x, y, error, words):
    with pytest.raises(error, match=words):
        wasserstein(x, y)


@pytest.mark.parametrize(
    ("x", "y", "directions", "generator", "error", "words"),
    [
        (draw(3), draw(3, 2), 4, torch.Generator(), ValueError, r"x: expected a sample of points \(N, D\)"),
        (draw(3, 2), draw(0, 2), 4, torch.Generator(), ValueError, "y: expected a sample of points"),
        (draw(3, 2), draw(3, 3), 4, torch.Generator(), ValueError, "y: expected 2 dimensions a point like x, got 3"),
        (draw(3, 2), draw(3, 2), 0, torch.Generator(), ValueError, "directions: expected at least 1, got 0"),
        (draw(3, 2), draw(3, 2), 2.0, torch.Generator(), TypeError, "directions: expected an int"),
        (draw(3, 2), draw(3, 2), 4, None, TypeError, "generator: expected a torch.Generator"),
    ],
)
def test_sliced_wasserstein_refuses(x, y, directions, generator, error, words):
    with pytest.raises(error, match=words):
        sliced_wasserstein(x, y, directions, generator)


def test_frechet_equals_scipys_matrix_root():
    x, y = draw(80, 5) @ draw(5, 5, seed=2), draw(60, 5, seed=1) @ draw(5, 5, seed=3) + 0.4
    c_x, c_y = np.cov(x.numpy().T), np.cov(y.numpy().T)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c_x + c_y - 2 * sqrtm(c_x @ c_y).real)
    assert float(frechet(x, y)) == pytest.approx(float(expected), rel=1e-10)


def test_frechet_of_numbers_is_two_differences():
    """On a line: the squared difference of the means plus that of the standard deviations."""
    x, y = draw(50, 1), 2 + 3 * draw(70, 1, seed=1)
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert float(frechet(x, y)) == pytest.approx(float(expected), rel=1e-12)


def test_frechet_is_symmetric_zero_for_a_sample_and_itself_and_blind_to_rotation():
    x, y = draw(40, 3), draw(50, 3, seed=1) * 2
    rotation = torch.linalg.qr(draw(3, 3, seed=2))[0]
    assert abs(float(frechet(x, x.flip(0)))) < 1e-10
    assert float(frechet(x, y)) == pytest.approx(float(frechet(y, x)), rel=1e-10)
    assert float(frechet(x @ rotation, y @ rotation)) == pytest.approx(float(frechet(x, y)), rel=1e-10)


def test_frechet_of_flat_samples_needs_no_full_rank():
    """Fewer points than dimensions: both covariances are singular."""
    assert float(frechet(draw(4, 10), draw(5, 10, seed=1))) > 0
    assert abs(float(frechet(draw(4, 10), draw(4, 10)))) < 1e-6


def test_frechet_refuses_what_has_no_covariance():
    with pytest.raises(ValueError, match="points of x"):
        frechet(draw(1, 3), draw(5, 3))
    with pytest.raises(ValueError, match="y: expected 3 dimensions a point like x, got 2"):
        frechet(draw(5, 3), draw(5, 2))
    with pytest.raises(ValueError, match="x: expected a sample of points"):
        frechet(draw(5), draw(5, 2))


# ---- maximum mean discrepancy


def test_mmd_is_its_sums_written_out():
    x, y, width = draw(7, 3), 0.5 + draw(5, 3, seed=1), 1.3
    k = lambda a, b: math.exp(-sum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True)) / (2 * width**2))  # noqa: E731
    within_x = sum(k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / 42
    within_y = sum(k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 20
    between = sum(k(a, b) for a in x for b in y) / 35
    assert float(mmd(x, y, width)) == pytest.approx(within_x + within_y - 2 * between, rel=1e-12)


def test_mmd_of_two_gaussians_on_average():
    """E k(X, Y) for X - Y ~ N(d, 2) is sqrt(w / (w + 2)) exp(-d^2 / (2 (w + 2))), w = width^2; 200 pairs of samples."""
    w, d = 0.7**2, 0.8
    same, apart = math.sqrt(w / (w + 2)), math.sqrt(w / (w + 2)) * math.exp(-(d**2) / (2 * (w + 2)))
    found = torch.stack([mmd(draw(60, 1, seed=k), d + draw(50, 1, seed=k + 500), 0.7) for k in range(200)])
    error = 4 * float(found.std()) / math.sqrt(200)
    assert error < 0.3 * 2 * (same - apart)
    assert float(found.mean()) == pytest.approx(2 * (same - apart), abs=error)
    none = torch.stack([mmd(draw(60, 1, seed=k), draw(50, 1, seed=k + 500), 0.7) for k in range(200)])
    assert abs(float(none.mean())) < 4 * float(none.std()) / math.sqrt(200) and bool((none < 0).any())


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: mmd(draw(5, 2), draw(5, 3), 1.0), "y: expected 2 dimensions"),
        (lambda: mmd(draw(1, 2), draw(5, 2), 1.0), "points of x: expected at least 2, got 1"),
        (lambda: mmd(draw(5, 2), draw(5, 2), 0.0), "width"),
        (lambda: mmd(draw(5), draw(5, 2), 1.0), "x: expected a sample of points"),
    ],
)
def test_mmd_refuses(mistake, words):
    with pytest.raises(ValueError, match=words):
        mistake()
