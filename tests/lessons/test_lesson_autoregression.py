"""Lesson 01: estimators and likelihood by statsmodels, tables by counting, explorers by routes of their own."""

import math
import re

import numpy as np
import pytest
import torch
from oracles import names_everything, refusal, seeded
from statsmodels.regression.linear_model import burg as their_burg
from statsmodels.regression.linear_model import yule_walker as their_yule_walker
from statsmodels.tsa.ar_model import AutoReg
from statsmodels.tsa.arima.model import ARIMA
from statsmodels.tsa.arima_process import ArmaProcess

from diffusion_lib import data
from diffusion_lib.lessons.autoregression import explorers, figures, series, tables, told
from diffusion_lib.models.autoregressive import Autoregressive, TransformerConfig

PHI = torch.tensor([1.3, -0.65], dtype=torch.float64)


def numbers(sentence):
    return [float(found) for found in re.findall(r"[-+]?\d+\.?\d*", sentence)]


@pytest.fixture(scope="module")
def spots():
    found = data.sunspots()
    return found.values[(found.times >= 1749) & (found.times <= 1924)]


# ---- estimators


@pytest.mark.parametrize("p", [1, 2, 3])
def test_least_squares_is_statsmodels(spots, p):
    theirs = AutoReg(spots.numpy(), p, trend="c").fit()
    ours = series.least_squares(spots, p)
    np.testing.assert_allclose(ours.phi.numpy(), theirs.params[1:], rtol=1e-12)
    assert ours.mean * (1 - float(ours.phi.sum())) == pytest.approx(theirs.params[0], rel=1e-11)
    assert ours.variance == pytest.approx(theirs.sigma2, rel=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize(("pairs", "method"), [(False, "mle"), (True, "adjusted")])
def test_yule_walker_is_statsmodels(spots, p, pairs, method):
    theirs = their_yule_walker(spots.numpy(), p, method=method, result_object=True)
    ours = series.yule_walker(spots, p, divide_by_pairs=pairs)
    np.testing.assert_allclose(ours.phi.numpy(), theirs.rho, rtol=1e-12)
    assert math.sqrt(ours.variance) == pytest.approx(theirs.sigma, rel=1e-12)


def test_the_sums_are_divided_by_n_unless_asked_otherwise(spots):
    assert series.yule_walker(spots, 2).phi.equal(series.yule_walker(spots, 2, divide_by_pairs=False).phi)


def test_burgs_first_step_explains_its_share_of_the_variance(spots):
    fit = series.burg(spots, 1)
    assert fit.mean == pytest.approx(float(spots.mean()))
    assert fit.variance == pytest.approx(float(spots.var(correction=0)) * (1 - float(fit.phi[0]) ** 2))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_burg_is_statsmodels(spots, p):
    np.testing.assert_allclose(series.burg(spots, p).phi.numpy(), their_burg(spots.numpy(), p)[0], rtol=1e-12)


def test_exact_likelihood_is_statsmodels_at_our_parameters_and_no_neighbour_is_likelier(spots):
    ours = series.maximum_likelihood(spots, 2)
    at = float(series.log_likelihood(spots, ours.mean, ours.phi, ours.variance))
    theirs = ARIMA(spots.numpy(), order=(2, 0, 0), trend="c").loglike([ours.mean, *ours.phi.tolist(), ours.variance])
    assert at == pytest.approx(theirs, abs=1e-10) and at == pytest.approx(-732.006336, abs=1e-6)
    for k in range(4):
        for factor in (0.99, 1.01):
            values = [ours.mean, *ours.phi.tolist(), ours.variance]
            values[k] *= factor
            there = series.log_likelihood(spots, values[0], torch.tensor(values[1:3], dtype=torch.float64), values[3])
            assert float(there) < at


def test_the_likelihood_of_a_third_order_is_one_gaussian():
    phi = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
    y = series.simulate(series.AR(1.0, phi, 0.5), 30, seeded(1))
    gamma, lags = series.autocovariances(phi, 0.5, 30), torch.arange(30)
    whole = torch.distributions.MultivariateNormal(torch.ones(30).double(), gamma[(lags[:, None] - lags).abs()])
    assert float(series.log_likelihood(y, 1.0, phi, 0.5)) == pytest.approx(float(whole.log_prob(y)), rel=1e-12)


def test_autocovariances_are_statsmodels():
    theirs = ArmaProcess(ar=[1, -1.3, 0.65]).acovf(12) * 2.5
    np.testing.assert_allclose(series.autocovariances(PHI, 2.5, 12).numpy(), theirs, rtol=1e-10)


def test_forecasts_are_statsmodels(spots):
    theirs = AutoReg(spots.numpy(), 2, trend="c").fit()
    centre, spread = series.forecast(series.least_squares(spots, 2), spots, 6)
    predicted = theirs.get_prediction(176, 181)
    np.testing.assert_allclose(centre.numpy(), predicted.predicted_mean, rtol=1e-10)
    np.testing.assert_allclose(spread.numpy(), predicted.se_mean, rtol=1e-10)


def test_a_simulated_series_has_the_models_autocovariances():
    y = series.simulate(series.AR(2.0, PHI, 3.0), 200_000, seeded(3)) - 2.0
    gamma = series.autocovariances(PHI, 3.0, 4)
    found = torch.stack([(y[: len(y) - k] * y[k:]).mean() for k in range(4)])
    torch.testing.assert_close(found, gamma, rtol=0.03, atol=0.15)


def test_the_triangle_is_the_companions_and_the_edge_is_outside():
    assert series.is_stationary(torch.tensor([1.9, -0.95])) and not series.is_stationary(torch.tensor([0.5, 0.5]))
    assert not series.is_stationary(torch.tensor([1.3, -1.1])) and series.is_stationary([-0.9])


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: series.require_stationary([1.3, -1.1]), "phi", "1.049"),
        (lambda: series.log_likelihood(torch.rand(9).double(), 0.0, torch.tensor([1.2]), 1.0), "phi", "1.2"),
        (lambda: series.least_squares(torch.rand(5), 3), "p", "3"),
        (lambda: series.yule_walker(torch.full((9,), 2.0), 2), "y", "2"),
        (lambda: series.burg([1.0, math.nan, 2.0, 3.0, 4.0], 1), "y", "nan"),
        (lambda: series.least_squares([], 1), "y", "0"),
        (lambda: series.forecast(series.AR(0.0, PHI, 1.0), torch.ones(1), 2), "past", "1"),
        (lambda: series.forecast(series.AR(0.0, PHI, -1.0), torch.ones(3), 2), "variance", "-1"),
        (lambda: series.forecast(series.AR(0.0, PHI, 1.0), torch.ones(3), 0), "steps", "0"),
        (lambda: series.simulate(series.AR(0.0, PHI, 1.0), 0, seeded(1)), "n", "0"),
    ],
)
def test_mistakes_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


