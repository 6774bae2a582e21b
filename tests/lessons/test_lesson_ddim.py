"""The explorers of lessons 09, 10 and 14 that have no file of their own, against numpy, Bayes' rule and scipy."""

import math
import re

import numpy as np
import pytest
import torch
from oracles import bayes, brute_points, normal, numbers
from scipy.stats import wasserstein_distance

from diffusion_lib.data import digits, eight_gaussians
from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.samplers import ddim, final
from diffusion_lib.schedules import linear, uniform_steps
from diffusion_lib.teaching.widgets import (
    circle_explorer,
    jump_explorer,
    markov_step_explorer,
    noising_explorer,
    one_shot_explorer,
    posterior_explorer,
    posterior_path_explorer,
    reverse_variance_explorer,
    sampler_explorer,
    steps_explorer,
)
from diffusion_lib.teaching.widgets.posterior import TIMES, _walk
from diffusion_lib.teaching.widgets.sampler import JUMPS, SAMPLERS, STEPS

BETA = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])
ALPHA_BAR = np.cumprod(1 - BETA)
COARSE = np.concatenate([[1.0], np.cumprod(1 - np.linspace(0.05, 0.40, 10))])
X = np.linspace(-6, 6, 24_001)


def two_peaks(x, a, variance):
    """The density of a x_0 + noise of this variance; x_0 on the bimodal line, peaks of deviation 0.2 at -1 and 1."""
    return (normal(x, -a, (0.2 * a) ** 2 + variance) + normal(x, a, (0.2 * a) ** 2 + variance)) / 2


def divergence(p, q, x):
    """KL(p || q) of densities on a grid."""
    return np.trapezoid(np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-300))), 0), x)


def picture(axis) -> np.ndarray:
    return np.asarray(axis.images[0].get_array(), dtype=float)


# ---- lesson 09


@pytest.mark.parametrize("digit", [0, 2])
def test_one_noise_along_the_whole_slider(digit):
    """Undoing the mixture gives the same noise at every time, and the digit of the data."""
    explorer, found = noising_explorer(), []
    x0 = digits(16).train[digit, 0].numpy()
    for t in (0, 200, 500, 1000):
        values = {"t": t, "digit": digit, "schedule": "linear", "own": None}
        x_t = picture(explorer.figure(**values).axes[0])
        a, b = math.sqrt(ALPHA_BAR[t]), math.sqrt(1 - ALPHA_BAR[t])
        said = numbers(explorer.description(**values))[-4:]
        assert said == pytest.approx([a, b, x_t.mean(), x_t.std(ddof=1)], rel=6e-3, abs=1e-3)
        if t == 0:
            np.testing.assert_allclose(x_t, x0, atol=1e-12)
        else:
            found.append((x_t - a * x0) / b)
    for eps in found[1:]:
        np.testing.assert_allclose(eps, found[0], atol=1e-9)
    assert abs(found[0].mean()) < 4 / 16 and found[0].std() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.3])
def test_markov_steps_say_what_is_left_and_how_far_from_normal(beta):
    explorer = markov_step_explorer()
    for steps in (1, 10, 100):
        kept = (1 - beta) ** steps
        kl = divergence(two_peaks(X, math.sqrt(kept), 1 - kept), normal(X, 0, 1), X)
        words = explorer.description(steps=steps, beta=beta)
        said = numbers(words)
        assert said[-2] == pytest.approx(kept, rel=0.06)
        assert said[-1] == pytest.approx(kl, rel=0.06) if kl > 1e-9 else "below 1e-9 nats" in words


# ---- lesson 10


def test_the_width_of_a_step_back_is_that_of_two_joint_gaussians():
    """Var[x_(t-1) | x_t] = Var[x_(t-1)] - Cov^2 / Var[x_t], as a share of beta_t."""
    explorer = reverse_variance_explorer()
    for data in (0.0, 0.0003, 1.0, 4.0):
        said = numbers(explorer.description(variance=data))
        for k, t in enumerate((1, 10, 100)):
            before = ALPHA_BAR[t - 1] * data + 1 - ALPHA_BAR[t - 1]
            after = (1 - BETA[t]) * before + BETA[t]
            exact = before - (1 - BETA[t]) * before**2 / after
            assert said[1 + 2 * k] == pytest.approx(exact / BETA[t], abs=6e-4)
        assert said[-2] == pytest.approx((1 - ALPHA_BAR[9]) / (1 - ALPHA_BAR[10]), abs=6e-4)


