"""Six notations of one process, against 40 digits, an integrated SDE and diffusers."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler
from oracles import forty_digits, state_amplitudes
from scipy.integrate import solve_ivp

from diffusion_lib import notation
from diffusion_lib.notation import CONVENTIONS, DDIM, DDPM, EDM, FLOW, SDE, SU, amplitudes, at, convert, decoded
from diffusion_lib.schedules import Schedule, cosine, from_beta, linear, su

TIMES = (1, 2, 10, 250, 500, 999, 1000)
PAIRS = list(itertools.permutations(CONVENTIONS.values(), 2))
LINEAR = linear()
TABLE = amplitudes(LINEAR)


def by_name(convention):
    return convention.name


@pytest.fixture(scope="module")
def exact():
    return forty_digits()


def relative(found, expected) -> float:
    """The largest relative deviation for t = 1..T."""
    return max(float(abs(mpmath.mpf(float(f)) / e - 1)) for f, e in zip(found[1:], expected[1:], strict=True))


# ---- tables ----


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=by_name)
def test_each_table_is_the_papers_to_forty_digits(convention, exact):
    """From the betas; a step's own letter is a difference of cumulative ones, so it keeps fewer digits."""
    steps = convention in (DDPM, SU, SDE)
    beta = torch.cat([torch.zeros(1, dtype=torch.float64), torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)])
    table = convert(beta, DDPM, convention)
    assert table.shape == (1001,)
    assert table[0] == (1 if convention is DDIM else 0)
    assert relative(table, exact[convention.name]) < (1e-10 if steps else 1e-12)
    found = decoded(torch.tensor([float(x) for x in exact[convention.name]], dtype=torch.float64), convention)
    assert relative(found.signal, exact["signal"]) < 1e-12
    assert relative(found.noise, exact["noise"]) < 1e-12


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=[f"{s.name} and {t.name}" for s, t in PAIRS])
def test_every_pair_converts_there_and_back(source, target):
    values = source.encode(TABLE)
    back = decoded(convert(convert(values, source, target), target, source), source)
    assert (back.signal / TABLE.signal - 1)[1:].abs().max() < 1e-12
    assert (back.noise / TABLE.noise - 1)[1:].abs().max() < 1e-12


@pytest.mark.parametrize("schedule", [cosine(), su(), linear(10, 0.05, 0.4)], ids=["cosine", "su", "coarse"])
def test_other_schedules_convert_there_and_back_too(schedule):
    table = amplitudes(schedule)
    for source, target in PAIRS:
        back = decoded(convert(source.encode(table), source, target), target)
        assert (back.signal / table.signal - 1)[1:].abs().max() < 1e-11
        assert (back.noise / table.noise - 1)[1:].abs().max() < 1e-11


@pytest.mark.parametrize("convention", [c for c in CONVENTIONS.values() if c is not DDIM], ids=by_name)
def test_very_little_noise_keeps_its_digits(convention):
    """A noise of 1e-6: 1 - 1e-12 has four digits of it, so no table but DDIM's may pass through that number."""
    noise = torch.tensor([0, 1e-6], dtype=torch.float64)
    table = notation.Amplitudes((1 - noise**2).sqrt(), noise)
    letter = {"DDPM": 1e-12, "score SDE": 1e-12, "flow matching": 1e-6 / (1 + 1e-6)}.get(convention.name, 1e-6)
    assert convention.encode(table)[1].item() == pytest.approx(letter, rel=2e-12)
    assert decoded(convention.encode(table), convention).noise[1].item() == pytest.approx(1e-6, rel=2e-12)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=by_name)
def test_a_table_of_alpha_bar_cannot_hold_small_noise(convention):
    """EDM's own levels by way of each paper's letter: only DDIM's, which is alpha_bar, loses digits."""
    sigma = torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-2.7, 1.9, 100, dtype=torch.float64)])
    back = convert(convert(sigma, EDM, convention), convention, EDM)
    error = float((back / sigma - 1)[1:].abs().max())
    assert 1e-12 < error < 1e-10 if convention is DDIM else error < 1e-14


def test_a_schedules_first_noise_has_lost_four_digits():
    """Against 40 digits: 1 - alpha_bar_1 = 1e-4 to twelve digits, where float64 has sixteen."""
    beta_1 = mpmath.mpf(float(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)[0]))
    error = float(abs(mpmath.mpf(float(TABLE.noise[1])) / mpmath.sqrt(beta_1) - 1))
    assert 1e-14 < error < 1e-12


