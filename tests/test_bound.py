"""The variational bound against quadrature, exact Gaussian algebra, and itself computed without its terms."""

import math

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss
from oracles import (
    draw,
    model_chain,
    names_everything,
    network,
    noising_chain,
    normal,
    rates,
    refusal,
    seeded,
    undecomposed,
)
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from diffusion_lib.bound import (
    bits_per_dim,
    bound_weighting,
    decoder_log_prob,
    decoder_term,
    default_decoder_variance,
    denoising_term,
    prior_term,
    variational_bound,
)
from diffusion_lib.losses import denoising_loss
from diffusion_lib.process import EPS, X0, Prediction, V
from diffusion_lib.schedules import cosine, from_beta, linear

LINEAR = linear()
SHORT = from_beta(torch.linspace(0.05, 0.4, 12, dtype=torch.float64))  # the toy chain
TIMES = torch.tensor([1, 2, 40, 500, 1000])
IMAGES, NOISE = draw(5, 2, 3, seed=1), draw(5, 2, 3, seed=2)
NODES, WEIGHTS = (torch.tensor(values) for values in hermegauss(24))  # E over one standard normal number
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def affine(schedule, slope=0.8, shift=0.1):
    """A denoiser whose x_0 is a straight line in x_t, another one at each time: the model is a Gaussian chain."""

    def denoise(x_t, t):
        k, m = slope + 0.05 * torch.sin(t.to(x_t)), shift * torch.cos(t.to(x_t))
        x0 = k[:, None] * x_t + m[:, None]
        alpha_bar = schedule.alpha_bar[t][:, None]
        return Prediction(x0, (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt())

    return denoise


def eye_of(x0):
    """A denoiser that always answers with the same x_0."""
    return lambda x_t, t: Prediction(x0, x_t)


@pytest.mark.parametrize("schedule", [LINEAR, cosine(), SHORT], ids=["linear", "cosine", "short"])
def test_the_bound_weighting_is_the_denoising_term(schedule):
    """Per dimension, and whatever the network is asked for."""
    times = torch.tensor([2, 3, schedule.T // 3, schedule.T // 2, schedule.T])

    def denoise(x_t, t):
        return V.solve(schedule, x_t, network(x_t, t), t)

    loss = denoising_loss(schedule, network, IMAGES, times, NOISE, V, bound_weighting)
    assert torch.allclose(6 * loss, denoising_term(schedule, denoise, IMAGES, times, NOISE), rtol=1e-7, atol=0)


def test_the_bound_weighting_at_one_is_a_gaussian_decoder():
    """L_0 less its constant, which is L_0 where the guess is right."""
    guess = eye_of(IMAGES + 0.01 * NOISE)
    rise = decoder_term(LINEAR, guess, IMAGES, NOISE) - decoder_term(LINEAR, eye_of(IMAGES), IMAGES, NOISE)
    loss = denoising_loss(LINEAR, lambda x, t: IMAGES + 0.01 * NOISE, IMAGES, 1, NOISE, X0, bound_weighting)
    assert torch.allclose(6 * loss, rise, rtol=1e-9, atol=0)
    assert bound_weighting(LINEAR, 1).shape == ()


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: bound_weighting(LINEAR, 0), "t", "0"),
        (lambda: bound_weighting(LINEAR, 1001), "t", "1001"),
        (lambda: bound_weighting(from_beta([0.1]), 1), "variance", "None"),
    ],
)
def test_weightings_refuse(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


# ---- the terms of the bound


@pytest.mark.parametrize("schedule", [LINEAR, SHORT], ids=["linear", "short"])
def test_prior_term_is_the_kl_to_the_standard_normal(schedule):
    a, b = rates(schedule, torch.tensor([schedule.T]))
    kl = kl_divergence(Normal(a * IMAGES, b * torch.ones_like(IMAGES)), Normal(0 * IMAGES, 1.0))
    assert torch.allclose(prior_term(schedule, IMAGES), kl.sum((1, 2)), rtol=1e-9, atol=1e-14)


def test_prior_term_by_quadrature():
    grid, alpha_bar = np.linspace(-12, 12, 24001), float(SHORT.alpha_bar[-1])
    q = normal(grid, math.sqrt(alpha_bar) * 0.7, 1 - alpha_bar)
    expected = np.trapezoid(q * (np.log(q + 1e-300) - np.log(normal(grid, 0, 1))), grid)
    assert float(prior_term(SHORT, torch.tensor([0.7], dtype=torch.float64))) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("t", [2, 7, 12])
def test_denoising_term_by_quadrature(t, variance):
    """Both densities from Bayes' rule on a grid: one with the true x_0, one with the guess; beta widens the second."""
    grid, alpha_bar = np.linspace(-8, 8, 64001), SHORT.alpha_bar.tolist()
    x0, guess, eps = 0.6, -0.3, 0.4
    x_t, kept = math.sqrt(alpha_bar[t]) * x0 + math.sqrt(1 - alpha_bar[t]) * eps, alpha_bar[t] / alpha_bar[t - 1]

    def posterior(start):
        density = normal(grid, math.sqrt(alpha_bar[t - 1]) * start, 1 - alpha_bar[t - 1])
        density = density * normal(x_t, math.sqrt(kept) * grid, 1 - kept)
        return density / np.trapezoid(density, grid)

    p, model = posterior(x0), posterior(guess)
    if variance == "beta":
        model = normal(grid, np.trapezoid(grid * model, grid), 1 - kept)
    expected = np.trapezoid(p * (np.log(p + 1e-300) - np.log(model + 1e-300)), grid)
    one = torch.ones(1, 1, dtype=torch.float64)
    term = denoising_term(SHORT, eye_of(guess * one), x0 * one, t, eps * one, variance)
    assert float(term) == pytest.approx(expected, rel=1e-7)


def test_terms_add_up_over_the_numbers_of_an_image_and_look_at_xt():
    """A image of six numbers costs what six images of one number cost."""
    denoise = lambda x_t, t: EPS.solve(LINEAR, x_t, torch.sin(x_t), t)  # noqa: E731, entry by entry
    single, noise = IMAGES.reshape(30, 1), NOISE.reshape(30, 1)
    for term in (
        lambda x0, eps: denoising_term(LINEAR, denoise, x0, 300, eps, "beta"),
        lambda x0, eps: decoder_term(LINEAR, denoise, x0, eps, variance=0.3),
        lambda x0, eps: prior_term(LINEAR, x0),
    ):
        assert torch.allclose(term(IMAGES, NOISE), term(single, noise).reshape(5, 6).sum(1), rtol=1e-12, atol=0)


def test_a_time_for_each_image():
    denoise = lambda x_t, t: EPS.solve(LINEAR, x_t, network(x_t, t), t)  # noqa: E731
    times = TIMES.clamp(min=2)
    together = denoising_term(LINEAR, denoise, IMAGES, times, NOISE, "beta")
    for k, t in enumerate(times.tolist()):
        alone = denoising_term(LINEAR, denoise, IMAGES[k : k + 1], t, NOISE[k : k + 1], "beta")
        assert float(together[k]) == pytest.approx(float(alone), rel=1e-12)


# ---- the decoder


def test_decoder_density_by_torch():
    expected = Normal(NOISE, 0.3).log_prob(IMAGES)
    assert torch.allclose(decoder_log_prob(IMAGES, NOISE, 0.09), expected, rtol=1e-12, atol=1e-13)


def test_many_levels_become_the_density():
    x0, mean = torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[0.47]], dtype=torch.float64)
    width = 2 / 40_000
    density = decoder_log_prob(x0, mean, 0.01) + math.log(width)
    assert float(decoder_log_prob(x0, mean, 0.01, 40_001)) == pytest.approx(float(density), abs=1e-6)


