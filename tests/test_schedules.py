"""Schedules against closed forms, diffusers' tables and published numbers; step lists for every n."""

import itertools
import math

import diffusers
import numpy as np
import pytest
import torch
from oracles import draw, names_everything, refusal
from scipy.special import expit

from diffusion_lib.schedules import (
    Schedule,
    constant,
    cosine,
    from_beta,
    linear,
    log_snr_steps,
    scaled_linear,
    su,
    uniform_steps,
)

MAKERS = {"linear": linear, "scaled_linear": scaled_linear, "cosine": cosine, "constant": constant, "su": su}
NUMBERS = [0.97, 0.6, 0.35, 0.02]


def products(betas):
    """alpha_bar_0..T, by plain multiplication of Python floats."""
    table = [1.0]
    for beta in betas:
        table.append(table[-1] * (1 - beta))
    return table


def cosine_table(T, s):
    """Nichol and Dhariwal's alpha_bar with beta at most 0.999, term by term."""
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    return products(min(1 - after / before, 0.999) for before, after in itertools.pairwise(f))


CLOSED = {
    "linear": lambda T: products(1e-4 + (0.02 - 1e-4) * i / (T - 1) for i in range(T)),
    "scaled_linear": lambda T: products(
        (math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / (T - 1)) ** 2 for i in range(T)
    ),
    "cosine": lambda T: cosine_table(T, 0.008),
    "constant": lambda T: [0.99**t for t in range(T + 1)],
    "su": lambda T: products(0.02 * t / T for t in range(1, T + 1)),
}


@pytest.mark.parametrize("T", [2, 10, 200, 1000])
@pytest.mark.parametrize("name", MAKERS)
def test_tables_are_the_closed_forms(name, T):
    schedule = MAKERS[name](T)
    assert schedule.T == T and schedule.alpha_bar.shape == (T + 1,) and schedule.alpha_bar.dtype == torch.float64
    np.testing.assert_allclose(schedule.alpha_bar.numpy(), CLOSED[name](T), rtol=1e-11)


@pytest.mark.parametrize("name", MAKERS)
def test_default_T_is_1000(name):
    assert MAKERS[name]().T == 1000


def test_terminal_alpha_bar_of_common_defaults():
    """The table of lesson 09, by independent multiplication (three significant digits)."""
    for schedule, expected in (
        (linear(1000), 4.04e-5),
        (linear(200), 0.132),
        (linear(50), 0.603),
        (constant(100, 0.01511), 0.218),
        (su(1000), 4.2e-5),
    ):
        assert float(schedule.alpha_bar[-1]) == pytest.approx(expected, rel=6e-3)


@pytest.mark.parametrize("T", [10, 300, 1000])
def test_the_log_of_su_obeys_the_notes_bound(T):
    """In Su's amplitude letters log alpha_bar_T < -0.005 (T + 1); ours is the square: the double."""
    assert float(su(T).alpha_bar[-1].log()) < -0.01 * (T + 1)


def test_cosine_is_the_formula_until_its_clip():
    """alpha_bar_t = f(t) / f(0) for t < T; the last beta alone is cut, to 0.999."""
    schedule, T = cosine(), 1000
    for t in (1, 10, 500, 999):
        f = [math.cos((time / T + 0.008) / 1.008 * math.pi / 2) ** 2 for time in (0, t)]
        assert float(schedule.alpha_bar[t]) == pytest.approx(f[1] / f[0], rel=1e-9)
    assert float(schedule.beta[1000]) == pytest.approx(0.999, rel=1e-12)
    assert float(schedule.beta[1:1000].max()) < 0.999


