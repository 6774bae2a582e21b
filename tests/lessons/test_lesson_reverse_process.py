"""Lesson 10's explorers against numpy, Bayes' rule on a grid, and the mean over the training digits."""

import math

import numpy as np
import pytest
from oracles import bayes, brute_points, normal, numbers

from diffusion_lib.data import digits
from diffusion_lib.lessons.reverse_process import explorers
from diffusion_lib.schedules import linear

BETA = np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)])
ALPHA_BAR = np.cumprod(1 - BETA)
COARSE = np.concatenate([[1.0], np.cumprod(1 - np.linspace(0.05, 0.40, 10))])


def pixels(axis) -> np.ndarray:
    return np.asarray(axis.images[0].get_array(), dtype=float)


def test_the_width_of_a_step_back_is_that_of_two_joint_gaussians():
    """Var[x_(t-1) | x_t] = Var[x_(t-1)] - Cov^2 / Var[x_t], as a share of beta_t."""
    explorer = explorers.reverse_variance()
    for data in (0.0, 0.0003, 1.0, 4.0):
        said = numbers(explorer.description(variance=data))
        for k, t in enumerate((1, 10, 100)):
            before = ALPHA_BAR[t - 1] * data + 1 - ALPHA_BAR[t - 1]
            after = (1 - BETA[t]) * before + BETA[t]
            exact = before - (1 - BETA[t]) * before**2 / after
            assert said[1 + 2 * k] == pytest.approx(exact / BETA[t], abs=6e-4)
        assert said[-2] == pytest.approx((1 - ALPHA_BAR[9]) / (1 - ALPHA_BAR[10]), abs=6e-4)


def test_data_of_variance_4_raise_the_width_above_beta_by_a_third_of_a_percent():
    before = ALPHA_BAR[:-1] * 4 + 1 - ALPHA_BAR[:-1]
    after = (1 - BETA[1:]) * before + BETA[1:]
    share = (before - (1 - BETA[1:]) * before**2 / after) / BETA[1:]
    assert share.max() == pytest.approx(1.0033, abs=5e-5)
    axis = explorers.reverse_variance().figure(variance=4.0).axes[0]
    drawn = next(line for line in axis.lines if line.get_label().startswith("exact"))
    np.testing.assert_allclose(drawn.get_ydata(), share, rtol=1e-6)


@pytest.mark.parametrize(("t", "digit"), [(100, 3), (250, 8), (400, 0), (1000, 3)])
def test_the_one_jump_answer_is_the_mean_over_the_training_digits(t, digit):
    explorer, data = explorers.one_shot(), digits()
    x0, x_t, answer = (pixels(axis) for axis in explorer.figure(t=t, digit=digit).axes[:3])
    np.testing.assert_allclose(x0, data.train[data.train_labels == digit][0, 0].numpy(), atol=1e-12)
    a, b = math.sqrt(ALPHA_BAR[t]), math.sqrt(1 - ALPHA_BAR[t])
    expected = brute_points(data.train.flatten(1).numpy(), 0.0, x_t.ravel(), a, b)[0]
    np.testing.assert_allclose(answer.ravel(), expected.astype(float), atol=1e-8)
    said = numbers(explorer.description(t=t, digit=digit))
    away = math.sqrt(((expected.astype(float) - x0.ravel()) ** 2).mean())
    assert [said[1], said[-1]] == pytest.approx([away, b / a], rel=6e-3, abs=6e-4)


def test_the_formulas_gaussian_lies_on_bayes_rule():
    explorer = explorers.posterior()
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
    states, means, stds = explorers._walk(linear(), 2.0, 1.0)
    drawn = ((states[1:-1] - means[2:]) / stds[2:]).numpy()  # 999 steps with noise
    assert abs(drawn.mean()) < 4 / 999**0.5 and drawn.std() == pytest.approx(1, abs=4 * (0.5 / 999) ** 0.5)


@pytest.mark.parametrize("x_T", [-2.0, 2.0])
def test_the_walk_of_posteriors_ends_at_its_data_point(x_T):
    explorer = explorers.posterior_path()
    for t in explorers.TIMES:
        _, _, _, x_t, centre, width, average = numbers(explorer.description(t=t, x_T=x_T))
        assert average == pytest.approx(math.sqrt(ALPHA_BAR[t - 1]), abs=6e-4)
        if t == 1000:
            assert x_t == x_T
        if t == 1:
            assert (centre, width) == (1.0, 0.0)
            continue
        mean, variance = bayes(ALPHA_BAR, t - 1, t, 1.0, x_t, np.linspace(x_t - 1.5, x_t + 1.5, 30_001))
        assert [centre, width] == pytest.approx([mean, math.sqrt(variance)], abs=1.2e-3)
