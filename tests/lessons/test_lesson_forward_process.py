"""Lesson 09's explorers against routes of their own: the library's sampler, exact sums, plain numpy."""

import math
from math import fsum, log1p

import numpy as np
import pytest
import torch
from oracles import divergence, normal, numbers, two_peaks
from scipy.stats import wasserstein_distance
from sklearn.datasets import load_digits, load_sample_image

from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.lessons.forward_process import explorers, figures, subjects
from diffusion_lib.lessons.forward_process.explorers import (
    SLOPES,
    TERMINAL_STEPS,
    bounds,
    mostly_paper,
    sample_back,
    walk,
)
from diffusion_lib.metrics import wasserstein
from diffusion_lib.samplers import ddpm, final
from diffusion_lib.schedules import constant, from_beta, su

ALPHA_BAR = np.cumprod(1 - np.concatenate([[0.0], np.linspace(1e-4, 0.02, 1000)]))
X = np.linspace(-6, 6, 24_001)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("T", TERMINAL_STEPS)
def test_bounds_hold_and_are_sums_over_the_steps(T, slope):
    least, most = (float(end) for end in bounds(torch.tensor(T), slope))
    betas = [slope * t / T for t in range(1, T + 1)]
    lost = -fsum(log1p(-beta) for beta in betas)
    assert least == pytest.approx(fsum(betas), rel=1e-6)
    assert most - least == pytest.approx(fsum(beta**2 for beta in betas) / (2 * (1 - slope)), rel=1e-4)
    assert least < lost <= most


@pytest.mark.parametrize(("T", "slope"), [(10, 0.02), (30, 0.1), (30, 0.4)])
def test_sampling_back_lands_where_the_librarys_sampler_does(T, slope):
    data, schedule, n = mostly_paper(), su(T, slope), 20_000
    truth = data.sample(50_000, torch.Generator().manual_seed(0))
    ours = sample_back(data, truth, T, slope, n)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    theirs = final(ddpm(ExactDenoiser(schedule, data), schedule, start, range(T, -1, -1), generator=generator))
    assert float(wasserstein(torch.from_numpy(ours.draws), theirs)) < 0.04
    assert ours.distance == pytest.approx(float(wasserstein(theirs, truth)), abs=0.04)
    assert ours.lost == pytest.approx(-fsum(log1p(-slope * t / T) for t in range(1, T + 1)))


def test_walk_takes_every_step_with_noise_of_its_own():
    start = torch.full((50_000,), 2.0, dtype=torch.float64)
    states = list(walk(from_beta([0.1, 0.2, 0.4]), start, torch.Generator().manual_seed(0)))
    assert len(states) == 3
    kept = 0.9 * 0.8 * 0.6
    assert float(states[-1].mean()) == pytest.approx(2 * kept**0.5, abs=0.02)
    assert float(states[-1].var()) == pytest.approx(1 - kept, abs=0.03)


@pytest.fixture(scope="module")
def histograms():
    return explorers.histogram()


@pytest.mark.parametrize("t", [0, 100, 400])
@pytest.mark.parametrize(
    ("data", "means", "std"),
    [("two peaks", (-1, 1), 0.2), ("one narrow peak", (-1.5,), 0.4), ("one wide peak", (0,), 2)],
)
def test_histogram_says_the_divergence_of_the_exact_density(histograms, data, means, std, t):
    """Where there is one peak, also by the formula for two normal distributions."""
    alpha_bar = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:t])
    x = np.linspace(-20, 20, 40_001)
    variance = alpha_bar * std**2 + 1 - alpha_bar
    density = sum(normal(x, mean * alpha_bar**0.5, variance) for mean in means) / len(means)
    kl = np.trapezoid(density * (np.log(density + 1e-300) + x**2 / 2 + np.log(2 * np.pi) / 2), x)
    if len(means) == 1:
        assert kl == pytest.approx((variance + alpha_bar * means[0] ** 2 - 1 - np.log(variance)) / 2, rel=1e-6)
    said = numbers(histograms.description(t=t, data=data))
    assert said[-1] == pytest.approx(kl, rel=0.05)
    deviation = (alpha_bar * (std**2 + np.var(means)) + 1 - alpha_bar) ** 0.5
    assert said[2] == pytest.approx(deviation, rel=0.04)


@pytest.mark.parametrize("variance", [0.1, 1.0, 6.0])
def test_entropy_explorer_says_what_a_normal_distribution_has(variance):
    said = numbers(explorers.entropy().description(variance=variance))
    normal = torch.distributions.Normal(0.0, variance**0.5)
    prior = torch.distributions.Normal(0.0, 1.0)
    assert said[1] == pytest.approx(float(normal.entropy()), abs=0.006)
    assert said[2] == pytest.approx(float(prior.entropy()), abs=0.006)
    assert said[3] == pytest.approx(float(torch.distributions.kl_divergence(normal, prior)), abs=0.006)


def test_standard_deviations_of_a_sum_are_the_hypotenuse():
    explorer = explorers.gaussian_sum()
    simulated, rule = numbers(explorer.description(sigma_x=1.2, sigma_y=1.6))[-2:]
    assert rule == 2.0
    assert simulated == pytest.approx(2.0, abs=0.05)


def test_every_column_of_the_noise_bars_reaches_one():
    alpha_bar = constant(5, 0.2).alpha_bar.numpy()
    t, i = np.arange(6)[:, None], np.arange(1, 6)
    shares = np.where(t >= i, 0.8 ** np.maximum(t - i, 0) * 0.2, 0)
    (axes,) = figures.noise_bars(alpha_bar, shares).axes
    tops = {}
    for bar in axes.patches:
        x = round(bar.get_x() + bar.get_width() / 2)
        tops[x] = max(tops.get(x, 0), bar.get_y() + bar.get_height())
    assert tops == pytest.approx(dict.fromkeys(range(6), 1.0))


