"""Samplers against diffusers step by step, against each other, and against exact Gaussian algebra."""

import inspect
import itertools
import math
from functools import partial

import diffusers
import numpy as np
import pytest
import torch
from oracles import (
    Line,
    condition,
    draw,
    float64_tables,
    flow,
    joint_of_three,
    names_everything,
    refusal,
    seeded,
    two_m,
)

from diffusion_lib import samplers
from diffusion_lib.denoisers import Clipped, ExactDenoiser, Guided
from diffusion_lib.densities import Mixture, Points
from diffusion_lib.process import Prediction
from diffusion_lib.samplers import Step, ddim, ddim_invert, ddpm, dpmpp_2m, final
from diffusion_lib.schedules import Schedule, cosine, linear, log_snr_steps, scaled_linear, uniform_steps

# Ours, and diffusers' name for the same.
TWINS = {
    "linear": (linear(), "linear", {"beta_start": 1e-4, "beta_end": 0.02}),
    "scaled_linear": (scaled_linear(), "scaled_linear", {"beta_start": 0.00085, "beta_end": 0.012}),
    "cosine": (cosine(), "squaredcos_cap_v2", {}),
}
DATA = Mixture(
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.2, -1.0]]),
    torch.tensor([[[0.1, 0.03], [0.03, 0.05]], [[0.05, 0.0], [0.0, 0.2]], [[0.02, -0.01], [-0.01, 0.04]]]),
)


def bounded(schedule):
    """A denoiser with |x0| < 1 that depends on x and t and has no formula in common with any sampler."""
    a, b = schedule.alpha_bar.sqrt()[:, None], (1 - schedule.alpha_bar).sqrt()[:, None]

    def denoise(x, t):
        x0 = torch.tanh(1.3 * x.flip(-1) - 0.2 * x + 0.001 * float(torch.as_tensor(t).max()))
        return Prediction(x0, (x - a[t].to(x) * x0) / b[t].to(x))

    return denoise


def pairs(trajectory, x):
    """Each step with the state from which it started."""
    for step in trajectory:
        yield x, step
        x = step.x


def leading(stride, T=1000):
    """Diffusers' leading times, counted from 1, and the end: T + 1 - stride, ..., 1, 0.

    Its next time is t - T // n, which is the next one visited only where the stride divides T."""
    return [*range(T + 1 - stride, 0, -stride), 0]


@pytest.mark.parametrize("choose", [uniform_steps, log_snr_steps])
@pytest.mark.parametrize("n", [5, 20, 60])
@pytest.mark.parametrize("name", TWINS)
def test_dpmpp_2m_steps_as_diffusers(name, n, choose):
    schedule, betas, options = TWINS[name]
    scheduler = diffusers.DPMSolverMultistepScheduler(
        beta_schedule=betas,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        use_karras_sigmas=False,
        prediction_type="sample",  # x_0 from eps in its float32 rates would lose three digits at T (cosine)
        **options,
    )
    float64_tables(scheduler, schedule.beta, schedule.alpha_bar)
    denoise, x, steps = bounded(schedule), draw(5, 2), choose(schedule, n).tolist()
    scheduler.set_timesteps(timesteps=[t - 1 for t in steps[:-1]])
    assert [k + 1 for k in scheduler.timesteps.tolist()] == steps[:-1]
    for t, (x_t, step) in zip(steps, pairs(dpmpp_2m(denoise, schedule, x, steps), x), strict=False):
        expected = scheduler.step(denoise(x_t, t).x0, t - 1, x_t).prev_sample
        # its step casts the state and its sigmas to float32: 1e-5 relative is all that it can give
        assert float((step.x - expected).abs().max()) < 1e-5 * float(expected.abs().max()), t
    assert step.t == 0


@pytest.mark.parametrize("choose", [uniform_steps, log_snr_steps])
@pytest.mark.parametrize("n", [2, 3, 20, 200])
@pytest.mark.parametrize("name", TWINS)
def test_dpmpp_2m_is_algorithm_2_of_the_paper(name, n, choose):
    schedule = TWINS[name][0]
    denoise, x, steps = bounded(schedule), draw(5, 2), choose(schedule, n).tolist()

    def x0_of(state, t):
        return denoise(torch.from_numpy(state), t).x0.numpy()

    paper = two_m(x0_of, schedule.alpha_bar.tolist(), x.numpy(), steps)
    for step, expected in zip(dpmpp_2m(denoise, schedule, x, steps), paper, strict=True):
        np.testing.assert_allclose(step.x.numpy(), expected, rtol=1e-12, atol=1e-12)