def test_decoder_accepts_float32_images():
    values = torch.arange(256).float() / 127.5 - 1  # as MNIST is scaled
    log_p = decoder_log_prob(values[:, None], 0 * values[:, None], 0.5, 256)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_decoder_term_reads_x1_through_the_denoiser():
    """x_1 by hand, the guess by hand, the mass by the normal's distribution function."""
    x0 = torch.tensor([[-0.5, 0.25], [1.0, -1.0]], dtype=torch.float64)
    eps = draw(2, 2, seed=5)
    denoise = lambda x_t, t: Prediction(0.9 * x_t + 0.01 * t[:, None], x_t)  # noqa: E731
    guess = 0.9 * (LINEAR.alpha_bar[1].sqrt() * x0 + LINEAR.beta[1].sqrt() * eps) + 0.01
    bell = Normal(guess, 0.2)
    low = torch.where(x0 == -1, 0.0, bell.cdf(x0 - 1 / 16))
    high = torch.where(x0 == 1, 1.0, bell.cdf(x0 + 1 / 16))
    expected = -(high - low).log().sum(1)
    assert torch.allclose(decoder_term(LINEAR, denoise, x0, eps, 17, 0.04), expected, rtol=1e-10, atol=0)


def test_default_decoder_variance_is_that_of_the_second_step():
    first, second = float(LINEAR.beta[1]), float(LINEAR.beta[2])
    kept = (1 - first) * (1 - second)
    assert default_decoder_variance(LINEAR) == pytest.approx(second * first / (1 - kept), rel=1e-9)
    x0 = torch.tensor([[0.5]], dtype=torch.float64)
    default = decoder_term(LINEAR, eye_of(x0 + 0.01), x0, 0 * x0)
    assert torch.equal(
        default, decoder_term(LINEAR, eye_of(x0 + 0.01), x0, 0 * x0, variance=default_decoder_variance(LINEAR))
    )