@pytest.mark.parametrize(
    ("name", "betas"), [("linear", "linear"), ("scaled_linear", "scaled_linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_diffusers_float32_tables_agree_to_what_float32_holds(name, betas):
    start, end = (1e-4, 0.02) if name == "linear" else (0.00085, 0.012)
    scheduler = diffusers.DDPMScheduler(beta_schedule=betas, beta_start=start, beta_end=end)
    ours = MAKERS[name]()
    assert float((scheduler.alphas_cumprod.double() - ours.alpha_bar[1:]).abs().max()) < 1e-6  # their k is our t - 1
    assert float((scheduler.betas.double() - ours.beta[1:]).abs().max()) < 1e-6
    assert scheduler.alphas_cumprod.dtype == torch.float32


@pytest.mark.parametrize("name", MAKERS)
def test_properties_follow_from_the_table(name):
    schedule = MAKERS[name](50)
    table = schedule.alpha_bar.tolist()
    for t in range(1, 51):
        kept = table[t] / table[t - 1]
        assert float(schedule.alpha[t]) == pytest.approx(kept, rel=1e-12)
        assert float(schedule.beta[t]) == pytest.approx(1 - kept, abs=1e-15)
        assert float(schedule.snr[t]) == pytest.approx(table[t] / (1 - table[t]), rel=1e-12)
        assert expit(float(schedule.log_snr[t])) == pytest.approx(table[t], rel=1e-12)
    assert (float(schedule.beta[0]), float(schedule.alpha[0])) == (0.0, 1.0)
    assert float(schedule.snr[0]) == float(schedule.log_snr[0]) == math.inf
    for column in (schedule.beta, schedule.alpha, schedule.snr, schedule.log_snr):
        assert column.shape == (51,) and column.dtype == torch.float64


def test_from_beta_and_beta_are_inverse():
    beta = torch.linspace(1e-6, 0.9, 40, dtype=torch.float64)
    torch.testing.assert_close(from_beta(beta).beta[1:], beta, rtol=1e-9, atol=0)
    assert float(from_beta(beta).beta[0]) == 0.0


@pytest.mark.parametrize("table", [[1.0, *NUMBERS], np.array([1.0, *NUMBERS]), torch.tensor([1.0, *NUMBERS]).double()])
def test_any_table_a_reader_brings(table):
    schedule = Schedule(table)
    assert schedule.T == 4 and schedule.alpha_bar.dtype == torch.float64
    tolerance = 1e-7 if isinstance(table, torch.Tensor) else 0  # this tensor was float32 when it was written down
    np.testing.assert_allclose(schedule.alpha_bar.numpy(), [1.0, *NUMBERS], rtol=tolerance)


def test_lists_keep_all_their_digits():
    assert from_beta([0.1, 0.2]).alpha_bar.tolist() == pytest.approx([1.0, 0.9, 0.72], rel=1e-15)


def test_the_table_is_a_copy():
    table = torch.tensor([1.0, *NUMBERS], dtype=torch.float64)
    schedule = Schedule(table)
    table[1] = 0.5
    assert float(schedule.alpha_bar[1]) == 0.97


def test_a_schedule_cannot_be_changed():
    with pytest.raises(AttributeError):
        linear(5).alpha_bar = torch.ones(3)


# Rates
@pytest.mark.parametrize("name", MAKERS)
def test_rates_are_the_roots_at_every_time(name):
    schedule = MAKERS[name]()
    t = torch.arange(1001)
    signal, noise = schedule.rates(t, torch.zeros(1001, 1, 2, 2, dtype=torch.float64))
    assert signal.shape == noise.shape == (1001, 1, 1, 1)
    table = schedule.alpha_bar.numpy().astype(np.longdouble)
    np.testing.assert_allclose(signal.flatten().numpy(), np.sqrt(table).astype(float), rtol=1e-15)
    np.testing.assert_allclose(noise.flatten().numpy(), np.sqrt(1 - table).astype(float), rtol=1e-15)


@pytest.mark.parametrize("name", MAKERS)
def test_float32_rates_are_rounded_last(name):
    """1 - alpha_bar taken in float32 loses up to three digits near t = 0; rounding the float64 rate loses none."""
    schedule = MAKERS[name]()
    t = torch.arange(1, 1001)
    exact = np.sqrt(1 - schedule.alpha_bar[1:].numpy().astype(np.longdouble))
    noise = schedule.rates(t, torch.zeros(1000, 1))[1].flatten()
    assert noise.dtype == torch.float32
    assert float(np.abs(noise.numpy() / exact - 1).max()) < 6e-8
    naive = (1 - schedule.alpha_bar[1:].float()).sqrt()
    assert name == "constant" or float(np.abs(naive.numpy() / exact - 1).max()) > 1e-5  # the trap is real


def test_rates_of_an_int_broadcast_and_take_dtype():
    signal, noise = Schedule([1.0, 0.36]).rates(1, torch.zeros(5, 3, dtype=torch.bfloat16))
    assert signal.shape == noise.shape == (1, 1) and signal.dtype == torch.bfloat16
    assert (float(signal), float(noise)) == pytest.approx((0.6, 0.8), rel=4e-3)
    assert Schedule([1.0, 0.36]).rates(0, torch.zeros(5, 3))[1].item() == 0.0


# Step lists
@pytest.mark.parametrize("choose", [uniform_steps, log_snr_steps])
@pytest.mark.parametrize("name", MAKERS)
def test_step_lists_hold_T_1_and_0_and_fall_for_every_n(name, choose):
    schedule = MAKERS[name](97)
    for n in range(2, 98):
        steps = choose(schedule, n)
        times = steps.tolist()
        assert steps.dtype == torch.int64
        assert (times[0], times[-2], times[-1]) == (97, 1, 0)
        assert all(s < t for t, s in itertools.pairwise(times))
        assert len(times) == n + 1 if choose is uniform_steps else len(times) <= n + 1
    assert uniform_steps(schedule, 97).tolist() == list(range(97, -1, -1))


@pytest.mark.parametrize("choose", [uniform_steps, log_snr_steps])
def test_step_lists_of_short_schedules(choose):
    assert choose(constant(1), 1).tolist() == [1, 0]
    assert choose(constant(2), 2).tolist() == [2, 1, 0]


@pytest.mark.parametrize("T", [1000, 999])
def test_uniform_steps_for_every_n_of_a_long_schedule(T):
    schedule = linear(T)
    for n in range(2, T + 1):
        times = uniform_steps(schedule, n)
        assert len(times) == n + 1 and int(times[0]) == T and int(times[-2]) == 1
        gaps = -times[:-1].diff()
        assert int(gaps.min()) >= 1 and int(gaps.max()) - int(gaps.min()) <= 2  # as even as whole numbers can be


@pytest.mark.parametrize("name", ["linear", "cosine", "scaled_linear"])
def test_log_snr_steps_are_the_nearest_times_to_even_steps(name):
    schedule, n = MAKERS[name](), 20
    log_snr = [math.inf] + [math.log(value / (1 - value)) for value in schedule.alpha_bar.tolist()[1:]]
    low, high = log_snr[1000], log_snr[1]
    wanted = [low + (high - low) * i / (n - 1) for i in range(n)]
    nearest = {min(range(1, 1001), key=lambda t: abs(log_snr[t] - value)) for value in wanted}
    assert log_snr_steps(schedule, n).tolist() == [*sorted(nearest, reverse=True), 0]


# Mistakes
@pytest.mark.parametrize(
    ("table", "kind", "came"),
    [
        ([0.9, 0.5], ValueError, "0.9"),
        ([1.0, 0.5, 0.5], ValueError, "0.5"),
        ([1.0, 0.5, 0.6], ValueError, "0.6"),
        ([1.0, 1.0, 0.6], ValueError, "1.0, 1.0"),
        ([1.0, 0.5, 0.0], ValueError, "0.0"),
        ([1.0, 0.5, -0.1], ValueError, "-0.1"),
        ([1.0, math.nan, 0.2], ValueError, "NaN"),
        ([1.0, 0.5, math.nan], ValueError, "NaN"),
        ([math.nan, 0.5], ValueError, "NaN"),
        ([1.0, -math.inf], ValueError, "infinity"),
        ([1.1, 0.5], ValueError, "1.1"),
        ([1.0], ValueError, "(1,)"),
        ([], ValueError, "(0,)"),
        ([[1.0, 0.5]], ValueError, "(1, 2)"),
        (0.5, ValueError, "()"),
        ("linear", TypeError, "str"),
        (None, TypeError, "NoneType"),
        ([1.0, "half"], TypeError, "list"),
    ],
)
def test_bad_tables_are_refused(table, kind, came):
    error = refusal(lambda: Schedule(table))
    assert isinstance(error, kind) and names_everything(error, "alpha_bar", came), error


@pytest.mark.parametrize(
    ("beta", "came"),
    [
        ([0.1, 0.0], "0.0"),
        ([0.1, 1.0], "1.0"),
        ([0.1, -0.2], "-0.2"),
        ([0.1, math.nan], "nan"),
        ([], "(0,)"),
        ([[0.1]], "(1, 1)"),
        (0.1, "()"),
        ("linear", "str"),
        (None, "NoneType"),
    ],
)
def test_bad_betas_are_refused(beta, came):
    error = refusal(lambda: from_beta(beta))
    assert names_everything(error, "beta", came), error


def test_a_beta_below_rounding_is_refused():
    """1 - 1e-17 is 1 in float64: the table would stand still."""
    assert names_everything(refusal(lambda: from_beta([0.1, 1e-17])), "alpha_bar", "0.9")


@pytest.mark.parametrize(
    ("make", "name", "came"),
    [
        *[(lambda make=make: make(0), "T", "0") for make in MAKERS.values()],
        *[(lambda make=make: make(-3), "T", "-3") for make in MAKERS.values()],
        *[(lambda make=make: make(10.0), "T", "10.0") for make in MAKERS.values()],
        *[(lambda make=make: make(True), "T", "True") for make in MAKERS.values()],
        (lambda: linear(10, start=-0.1), "start", "-0.1"),
        (lambda: linear(10, end=1.5), "end", "1.5"),
        (lambda: linear(10, end=math.nan), "end", "nan"),
        (lambda: linear(10, start="small"), "start", "str"),
        (lambda: scaled_linear(10, start=-0.1), "start", "-0.1"),
        (lambda: scaled_linear(10, end=2), "end", "2"),
        (lambda: constant(10, beta=1.5), "beta", "1.5"),
        (lambda: constant(10, beta=None), "beta", "NoneType"),
        (lambda: su(10, slope=1.5), "slope", "1.5"),
        (lambda: cosine(10, s=0.0), "s", "0.0"),
        (lambda: cosine(10, s=-1), "s", "-1"),
        (lambda: cosine(10, s=math.inf), "s", "inf"),
        *[(lambda choose=choose: choose(linear(10), 0), "n", "0") for choose in (uniform_steps, log_snr_steps)],
        *[(lambda choose=choose: choose(linear(10), 1), "n", "1") for choose in (uniform_steps, log_snr_steps)],
        *[(lambda choose=choose: choose(linear(10), 11), "n", "11") for choose in (uniform_steps, log_snr_steps)],
        *[(lambda choose=choose: choose(linear(10), 5.0), "n", "5.0") for choose in (uniform_steps, log_snr_steps)],
        (lambda: linear(10).rates(11, draw(2, 2)), "t", "11"),
        (lambda: linear(10).rates(-1, draw(2, 2)), "t", "-1"),
        (lambda: linear(10).rates(2.0, draw(2, 2)), "t", "2.0"),
        (lambda: linear(10).rates(torch.tensor([1, 2, 3]), draw(2, 2)), "t", "(3,)"),
    ],
)
def test_bad_arguments_are_refused(make, name, came):
    error = refusal(make)
    assert names_everything(error, name, came), error