def test_dpmpp_2m_takes_two_times_for_one_jump_to_the_end():
    denoise = bounded(linear())
    assert torch.equal(final(dpmpp_2m(denoise, linear(), draw(3, 2), [1000, 0])), denoise(draw(3, 2), 1000).x0)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("n", [7, 60, 300])
def test_ddpm_is_ddim_with_eta_one(name, n):
    schedule, x = TWINS[name][0], draw(8, 2)
    denoise, steps = ExactDenoiser(schedule, DATA), uniform_steps(schedule, n)
    one = list(ddpm(denoise, schedule, x, steps, generator=seeded(2)))
    other = list(ddim(denoise, schedule, x, steps, eta=1.0, generator=seeded(2)))
    for left, right in zip(one, other, strict=True):
        assert float((left.x - right.x).abs().max()) < 1e-10 * float(right.x.abs().max())
    assert float((one[-1].x - x).abs().max()) > 0.5  # it went somewhere


@pytest.mark.parametrize("name", TWINS)
def test_first_order_dpmpp_is_ddim(name):
    schedule, x = TWINS[name][0], draw(8, 2)
    for step, expected in zip(
        dpmpp_2m(bounded(schedule), schedule, x, [700, 300]),
        ddim(bounded(schedule), schedule, x, [700, 300]),
        strict=True,
    ):
        assert torch.allclose(step.x, expected.x, rtol=0, atol=1e-14)


# Exact Gaussian algebra: for Gaussian data the exact denoiser is affine, and so is every sampler.
MEAN, COVARIANCE = np.array([0.7, -0.4]), np.array([[0.5, 0.2], [0.2, 0.3]])
GAUSSIAN = Mixture(torch.ones(1), torch.tensor(MEAN)[None], torch.tensor(COVARIANCE)[None])


def affine_ddpm(alpha_bar, s, t):
    """Ancestral sampling as x_s = gain x_t + offset + std noise, by conditioning x_0, x_s, x_t's joint Gaussian."""
    mean, joint = joint_of_three(MEAN, COVARIANCE, alpha_bar[s], alpha_bar[t])
    x0_gain, x0_offset, _ = condition(mean, joint, [0, 1], [4, 5])  # E[x_0 | x_t]
    gain, offset, _ = condition(mean, joint, [2, 3], [0, 1, 4, 5])  # E[x_s | x_0, x_t]
    variance = condition(mean, joint, [2, 3], [0, 1, 4, 5])[2][0, 0] if s else 0.0
    return gain[:, :2] @ x0_gain + gain[:, 2:], offset + gain[:, :2] @ x0_offset, math.sqrt(max(variance, 0.0))


@pytest.mark.parametrize("name", TWINS)
def test_ddpm_on_a_gaussian_is_the_affine_map_of_gaussian_conditioning(name):
    schedule, steps, x = TWINS[name][0], [1000, 600, 250, 40, 3, 1, 0], draw(6, 2)
    noise, expected = seeded(4), x.numpy()
    chain = ddpm(ExactDenoiser(schedule, GAUSSIAN), schedule, x, steps, generator=seeded(4))
    for t, step in zip(steps, chain, strict=False):
        gain, offset, std = affine_ddpm(schedule.alpha_bar.tolist(), step.t, t)
        z = torch.randn(6, 2, generator=noise, dtype=torch.float64).numpy()
        expected = expected @ gain.T + offset + std * z
        np.testing.assert_allclose(step.x.numpy(), expected, rtol=0, atol=1e-8)  # the conditioning loses some digits


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ddpm_reaches_the_mean_and_covariance_of_the_algebra(variance):
    schedule, n = linear(), 40_000
    steps = [1000, 700, 400, 150, 30, 0]
    mean, covariance = np.zeros(2), np.eye(2)
    alpha_bar = schedule.alpha_bar.tolist()
    for t, s in itertools.pairwise(steps):
        gain, offset, std = affine_ddpm(alpha_bar, s, t)
        if variance == "beta":
            std = math.sqrt(1 - alpha_bar[t] / alpha_bar[s]) if s else 0.0
        mean, covariance = gain @ mean + offset, gain @ covariance @ gain.T + std**2 * np.eye(2)
    x = final(
        ddpm(ExactDenoiser(schedule, GAUSSIAN), schedule, draw(n, 2), steps, variance=variance, generator=seeded(1))
    ).numpy()
    standard_error = np.sqrt(np.diag(covariance) / n)
    assert (np.abs(x.mean(0) - mean) < 4 * standard_error).all()
    spread = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / n)
    assert (np.abs(np.cov(x.T) - covariance) < 4 * spread).all()