def test_flow_matchings_papers_with_their_time_turned_round():
    """Lipman et al. 2023 with sigma_min = 0, Liu et al. 2023: x = r x_1 + (1 - r) x_0, x_1 data, dx/dr = x_1 - x_0."""
    tau, (data, noise) = FLOW.encode(TABLE), (0.3, -1.2)
    r = notation.reverse_time(tau)
    assert r[0] == 1 and 0 < r[-1] < 0.01  # data at 1, noise at 0
    theirs = r * data + (1 - r) * noise
    ours = FLOW.state_scale(TABLE) * (TABLE.signal * data + TABLE.noise * noise)
    assert torch.allclose(theirs, ours, rtol=0, atol=1e-14)
    slope, minus_slope = (theirs.diff() / time.diff() for time in (r, tau))
    assert torch.allclose(slope, torch.full((1000,), data - noise, dtype=torch.float64), rtol=1e-9)
    assert torch.equal(minus_slope.sign(), -slope.sign())
    back = decoded(notation.reverse_time(r), FLOW)
    assert (back.signal / TABLE.signal - 1)[1:].abs().max() < 1e-12
    assert (back.noise / TABLE.noise - 1)[1:].abs().max() < 1e-12


@pytest.mark.parametrize(
    ("time", "error", "message"),
    [
        (0.5, TypeError, "time: expected a torch.Tensor, got float"),
        (torch.tensor([0, 1]), TypeError, "time: expected floating.point"),
        (torch.tensor([0.0, 1.5]), ValueError, r"time: expected numbers in \[0, 1\], got 0..1.5"),
        (torch.tensor([-0.5]), ValueError, r"time: expected numbers in \[0, 1\], got -0.5..-0.5"),
    ],
)
def test_reverse_time_refuses(time, error, message):
    with pytest.raises(error, match=message):
        notation.reverse_time(time)


def test_diffusers_counts_from_zero():
    """Its timestep k is our t = k + 1; its tables are float32."""
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    assert torch.allclose(DDIM.encode(TABLE)[1:], theirs.alphas_cumprod.double(), atol=1e-6, rtol=0)
    assert torch.allclose(DDPM.encode(TABLE)[1:], theirs.betas.double(), atol=1e-8, rtol=0)
    euler = EulerDiscreteScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    euler.set_timesteps(1000)
    assert torch.allclose(EDM.encode(TABLE)[1:].flip(0), euler.sigmas[:-1].double(), rtol=1e-3)


def test_the_sde_with_these_rates_has_these_moments():
    """Integrate the equations of mean and variance, m' = -m beta / 2 and V' = beta (1 - V), step after step."""
    schedule = linear(20, 0.005, 0.4)
    rate, table = SDE.encode(amplitudes(schedule)), amplitudes(schedule)
    moments = [1.0, 0.0]
    for t in range(1, 21):
        flow = lambda s, m, b=float(rate[t]): [-b * m[0] / 2, b * (1 - m[1])]  # noqa: E731
        moments = solve_ivp(flow, (0, 1 / 20), moments, rtol=1e-11, atol=1e-13).y[:, -1]
        assert moments[0] == pytest.approx(float(table.signal[t]), rel=1e-9)
        assert moments[1] == pytest.approx(float(table.noise[t]) ** 2, rel=1e-9)


def test_the_sde_rate_tends_to_t_beta():
    """beta(t/T) = -T log(1 - beta_t) is T beta_t to first order: 1 % more at beta = 0.02."""
    ratio = SDE.encode(TABLE)[1:] / (1000 * LINEAR.beta[1:])
    assert ratio[0] == pytest.approx(1 + 1e-4 / 2, abs=1e-7)
    assert ratio[-1] == pytest.approx(1 + 0.02 / 2 + 0.02**2 / 3, abs=1e-5)


def test_a_readers_sigmas_become_a_schedule():
    sigma = torch.tensor([0, 0.002, 0.1, 1, 10, 80], dtype=torch.float64)
    schedule = Schedule(convert(sigma, EDM, DDIM))
    assert ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt().tolist() == pytest.approx(sigma.tolist(), rel=1e-10)


def test_letters_of_one_paper_agree_with_each_other():
    letter = {name: values(TABLE) for name, values in SU.letters.items()}
    assert torch.allclose(letter[r"\alpha_t"] ** 2 + letter[r"\beta_t"] ** 2, torch.ones(1001, dtype=torch.float64))
    assert torch.allclose(letter[r"\alpha_t"].cumprod(0), letter[r"\bar\alpha_t"])
    letter = {name: values(TABLE) for name, values in DDPM.letters.items()}
    assert torch.allclose(letter[r"\alpha_t"], 1 - letter[r"\beta_t"])
    assert torch.allclose(letter[r"\alpha_t"].cumprod(0), letter[r"\bar\alpha_t"])
    letter = {name: values(TABLE) for name, values in SDE.letters.items()}
    assert torch.allclose(letter[r"\beta(t/T)"].cumsum(0) / 1000, letter["B_t"])
    for convention in CONVENTIONS.values():
        assert convention.letter in convention.letters
        assert convention.letters[convention.letter](TABLE).equal(convention.encode(TABLE))