# ---- the whole bound


def expected_terms(schedule, denoise, x0, variance, decoder_variance):
    """L_0, ..., L_T of the library, their mean over eps by quadrature with 24 nodes (exact for these)."""
    points, eps = torch.full((24, 1), x0, dtype=torch.float64), NODES[:, None]
    terms = [decoder_term(schedule, denoise, points, eps, variance=decoder_variance)]
    terms += [denoising_term(schedule, denoise, points, t, eps, variance) for t in range(2, schedule.T + 1)]
    return WEIGHTS @ torch.stack([*terms, prior_term(schedule, points)], 1)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("x0", [-1.3, 0.2, 2.0])
@pytest.mark.parametrize("schedule", [SHORT, linear(60, 1e-3, 0.2)], ids=["short", "linear 60"])
def test_the_terms_sum_to_the_bound_computed_without_them(schedule, x0, variance):
    denoise = affine(schedule)
    width = default_decoder_variance(schedule)
    total = float(expected_terms(schedule, denoise, x0, variance, width).sum())
    whole, surprise = undecomposed(schedule, denoise, x0, variance, width)
    assert total == pytest.approx(whole, rel=1e-8, abs=1e-8)
    assert total > surprise + 1e-3  # the bound lies above -log p(x_0), and not on it


def test_the_gap_is_the_kl_between_the_ways_through_the_chain():
    denoise, x0, width = affine(SHORT), 0.7, 0.05
    offset, covariance = (torch.tensor(value) for value in model_chain(SHORT, denoise, "beta", width))
    gain = covariance[1:, 0] / covariance[0, 0]
    given = MultivariateNormal(
        offset[1:] + gain * (x0 - offset[0]), covariance[1:, 1:] - torch.outer(gain, covariance[0, 1:])
    )
    forward = MultivariateNormal(*(torch.tensor(value) for value in noising_chain(SHORT, x0)))
    surprise = undecomposed(SHORT, denoise, x0, "beta", width)[1]
    total = float(expected_terms(SHORT, denoise, x0, "beta", width).sum())
    assert total - surprise == pytest.approx(float(kl_divergence(forward, given)), rel=1e-8)


def test_the_exact_reverse_chain_has_no_gap():
    """Data N(0, 1): x_0 given x_t has the mean sqrt(alpha_bar) x_t, and one step back the variance beta."""
    denoise = lambda x_t, t: Prediction(SHORT.alpha_bar[t].sqrt()[:, None] * x_t, x_t)  # noqa: E731
    for x0 in (-2.0, 0.0, 0.9):
        total = expected_terms(SHORT, denoise, x0, "beta", float(SHORT.beta[1])).sum()
        assert float(total) == pytest.approx(
            -float(Normal(0.0, 1.0).log_prob(torch.tensor(x0, dtype=torch.float64))), abs=1e-10
        )


def test_variational_bound_is_its_terms_with_fresh_noise_at_each_time():
    denoise = affine(SHORT)
    x0 = draw(3, 1, seed=4)
    terms = variational_bound(SHORT, denoise, x0, seeded(6), variance="beta", decoder_variance=0.1)
    assert terms.shape == (3, 13)
    noise = seeded(6)
    eps = [torch.randn(3, 1, generator=noise, dtype=torch.float64) for _ in range(12)]
    assert torch.equal(terms[:, 0], decoder_term(SHORT, denoise, x0, eps[0], variance=0.1))
    for t in range(2, 13):
        assert torch.equal(terms[:, t - 1], denoising_term(SHORT, denoise, x0, t, eps[t - 1], "beta"))
    assert torch.equal(terms[:, 12], prior_term(SHORT, x0))


