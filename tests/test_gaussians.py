"""Gaussians against scipy, quadrature and torch.distributions."""

import math

import mpmath
import numpy as np
import pytest
import torch
from oracles import GRID, draw, names_everything, normal, refusal
from scipy import stats

from diffusion_lib.gaussians import condition, discretized_normal_log_prob, kl_normal, normal_log_prob, reparameterize


# One Gaussian
def test_log_normal_is_scipys():
    x, mean, variance = draw(50), draw(50, seed=1), draw(50, seed=2) ** 2 + 0.1
    expected = stats.norm.logpdf(x.numpy(), mean.numpy(), variance.sqrt().numpy())
    np.testing.assert_allclose(normal_log_prob(x, mean, variance).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(normal_log_prob(x, 1.0, 2.5).numpy(), stats.norm.logpdf(x.numpy(), 1.0, math.sqrt(2.5)))


def test_log_normal_integrates_to_one():
    density = normal_log_prob(torch.tensor(GRID), 0.7, 1.3).exp().numpy()
    assert np.trapezoid(density, GRID) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "q"),
    [((0.3, 0.5), (-1.0, 2.0)), ((0.0, 1.0), (0.0, 1.0)), ((2.0, 0.1), (0.0, 1.0)), ((0.0, 3.0), (0.5, 0.8))],
)
def test_kl_is_its_integral(p, q):
    grid = np.linspace(-30, 30, 60001)
    left, right = normal(grid, *p), normal(grid, *q)
    keep = left > 1e-250
    integrand = np.where(keep, left * (np.log(np.where(keep, left, 1)) - np.log(np.where(right > 0, right, 1))), 0)
    one = [torch.tensor(number, dtype=torch.float64) for number in (*p, *q)]
    assert float(kl_normal(*one)) == pytest.approx(np.trapezoid(integrand, grid), abs=1e-9)
    assert float(kl_normal(*one)) >= 0


def test_kl_is_torchs_entry_by_entry():
    mean_p, mean_q = draw(4, 3), draw(4, 3, seed=1)
    variance_p, variance_q = draw(4, 3, seed=2) ** 2 + 0.1, draw(4, 3, seed=3) ** 2 + 0.1
    normals = [torch.distributions.Normal(m, v.sqrt()) for m, v in ((mean_p, variance_p), (mean_q, variance_q))]
    torch.testing.assert_close(
        kl_normal(mean_p, variance_p, mean_q, variance_q),
        torch.distributions.kl_divergence(*normals),
        rtol=1e-11,
        atol=0,
    )


def test_reparameterize_moves_scales_and_passes_gradients():
    mean, std = torch.tensor(2.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    x = reparameterize(mean, std, torch.tensor(-3.0))
    x.backward()
    assert (x.item(), mean.grad.item(), std.grad.item()) == (0.5, 1.0, -3.0)
    many = reparameterize(torch.tensor(2.0), torch.tensor(0.5), draw(40_000))
    assert abs(float(many.mean()) - 2) < 4 * 0.5 / 200 and abs(float(many.std()) - 0.5) < 4 * 0.5 / math.sqrt(80_000)


MEAN, ROOT = draw(4, seed=5), draw(4, 4, seed=6)
COVARIANCE = ROOT @ ROOT.T + 0.5 * torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize("known", [[1], [3, 0], [0, 1, 2]])
def test_conditioning_is_the_joint_density_over_the_marginal(known):
    """log p(a | b) = log p(a, b) - log p(b), by torch's own densities, at 20 points."""
    rest = [k for k in range(4) if k not in known]
    x = 2 * draw(20, 4, seed=7)
    mean, covariance = condition(MEAN, COVARIANCE, known, x[:, known])
    joint = torch.distributions.MultivariateNormal(MEAN, COVARIANCE).log_prob(x)
    below = torch.distributions.MultivariateNormal(MEAN[known], COVARIANCE[known][:, known]).log_prob(x[:, known])
    ours = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x[:, rest])
    torch.testing.assert_close(ours, joint - below, rtol=1e-10, atol=1e-10)


def test_the_pair_of_correlation_0_8_is_a_line_of_that_slope():
    pair = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    mean, covariance = condition(torch.zeros(2, dtype=torch.float64), pair, [0], torch.tensor([2.0]).double())
    assert mean.tolist() == pytest.approx([1.6]) and covariance.tolist() == [[pytest.approx(0.36)]]


@pytest.mark.parametrize(
    ("make", "name", "came"),
    [
        (lambda: normal_log_prob(draw(3), 0.0, 0.0), "variance", "0.0"),
        (lambda: normal_log_prob(draw(3), 0.0, -1.0), "variance", "-1.0"),
        (lambda: normal_log_prob(draw(3), 0.0, math.nan), "variance", "nan"),
        (lambda: normal_log_prob(torch.tensor([1]), 0.0, 1.5), "x", "torch.int64"),
        (lambda: kl_normal(0.0, 1.0, 0.0, 1.0), "mean_p", "float"),
        (lambda: kl_normal(torch.tensor([1]), 1.0, 0.0, 1.0), "mean_p", "torch.int64"),
        (lambda: kl_normal(draw(3), torch.zeros(3), 0.0, 1.0), "variance_p", "0.0"),
        (lambda: kl_normal(draw(3), torch.ones(3), 0.0, -2.0), "variance_q", "-2.0"),
        (lambda: condition(MEAN, ROOT, [0], draw(1)), "covariance", "symmetric"),
        (lambda: condition(MEAN[:3], COVARIANCE, [0], draw(1)), "covariance", "(3, 3)"),
        (lambda: condition(MEAN, 0 * COVARIANCE, [0], draw(1)), "covariance", "no variance"),
        (lambda: condition(MEAN, COVARIANCE, [4], draw(1)), "known", "4"),
        (lambda: condition(MEAN, COVARIANCE, [0, 0], draw(2)), "known", "[0, 0]"),
        (lambda: condition(MEAN, COVARIANCE, [], draw(0)), "known", "[]"),
        (lambda: condition(MEAN, COVARIANCE, [0, 1, 2, 3], draw(4)), "known", "[0, 1, 2, 3]"),
        (lambda: condition(MEAN, COVARIANCE, [0, 1], draw(3)), "value", "(3,)"),
    ],
)
def test_mistakes_are_refused(make, name, came):
    error = refusal(make)
    assert names_everything(error, name, came), error


