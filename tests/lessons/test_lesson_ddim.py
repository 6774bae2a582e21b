"""Lesson 14's explorers against numpy, Bayes' rule and scipy."""

import math
import re

import numpy as np
import pytest
import torch
from oracles import bayes, divergence, normal, numbers, two_peaks
from scipy.stats import wasserstein_distance

from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.lessons.ddim import explorers
from diffusion_lib.lessons.ddim.explorers import JUMPS, SAMPLERS, STEPS
from diffusion_lib.samplers import ddim, final
from diffusion_lib.schedules import linear, uniform_steps
from diffusion_lib.toys import eight_gaussians

ALPHA_BAR = np.cumprod(1 - np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)]))
X = np.linspace(-6, 6, 24_001)


def test_a_jump_back_is_a_mixture_of_two_and_its_kl_that_to_its_best_gaussian():
    """Each peak has a Gaussian posterior of its own; their weights are how likely they made x_t."""
    explorer = explorers.jump()
    for jump in (20, 100, 200, 350, 490):
        s, (a_t, a_s) = 500 - jump, (ALPHA_BAR[500], ALPHA_BAR[500 - jump])
        kept = a_t / a_s
        spread = 0.04 * a_s + 1 - a_s  # of x_s within a peak
        total = kept * spread + 1 - kept
        means = [c * math.sqrt(a_s) + math.sqrt(kept) * spread / total * (0.05 - c * math.sqrt(a_t)) for c in (-1, 1)]
        width = spread * (1 - kept) / total
        weights = np.array([normal(0.05, c * math.sqrt(a_t), total) for c in (-1, 1)])
        weights = weights / weights.sum()
        exact = sum(w * normal(X, m, width) for w, m in zip(weights, means, strict=True))
        mean = weights @ np.array(means)
        variance = width + weights @ (np.array(means) - mean) ** 2
        words = explorer.description(jump=jump)
        kl = divergence(exact, normal(X, mean, variance), X)
        assert float(re.search(r"lies (\S+) nats", words)[1]) == pytest.approx(kl, rel=0.06)
        assert f"to s = {s}," in words
        drawn = next(line for line in explorer.figure(jump=jump).axes[0].lines if line.get_label() == "exact")
        x, y = drawn.get_data()
        np.testing.assert_allclose(y, np.interp(x, X, exact), atol=1e-4)
    assert explorer.controls[0].values == JUMPS


def test_every_point_of_the_circle_keeps_the_distribution_and_the_mark_is_ddpm():
    explorer = explorers.circle()
    a_t = ALPHA_BAR[500]
    for s in (450, 250, 50):
        a_s = ALPHA_BAR[s]
        for angle in range(0, 91, 10):
            sigma, m, k = (
                float(re.search(rf"\b{name} = (-?\d\.\d+)", explorer.description(angle=angle, s=s))[1])
                for name in ("sigma", "m", "k")
            )
            assert k + m * math.sqrt(a_t) == pytest.approx(math.sqrt(a_s), abs=2e-3)
            assert m**2 * (1 - a_t) + sigma**2 == pytest.approx(1 - a_s, abs=4e-3)
            assert math.degrees(math.atan2(sigma, m * math.sqrt(1 - a_t))) == pytest.approx(angle, abs=1)
        marks = {line.get_label(): line.get_xydata()[0] for line in explorer.figure(angle=0, s=s).axes[0].lines}
        std = math.sqrt(bayes(ALPHA_BAR, s, 500, 1.0, 0.3)[1])
        assert marks["DDPM"][0] == pytest.approx(std, abs=1e-6)
        assert marks["DDIM"][0] == pytest.approx(0, abs=1e-12)


def test_the_distances_by_steps_are_scipys():
    explorer = explorers.steps(2000)
    words = explorer.description(steps=10)
    said = [float(found) for found in re.findall(r"(?:posterior|beta|DDIM) (\d\S*?)[,;]", words)]
    left, right = explorer.figure(steps=10).axes
    heights = {patch.get_label(): patch.get_data().values for patch in left.patches if patch.get_label() in SAMPLERS}
    curves = {line.get_label(): line.get_xydata() for line in right.lines if line.get_label() in SAMPLERS}
    middle = np.linspace(-2, 2, 61)[:-1] + 2 / 60
    truth = two_peaks(X, 1.0, 0.0)
    for name, value in zip(SAMPLERS, said, strict=True):
        assert list(curves[name][:, 0]) == list(STEPS)
        assert dict(curves[name])[10] == pytest.approx(value, rel=0.06)
        rough = wasserstein_distance(middle, X, heights[name], truth)  # from the bars that are drawn
        assert value == pytest.approx(rough, abs=0.03)


def test_particles_without_noise_go_the_same_way_and_more_steps_come_nearer():
    explorer = explorers.sampler()

    def far(steps, eta):
        return numbers(explorer.description(steps=steps, eta=eta))[-1]

    assert far(50, 0.0) < far(5, 0.0) < far(2, 0.0)
    assert far(50, 1.0) < far(2, 1.0)
    paths = {}
    for n, eta in ((2, 0.0), (50, 0.0), (50, 1.0)):
        axes = explorer.figure(steps=n, eta=eta).axes[0]
        paths[n, eta] = np.stack(next(c for c in axes.collections if hasattr(c, "get_segments")).get_segments())
        assert paths[n, eta].shape == (12, n + 1, 2)
        np.testing.assert_array_equal(paths[n, eta][:, 0], paths[2, 0.0][:, 0])  # one start for all
    samples, schedule = paths[50, 0.0][:, -1], linear()
    alone = ddim(  # eta = 0: nothing is drawn on the way
        ExactDenoiser(schedule, eight_gaussians()),
        schedule,
        torch.tensor(paths[2, 0.0][:, 0]),
        uniform_steps(schedule, 50),
    )
    np.testing.assert_allclose(samples, final(alone).numpy(), atol=1e-9)
    hills = eight_gaussians().sample(20_000, torch.Generator().manual_seed(0)).numpy()
    assert np.linalg.norm(samples[:, None] - hills, axis=2).min(1).max() < 0.1
    assert np.abs(paths[50, 1.0][:, -1] - samples).max() > 0.5  # with noise a particle goes elsewhere
