"""Lesson 04: fits by scipy, divergences by sums and quadrature of scipy's densities, explorers by closed forms."""

import math
import re

import numpy as np
import pytest
import torch
from oracles import names_everything, refusal
from scipy import integrate, optimize, special, stats

from diffusion_lib import data
from diffusion_lib.lessons.likelihood import explorers, figures, fits


def numbers(sentence):
    return [float(found) for found in re.findall(r"[-+]?\d+\.?\d*", sentence)]


@pytest.mark.parametrize(("center", "std"), [(0.0, 0.1), (-1.0, 0.5), (0.2, 1.7), (1.0, 3.2)])
def test_the_bet_is_scipys(center, std):
    heights = stats.norm.pdf(fits.POINTS, center, std)
    total, logs = fits.objectives(center, std)
    assert total == pytest.approx(heights.sum(), rel=1e-10)
    assert logs == pytest.approx(stats.norm.logpdf(fits.POINTS, center, std).sum(), rel=1e-10)


def test_the_ten_points():
    assert len(fits.POINTS) == 10 and sum(fits.POINTS) == pytest.approx(1.65)
    assert sum(x**2 for x in fits.POINTS) == pytest.approx(27.0625)


def test_the_bets_sentence():
    said = numbers(explorers.bet().description(std=0.8, center=0.5))
    heights = stats.norm.pdf(fits.POINTS, 0.5, 0.8)
    assert said[2:] == pytest.approx([heights.sum(), np.log(heights).sum()], abs=0.06)


@pytest.mark.parametrize("std", [0.1, 0.5, 1.5])
def test_the_area_is_a_difference_of_scipys_distribution_function(std):
    said = numbers(explorers.area().description(std=std))
    inside = stats.norm.cdf(0.3, 0, std) - stats.norm.cdf(-0.1, 0, std)
    assert said[-1] == pytest.approx(inside, abs=6e-4) and said[2] == pytest.approx(stats.norm.pdf(0, 0, std), abs=6e-3)


@pytest.mark.parametrize(("x", "rate"), [(0.5, 0.25), (2.0, 1.0), (3.0, 2.0)])
def test_the_formulas_height_and_areas_by_scipy(x, rate):
    sentence = explorers.same_formula().description(x=x, rate=rate)
    said = numbers(sentence)
    assert said[:2] == [x, rate] and said[2] == pytest.approx(stats.expon.pdf(x, scale=1 / rate), abs=6e-4)
    area = integrate.quad(lambda r: stats.expon.pdf(x, scale=1 / r), 1e-9, np.inf)[0]
    best = optimize.minimize_scalar(lambda r: -stats.expon.logpdf(x, scale=1 / r), bounds=(0.01, 9), method="bounded")
    assert said[3:] == pytest.approx([1, area, best.x], abs=6e-3)


@pytest.mark.parametrize(("last", "std"), [(1.0, 1.0), (3.0, 3.0), (10.0, 1.0)])
def test_the_two_maxima_by_scipys_search(last, std):
    points = np.array([0.0, 0.0, 0.0, last])
    said = numbers(explorers.objectives().description(last=last, std=std))
    assert said[:5] == [0, 0, 0, last, std]
    for found, score in zip(said[5:], (stats.norm.logpdf, stats.norm.pdf), strict=True):
        best = optimize.minimize_scalar(
            lambda c, f=score: -f(points, c, std).sum(), bounds=(-0.5, last), options={"xatol": 1e-8}
        )
        assert found == pytest.approx(best.x, abs=0.02)


def test_the_table_moves_as_softmax_regression_does():
    counts = np.bincount(data.to_levels(data.digits().train).reshape(1437, 64)[:, 36], minlength=17)
    np.testing.assert_array_equal(fits.pixel_counts().numpy(), counts)
    logits = torch.zeros(17, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=explorers.STEP)
    levels = torch.repeat_interleave(torch.arange(17), torch.tensor(counts))
    for _ in range(8):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits.expand(1437, 17), levels)
        loss.backward()
        optimizer.step()
    q = special.softmax(logits.detach().numpy())
    said = numbers(explorers.competition().description(step=8))
    cost, entropy = -(counts / 1437 * np.log(q)).sum(), stats.entropy(counts)
    assert said[:5] == pytest.approx([8, 0, q[0], 16, q[16]], abs=6e-4)
    assert said[5:] == pytest.approx([cost, entropy, 1], abs=6e-4)


def test_the_ring_holds_ninety_per_cent():
    mean, covariance = torch.tensor([1.0, -2.0]), torch.tensor([[2.0, 0.5], [0.5, 0.3]])
    ring = fits.ring(mean.double(), covariance.double())
    off = ring - mean.numpy()
    squared = np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance.numpy()), off)
    np.testing.assert_allclose(squared, stats.chi2.ppf(0.9, 2), rtol=1e-5)
    assert ring.shape == (200, 2) and ring[:, 0].max() - 1 == pytest.approx(math.sqrt(2 * squared[0]), rel=1e-3)


