"""The process against Bayes on a grid, exact Gaussian algebra and simulation."""

import math

import numpy as np
import pytest
import torch
from oracles import bayes, draw, names_everything, refusal, seeded

from diffusion_lib import process, schedules
from diffusion_lib.process import (
    EPS,
    X0,
    Prediction,
    V,
    posterior_coefficients,
    q_posterior,
    q_sample,
    q_step,
    require_schedule,
    schedule_of,
)
from diffusion_lib.schedules import Schedule, cosine, linear, su

COARSE = Schedule(torch.tensor([1.0, 0.9, 0.7, 0.45, 0.2, 0.06]))
TEN = linear(T=10, start=0.05, end=0.4)
SCHEDULES = {"linear": linear(), "cosine": cosine(), "su": su(), "coarse": COARSE}


def chain(schedule, x0, noises):
    """x_1, ..., x_T one Markov step at a time."""
    states = [x0]
    for t, noise in enumerate(noises, start=1):
        states.append(q_step(schedule, states[-1], t, noise))
    return states


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_keeps_alpha_of_the_signal_and_adds_beta_of_noise(name):
    """Ho et al. 2020, eq. 2, from alpha_bar alone, at times 1, middle and T."""
    schedule = SCHEDULES[name]
    for t in {1, max(schedule.T // 2, 1), schedule.T}:
        kept = float(schedule.alpha_bar[t]) / float(schedule.alpha_bar[t - 1])
        one, nil = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
        assert float(q_step(schedule, one, t, nil)) == pytest.approx(math.sqrt(kept), rel=1e-12)
        assert float(q_step(schedule, nil, t, one)) == pytest.approx(math.sqrt(1 - kept), rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_chained_steps_are_the_jump_in_distribution(name):
    """The chain is linear in (x_0, noise_1, ..., noise_t): its gain and its summed squares are the jump's."""
    schedule = SCHEDULES[name]
    zero = torch.zeros(1, 1, dtype=torch.float64)
    gain, variance = 1.0, 0.0
    for t in range(1, schedule.T + 1):
        keep = float(q_step(schedule, zero + 1, t, zero))
        add = float(q_step(schedule, zero, t, zero + 1))
        gain, variance = keep * gain, keep**2 * variance + add**2
        if t in (1, 2, schedule.T // 2, schedule.T):
            assert float(q_sample(schedule, zero + 1, t, zero)) == pytest.approx(gain, rel=1e-10)
            assert float(q_sample(schedule, zero, t, zero + 1)) ** 2 == pytest.approx(variance, rel=1e-10)


def test_simulated_chain_has_the_moments_of_the_jump():
    n = 40_000
    x0 = torch.full((n, 1), 1.5, dtype=torch.float64)
    generator = seeded(3)
    states = chain(COARSE, x0, [torch.randn(n, 1, generator=generator, dtype=torch.float64) for _ in range(5)])
    for t, x_t in enumerate(states[1:], start=1):
        alpha_bar = [1.0, 0.9, 0.7, 0.45, 0.2, 0.06][t]
        variance = 1 - alpha_bar
        assert abs(float(x_t.mean()) - 1.5 * math.sqrt(alpha_bar)) < 4 * math.sqrt(variance / n)
        assert abs(float(x_t.var()) - variance) < 4 * variance * math.sqrt(2 / n)


def test_jump_written_out():
    """alpha_bar = 0.36: sqrt is 0.6, and 1 - 0.36 = 0.64 has root 0.8."""
    schedule = Schedule(torch.tensor([1.0, 0.36]))
    assert torch.allclose(
        q_sample(schedule, torch.tensor([[10.0, -5.0]]), 1, torch.tensor([[1.0, 2.0]])), torch.tensor([[6.8, -1.4]])
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_jump_to_time_zero_is_x0_itself(name, dtype):
    """alpha_bar[0] = 1: no noise, to the last bit, for all times at once or for one example of a batch."""
    schedule, x0, eps = SCHEDULES[name], draw(3, 2, dtype=dtype), draw(3, 2, seed=1, dtype=dtype)
    assert torch.equal(q_sample(schedule, x0, 0, eps), x0)
    assert torch.equal(q_sample(schedule, x0, torch.zeros(3, dtype=torch.int64), eps), x0)
    mixed = q_sample(schedule, x0, torch.tensor([0, schedule.T, 0]), eps)
    assert torch.equal(mixed[::2], x0[::2]) and not bool((mixed[1] == x0[1]).any())


@pytest.mark.parametrize(("s", "t"), [(s, t) for t in range(1, 11) for s in range(1, t)])
def test_posterior_is_bayes_on_a_grid(s, t):
    alpha_bar = TEN.alpha_bar.tolist()
    for x0, x_t in ((1.3, -0.4), (-0.7, 2.1)):
        mean, variance = bayes(alpha_bar, s, t, x0, x_t)
        ours = q_posterior(
            TEN, torch.tensor([[x0]], dtype=torch.float64), torch.tensor([[x_t]], dtype=torch.float64), s, t
        )
        assert float(ours[0]) == pytest.approx(mean, abs=1e-9)
        assert float(ours[1]) == pytest.approx(variance, rel=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_posterior_to_time_zero_is_x0_itself(name):
    schedule = SCHEDULES[name]
    for t in {1, schedule.T // 2, schedule.T}:
        mean, variance = q_posterior(schedule, draw(3, 2), draw(3, 2, seed=1), 0, t)
        assert torch.allclose(mean, draw(3, 2), rtol=0, atol=1e-12) and float(variance.abs().max()) == 0.0


@pytest.mark.parametrize("name", SCHEDULES)
def test_posterior_averaged_over_x_t_is_the_jump_to_s(name):
    """x_s = mean(x_0, x_t) + std noise with x_t a jump: the algebra must give back q(x_s | x_0), for any s < t."""
    schedule = SCHEDULES[name]
    T = schedule.T
    one, nil = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for s, t in {(1, 2), (1, T), (T // 2, T), (T // 3, T // 2 + 1), (T - 1, T), (0, T)}:
        if not s < t:
            continue
        of_x0, variance = q_posterior(schedule, one, nil, s, t)
        of_x_t, _ = q_posterior(schedule, nil, one, s, t)
        a_t, b_t = (float(rate) for rate in schedule.rates(t, one))
        alpha_bar_s = float(schedule.alpha_bar[s])
        assert float(of_x0) + float(of_x_t) * a_t == pytest.approx(math.sqrt(alpha_bar_s), rel=1e-11)
        assert float(variance) + (float(of_x_t) * b_t) ** 2 == pytest.approx(1 - alpha_bar_s, rel=1e-9, abs=1e-15)


def test_posterior_coefficients_are_those_of_the_posterior():
    for s, t in ((0, 1), (2, 5), (3, 4)):
        c_t, c_0, variance = posterior_coefficients(COARSE.alpha_bar[s], COARSE.alpha_bar[t])
        mean, expected = q_posterior(COARSE, draw(3, 2), draw(3, 2, seed=1), s, t)
        assert torch.allclose(mean, c_t * draw(3, 2, seed=1) + c_0 * draw(3, 2), rtol=0, atol=1e-15)
        assert float(variance) == float(expected)


def test_a_time_for_each_point_is_that_time_for_all():
    """A tensor of times picks, for each point, what the int gives; ints broadcast over any data shape."""
    x0, eps = draw(4, 3, 2), draw(4, 3, 2, seed=1)
    s, t = torch.tensor([0, 2, 1, 3]), torch.tensor([1, 5, 3, 4])
    jumped, stepped = q_sample(COARSE, x0, t, eps), q_step(COARSE, x0, t, eps)
    mean, variance = q_posterior(COARSE, x0, eps, s, t)
    assert variance.shape == (4, 1, 1)
    for i in range(4):
        row, earlier, later = slice(i, i + 1), int(s[i]), int(t[i])
        assert torch.equal(jumped[row], q_sample(COARSE, x0[row], later, eps[row]))
        assert torch.equal(stepped[row], q_step(COARSE, x0[row], later, eps[row]))
        one_mean, one_variance = q_posterior(COARSE, x0[row], eps[row], earlier, later)
        assert torch.equal(mean[row], one_mean) and torch.equal(variance[row], one_variance)
    assert q_posterior(COARSE, x0, eps, 1, 3)[1].shape == (1, 1, 1)
    both = q_posterior(COARSE, x0, eps, 1, t.clamp(min=2))[0]
    assert torch.equal(both[1:2], q_posterior(COARSE, x0[1:2], eps[1:2], 1, 5)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_keep_the_dtype_of_the_data_and_the_digits_of_the_table(dtype):
    schedule = cosine()
    x0, eps = draw(2, 3, dtype=dtype), draw(2, 3, seed=1, dtype=dtype)
    tolerance = 4 * torch.finfo(dtype).eps
    for t in (1, 2, 500, 1000):
        for ours, exact in (
            (q_sample(schedule, x0, t, eps), q_sample(schedule, x0.double(), t, eps.double())),
            (q_step(schedule, x0, t, eps), q_step(schedule, x0.double(), t, eps.double())),
            (
                q_posterior(schedule, x0, eps, t - 1, t)[0],
                q_posterior(schedule, x0.double(), eps.double(), t - 1, t)[0],
            ),
        ):
            assert ours.dtype == dtype
            assert torch.allclose(ours.double(), exact, rtol=tolerance, atol=tolerance)
    assert schedule.alpha_bar.dtype == torch.float64


# Parameterizations
@pytest.mark.parametrize("parameterization", [EPS, X0, V], ids=["EPS", "X0", "V"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_target_and_solve_are_inverse_at_every_time(name, parameterization):
    schedule = SCHEDULES[name]
    T = schedule.T
    t = torch.arange(1, T + 1)
    x0, eps = draw(T, 2), draw(T, 2, seed=1)
    x_t = q_sample(schedule, x0, t, eps)
    a, b = schedule.rates(t, x0)
    prediction = parameterization.solve(schedule, x_t, parameterization.target(schedule, x0, eps, t), t)
    assert isinstance(prediction, Prediction)
    # what a divides away can only come back to rounding / a
    assert bool(((prediction.x0 - x0).abs() * a < 1e-14 * 8).all())
    assert bool(((prediction.eps - eps).abs() * b < 1e-14 * 8).all())
    assert torch.allclose(a * prediction.x0 + b * prediction.eps, x_t, rtol=1e-13, atol=1e-13)


def test_targets_written_out():
    """alpha_bar = 0.36: v = 0.6 eps - 0.8 x0."""
    schedule, x0, eps = Schedule(torch.tensor([1.0, 0.36])), torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, -3.0]])
    assert torch.equal(EPS.target(schedule, x0, eps, 1), eps)
    assert torch.equal(X0.target(schedule, x0, eps, 1), x0)
    assert torch.allclose(V.target(schedule, x0, eps, 1), torch.tensor([[2.2, -3.4]]))


def test_v_is_the_speed_along_the_angle():
    """With signal cos(phi) and noise sin(phi), v is the derivative of x in phi (Salimans and Ho 2022, appendix D)."""
    phi = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x0, eps = 1.3, -0.4
    (speed,) = torch.autograd.grad(phi.cos() * x0 + phi.sin() * eps, phi)
    schedule = Schedule([1.0, math.cos(0.7) ** 2])
    ours = V.target(schedule, torch.tensor([[x0]], dtype=torch.float64), torch.tensor([[eps]], dtype=torch.float64), 1)
    assert float(ours) == pytest.approx(float(speed), rel=1e-12)


# Mistakes
GOOD, LIKE = draw(4, 2), draw(4, 2, seed=1)
CALLS = {
    "q_step": (q_step, {"schedule": TEN, "x_prev": GOOD, "t": 3, "noise": LIKE}, "x_prev", "noise"),
    "q_sample": (q_sample, {"schedule": TEN, "x0": GOOD, "t": 3, "eps": LIKE}, "x0", "eps"),
    "q_posterior": (q_posterior, {"schedule": TEN, "x0": GOOD, "x_t": LIKE, "s": 1, "t": 3}, "x0", "x_t"),
    "EPS.target": (EPS.target, {"schedule": TEN, "x0": GOOD, "eps": LIKE, "t": 3}, "x0", "eps"),
    "X0.target": (X0.target, {"schedule": TEN, "x0": GOOD, "eps": LIKE, "t": 3}, "x0", "eps"),
    "V.target": (V.target, {"schedule": TEN, "x0": GOOD, "eps": LIKE, "t": 3}, "x0", "eps"),
    "EPS.solve": (EPS.solve, {"schedule": TEN, "x_t": GOOD, "output": LIKE, "t": 3}, "x_t", "output"),
    "X0.solve": (X0.solve, {"schedule": TEN, "x_t": GOOD, "output": LIKE, "t": 3}, "x_t", "output"),
    "V.solve": (V.solve, {"schedule": TEN, "x_t": GOOD, "output": LIKE, "t": 3}, "x_t", "output"),
}
BAD_TIMES = [
    (0, "0"),
    (11, "11"),
    (-1, "-1"),
    (3.0, "3.0"),
    (True, "True"),
    (None, "None"),
    ("3", "'3'"),
    (np.float64(3), "3.0"),
    (torch.tensor([1.0, 2.0, 3.0, 4.0]), "torch.float32"),
    (torch.tensor([True] * 4), "torch.bool"),
    (torch.tensor([1, 2, 3]), "(3,)"),
    (torch.tensor([[1], [2], [3], [4]]), "(4, 1)"),
    (torch.tensor([1, 2, 3, 11]), "11"),
    (torch.tensor([0, 2, 3, 4]), "0"),
]
BAD_FIRST = [
    (GOOD * math.nan, "NaN"),
    (GOOD / 0, "infinity"),
    (GOOD.to(torch.uint8), "torch.uint8"),
    (GOOD.to(torch.int64), "torch.int64"),
    (GOOD.to(torch.complex128), "torch.complex128"),
    (GOOD.numpy(), "ndarray"),
    (torch.tensor(1.0), "single number"),
]
BAD_SECOND = [
    (draw(4, 1), "(4, 1)"),
    (draw(1, 2), "(1, 2)"),
    (torch.tensor(1.0, dtype=torch.float64), "()"),
    (LIKE.float(), "torch.float32"),
    (1.0, "float"),
]


@pytest.mark.parametrize(("t", "came"), BAD_TIMES)
@pytest.mark.parametrize("name", CALLS)
def test_bad_times_are_refused(name, t, came):
    """Time 0 is among them for all but the jump: there is no step to it, and nothing left to predict."""
    call, good, _, _ = CALLS[name]
    if name == "q_sample" and came == "0":
        assert call(**(good | {"t": t})).shape == GOOD.shape
        return
    error = refusal(lambda: call(**(good | {"t": t})))
    assert names_everything(error, "t", came), error


@pytest.mark.parametrize(("value", "came"), BAD_FIRST)
@pytest.mark.parametrize("name", CALLS)
def test_bad_data_are_refused(name, value, came):
    call, good, first, _ = CALLS[name]
    error = refusal(lambda: call(**(good | {first: value})))
    assert names_everything(error, first, came), error


@pytest.mark.parametrize(("value", "came"), BAD_SECOND)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_alike_is_refused(name, value, came):
    call, good, _, second = CALLS[name]
    error = refusal(lambda: call(**(good | {second: value})))
    assert names_everything(error, second, came), error


@pytest.mark.parametrize("name", CALLS)
def test_another_device_is_refused(name):
    call, good, _, second = CALLS[name]
    error = refusal(lambda: call(**(good | {second: LIKE.to("meta")})))  # a device that every machine has
    assert names_everything(error, second, "meta"), error


@pytest.mark.parametrize(
    ("s", "t", "name", "came"),
    [
        (3, 3, "s", "3"),
        (4, 3, "s", "4"),
        (10, 10, "s", "10"),
        (-1, 3, "s", "-1"),
        (1.0, 3, "s", "1.0"),
        (torch.tensor([0, 1, 2, 3]), 3, "s", "s = 3 with t = 3"),
        (torch.tensor([0, 1, 2, 5]), torch.tensor([1, 2, 3, 5]), "s", "s = 5 with t = 5"),
        (torch.tensor([0, 1]), torch.tensor([1, 2, 3, 5]), "s", "(2,)"),
    ],
)
def test_s_not_below_t_is_refused(s, t, name, came):
    error = refusal(lambda: q_posterior(TEN, GOOD, LIKE, s, t))
    assert names_everything(error, name, came), error


@pytest.mark.parametrize("name", CALLS)
def test_each_argument_is_checked_once(name, monkeypatch):
    checked = []
    for module in (process, schedules):
        for check in ("require_data", "require_alike", "require_time"):
            if hasattr(module, check):
                monkeypatch.setattr(module, check, recorded(getattr(module, check), checked))
    call, good, first, second = CALLS[name]
    call(**good)
    expected = {first: ["require_data"], second: ["require_alike"], "t": ["require_time"]}
    if name == "q_posterior":  # x_t is data too
        expected |= {"s": ["require_time"], "x_t": ["require_alike", "require_data"]}
    assert sorted(checked) == sorted((argument, check) for argument, checks in expected.items() for check in checks)


def recorded(check, calls):
    """The check, which also writes down whom it has checked."""

    def record(argument, *args):
        calls.append((argument, check.__name__))
        return check(argument, *args)

    return record


# Whose schedule
class Scheduled:
    """A denoiser that was made for a schedule."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, x_t, t):
        return Prediction(x_t, x_t)


def test_a_denoiser_of_this_schedule_or_of_none_is_let_through():
    assert schedule_of(Scheduled(TEN)) is TEN
    require_schedule("denoise", Scheduled(TEN), TEN)
    require_schedule("denoise", Scheduled(Schedule(TEN.alpha_bar)), TEN)  # equal tables, another object
    for none in (lambda x, t: Prediction(x, x), Scheduled(None), Scheduled("linear")):
        assert schedule_of(none) is None
        require_schedule("denoise", none, TEN)


@pytest.mark.parametrize(
    ("other", "came"),
    [
        (cosine(), "T = 1000"),
        (linear(T=9, start=0.05, end=0.4), "T = 9"),
        (linear(T=9, start=0.05, end=0.4), "alpha_bar[2]"),  # the first that differs
        (Schedule(torch.cat([TEN.alpha_bar, TEN.alpha_bar[-1:] / 2])), "T = 11"),  # ten equal steps and one more
        (Schedule(TEN.alpha_bar[:-1]), "T = 9"),
        (Schedule(torch.cat([TEN.alpha_bar[:-1], TEN.alpha_bar[-1:] * (1 - 1e-15)])), "alpha_bar[10]"),  # one bit
    ],
)
def test_a_denoiser_of_another_schedule_is_refused(other, came):
    error = refusal(lambda: require_schedule("denoise", Scheduled(other), TEN))
    assert type(error) is ValueError and names_everything(error, "denoise", came) and "T = 10" in str(error), error