def test_terminal_says_what_is_lost_and_how_far_from_the_data_the_samples_lie():
    """What is lost: a sum of logarithms. The distance: scipy's, from the image's points to the density."""
    explorer, x = explorers.terminal(), np.linspace(-3, 3, 6001)
    density = 0.75 * normal(x, -1, 0.04) + 0.25 * normal(x, 1, 0.04)
    for T, slope in ((10, 0.02), (100, 0.1), (1000, 0.02)):
        said = numbers(explorer.description(T=T, slope=slope))  # T, variance, lost, points, distance
        assert said[2] == pytest.approx(-fsum(log1p(-slope * t / T) for t in range(1, T + 1)), rel=6e-3)
        draws = sample_back(mostly_paper(), torch.zeros(1, 1, dtype=torch.float64), T, slope).draws
        assert said[-1] == pytest.approx(wasserstein_distance(draws, x, v_weights=density), abs=0.012)


@pytest.fixture
def drawn(monkeypatch):
    """Every image (C, H, W) that the noising explorer hands to its figure, before it is cut to what a screen shows."""
    kept, draw = [], figures.noising
    monkeypatch.setattr(figures, "noising", lambda x_t, *rates: kept.append(x_t) or draw(x_t, *rates))
    return kept


@pytest.mark.parametrize(
    ("image", "make"), [("photograph", subjects.photograph), ("drawn digit", subjects.drawn_digit)]
)
def test_one_noise_along_the_whole_slider(image, make, drawn):
    """Undoing the mixture gives the same noise at every time, and the image of the data."""
    explorer, times, x0 = explorers.noising(), (0, 200, 500, 1000), make().numpy()
    for t in times:
        values = {"t": t, "image": image, "schedule": "linear", "own": None}
        figure = explorer.figure(**values)
        a, b = math.sqrt(ALPHA_BAR[t]), math.sqrt(1 - ALPHA_BAR[t])
        assert [bar.get_height() for bar in figure.axes[1].patches] == pytest.approx([a, b])
        said = numbers(explorer.description(**values))[-4:]
        assert said == pytest.approx([a, b, drawn[-1].mean(), drawn[-1].std(ddof=1)], rel=6e-3, abs=1e-3)
    clean, *noisy = drawn[::2]  # the second of each pair is the description's
    np.testing.assert_allclose(clean, x0, atol=1e-12)
    rates = [(math.sqrt(ALPHA_BAR[t]), math.sqrt(1 - ALPHA_BAR[t])) for t in times[1:]]
    found = [(x_t - a * x0) / b for x_t, (a, b) in zip(noisy, rates, strict=True)]
    for eps in found[1:]:
        np.testing.assert_allclose(eps, found[0], atol=1e-9)
    assert abs(found[0].mean()) < 4 / math.sqrt(x0.size) and found[0].std() == pytest.approx(1, abs=0.1)


def test_the_photograph_is_scikit_learns_made_small():
    """Against PyTorch's resizing with the same filter: Pillow rounds to bytes on the way."""
    photo = load_sample_image("china.jpg")
    square = torch.as_tensor(photo[:, :427].copy()).permute(2, 0, 1)[None].double()
    small = torch.nn.functional.interpolate(square, size=(40, 40), mode="bilinear", antialias=True)[0] / 127.5 - 1
    assert subjects.photograph().shape == (3, 40, 40)
    assert float((subjects.photograph() - small).abs().max()) < 2 / 127.5


def test_the_drawn_digit_is_what_the_shipped_network_draws(monkeypatch, tmp_path):
    """Anew, by the command in the module: to one shade of 256, whatever the number of threads."""
    stored = subjects.drawn_digit()
    monkeypatch.setattr(subjects, "DRAWN", tmp_path / "anew.png")
    subjects.main()
    assert stored.shape == (1, 28, 28) and float(stored.min()) == -1 and float(stored.max()) == 1
    assert float((subjects.draw_digit().double() - stored).abs().max()) < 1.5 / 127.5
    assert float((subjects.drawn_digit() - stored).abs().max()) < 1.5 / 127.5


def test_the_written_digit_is_scikit_learns():
    assert load_digits().target[5] == 5
    np.testing.assert_array_equal(subjects.written_digit()[0], load_digits().images[5] / 8 - 1)


def test_a_displayed_image_keeps_its_numbers_to_a_step_and_ends_at_the_limit():
    image = np.linspace(-2, 2, 3 * 4 * 5).reshape(3, 4, 5)
    shown = figures.displayed(image)
    assert shown.shape == (4, 5, 3) and figures.displayed(image[:1]).shape == (4, 5)
    assert len(np.unique(np.round(shown, 9))) == figures.SHADES
    error = shown.transpose(2, 0, 1) - np.clip(image, -1, 1)
    assert np.abs(error).max() <= 1 / (figures.SHADES - 1) + 1e-12


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.3])
def test_markov_steps_say_what_is_left_and_how_far_from_normal(beta):
    explorer = explorers.markov_step()
    for steps in (1, 10, 100):
        kept = (1 - beta) ** steps
        kl = divergence(two_peaks(X, math.sqrt(kept), 1 - kept), normal(X, 0, 1), X)
        words = explorer.description(steps=steps, beta=beta)
        said = numbers(words)
        assert said[-2] == pytest.approx(kept, rel=0.06)
        assert said[-1] == pytest.approx(kl, rel=0.06) if kl > 1e-9 else "below 1e-9 nats" in words