# A Gaussian on levels
@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("variance", [1e-6, 5e-5, 0.01, 4.0])
def test_level_probabilities_sum_to_one(levels, variance):
    values = (2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1)[:, None]
    means = torch.tensor([-3.0, -1.0, -0.2, 0.0, 0.43, 0.999, 1.0, 2.5], dtype=torch.float64).expand(levels, 8)
    log_p = discretized_normal_log_prob(values.expand(levels, 8), means, variance, levels)
    assert log_p.dtype == torch.float64
    assert torch.allclose(log_p.exp().sum(0), torch.ones(8, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [17, 256])
def test_the_probability_of_a_tiny_level(levels):
    """Against 60 digits, down to e^-100000 and up to 1, both ends and both tails."""
    cases = [
        (k, mean, var)
        for k in (0, 1, levels // 2, levels - 2, levels - 1)
        for mean in (-1.3, -0.1, 0.0, 0.9)
        for var in (5e-5, 0.02, 1.0)
    ]
    for k, mean, variance in cases:
        with mpmath.workdps(60):
            half, std = mpmath.mpf(1) / (levels - 1), mpmath.sqrt(mpmath.mpf(variance))
            edges = [
                -mpmath.inf if k == 0 else (2 * k - 1) * half - 1,
                mpmath.inf if k == levels - 1 else (2 * k + 1) * half - 1,
            ]
            low, high = ((edge - mpmath.mpf(mean)) / std for edge in edges)
            mass = mpmath.erfc(-high / mpmath.sqrt(2)) - mpmath.erfc(-low / mpmath.sqrt(2))
            if low > 0:  # the same mass from the other side, so that nothing cancels
                mass = mpmath.erfc(low / mpmath.sqrt(2)) - mpmath.erfc(high / mpmath.sqrt(2))
            expected = float(mpmath.log(mass / 2))
        x0 = torch.tensor([[2 * k / (levels - 1) - 1]], dtype=torch.float64)
        found = float(discretized_normal_log_prob(x0, torch.full_like(x0, mean), variance, levels))
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), (k, mean, variance)


def test_a_levels_gradients_are_finite_and_right_at_the_ends_too():
    x0 = torch.tensor([[-1.0, -0.5, 0.0, 1.0]], dtype=torch.float64)
    mean = torch.tensor([[0.9, -0.45, 0.3, 0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: discretized_normal_log_prob(x0, m, 0.05, 17), mean)
    (gradient,) = torch.autograd.grad(discretized_normal_log_prob(x0, mean, 5e-5, 17).sum(), mean)
    assert bool(gradient.isfinite().all())


def test_the_discretized_gaussian_takes_a_learned_variance():
    x = torch.tensor([-1.0, -0.25, 0.5, 1.0], dtype=torch.float64)
    mean, variance = draw(4, seed=3).requires_grad_(), torch.tensor(0.04, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, v: discretized_normal_log_prob(x, m, v, 17), (mean, variance))
    far = discretized_normal_log_prob(x, 40 + 0 * mean, variance, 17)
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(far.sum(), (mean, variance)))
    half = 1 / 16
    phi = [
        [0.5 * (1 + math.erf((edge - 0.1) / math.sqrt(0.08))) for edge in (v - half, v + half)] for v in (-0.25, 0.5)
    ]
    found = discretized_normal_log_prob(x, torch.tensor(0.1, dtype=torch.float64), 0.04, 17).exp()
    assert found[1:3].tolist() == pytest.approx([high - low for low, high in phi], rel=1e-10)
    ends = [0.5 * (1 + math.erf((sign * (1 - half) - 0.1) / math.sqrt(0.08))) for sign in (-1, 1)]
    assert found[[0, 3]].tolist() == pytest.approx([ends[0], 1 - ends[1]], rel=1e-10)


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: discretized_normal_log_prob(torch.tensor([0.1]), torch.zeros(1), 0.1, 17), "x", "0.1"),
        (lambda: discretized_normal_log_prob(torch.tensor([0.0]), torch.zeros(1), torch.zeros(1), 17), "variance", "0"),
        (lambda: discretized_normal_log_prob(torch.tensor([1.125]), torch.zeros(1), 0.1, 17), "x", "1.125"),
        (lambda: discretized_normal_log_prob(torch.tensor([-1.125]), torch.zeros(1), 0.1, 17), "x", "-1.125"),
        (lambda: discretized_normal_log_prob(torch.tensor([0.0]), torch.zeros(1), 0.1, 1), "levels", "1"),
        (lambda: discretized_normal_log_prob(torch.tensor([0, 1]), torch.zeros(1), 0.1, 3), "x", "int64"),
    ],
)
def test_levels_that_make_no_sense_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)