@pytest.mark.parametrize("t", [1, 250, 1000])
def test_every_letter_of_every_paper_from_the_betas_alone(t):
    beta = np.linspace(1e-4, 0.02, 1000)[:t]
    kept, last = np.prod(1 - beta), beta[-1]
    signal, noise = kept**0.5, (1 - kept) ** 0.5
    expected = {
        "DDPM": [last, 1 - last, kept],
        "DDIM": [kept],
        "Su Jianlin": [(1 - last) ** 0.5, last**0.5, signal, noise],
        "score SDE": [-1000 * math.log1p(-last), -math.log(kept)],
        "EDM": [noise / signal],
        "flow matching": [noise / (signal + noise)],
    }
    found = {name: [float(c.letters[letter](TABLE)[t]) for letter in c.letters] for name, c in CONVENTIONS.items()}
    assert found == {name: pytest.approx(values, rel=1e-9) for name, values in expected.items()}


def test_letters_at_a_time():
    numbers = at(DDPM, TABLE, 500, 100)
    for name, time in ((r"\bar\alpha_t", 500), (r"\bar\alpha_{t-1}", 499), (r"\bar\alpha_s", 100)):
        assert numbers[name] == pytest.approx(float(LINEAR.alpha_bar[time]), rel=1e-15)
    assert numbers[r"\beta_t"] == pytest.approx(float(LINEAR.beta[500]), rel=1e-10)
    assert numbers["T"] == 1000
    assert at(SDE, TABLE, 500, 100)[r"\beta(t/T)"] == float(SDE.encode(TABLE)[500])


# ---- the state of each paper ----


WAYS = [(c, t) for c in CONVENTIONS.values() for t in TIMES]
each_way = pytest.mark.parametrize(("convention", "t"), WAYS, ids=[f"{c.name} {t}" for c, t in WAYS])


@each_way
def test_state_scale(convention, t, exact):
    a, b = state_amplitudes(convention, exact, t)
    scale = float(convention.state_scale(TABLE)[t])
    assert scale * float(TABLE.signal[t]) == pytest.approx(a, rel=1e-12)
    assert scale * float(TABLE.noise[t]) == pytest.approx(b, rel=1e-12)


# ---- bad input ----


@pytest.mark.parametrize(
    ("values", "source", "error", "message"),
    [
        ([0.0, 0.1], DDPM, TypeError, "values: expected a torch.Tensor, got list"),
        (torch.tensor([0, 1]), EDM, TypeError, "values: expected floating.point"),
        (torch.zeros(2, 2), EDM, ValueError, r"values: expected shape \(T\+1,\) with T at least 1, got \(2, 2\)"),
        (torch.zeros(1), EDM, ValueError, r"values: expected shape \(T\+1,\)"),
        (torch.tensor([0.0, float("nan")]), EDM, ValueError, "values: expected finite numbers"),
        (torch.tensor([0.0, 1.5]), DDPM, ValueError, r"values: expected numbers in \[0, 1\] for DDPM, got 0..1.5"),
        (
            torch.tensor([0.0, -0.5]),
            SU,
            ValueError,
            r"values: expected numbers in \[0, 1\] for Su Jianlin, got -0.5..0",
        ),
        (torch.tensor([0.0, 1.0]), DDPM, ValueError, "values: expected noise that grows from 0 and leaves some signal"),
        (torch.tensor([0.0, 1.0]), FLOW, ValueError, "values: expected noise that grows"),
        (torch.tensor([0.1, 0.5]), FLOW, ValueError, "values: expected noise that grows from 0"),
        (torch.tensor([0.0, 0.5, 0.5]), EDM, ValueError, "values: expected noise that grows"),
        (torch.tensor([0.0, 0.5, 0.0]), SDE, ValueError, "values: expected noise that grows"),
        (torch.tensor([1.0, 0.5, 0.6]), DDIM, ValueError, "values: expected noise that grows"),
    ],
)
def test_bad_tables(values, source, error, message):
    with pytest.raises(error, match=message):
        convert(values, source, EDM)


@pytest.mark.parametrize(
    ("t", "s", "error"), [(0, 0, ValueError), (1001, 0, ValueError), (5, -1, ValueError), (1.5, 0, TypeError)]
)
def test_bad_times(t, s, error):
    with pytest.raises(error, match="expected"):
        at(DDPM, TABLE, t, s)


def test_from_beta_and_notation_agree():
    beta = torch.linspace(0.01, 0.3, 30, dtype=torch.float64)
    found = convert(torch.cat([torch.zeros(1, dtype=torch.float64), beta]), DDPM, DDIM)
    assert torch.allclose(found, from_beta(beta).alpha_bar, rtol=1e-13)