@pytest.mark.parametrize("name", TWINS)
def test_ddim_on_a_gaussian_is_a_product_of_gains(name):
    """On an axis of variance v, DDIM multiplies the distance from a m by (a_s a_t v + b_s b_t) / (a_t^2 v + b_t^2)."""
    schedule, x = TWINS[name][0], draw(6, 2)
    steps = uniform_steps(schedule, 25).tolist()
    variances, axes = np.linalg.eigh(COVARIANCE)
    a, b = np.sqrt(schedule.alpha_bar.numpy()), np.sqrt(1 - schedule.alpha_bar.numpy())
    gains = [
        (a[s] * a[t] * variances + b[s] * b[t]) / (a[t] ** 2 * variances + b[t] ** 2)
        for t, s in itertools.pairwise(steps)
    ]
    along = (x.numpy() - a[1000] * MEAN) @ axes
    expected = (along * np.prod(gains, axis=0)) @ axes.T + MEAN
    got = final(ddim(ExactDenoiser(schedule, GAUSSIAN), schedule, x, steps)).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)
    # and, in the limit of many steps, the standard deviation of the data
    dense = final(ddim(ExactDenoiser(schedule, GAUSSIAN), schedule, x, uniform_steps(schedule, 1000))).numpy()
    exact = (
        (x.numpy() - a[1000] * MEAN) @ axes * np.sqrt(variances / (a[1000] ** 2 * variances + b[1000] ** 2))
    ) @ axes.T
    assert np.abs(dense - exact - MEAN).max() < 0.02