# ---- tables


def test_tables_are_counts_backed_off_to_the_histogram():
    x = torch.tensor([[0, 1, 1], [0, 2, 1], [3, 1, 0]])
    alone = tables.histograms(x)
    assert alone[0, 0].item() == pytest.approx(2.3 / (3 + 17 * 0.3)) and alone.sum(1).tolist() == pytest.approx([1] * 3)
    given = tables.given_neighbour(x, 1, strength=10.0)
    assert given[1, 0, 1].item() == pytest.approx((1 + 10 * alone[1, 1].item()) / (2 + 10))
    assert given[0, 5].equal(alone[0]) and given.sum(2).flatten().tolist() == pytest.approx([1] * 51)
    bits = tables.chain_bits(given, x, 1)
    by_hand = -math.log2(float(alone[0, 0]) * float(given[1, 0, 1]) * float(given[2, 1, 1]))
    assert bits[0].sum().item() == pytest.approx(by_hand)
    assert len(tables.draw_chain(given, 1, seeded(1))) == 3


def test_the_ladder_of_tables_in_order():
    train, test = tables.levels()
    above, left = (tables.chain_bits(tables.given_neighbour(train, k), test, k).mean() for k in (8, 1))
    assert 2.22 < above < left < 2.25


# ---- explorers


def test_the_game_charges_what_was_put_on_the_truth():
    for guess, pixel in ((8, "the 36th"), (0, "the 13th"), (16, "the 52nd")):
        said = numbers(explorers.game().description(guess=guess, pixel=pixel))
        truth, paid = int(said[-3]), said[-2]
        odds = np.array([2.0 ** -abs(level - guess) for level in range(17)])
        assert paid == pytest.approx(-math.log2(odds[truth] / odds.sum()), abs=0.006)
        place = int(re.search(r"\d+", pixel)[0]) - 1
        assert truth == int(data.to_levels(data.digits().test)[5, place])


