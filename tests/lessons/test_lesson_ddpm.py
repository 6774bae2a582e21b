"""Lesson 13's explorer and its film against the sampler itself, and against what an exact denoiser must do."""

import re
from itertools import pairwise

import numpy as np
import pytest
import torch

from diffusion_lib.data import digits
from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.densities import Points
from diffusion_lib.lessons.ddpm import explorers, figures
from diffusion_lib.lessons.ddpm.explorers import TIMES, exact_film, record
from diffusion_lib.process import q_posterior
from diffusion_lib.samplers import ddim, ddpm
from diffusion_lib.schedules import linear

VISITS = [1000, 600, 300, 100, 10, 0]


@pytest.fixture(scope="module")
def exact():
    return exact_film()


@pytest.fixture(scope="module")
def memory():
    return ExactDenoiser(linear(), Points(digits().train))


def start(n=2):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_each_guess_stands_beside_the_state_that_it_was_made_from(memory):
    schedule, x = linear(), start()
    film = record(schedule, x, ddim(memory, schedule, x, VISITS))
    assert film.t == tuple(t for t in TIMES if t in VISITS) == tuple(VISITS)
    assert torch.equal(film.x[0], x[:, 0])
    for t, state, guess in zip(film.t[:-1], film.x, film.x0, strict=False):
        torch.testing.assert_close(guess, memory(state[:, None], t).x0[:, 0], rtol=0, atol=1e-12)
    assert torch.equal(film.x[-1], film.x0[-1])


def test_states_follow_the_sampler(memory):
    schedule, x = linear(), start()
    film = record(schedule, x, ddpm(memory, schedule, x, VISITS, generator=torch.Generator().manual_seed(1)))
    noise = torch.Generator().manual_seed(1)
    for k, (t, s) in enumerate(pairwise(VISITS)):
        mean, variance = q_posterior(schedule, film.x0[k][:, None], film.x[k][:, None], s, t)
        drawn = torch.randn(x.shape, generator=noise, dtype=torch.float64)
        torch.testing.assert_close(film.x[k + 1], (mean + variance.sqrt() * drawn)[:, 0], rtol=0, atol=1e-10)


def test_record_keeps_only_the_times_it_is_asked_for_and_takes_a_later_start(memory):
    schedule, x = linear(), start()
    film = record(schedule, x, ddim(memory, schedule, x, [300, 100, 0]), times=(300, 0), t=300)
    assert film.t == (300, 0)
    with pytest.raises(ValueError, match=r"times: expected some that the sampler visits, got \[7\]"):
        record(schedule, x, ddim(memory, schedule, x, VISITS), times=[7])


def test_words_give_the_rates_of_the_schedule(memory):
    schedule, x = linear(), start()
    film = record(schedule, x, ddim(memory, schedule, x, VISITS))
    for t, words in zip(film.t, film.words, strict=True):
        said_t, signal, noise = (float(number) for number in re.findall(r"\d+(?:\.\d+)?", words))
        assert said_t == t
        assert signal**2 + noise**2 == pytest.approx(1, abs=2e-3)
        assert signal == pytest.approx(float(torch.prod(schedule.alpha[1 : t + 1])) ** 0.5, abs=6e-4)


def test_the_exact_film_ends_at_training_digits_and_says_how_far_its_guesses_were(exact):
    data = digits().train[:, 0]
    for end in exact.x[-1]:
        assert float((data - end).abs().amax((1, 2)).min()) < 1e-10
    mean = data.mean(0)
    assert float((exact.x0[0] - mean).abs().max()) < 0.1  # at T the guess is nearly the mean of all digits
    for k, words in enumerate(exact.words):
        errors = [(guess - end) ** 2 for guess, end in zip(exact.x0[k], exact.x[-1], strict=True)]
        away = float(torch.stack(errors).mean()) ** 0.5
        assert float(re.findall(r"\d+\.\d+", words)[-1]) == pytest.approx(away, abs=6e-4)
    assert "lies 0.000 a pixel" in exact.words[-1]


def test_explorer_shows_the_film_it_is_given(memory):
    schedule, x = linear(), start(3)
    film = record(schedule, x, ddim(memory, schedule, x, VISITS))
    explorer = explorers.filmstrip(film)
    assert explorer.controls[0].values == tuple(VISITS) and explorer.defaults() == {"t": 300}
    assert explorer.description(t=600) == film.words[1] + "."
    shown = [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in explorer.figure(t=600).axes]
    assert len(shown) == 2  # the states above, the guesses below: three images of 8 x 8 in a row, one pixel apart
    for row, expected in zip(shown, (film.x[1], film.x0[1]), strict=True):
        assert row.shape == (8, 26) and np.isnan(row[:, [8, 17]]).all()
        for k, image in enumerate(expected):
            torch.testing.assert_close(torch.tensor(row[:, 9 * k : 9 * k + 8]), image)


def test_contenders_draw_every_bar():
    errors = {name: torch.rand(3).numpy() for name in "abcde"}
    axes = figures.contenders([1, 5, 9], errors).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [value for values in errors.values() for value in values]


def test_by_time_puts_what_lies_outside_on_the_edge():
    axes = figures.by_time([1, 10], {"a": torch.tensor([1e-9, 0.5]).numpy()}, "error", 1e-3, 1.0).axes[0]
    assert list(axes.lines[0].get_ydata()) == [1e-3, 0.5]