# Order of convergence, on a schedule whose log SNR is a straight line, so that every stride gives even steps of lambda.
LINE = Line(np.array([0.6, 0.4]), np.array([-1.0, 1.2]), np.array([0.3, 0.5]))
EVEN = Schedule(torch.cat([torch.ones(1), torch.sigmoid(torch.linspace(8, -8, 1281, dtype=torch.float64))]))
LINE_MIXTURE = Mixture(
    torch.tensor(LINE.weights), torch.tensor(LINE.means)[:, None], torch.tensor(LINE.stds)[:, None, None] ** 2
)


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpmpp_2m, 2)])
def test_order_of_convergence(sampler, order):
    x = draw(32, 1)
    exact = flow(LINE, x[:, 0].numpy(), -4.0, 4.0, n=2000)
    errors = []
    for n in (40, 80, 160, 320):
        got = final(sampler(ExactDenoiser(EVEN, LINE_MIXTURE), EVEN, x, range(1281, 0, -1280 // n)))
        errors.append(float(np.abs(got[:, 0].numpy() - exact).mean()))
    orders = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert abs(orders[-1] - order) < 0.15, (errors, orders)
    assert errors[-1] < {1: 5e-3, 2: 1e-4}[order]


def test_ddim_lands_on_the_data():
    data = draw(12, 6)
    x = final(ddim(ExactDenoiser(linear(), Points(data)), linear(), draw(20, 6, seed=1), uniform_steps(linear(), 50)))
    assert float(torch.cdist(x, data).amin(1).max()) < 1e-10


class Spy:
    """A denoiser that remembers what it was asked."""

    def __init__(self, denoise):
        self.denoise, self.asked = denoise, []

    def __call__(self, x_t, t):
        self.asked.append((x_t.clone(), t.clone()))
        return self.denoise(x_t, t)


def with_noise(sampler, **options):
    """The sampler with a fresh generator of the same seed at each call."""
    return lambda *args, **given: sampler(*args, **({"generator": seeded(0)} | options | given))


SAMPLERS = {
    "ddpm": with_noise(ddpm),
    "ddpm beta": with_noise(ddpm, variance="beta"),
    "ddim": ddim,
    "ddim eta": with_noise(ddim, eta=0.5),
    "dpmpp_2m": dpmpp_2m,
    "ddim_invert": ddim_invert,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_evaluation_a_step_at_the_later_time(name):
    spy, steps = Spy(ExactDenoiser(linear(), DATA)), [900, 400, 20, 0]
    trajectory = list(SAMPLERS[name](spy, linear(), draw(3, 2), torch.tensor(steps)))
    assert all(isinstance(step, Step) and type(step.t) is int for step in trajectory)
    times = [t.tolist() for _, t in spy.asked]
    assert all(t.dtype == torch.int64 for _, t in spy.asked)
    if name == "ddim_invert":  # t = 0 is never asked
        assert times == [[20] * 3, [400] * 3, [900] * 3]
        assert [step.t for step in trajectory] == [20, 400, 900]
    else:
        assert times == [[900] * 3, [400] * 3, [20] * 3]
        assert [step.t for step in trajectory] == [400, 20, 0]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "ddim_invert"])
def test_step_holds_the_estimate_that_it_used_and_the_chain_ends_on_it(name):
    denoise = ExactDenoiser(linear(), DATA)
    for x_t, step in pairs(SAMPLERS[name](denoise, linear(), draw(3, 2), [900, 400, 20, 0]), draw(3, 2)):
        later = {400: 900, 20: 400, 0: 20}[step.t]
        assert torch.equal(step.x0, denoise(x_t, later).x0)
    assert torch.allclose(step.x, step.x0, rtol=0, atol=1e-12)  # nothing is added at the end


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_list_may_end_and_begin_anywhere(name):
    """[900, 400, 100] makes the same first steps as [900, 400, 100, 0] (and inversion the same last ones)."""
    denoise, x = ExactDenoiser(linear(), DATA), draw(3, 2)
    if name == "ddim_invert":
        for step, (t, s) in zip(ddim_invert(denoise, linear(), x, [400, 100, 5]), [(100, 5), (400, 100)], strict=True):
            (alone,) = ddim_invert(denoise, linear(), x, [t, s])
            assert torch.equal(step.x, alone.x)
            x = step.x
        return
    part = list(SAMPLERS[name](denoise, linear(), x, [900, 400, 100]))
    whole = list(SAMPLERS[name](denoise, linear(), x, [900, 400, 100, 0]))
    assert len(part) == 2 and len(whole) == 3
    assert all(torch.equal(left.x, right.x) for left, right in zip(part, whole, strict=False))


# Inversion
def test_inversion_moves_x_and_follows_the_flow():
    """Each step, in y = x / a: y_t - y_s = (b_t/a_t - b_s/a_s) eps(x_s, t)."""
    schedule, steps = linear(), [1000, 500, 100, 10, 0]
    spy = Spy(ExactDenoiser(schedule, DATA))
    x = DATA.sample(20, seeded(3))
    a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    for s, (x_s, step) in zip([0, 10, 100, 500], pairs(ddim_invert(spy, schedule, x, steps), x), strict=True):
        t = step.t
        asked, times = spy.asked[-1]
        assert torch.equal(asked, x_s) and times.tolist() == [t] * 20
        eps = -b[t] * spy.denoise.score(x_s, t)
        assert torch.allclose(step.x / a[t] - x_s / a[s], (b[t] / a[t] - b[s] / a[s]) * eps, rtol=1e-10, atol=1e-10)
        assert torch.allclose(step.x, a[t] * step.x0 + b[t] * eps, rtol=0, atol=1e-10)
        assert float((step.x - x_s).abs().max()) > 1e-3
    assert abs(float(step.x.std()) - 1) < 0.5  # near the standard normal of x_T, where data had std 0.8


def test_round_trip_error_falls_with_the_steps():
    denoise, x = ExactDenoiser(EVEN, LINE_MIXTURE), torch.linspace(-2, 2.4, 23, dtype=torch.float64)[:, None]
    errors = []
    for stride in (128, 32, 8, 2):
        steps = [*range(1281, 0, -stride), 0]
        noise = final(ddim_invert(denoise, EVEN, x, steps))
        errors.append(float((final(ddim(denoise, EVEN, noise, steps)) - x).abs().mean()))
    assert all(after < before / 2.5 for before, after in itertools.pairwise(errors)), errors
    assert 1e-6 < errors[-1] < 0.01  # small, and not exact


def test_fine_inversion_reaches_the_noise_of_the_flow():
    x = torch.linspace(-2, 2.4, 23, dtype=torch.float64)[:, None]
    got = final(ddim_invert(ExactDenoiser(EVEN, LINE_MIXTURE), EVEN, x, range(1281, 0, -2)))
    assert np.abs(got[:, 0].numpy() - flow(LINE, x[:, 0].numpy(), 4.0, -4.0, n=1000)).max() < 0.03


# DDPM and DDIM against diffusers, after the quicker checks
@pytest.mark.parametrize("stride", [1, 20, 125])
@pytest.mark.parametrize(("variance", "theirs"), [("posterior", "fixed_small"), ("beta", "fixed_large")])
@pytest.mark.parametrize("name", TWINS)
def test_ddpm_steps_as_diffusers(name, variance, theirs, stride):
    schedule, betas, options = TWINS[name]
    scheduler = diffusers.DDPMScheduler(
        beta_schedule=betas, variance_type=theirs, clip_sample=False, timestep_spacing="leading", **options
    )
    float64_tables(scheduler, schedule.beta, schedule.alpha_bar).set_timesteps(1000 // stride)
    denoise, x, steps = bounded(schedule), draw(5, 2), leading(stride)
    assert [k + 1 for k in scheduler.timesteps.tolist()] == steps[:-1]
    chain, noise = ddpm(denoise, schedule, x, steps, variance=variance, generator=seeded(1)), seeded(1)
    worst = 0.0
    for t, (x_t, step) in zip(steps, pairs(chain, x), strict=False):
        eps = denoise(x_t, t).eps
        expected = scheduler.step(eps, t - 1, x_t, generator=noise).prev_sample  # its k is our t - 1
        worst = max(worst, float((step.x - expected).abs().max()))
    assert step.t == 0 and worst < 1e-12


@pytest.mark.parametrize(("eta", "stride"), [(0.5, 1), (0.0, 20), (0.5, 20), (1.0, 20), (0.0, 125), (1.0, 125)])
@pytest.mark.parametrize("name", TWINS)
def test_ddim_steps_as_diffusers(name, eta, stride):
    schedule, betas, options = TWINS[name]
    scheduler = diffusers.DDIMScheduler(
        beta_schedule=betas, clip_sample=False, timestep_spacing="leading", steps_offset=0, **options
    )
    float64_tables(scheduler, schedule.beta, schedule.alpha_bar).set_timesteps(1000 // stride)
    denoise, x, steps = bounded(schedule), draw(5, 2), leading(stride)
    assert [k + 1 for k in scheduler.timesteps.tolist()] == steps[:-1]
    chain, noise = ddim(denoise, schedule, x, steps, eta=eta, generator=seeded(1)), seeded(1)
    worst = 0.0
    for t, (x_t, step) in zip(steps, pairs(chain, x), strict=False):
        expected = scheduler.step(denoise(x_t, t).eps, t - 1, x_t, eta=eta, generator=noise).prev_sample
        worst = max(worst, float((step.x - expected).abs().max()))
    assert step.t == 0 and worst < 1e-12


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_a_trailing_list_of_diffusers_needs_a_0_at_its_end(eta):
    """Its list is 999, 979, ..., 19: counted from 0, and the last step, to clean data, is not in it."""
    schedule = linear()
    scheduler = diffusers.DDIMScheduler(clip_sample=False, beta_start=1e-4, beta_end=0.02, timestep_spacing="trailing")
    float64_tables(scheduler, schedule.beta, schedule.alpha_bar).set_timesteps(50)
    steps = [k + 1 for k in scheduler.timesteps.tolist()]
    assert steps == [*range(1000, 0, -20)]
    denoise, x, noise, states = bounded(schedule), draw(5, 2), seeded(1), []
    for t in steps:
        x = scheduler.step(denoise(x, t).eps, t - 1, x, eta=eta, generator=noise).prev_sample
        states.append(x)
    short, whole = (
        list(ddim(denoise, schedule, draw(5, 2), times, eta=eta, generator=seeded(1))) for times in (steps, [*steps, 0])
    )
    assert (short[-1].t, whole[-1].t) == (20, 0)
    assert float((short[-1].x - states[-2]).abs().max()) < 1e-12  # one step short: the state at t = 20
    assert float((whole[-1].x - states[-1]).abs().max()) < 1e-12


@pytest.mark.parametrize("name", ["ddpm", "ddim", "ddim eta", "dpmpp_2m"])
def test_a_list_that_does_not_end_at_0_leaves_the_noise_of_its_last_time(name):
    """Data at one point: what is left around it after a walk to t is noise of variance 1 - alpha_bar_t."""
    point = Points(torch.full((1, 2), 0.5, dtype=torch.float64))
    x = final(SAMPLERS[name](ExactDenoiser(linear(), point), linear(), draw(20_000, 2), range(1000, 0, -20)))
    alpha_bar = float(linear().alpha_bar[20])
    around = x - math.sqrt(alpha_bar) * 0.5
    spread = math.sqrt(float((around**2).mean()) / (1 - alpha_bar))
    assert spread == pytest.approx(1, abs=0.02)


# What every sampler promises
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_run_in_the_dtype_of_their_data(name, dtype):
    schedule = linear()
    spy = Spy(ExactDenoiser(schedule, DATA))
    for step in SAMPLERS[name](spy, schedule, draw(3, 2, dtype=dtype), [1000, 500, 1, 0]):
        assert step.x.dtype == dtype and step.x0.dtype == dtype and bool(step.x.isfinite().all())
    assert all(x_t.dtype == dtype for x_t, _ in spy.asked)
    assert schedule.alpha_bar.dtype == torch.float64


def test_coefficients_are_not_rounded_to_bfloat16():
    """A product in bfloat16 is off by 2^-8 of itself at most; a coefficient rounded before would add as much again."""
    schedule, x0 = linear(), draw(1000, 2, dtype=torch.bfloat16)
    for s in range(300, 320):
        (step,) = ddim(lambda x, t: Prediction(x0, torch.zeros_like(x0)), schedule, x0, [700, s])
        exact = schedule.alpha_bar[s].sqrt() * x0.double()
        assert ((step.x.double() - exact).abs() <= exact.abs() * 2**-8).all()


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "ddim_invert"])  # float32's noise is another stream
def test_float32_agrees_with_float64(name):
    """Coefficients come from the float64 table: float32 data lose float32's rounding and no more."""
    schedule = cosine()
    denoise, steps = bounded(schedule), uniform_steps(schedule, 50)
    if "invert" in name:
        steps = steps[1:]  # at T the signal is 5e-5: dividing by it magnifies float32's own rounding
    single = draw(4, 2, dtype=torch.float32)
    one, other = (SAMPLERS[name](denoise, schedule, x, steps) for x in (single.double(), single))
    for left, right in zip(one, other, strict=True):
        assert torch.allclose(left.x, right.x.double(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_start_is_left_alone_and_shapes_are_kept(name):
    data = Points(draw(5, 1, 3, 3))
    x = draw(2, 1, 3, 3)
    kept = x.clone()
    trajectory = list(SAMPLERS[name](ExactDenoiser(linear(), data), linear(), x, [1000, 300, 0]))
    assert torch.equal(x, kept)
    assert all(step.x.shape == step.x0.shape == x.shape for step in trajectory)
    assert torch.equal(final(trajectory), trajectory[-1].x)


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_gradient_is_recorded(name):
    x, weight = draw(2, 2).requires_grad_(), torch.ones((), dtype=torch.float64, requires_grad=True)

    def network(x_t, t):
        return Prediction(weight * x_t, weight * x_t)

    for denoise in (network, ExactDenoiser(linear(), DATA)):
        for step in SAMPLERS[name](denoise, linear(), x, [1000, 300, 0]):
            assert not step.x.requires_grad and not step.x0.requires_grad


def test_gradients_stay_on_outside_of_the_sampler():
    for _ in ddim(ExactDenoiser(linear(), DATA), linear(), draw(2, 2), [1000, 300, 0]):
        assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_global_generator_is_untouched(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    final(SAMPLERS[name](ExactDenoiser(linear(), DATA), linear(), draw(2, 2), [1000, 300, 0]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("make", [ddpm, partial(ddpm, variance="beta"), partial(ddim, eta=0.3)])
def test_one_seed_is_one_result_and_another_seed_another(make):
    def run(seed):
        return final(make(ExactDenoiser(linear(), DATA), linear(), draw(4, 2), [1000, 500, 0], generator=seeded(seed)))

    assert torch.equal(run(1), run(1))
    assert float((run(1) - run(2)).abs().max()) > 0.1


@pytest.mark.parametrize("make", [ddpm, partial(ddpm, variance="beta"), partial(ddim, eta=0.3), ddim])
def test_an_image_of_a_batch_comes_out_alone_only_where_no_noise_is_drawn(make):
    """The noise of a step is drawn for all images at once: drawn alone, even the first meets other noise later on."""
    x, steps = draw(4, 1, 8, 8), [1000, 600, 300, 0]
    images = Points(draw(30, 1, 8, 8, seed=2), 0.5)

    def run(start):
        return final(make(ExactDenoiser(linear(), images), linear(), start, steps, generator=seeded(3)))

    together = run(x)
    differences = torch.cat([(run(x[k : k + 1]) - together[k]).abs().amax()[None] for k in range(4)])
    assert bool((differences < 1e-12).all() if make is ddim else (differences > 0.01).all()), differences


def test_eta_zero_draws_nothing():
    generator = seeded(1)
    before = generator.get_state()
    final(ddim(ExactDenoiser(linear(), DATA), linear(), draw(4, 2), [1000, 500, 0], generator=generator))
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_thread_and_two_give_the_same(name):
    def run(threads):
        torch.set_num_threads(threads)
        return final(SAMPLERS[name](ExactDenoiser(linear(), DATA), linear(), draw(600, 2), [1000, 500, 100, 0]))

    threads = torch.get_num_threads()
    try:
        assert torch.allclose(run(1), run(2), rtol=0, atol=1e-12)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", SAMPLERS)
def test_arguments_are_checked_and_coefficients_computed_once_a_call(name, monkeypatch):
    calls = {}

    def counted(function):
        def count(*args):
            calls[function.__name__] = calls.get(function.__name__, 0) + 1
            return function(*args)

        return count

    checks = (samplers.require_steps, samplers.require_data, samplers.require_schedule)
    for function in (samplers.posterior_coefficients, *checks):
        monkeypatch.setattr(samplers, function.__name__, counted(function))
    monkeypatch.setattr(Schedule, "rates", counted(Schedule.rates))
    list(SAMPLERS[name](lambda x, t: Prediction(x, x), linear(), draw(2, 2), range(1000, -1, -1)))
    assert "rates" not in calls  # the table is not read at each of the 1,000 steps
    assert calls["require_steps"] == calls["require_data"] == calls["require_schedule"] == 1
    assert calls.get("posterior_coefficients", 0) == (1 if "dd" in name and "invert" not in name else 0)


# Mistakes: each is refused at the call, before the first step, with a message that says which argument and why.
GOOD = {"denoise": bounded(linear(10)), "schedule": linear(10), "x": draw(2, 2), "steps": [10, 5, 0]}
BAD_ALWAYS = [
    ("steps", [11, 5, 0], "11 at place 0"),
    ("steps", [10, 5, -1], "5, -1 at place 2"),
    ("steps", [10, 5, 5, 0], "5, 5 at place 2"),
    ("steps", [0, 5, 10], "0, 5 at place 1"),
    ("steps", [10, 5, 7, 0], "5, 7 at place 2"),
    ("steps", [10], "[10]"),
    ("steps", [], "[]"),
    ("steps", [10, 5.0, 0], "5.0 at place 1"),
    ("steps", [10, True, 0], "True at place 1"),
    ("steps", torch.tensor([10.0, 5.0, 0.0]), "10.0 at place 0"),
    ("steps", torch.tensor([True, False]), "True at place 0"),
    ("steps", torch.tensor([[10, 0]]), "shape (1, 2)"),
    ("x", draw(2, 2) * math.nan, "NaN"),
    ("x", draw(2, 2) / 0, "infinity"),
    ("x", torch.ones(2, 2, dtype=torch.uint8), "torch.uint8"),
    ("x", torch.ones(2, 2, dtype=torch.int64), "torch.int64"),
    ("x", [[0.0, 1.0]], "list"),
    ("x", torch.tensor(1.0), "single number"),
]
BAD = [(name, key, value, came) for name in SAMPLERS for key, value, came in BAD_ALWAYS]
BAD += [
    ("ddpm", "generator", None, "NoneType"),
    ("ddpm", "generator", 3, "int"),
    ("ddpm", "variance", "fixed_small", "'fixed_small'"),
    ("ddpm", "variance", None, "None"),
    ("ddim", "eta", -0.1, "-0.1"),
    ("ddim", "eta", 1.01, "1.01"),
    ("ddim", "eta", math.nan, "nan"),
    ("ddim", "eta", "1", "str"),
    ("ddim", "eta", True, "bool"),
    ("ddim eta", "generator", None, "NoneType"),
    ("ddim eta", "generator", "seed", "str"),
]


@pytest.mark.parametrize(("name", "key", "value", "came"), BAD)
def test_mistakes_are_refused_at_the_call(name, key, value, came):
    error = refusal(lambda: SAMPLERS[name](**(GOOD | {key: value})))
    assert names_everything(error, key, came), error


WRAPPERS = {
    "bare": lambda denoise: denoise,
    "clipped": Clipped,
    "guided": lambda denoise: Guided(lambda x, t: Prediction(x, x), denoise, 2.0),
    "clipped guided": lambda denoise: Clipped(Guided(denoise, denoise, 2.0)),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_denoiser_of_another_schedule_is_refused_at_the_call(name, wrapper):
    """A cosine denoiser in a linear sampler would take every image for noisier than it is, and say nothing."""
    denoise = WRAPPERS[wrapper](ExactDenoiser(cosine(10), DATA))
    error = refusal(lambda: SAMPLERS[name](**(GOOD | {"denoise": denoise})))
    assert type(error) is ValueError
    assert names_everything(error, "denoise", str(float(cosine(10).alpha_bar[1]))), error
    assert str(float(linear(10).alpha_bar[1])) in str(error)
    equal = WRAPPERS[wrapper](ExactDenoiser(linear(10), DATA))  # another object, the same table
    final(SAMPLERS[name](**(GOOD | {"denoise": equal})))


@pytest.mark.parametrize("sampler", [ddpm, ddim, dpmpp_2m])
def test_the_text_of_a_sampler_shows_its_whole_method(sampler):
    """Lessons print it: the formula in words of the docstring, and the table of weights that the loop walks."""
    text = inspect.getsource(sampler)
    assert "x_s = " in text and "Weights(" in text and "_walk(" in text


def test_ddpm_without_a_generator_is_refused():
    with pytest.raises(TypeError, match="generator"):
        ddpm(**GOOD)


@pytest.mark.parametrize(
    ("prediction", "name", "came"),
    [
        (lambda x: (x[:1], x), "x0 of the denoiser", "(1, 2)"),
        (lambda x: (x.float(), x), "x0 of the denoiser", "torch.float32"),
        (lambda x: (x, x.mean(1)), "eps of the denoiser", "(2,)"),
        (lambda x: (x, x.to("meta")), "eps of the denoiser", "meta"),
        (lambda x: (x.numpy(), x), "x0 of the denoiser", "ndarray"),
    ],
)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_denoiser_that_answers_in_another_form_is_refused(sampler, prediction, name, came):
    error = refusal(
        lambda: final(SAMPLERS[sampler](lambda x, t: Prediction(*prediction(x)), linear(10), draw(2, 2), [10, 0]))
    )
    assert names_everything(error, name, came), error


def test_final_of_nothing_is_refused():
    assert names_everything(refusal(lambda: final([])), "trajectory", "none")


def test_clipped_denoisers_pass_through_every_sampler():
    denoise = Clipped(ExactDenoiser(linear(), Points(3 * draw(5, 2))))
    for name, sampler in SAMPLERS.items():
        trajectory = list(sampler(denoise, linear(), draw(4, 2), [1000, 300, 0]))
        if name != "ddim_invert":
            assert float(trajectory[-1].x.abs().max()) <= 1 + 1e-12