def test_the_game_keeps_the_truth_covered_until_there_is_a_guess():
    one = explorers.game()
    for pixel in ("the 13th", "the 36th"):
        said = one.description(guess=-1, pixel=pixel)
        assert numbers(said) == [float(re.search(r"\d+", pixel)[0]), 4.09]
    figure = figures.game(np.arange(64) % 17, 35, None)
    heights = [bar.get_height() for bar in figure.axes[1].patches]
    assert heights == pytest.approx([1 / 17] * 17) and -math.log2(heights[0]) == pytest.approx(4.09, abs=0.005)


def test_the_weathers_band_is_counted_in_its_sentence():
    values = np.array([0.0, 1.0, -1.0, 3.0])
    said = repr(figures.weather(np.array([1990.0, 1990.1, 1990.2, 1990.3]), values, np.zeros(4), 1.0))
    assert "3 of 4 months" in said and "3.0 degrees too warm" in said


def test_the_pad_says_the_largest_root_by_the_quadratic_formula():
    one = explorers.pad()
    for phi1, phi2 in ((1.3, -0.65), (0.5, 0.4), (-2.0, -1.1), (0.0, 0.0)):
        root = np.sqrt(complex(phi1**2 + 4 * phi2))
        largest = max(abs((phi1 + root) / 2), abs((phi1 - root) / 2))
        sentence = one.description(phi1=phi1, phi2=phi2)
        assert float(re.search(r"modulus (\d\.\d+)", sentence)[1]) == pytest.approx(largest, abs=6e-4)
        assert ("is stationary" in sentence) == (largest < 1)


def test_observing_b_takes_the_correlation_away():
    one = explorers.chain()
    free = numbers(one.description(observed="not observed"))[-1]
    assert free == pytest.approx(0.64, abs=0.03)
    for band in ("near -1", "near 0", "near 1"):
        said = numbers(one.description(observed=band))
        assert abs(said[-1]) < 4 / math.sqrt(said[-2]) + 0.05


def test_nothing_moves_up_to_the_changed_symbol_unless_the_mask_is_away():
    one = explorers.mask()
    for network in ("GRU", "Transformer"):
        for place in (1, 28, 63):
            before, after = numbers(one.description(place=place, network=network))[-2:]
            assert before == 0 and 0 < after <= 64 - place
    assert numbers(one.description(place=28, network="Transformer"))[-1] == 36
    assert numbers(one.description(place=28, network="Transformer without its mask"))[-2:] == [28, 36]


def test_a_digit_is_drawn_as_the_network_drew_it():
    one = explorers.drawing()
    for digit in (0, 8):
        ink = numbers(one.description(pixels=64, digit=digit))[-1]
        assert ink == sum(letter >= "i" for letter in told.DRAWN[digit])
    assert all(len(row) == 64 and set(row) <= set("abcdefghijklmnopq") for row in told.DRAWN)


def test_a_short_training_tells_labels_apart_in_its_bits():
    train, test = tables.levels()
    labels = data.digits().train_labels
    model = told.trained(TransformerConfig(classes=10, width=8), train, labels, steps=40, lr=1e-2)
    log_p = told.log_probs(model, test[:20])
    assert log_p.shape == (20, 10) and log_p.dtype == torch.float64
    assert -log_p.mean() / (64 * math.log(2)) < 3.2
    rows = told.draw_anew(2)
    assert len(rows) == 10 and all(len(row) == 64 for row in rows)
    letters = set("".join(rows))
    assert letters <= set("abcdefghijklmnopq") and len(letters) > 10


def test_training_tells_the_label():
    """Images of one level each, the label's: whoever is told it knows the image."""
    labels = torch.arange(10).repeat(8)
    x = labels[:, None].expand(-1, 64).contiguous()
    model = told.trained(TransformerConfig(classes=10, width=8), x, labels, steps=60, lr=2e-2)
    found = told.log_probs(model, x[:10])
    assert (found.argmax(1) == labels[:10]).double().mean() >= 0.8


def test_another_course_seed_trains_from_other_weights_and_on_other_batches(monkeypatch):
    labels = torch.arange(10).repeat(8)
    x = (labels[:, None] + torch.arange(64)).remainder(17)
    told_by = {"config": TransformerConfig(classes=10, width=8), "x": x, "labels": labels, "steps": 2, "lr": 1e-2}
    seen = []

    def watched(config, seed=0):
        seen.append(seed)
        return Autoregressive(config, seed)

    monkeypatch.setattr(told, "Autoregressive", watched)
    monkeypatch.setattr(told.training, "fit", lambda model, draw, loss, config: seen.append(config.seed))
    told.trained(**told_by)
    monkeypatch.setenv("COURSE_SEED", "3")
    told.trained(**told_by)
    assert seen == [0, 0, 3, 3]