def test_variational_bound_is_unbiased():
    denoise, x0 = affine(SHORT), torch.full((20_000, 1), 0.6, dtype=torch.float64)
    total = variational_bound(SHORT, denoise, x0, seeded(8)).sum(1)
    expected = undecomposed(SHORT, denoise, 0.6, "posterior", default_decoder_variance(SHORT))[0]
    assert abs(float(total.mean()) - expected) < 4 * float(total.std()) / len(x0) ** 0.5


def test_variational_bound_of_images_with_levels():
    images = (torch.randint(0, 17, (2, 1, 4, 4), generator=seeded(1)) / 8 - 1).float()
    denoise = lambda x_t, t: EPS.solve(SHORT, x_t, torch.tanh(x_t), t)  # noqa: E731
    terms = variational_bound(SHORT, denoise, images, seeded(2), levels=17)
    assert (terms.dtype, terms.shape) == (torch.float64, (2, 13))
    assert bool((terms >= 0).all())  # KL divergences, and -log of a probability
    again = variational_bound(SHORT, denoise, images, seeded(2), levels=17)
    assert torch.equal(terms, again)
    assert not torch.equal(terms, variational_bound(SHORT, denoise, images, seeded(3), levels=17))


def test_variational_bound_records_no_gradients_but_its_terms_do():
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    denoise = lambda x_t, t: Prediction(scale * x_t, x_t)  # noqa: E731
    assert not variational_bound(SHORT, denoise, draw(2, 1), seeded()).requires_grad
    assert denoising_term(SHORT, denoise, draw(2, 1), 3, draw(2, 1, seed=1)).requires_grad


def test_one_step_chain_with_a_decoder_variance_of_its_own():
    one = from_beta([0.3])
    terms = variational_bound(one, affine(one), draw(4, 1), seeded(), decoder_variance=0.2)
    assert terms.shape == (4, 2)


def test_bits_per_dim():
    uniform = torch.tensor([64 * math.log(17)])  # nats of 64 numbers, each one of 17 levels
    assert float(bits_per_dim(uniform, 64)) == pytest.approx(math.log2(17), rel=1e-6)
    assert names_everything(refusal(lambda: bits_per_dim(uniform, 0)), "D", "0")


LEVEL = torch.zeros(2, 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: denoising_term(SHORT, affine(SHORT), LEVEL, 1, LEVEL), "t", "1"),
        (lambda: denoising_term(SHORT, affine(SHORT), LEVEL, 13, LEVEL), "t", "13"),
        (lambda: denoising_term(SHORT, affine(SHORT), LEVEL, 3, LEVEL, "learned"), "variance", "learned"),
        (lambda: denoising_term(SHORT, affine(SHORT), LEVEL, 3, LEVEL[:1]), "eps", "(1, 1)"),
        (lambda: denoising_term(SHORT, eye_of(LEVEL[0]), LEVEL, 3, LEVEL), "x0 of the denoiser", "(1,)"),
        (lambda: denoising_term(SHORT, affine(SHORT), LEVEL / 0, 3, LEVEL), "x0", "NaN"),
        (lambda: prior_term(SHORT, LEVEL.long()), "x0", "int64"),
        (lambda: decoder_log_prob(LEVEL + 0.05, LEVEL, 0.1, 17), "x", "0.05"),
        (lambda: decoder_log_prob(LEVEL + 1.125, LEVEL, 0.1, 17), "x", "1.125"),
        (lambda: decoder_log_prob(LEVEL - 1.125, LEVEL, 0.1, 17), "x", "-1.125"),
        (lambda: decoder_log_prob(LEVEL, LEVEL, 0.1, 1), "levels", "1"),
        (lambda: decoder_log_prob(LEVEL, LEVEL, 0.0, 17), "variance", "0"),
        (lambda: decoder_log_prob(LEVEL, LEVEL[:1], 0.1), "mean", "(1, 1)"),
        (lambda: decoder_term(from_beta([0.3]), affine(SHORT), LEVEL, LEVEL), "variance", "None"),
        (lambda: variational_bound(SHORT, affine(SHORT), LEVEL, 3), "generator", "int"),
    ],
)
def test_terms_refuse(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)