def test_both_prices_at_the_switch():
    bridge, alone = fits.prices(torch.tensor([2.8, 3.2]))
    assert float(bridge[0]) == pytest.approx(float(alone[0]), abs=1e-3) and bridge[1] > 1.4 * alone[1]
    assert float(alone[1]) == pytest.approx(fits.reverse_fit(3.2).divergence, abs=1e-9)


def two(x, half):
    return 0.5 * (stats.norm.pdf(x, -half, 1) + stats.norm.pdf(x, half, 1))


@pytest.mark.parametrize("half", [0.5, 2.0, 3.5])
def test_the_forward_fit_is_scipys_search(half):
    def loss(unknown):
        q = lambda x: stats.norm.logpdf(x, unknown[0], math.exp(unknown[1]))  # noqa: E731
        return -integrate.quad(lambda x: two(x, half) * q(x), -16, 16, limit=200)[0]

    found = optimize.minimize(loss, [0.5, 0.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    fit = fits.forward_fit(half)
    assert fit.mean == pytest.approx(found.x[0], abs=1e-3) and fit.std == pytest.approx(math.exp(found.x[1]), rel=1e-3)
    entropy = -integrate.quad(lambda x: two(x, half) * math.log(two(x, half)), -12, 12, limit=200)[0]
    assert fit.divergence == pytest.approx(found.fun - entropy, abs=1e-6)


@pytest.mark.parametrize("half", [1.0, 2.6, 3.0])
def test_no_other_gaussian_is_nearer_by_the_reverse_divergence(half):
    fit = fits.reverse_fit(half)

    def divergence(mean, std):
        q = stats.norm(mean, std)
        part = lambda x: q.pdf(x) * (q.logpdf(x) - math.log(two(x, half)))  # noqa: E731
        return integrate.quad(part, mean - 9 * std, mean + 9 * std, limit=200)[0]

    assert fit.divergence == pytest.approx(divergence(fit.mean, fit.std), abs=1e-6)
    others = [divergence(m, s) for m in (0.0, half / 2, half, half + 0.3) for s in (0.8, 1.0, 1.5, 2.2, 2.7)]
    assert min(others) >= fit.divergence - 1e-9


def test_the_switch_lies_at_two_point_eight():
    assert abs(fits.reverse_fit(2.79).mean) < 0.01 and fits.reverse_fit(2.85).mean > 2.5
    assert fits.reverse_fit(4.0).divergence < math.log(2)


@pytest.mark.parametrize("half", [1.0, 2.4, 3.5])
def test_the_two_peaks_sentence(half):
    sentence = explorers.two_peaks().description(half=half)
    said = numbers(sentence)
    expected = [fit.divergence / math.log(2) for fit in (fits.forward_fit(half), fits.reverse_fit(half))]
    assert said[2::2] == pytest.approx(expected, abs=6e-3)
    assert said[3] == pytest.approx(math.sqrt(1 + half**2), abs=6e-3)
    assert ("on one peak" in sentence) == (half > 2.8)


def test_tables_and_grids_by_scipy():
    p, q = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.2, 0.4, 0.3, 0.1])
    assert float(fits.discrete_kl(torch.tensor(p), torch.tensor(q))) == pytest.approx(stats.entropy(p, q), rel=1e-12)
    assert float(fits.discrete_kl(torch.tensor(q), torch.tensor(p))) == math.inf
    assert float(fits.discrete_kl(torch.tensor(p), torch.tensor(p))) == 0
    np.testing.assert_allclose(
        figures.bell(np.linspace(-2, 2, 9), 0.3, 0.7), stats.norm.pdf(np.linspace(-2, 2, 9), 0.3, 0.7)
    )


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: fits.discrete_kl([0.5, 0.6], [0.5, 0.5]), "p", "1.1"),
        (lambda: fits.discrete_kl([0.5, 0.5], [1.5, -0.5]), "q", "1"),
        (lambda: fits.discrete_kl([0.5, 0.5], [0.2, 0.3, 0.5]), "q", "(3,)"),
        (lambda: fits.discrete_kl([0.5, math.nan], [0.5, 0.5]), "p", "nan"),
        (lambda: fits.discrete_kl([], []), "p", "0"),
        (lambda: fits.objectives(0.0, 0.0), "std", "0"),
        (lambda: fits.two_maxima(torch.zeros(2), torch.zeros(3), -1.0), "std", "-1"),
        (lambda: fits.descent(torch.ones(3), -1, 1.0), "steps", "-1"),
        (lambda: fits.kl(torch.zeros(3), fits.GRID), "log_p", "(3,)"),
    ],
)
def test_mistakes_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


def test_a_ring_is_closed():
    ring = fits.ring(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))
    np.testing.assert_allclose(np.asarray(ring)[0], np.asarray(ring)[-1], atol=1e-9)