@pytest.mark.parametrize(("t", "digit"), [(100, 3), (250, 8), (400, 0), (1000, 3)])
def test_the_one_jump_answer_is_the_mean_over_the_training_digits(t, digit):
    explorer, data = one_shot_explorer(), digits()
    x0, x_t, answer = (picture(axis) for axis in explorer.figure(t=t, digit=digit).axes[:3])
    np.testing.assert_allclose(x0, data.train[data.train_labels == digit][0, 0].numpy(), atol=1e-12)
    a, b = math.sqrt(ALPHA_BAR[t]), math.sqrt(1 - ALPHA_BAR[t])
    expected = brute_points(data.train.flatten(1).numpy(), 0.0, x_t.ravel(), a, b)[0]
    np.testing.assert_allclose(answer.ravel(), expected.astype(float), atol=1e-8)
    said = numbers(explorer.description(t=t, digit=digit))
    away = math.sqrt(((expected.astype(float) - x0.ravel()) ** 2).mean())
    assert [said[1], said[-1]] == pytest.approx([away, b / a], rel=6e-3, abs=6e-4)


def test_the_formulas_gaussian_lies_on_bayes_rule():
    explorer = posterior_explorer()
    for x_t in (-2.0, 0.0, 1.0):
        for t in (2, 7, 10):
            for x_0 in (-1.0, 1.0):
                values = {"x_t": x_t, "t": t, "x_0": x_0}
                mean, variance = bayes(COARSE, t - 1, t, x_0, x_t)
                said = numbers(explorer.description(**values))[-2:]
                assert said == pytest.approx([mean, math.sqrt(variance)], abs=6e-4)
                axis = explorer.figure(**values).axes[0]
                formula = next(line for line in axis.lines if line.get_label().endswith("formula"))
                x, y = formula.get_data()
                np.testing.assert_allclose(y, normal(x, mean, variance), atol=1e-6)


def test_the_walk_is_drawn_with_the_posteriors_own_width():
    states, means, stds = _walk(linear(), 2.0, 1.0)
    drawn = ((states[1:-1] - means[2:]) / stds[2:]).numpy()  # 999 steps with noise
    assert abs(drawn.mean()) < 4 / 999**0.5 and drawn.std() == pytest.approx(1, abs=4 * (0.5 / 999) ** 0.5)


@pytest.mark.parametrize("x_T", [-2.0, 2.0])
def test_the_walk_of_posteriors_ends_at_its_data_point(x_T):
    explorer = posterior_path_explorer()
    for t in TIMES:
        _, _, _, x_t, centre, width, average = numbers(explorer.description(t=t, x_T=x_T))
        assert average == pytest.approx(math.sqrt(ALPHA_BAR[t - 1]), abs=6e-4)
        if t == 1000:
            assert x_t == x_T
        if t == 1:
            assert (centre, width) == (1.0, 0.0)
            continue
        mean, variance = bayes(ALPHA_BAR, t - 1, t, 1.0, x_t, np.linspace(x_t - 1.5, x_t + 1.5, 30_001))
        assert [centre, width] == pytest.approx([mean, math.sqrt(variance)], abs=1.2e-3)


# ---- lesson 14


def test_a_jump_back_is_a_mixture_of_two_and_its_kl_that_to_its_best_gaussian():
    """Each peak has a Gaussian posterior of its own; their weights are how likely they made x_t."""
    explorer = jump_explorer()
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


def test_every_point_of_the_circle_keeps_the_law_and_the_mark_is_ddpm():
    explorer = circle_explorer()
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
        deviation = math.sqrt(bayes(ALPHA_BAR, s, 500, 1.0, 0.3)[1])
        assert marks["DDPM"][0] == pytest.approx(deviation, abs=1e-6)
        assert marks["DDIM"][0] == pytest.approx(0, abs=1e-12)


def test_the_distances_by_steps_are_scipys():
    explorer = steps_explorer(2000)
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
    explorer = sampler_explorer()

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
    ends, schedule = paths[50, 0.0][:, -1], linear()
    alone = ddim(  # eta = 0, and nobody else on the way
        ExactDenoiser(schedule, eight_gaussians()),
        schedule,
        torch.tensor(paths[2, 0.0][:, 0]),
        uniform_steps(schedule, 50),
    )
    np.testing.assert_allclose(ends, final(alone).numpy(), atol=1e-9)
    hills = eight_gaussians().sample(20_000, torch.Generator().manual_seed(0)).numpy()
    assert np.linalg.norm(ends[:, None] - hills, axis=2).min(1).max() < 0.1
    assert np.abs(paths[50, 1.0][:, -1] - ends).max() > 0.5  # with noise a particle goes elsewhere
