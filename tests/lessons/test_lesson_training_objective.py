"""Lesson 11's explorers: what their sentences and images say, against joint Gaussians, numpy and the data."""

import math
import re

import numpy as np
import pytest
import torch
from oracles import numbers, undecomposed

from diffusion_lib.bound import bound_weighting, decoder_term, default_decoder_variance, denoising_term
from diffusion_lib.data import digits
from diffusion_lib.lessons.training_objective import explorers
from diffusion_lib.losses import denoising_loss
from diffusion_lib.process import EPS, Prediction
from diffusion_lib.schedules import from_beta

STEPS = np.arange(1, 1001)
ANGLES = (STEPS / 1000 + 0.008) / 1.008 * math.pi / 2
BETAS = {  # written out, from the papers
    "linear": np.linspace(1e-4, 0.02, 1000),
    "scaled linear": np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2,
    "cosine": np.minimum(1 - (np.cos(ANGLES) / np.cos(ANGLES - math.pi / 2 / 1.008 / 1000)) ** 2, 0.999),
}
ALPHA_BAR = {name: np.concatenate([[1.0], np.cumprod(1 - beta)]) for name, beta in BETAS.items()}


@pytest.fixture(scope="module")
def bound():
    return explorers.bound()


@pytest.fixture(scope="module")
def rotation():
    return explorers.rotation()


@pytest.fixture(scope="module")
def weights():
    return explorers.weights()


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("x_0", [-0.4, 0.7])
@pytest.mark.parametrize("slope", [0.5, 0.8, 1.1])
def test_the_bound_and_what_it_bounds_are_those_of_the_joint_gaussians(bound, slope, x_0, variance):
    """The whole bound and -log p(x_0) from the covariance of the whole chain, without a term or a recursion."""
    schedule = from_beta(np.linspace(0.05, 0.5, 8))
    whole, surprise = undecomposed(
        schedule, lambda x, t: Prediction(slope * x + 0.1, x), x_0, variance, explorers.DECODER_VARIANCE
    )
    said = re.findall(r"-?\d+\.\d{3}", bound.description(slope=slope, variance=variance, x_0=x_0))
    first, inner, last, total, exact = map(float, said)
    assert (total, exact) == (pytest.approx(whole, abs=6e-4), pytest.approx(surprise, abs=6e-4))
    assert first + inner + last == pytest.approx(total, abs=2e-3)
    each, sums = bound.figure(slope=slope, variance=variance, x_0=x_0).axes
    heights = [bar.get_height() for bar in each.patches]
    assert len(heights) == 9 and sum(heights) == pytest.approx(whole, rel=1e-6)
    assert [bar.get_width() for bar in sums.patches] == pytest.approx([whole, surprise], rel=1e-6)
    assert sums.get_xlim()[1] > whole and max(heights) < each.get_ylim()[1]  # nothing is cut off


def test_the_bound_may_fall_while_its_gap_widens(bound):
    """The numbers that the page reads off at x_0 = -0.4, posterior variance, slopes 0.5 and 0.7."""
    for slope, whole, gap in ((0.5, 2.045, 0.673), (0.7, 1.901, 0.915)):
        said = bound.description(slope=slope, variance="posterior", x_0=-0.4)
        *_, total, exact = map(float, re.findall(r"-?\d+\.\d{3}", said))
        assert (total, total - exact) == (pytest.approx(whole, abs=6e-4), pytest.approx(gap, abs=1.1e-3))


def test_the_weighted_loss_summed_over_all_times_is_the_bound_less_its_constants():
    """A sum over t, not a mean: with t drawn uniformly the mean has to be multiplied by T."""
    schedule, generator = from_beta(np.linspace(0.05, 0.5, 8)), torch.Generator().manual_seed(1)
    x0, eps = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)

    def model(x, t):
        return torch.sin(x)

    def denoise(x, t):
        return EPS.solve(schedule, x, model(x, t), t)

    times = range(1, 9)
    losses = torch.stack([denoising_loss(schedule, model, x0, t, eps, weighting=bound_weighting) for t in times])
    inner = torch.stack([denoising_term(schedule, denoise, x0, t, eps) for t in range(2, 9)])
    constant = 3 * math.log(2 * math.pi * default_decoder_variance(schedule))  # of L_0, 6 dimensions
    whole = inner.sum(0) + decoder_term(schedule, denoise, x0, eps) - constant
    torch.testing.assert_close(6 * losses.sum(0), whole)
    torch.testing.assert_close(6 * 8 * losses.mean(0), whole)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_turning_back_gives_the_same_digit_and_noise_at_every_time(rotation, schedule):
    found = []
    for t in explorers.ROTATION_TIMES:
        values = numbers(rotation.description(t=t, schedule=schedule).replace("x_0", "x"))
        degrees, a, b, c, d = values[1:6]
        assert (a, b) == (c, d)
        assert a == pytest.approx(math.sqrt(ALPHA_BAR[schedule][t]), abs=6e-4)
        assert math.cos(math.radians(degrees)) == pytest.approx(a, abs=2e-3)
        a, b = math.sqrt(ALPHA_BAR[schedule][t]), math.sqrt(1 - ALPHA_BAR[schedule][t])
        axes = rotation.figure(t=t, schedule=schedule).axes
        x_t, v = (np.asarray(axis.images[0].get_array()) for axis in axes[1:])
        found.append(np.stack([a * x_t - b * v, b * x_t + a * v]))
    np.testing.assert_allclose(np.stack(found), np.broadcast_to(found[0], (len(found), 2, 8, 8)), atol=1e-6)
    np.testing.assert_allclose(found[0][0], digits().train[0, 0].numpy(), atol=1e-6)
    assert 0.7 < found[0][1].std() < 1.3  # and the noise is noise


@pytest.mark.parametrize("schedule", list(BETAS))
@pytest.mark.parametrize("gamma", [0.5, 5.0, 100.0])
def test_weights_are_those_of_the_table(weights, gamma, schedule):
    bar = ALPHA_BAR[schedule]
    ratio = bar[1:] / (1 - bar[1:])
    shares = {"plain ε": 0 * ratio + 1, "plain x₀": 1 / ratio, "plain v": 1 + 1 / ratio}
    shares["min-SNR"] = np.minimum(1, gamma / ratio)
    shares["bound"] = np.concatenate([[np.nan], (ratio[:-1] - ratio[1:]) / 2 / ratio[1:]])  # t = 1 is the decoder's
    said = numbers(weights.description(gamma=gamma, schedule=schedule))[2:]
    for k, t in enumerate((2, 100, 500, 1000)):
        expected = [shares["min-SNR"][t - 1], shares["bound"][t - 1], t]
        assert said[3 * k : 3 * k + 3] == pytest.approx(expected, rel=6e-3)
    of_x0, of_eps = weights.figure(gamma=gamma, schedule=schedule).axes
    for axis, unit in ((of_x0, ratio), (of_eps, 1.0)):
        drawn = {line.get_label(): line.get_ydata() for line in axis.lines}
        assert drawn.keys() == shares.keys()
        for name, share in shares.items():
            np.testing.assert_allclose(drawn[name][1:], (share * unit)[1:], rtol=1e-6, err_msg=name)
