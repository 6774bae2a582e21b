"""Mixtures, finite data sets and EM against scipy, quadrature, autograd, simulation and scikit-learn."""

import math
import warnings

import numpy as np
import pytest
import torch
from oracles import LargestTensor, brute_points, draw, names_everything, refusal, seeded
from scipy import stats
from sklearn.mixture import GaussianMixture

from diffusion_lib import densities
from diffusion_lib.densities import Mixture, Points, fit_mixture, responsibilities

WEIGHTS, MEANS = np.array([0.5, 0.3, 0.2]), np.array([[1.0, 0.0], [-1.0, 0.5], [0.2, -1.0]])
COVARIANCES = np.array(
    [[[0.1, 0.03], [0.03, 0.05]], [[0.05, 0.0], [0.0, 0.2]], [[0.02, -0.01], [-0.01, 0.04]]],
)
PLANE = Mixture(torch.tensor(WEIGHTS), torch.tensor(MEANS), torch.tensor(COVARIANCES))


def plane_density(x):
    """The mixture's density by scipy, component by component."""
    return sum(w * stats.multivariate_normal(m, c).pdf(x) for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True))


# Mixtures
def test_density_is_scipys():
    x = 2 * draw(40, 2)
    np.testing.assert_allclose(PLANE.log_prob(x).numpy(), np.log(plane_density(x.numpy())), rtol=1e-10)


def tilted(D=3, K=2, seed=5):
    """Weights, means and covariances of components whose axes lie askew (in 2-D an axis matrix can be symmetric)."""
    roots = draw(K, D, D, seed=seed)
    return torch.tensor([0.7, 0.3], dtype=torch.float64), draw(K, D, seed=seed + 1), roots @ roots.mT


def test_tilted_components_in_three_dimensions():
    weights, means, covariances = tilted()
    mixture, x = Mixture(weights, means, covariances), draw(20, 3)
    inverse, logdet = torch.linalg.inv(covariances), torch.logdet(2 * math.pi * covariances)
    offsets = x[:, None] - means  # (N, K, D)
    whitened = torch.einsum("kde,nke->nkd", inverse, offsets)
    log_joint = weights.log() - 0.5 * (logdet + (offsets * whitened).sum(-1))
    torch.testing.assert_close(mixture.log_prob(x), log_joint.logsumexp(-1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(responsibilities(mixture, x), log_joint.softmax(-1), rtol=1e-9, atol=1e-9)
    score = -(log_joint.softmax(-1)[..., None] * whitened).sum(1)
    torch.testing.assert_close(mixture.score(x), score, rtol=1e-8, atol=1e-8)
    # Gaussian conditioning, component by component: E[x_0 | x] = mean + a C (a^2 C + b^2 I)^-1 (x - a mean)
    a, b = 0.6, 0.8
    noisy = a**2 * covariances + b**2 * torch.eye(3, dtype=torch.float64)
    shift = torch.linalg.solve(noisy, (x[:, None] - a * means)[..., None])[..., 0]  # (N, K, D)
    log_noisy = weights.log() - 0.5 * (torch.logdet(noisy) + ((x[:, None] - a * means) * shift).sum(-1))
    x0 = means + a * torch.einsum("kde,nke->nkd", covariances, shift)
    view = mixture.view(x, *(torch.full((20,), rate, dtype=torch.float64) for rate in (a, b)))
    expected = (log_noisy.softmax(-1)[..., None] * x0).sum(1)
    torch.testing.assert_close(view.x0, expected, rtol=1e-9, atol=1e-9)


def test_density_integrates_to_one():
    axis = torch.linspace(-4, 4, 401, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    density = PLANE.log_prob(points).exp().reshape(401, 401).numpy()
    assert np.trapezoid(np.trapezoid(density, axis), axis) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("density", [PLANE, Points(draw(7, 2), width=0.4)], ids=["mixture", "points"])
def test_score_is_the_gradient_of_the_log_prob(density):
    x = (2 * draw(20, 2, seed=1)).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    torch.testing.assert_close(density.score(x), gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 0.5), (0.6, 0.8), (0.01, 1.0), (0.99, 0.1)])
def test_view_and_diffused_density_agree_with_two_dimensional_quadrature(signal, noise):
    """E[x_0 | x] and p(x) of x = signal x_0 + noise eps, by a sum over a fine grid of x_0."""
    axis = np.linspace(-4.5, 4.5, 601)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    prior = plane_density(grid)
    x = np.array([0.3, -0.6])
    joint = prior * np.exp(-((x - signal * grid) ** 2).sum(1) / (2 * noise**2)) / (2 * math.pi * noise**2)
    cell = (axis[1] - axis[0]) ** 2
    x0 = (joint[:, None] * grid).sum(0) / joint.sum()
    point = torch.tensor(x)[None]
    view = PLANE.view(point, *(torch.tensor([rate], dtype=torch.float64) for rate in (signal, noise)))
    np.testing.assert_allclose(view.x0[0].numpy(), x0, rtol=0, atol=1e-9)
    np.testing.assert_allclose(view.score[0].numpy(), (signal * x0 - x) / noise**2, rtol=1e-8, atol=1e-8)
    assert float(view.log_prob) == pytest.approx(math.log(joint.sum() * cell), abs=1e-9)
    diffused = PLANE.diffuse(signal, noise)
    assert float(diffused.log_prob(point)) == pytest.approx(math.log(joint.sum() * cell), abs=1e-9)
    assert torch.allclose(diffused.score(point), view.score, rtol=1e-9, atol=1e-9)


def within_standard_errors(x, mean, covariance):
    """True if sample mean and covariance lie within 4 standard errors (covariance entries: Isserlis, plus a margin)."""
    n, variances = len(x), np.diag(covariance)
    fourth = ((x - x.mean(0)) ** 2).T @ ((x - x.mean(0)) ** 2) / n  # (D, D) mean of the squared products
    close_mean = np.abs(x.mean(0) - mean) < 4 * np.sqrt(variances / n)
    close_covariance = np.abs(np.cov(x.T) - covariance) < 4 * np.sqrt((fourth - covariance**2) / n)
    return bool(close_mean.all() and close_covariance.all())


def test_samples_of_a_mixture_have_its_mean_and_covariance():
    mean = WEIGHTS @ MEANS
    covariance = sum(
        w * (c + np.outer(m - mean, m - mean)) for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)
    )
    x = PLANE.sample(60_000, seeded(1))
    assert x.shape == (60_000, 2) and x.dtype == torch.float64
    assert within_standard_errors(x.numpy(), mean, covariance)


def test_samples_of_a_tilted_gaussian_follow_its_axes():
    """Axes askew in 3-D: a variance used as a standard deviation, or axes taken as rows, would show."""
    covariance = tilted()[2][0]
    mixture = Mixture(torch.ones(1), torch.tensor([[5.0, -3.0, 1.0]]), covariance[None])
    assert within_standard_errors(mixture.sample(20_000, seeded(2)).numpy(), [5.0, -3.0, 1.0], covariance.numpy())


def test_samples_follow_the_weights_and_the_density():
    """The share of draws on each side of x = 0 is the integral of the density there."""
    line = Mixture(
        torch.tensor([0.9, 0.1], dtype=torch.float64), torch.tensor([[-1.0], [1.0]]), torch.tensor([[[0.04]], [[0.25]]])
    )
    x = line.sample(20_000, seeded(3))
    share = 0.9 * stats.norm.sf(5) + 0.1 * stats.norm.cdf(2)
    assert abs(float((x > 0).double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / 20_000)


def test_isotropic_is_round():
    mixture = Mixture.isotropic(torch.tensor(WEIGHTS), torch.tensor(MEANS), 0.3)
    assert torch.allclose(mixture.covariances, 0.09 * torch.eye(2).double().expand(3, 2, 2), rtol=0, atol=1e-15)
    assert mixture.D == 2


def test_responsibilities_are_bayes():
    x = draw(9, 2)
    joint = np.stack(
        [w * stats.multivariate_normal(m, c).pdf(x) for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)], 1
    )
    expected = joint / joint.sum(1, keepdims=True)
    np.testing.assert_allclose(responsibilities(PLANE, x).numpy(), expected, rtol=1e-9, atol=1e-14)


def test_far_away_nothing_overflows():
    x = torch.tensor([[1e4, -1e4], [0.0, 0.0]], dtype=torch.float64)
    assert bool(PLANE.log_prob(x).isfinite().all()) and bool(PLANE.score(x).isfinite().all())
    assert bool(Points(draw(5, 2), width=0.01).score(x).isfinite().all())


# Finite data sets
@pytest.mark.parametrize("width", [0.05, 1.0])
def test_wide_points_are_a_mixture_of_round_gaussians(width):
    data, x = draw(6, 3), draw(10, 3, seed=1)
    mixture = Mixture.isotropic(torch.full((6,), 1 / 6, dtype=torch.float64), data, width)
    points = Points(data, width)
    torch.testing.assert_close(points.log_prob(x), mixture.log_prob(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(points.score(x), mixture.score(x), rtol=1e-9, atol=1e-9)
    rates = torch.full((10,), 0.8, dtype=torch.float64), torch.full((10,), 0.6, dtype=torch.float64)
    for left, right in zip(points.view(x, *rates), mixture.view(x, *rates), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


def test_points_are_the_sum_over_points():
    data = draw(6, 3)
    x0, eps, log_prob = brute_points(data.numpy(), 0.2, draw(3, seed=1).numpy(), 0.6, 0.8)
    view = Points(data, 0.2).view(draw(1, 3, seed=1), *(torch.tensor([r], dtype=torch.float64) for r in (0.6, 0.8)))
    np.testing.assert_allclose(view.x0[0].numpy(), x0.astype(float), rtol=1e-12)
    np.testing.assert_allclose(view.score[0].numpy(), (-eps / 0.8).astype(float), rtol=1e-12)
    assert float(view.log_prob) == pytest.approx(float(log_prob), rel=1e-12)


def test_samples_of_points():
    data = torch.tensor([[0.0, 0.0], [3.0, 1.0], [-2.0, 4.0]], dtype=torch.float64)
    bare = Points(data).sample(900, seeded(1))
    assert set(map(tuple, bare.tolist())) == set(map(tuple, data.tolist()))
    mean, centred = data.mean(0).numpy(), (data - data.mean(0)).numpy()
    x = Points(data, 0.5).sample(40_000, seeded(2)).numpy()
    assert within_standard_errors(x, mean, centred.T @ centred / 3 + 0.25 * np.eye(2))


def test_images_are_kept_flat_and_shared_memory_is_small():
    points = Points(draw(300, 1, 8, 8), 0.1)
    assert points.D == 64 and points.data.shape == (300, 64)
    with LargestTensor() as largest:
        points.log_prob(draw(64, 64))
    assert largest.bytes <= 64 * 300 * 8


@pytest.mark.parametrize("density", [PLANE, Points(draw(7, 2), width=0.4)], ids=["mixture", "points"])
def test_draws_depend_on_the_generator_only(density):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (density.sample(50, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


# Expectation-maximization
CLOUD = PLANE.sample(600, seeded(9))


def test_em_never_lowers_the_likelihood():
    likelihoods = [
        float(fit_mixture(CLOUD, 3, seeded(4), iterations=n, floor=1e-12).log_prob(CLOUD).mean()) for n in range(1, 25)
    ]
    gains = np.diff(likelihoods)
    assert (gains > -1e-10).all() and gains.sum() > 1e-3


@pytest.mark.parametrize("start", [1, 5])
def test_one_step_of_em_is_scikit_learns(start):
    """From the parameters after `start` iterations, one step of either; both add `floor` to every variance."""
    before, after = (fit_mixture(CLOUD, 3, seeded(4), iterations=n, floor=1e-3) for n in (start, start + 1))
    theirs = GaussianMixture(
        3,
        max_iter=1,
        tol=0.0,
        reg_covar=1e-3,
        weights_init=before.weights.numpy(),
        means_init=before.means.numpy(),
        precisions_init=torch.linalg.inv(before.covariances).numpy(),
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that one step is not convergence
        theirs.fit(CLOUD.numpy())
    np.testing.assert_allclose(after.weights.numpy(), theirs.weights_, rtol=1e-9)
    np.testing.assert_allclose(after.means.numpy(), theirs.means_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(after.covariances.numpy(), theirs.covariances_, rtol=1e-8, atol=1e-9)


def test_em_finds_three_clouds():
    fitted = fit_mixture(CLOUD, 3, seeded(1), iterations=60, floor=1e-6)
    order = [int(((fitted.means - torch.tensor(mean)) ** 2).sum(1).argmin()) for mean in MEANS]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(fitted.weights[order].numpy(), WEIGHTS, atol=0.06)
    np.testing.assert_allclose(fitted.means[order].numpy(), MEANS, atol=0.08)
    np.testing.assert_allclose(fitted.covariances[order].numpy(), COVARIANCES, atol=0.05)
    assert float(fitted.log_prob(CLOUD).mean()) >= float(PLANE.log_prob(CLOUD).mean())  # no other fits them better


def test_one_component_is_mean_and_covariance():
    fitted = fit_mixture(CLOUD, 1, seeded(1), iterations=1, floor=0.01)
    np.testing.assert_allclose(fitted.means[0].numpy(), CLOUD.mean(0).numpy(), rtol=1e-10)
    expected = np.cov(CLOUD.numpy().T, bias=True) + 0.01 * np.eye(2)
    np.testing.assert_allclose(fitted.covariances[0].numpy(), expected, rtol=1e-10)


def test_a_component_for_every_point_keeps_a_volume():
    fitted = fit_mixture(draw(4, 2), 4, seeded(1), iterations=20, floor=0.01)
    assert float(torch.linalg.eigvalsh(fitted.covariances).min()) > 0.009
    assert bool(fitted.log_prob(draw(4, 2)).isfinite().all())


def test_one_seed_is_one_fit_and_the_global_generator_is_untouched():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same = (fit_mixture(CLOUD, 5, seeded(3), iterations=3) for _ in range(2))
    assert torch.equal(one.means, same.means) and torch.equal(torch.get_rng_state(), before)


# Mistakes
W, M, C = torch.ones(2, dtype=torch.float64) / 2, draw(2, 3), torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
UNSYMMETRIC = torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])


@pytest.mark.parametrize(
    ("make", "name", "came"),
    [
        (lambda: Mixture(W * 1.1, M, C), "weights", "[0.55, 0.55]"),
        (lambda: Mixture(torch.tensor([1.5, -0.5]).double(), M, C), "weights", "[1.5, -0.5]"),
        (lambda: Mixture(torch.tensor([1.0, 0.0]).double(), M, C), "weights", "1.0"),
        (lambda: Mixture(W * math.nan, M, C), "weights", "NaN"),
        (lambda: Mixture(W, M / 0, C), "means", "infinity"),
        (lambda: Mixture(W, M.long(), C), "means", "torch.int64"),
        (lambda: Mixture([0.5, 0.5], M, C), "weights", "list"),
        (lambda: Mixture(W, M[:1], C), "weights, means, covariances", "(1, 3)"),
        (lambda: Mixture(W, M, C[:, :2]), "weights, means, covariances", "(2, 2, 3)"),
        (lambda: Mixture(W, M[0], C), "weights, means, covariances", "(3,)"),
        (lambda: Mixture(torch.ones(1), draw(1, 2), -torch.eye(2)[None]), "covariances", "-1.0"),
        (lambda: Mixture(torch.ones(1), draw(1, 2), UNSYMMETRIC), "covariances", "0.5"),
        (lambda: Mixture.isotropic(W, M, 0.0), "std", "0.0"),
        (lambda: Mixture.isotropic(W, M[0], 0.1), "means", "(3,)"),
        (lambda: Mixture.isotropic(W, M, math.nan), "std", "nan"),
        (lambda: Mixture.isotropic(W, M, "1"), "std", "str"),
        (lambda: PLANE.log_prob(draw(4, 3)), "x", "(4, 3)"),
        (lambda: PLANE.log_prob(draw(2)), "x", "(2,)"),
        (lambda: PLANE.score(draw(4, 2) * math.nan), "x", "NaN"),
        (lambda: PLANE.score(torch.ones(4, 2, dtype=torch.int64)), "x", "torch.int64"),
        (lambda: PLANE.sample(0, seeded()), "n", "0"),
        (lambda: PLANE.sample(2.0, seeded()), "n", "2.0"),
        (lambda: PLANE.sample(2, None), "generator", "NoneType"),
        (lambda: Points(draw(4, 2), -0.1), "width", "-0.1"),
        (lambda: Points(draw(4, 2), math.nan), "width", "nan"),
        (lambda: Points(draw(4, 2), "0"), "width", "str"),
        (lambda: Points(draw(4)), "data", "(4,)"),
        (lambda: Points(draw(4, 2) * math.nan), "data", "NaN"),
        (lambda: Points(torch.ones(4, 2, dtype=torch.uint8)), "data", "torch.uint8"),
        (lambda: Points(torch.zeros(0, 2)), "data", "(0, 2)"),
        (lambda: Points(draw(4, 2), 0.1).log_prob(draw(4, 3)), "x", "(4, 3)"),
        (lambda: Points(draw(4, 2), 0.1).sample(2, 7), "generator", "int"),
        (lambda: fit_mixture(CLOUD, 0, seeded()), "K", "0"),
        (lambda: fit_mixture(CLOUD, 601, seeded()), "K", "601"),
        (lambda: fit_mixture(CLOUD, 2.0, seeded()), "K", "2.0"),
        (lambda: fit_mixture(CLOUD, 2, None), "generator", "NoneType"),
        (lambda: fit_mixture(CLOUD, 2, seeded(), iterations=0), "iterations", "0"),
        (lambda: fit_mixture(CLOUD, 2, seeded(), floor=0.0), "floor", "0.0"),
        (lambda: fit_mixture(torch.ones(10, 2), 2, seeded()), "x", "1"),
        (lambda: fit_mixture(torch.eye(2).repeat(10, 1), 3, seeded()), "x", "2"),
        (lambda: fit_mixture(CLOUD[0], 2, seeded()), "x", "(2,)"),
        (lambda: fit_mixture(CLOUD * math.nan, 2, seeded()), "x", "NaN"),
    ],
)
def test_mistakes_are_refused(make, name, came):
    error = refusal(make)
    assert names_everything(error, name, came), error


def test_weights_written_in_float32_are_shared_out():
    """float32 rounds 0.9 and 0.1; what is left of 1 must not stay in the density."""
    mixture = Mixture(torch.tensor([0.5, 0.3, 0.2]), torch.tensor(MEANS), torch.tensor(COVARIANCES))
    assert float(mixture.weights.sum()) == pytest.approx(1.0, abs=1e-15)
    assert mixture.weights.dtype == torch.float64


def test_covariances_computed_in_float32_are_evened_out():
    root = draw(40, 40, dtype=torch.float32)
    covariance = torch.linalg.inv(root @ root.T + 10 * torch.eye(40))
    assert not torch.equal(covariance, covariance.T)  # float32's rounding
    mixture = Mixture(torch.ones(1), torch.zeros(1, 40), covariance[None])
    assert torch.equal(mixture.covariances, mixture.covariances.mT)
    torch.testing.assert_close(mixture.covariances[0], covariance.double(), rtol=1e-4, atol=1e-7)


def test_bare_points_have_no_density():
    """Without noise and without width there is nothing to divide by: said, not returned as NaN."""
    for call in (Points(draw(4, 2)).log_prob, Points(draw(4, 2)).score):
        assert str(refusal(lambda call=call: call(draw(2, 2)))).startswith("width:")


def test_a_covariance_that_is_flat_along_one_axis_has_no_density():
    flat = Mixture(torch.ones(1), torch.zeros(1, 2), torch.diag(torch.tensor([1.0, 0.0]))[None])
    with pytest.raises(ValueError, match=r"covariances: expected some width along every axis, got variance 0"):
        flat.log_prob(draw(3, 2))


def test_one_gaussians_samples_are_its_mean_and_scaled_noise():
    line = Mixture(torch.ones(1), torch.tensor([[2.0]]), torch.tensor([[[0.25]]]))
    generator = seeded(3)
    torch.multinomial(torch.ones(1), 5, replacement=True, generator=generator)  # which component
    expected = 2 + 0.5 * torch.randn(5, 1, generator=generator, dtype=torch.float64)
    assert torch.equal(line.sample(5, seeded(3)), expected)


def test_the_defaults_of_the_fit():
    found, expected = fit_mixture(CLOUD, 9, seeded()), fit_mixture(CLOUD, 9, seeded(), iterations=100, floor=1e-3)
    assert torch.equal(found.covariances, expected.covariances)
    assert not torch.equal(found.covariances, fit_mixture(CLOUD, 9, seeded(), iterations=101).covariances)


def test_the_first_weights_fall_with_the_squared_distance_over_its_mean_to_the_nearest_seed():
    generator = seeded(5)
    x = CLOUD[:40].numpy()
    seeds = [x[int(torch.randint(len(x), (1,), generator=generator))]]
    for _ in range(2):
        nearest = np.min([((x - seed) ** 2).sum(1) for seed in seeds], axis=0)
        seeds.append(x[int(torch.multinomial(torch.tensor(nearest), 1, generator=generator))])
    squared = np.stack([((x - seed) ** 2).sum(1) for seed in seeds], 1)
    weights = np.exp(-squared / squared.min(1).mean())
    expected = weights / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(densities._first_weights(CLOUD[:40], 3, seeded(5)), expected, rtol=1e-9)
