"""Denoisers against quadrature, sums in long double, and automatic differentiation."""

import math

import numpy as np
import pytest
import torch
from oracles import LargestTensor, Line, brute_points, draw, names_everything, refusal

from diffusion_lib import denoisers, process, schedules
from diffusion_lib.denoisers import Clipped, ExactDenoiser, Guided, LearnedDenoiser
from diffusion_lib.densities import Mixture, Points
from diffusion_lib.process import EPS, X0, Prediction, V
from diffusion_lib.schedules import constant, cosine, linear, su

SCHEDULES = {"linear": linear(), "cosine": cosine(), "su": su(), "constant": constant()}
LINE = Line(np.array([0.6, 0.3, 0.1]), np.array([-1.0, 1.2, 3.0]), np.array([0.3, 0.5, 0.05]))
LINE_MIXTURE = Mixture(
    torch.tensor(LINE.weights), torch.tensor(LINE.means)[:, None], torch.tensor(LINE.stds)[:, None, None] ** 2
)
PLANE = Mixture(
    torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.2, -1.0]], dtype=torch.float64),
    torch.tensor(
        [[[0.1, 0.03], [0.03, 0.05]], [[0.05, 0.0], [0.0, 0.2]], [[0.02, -0.01], [-0.01, 0.04]]], dtype=torch.float64
    ),
)
DENSITIES = {
    "mixture": PLANE,
    "flat mixture": Mixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])),
    "points": Points(draw(20, 2, seed=7)),
    "wide points": Points(draw(20, 2, seed=7), width=0.3),
}


def rates(schedule, t):
    """Signal and noise rate as long doubles, from the float64 table."""
    alpha_bar = np.longdouble(float(schedule.alpha_bar[t]))
    return np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar)


@pytest.mark.parametrize("t", [1, 2, 20, 300, 700, 1000])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_exact_denoiser_of_a_mixture_is_quadrature(name, t):
    schedule = SCHEDULES[name]
    denoise = ExactDenoiser(schedule, LINE_MIXTURE)
    a, b = (float(rate) for rate in rates(schedule, t))
    for x in (-2.5, -0.9, 0.1, 1.3, 2.9):
        x0, eps, log_prob = LINE.denoise(x, a, b)
        x_t = torch.tensor([[x]], dtype=torch.float64)
        prediction = denoise(x_t, t)
        assert float(prediction.x0) == pytest.approx(x0, abs=1e-9)
        assert float(prediction.eps) == pytest.approx(eps, abs=1e-9)
        assert float(denoise.score(x_t, t)) == pytest.approx(-eps / b, rel=1e-8, abs=1e-8)
        assert float(denoise.log_prob(x_t, t)) == pytest.approx(log_prob, abs=1e-9)


@pytest.mark.parametrize("width", [0.0, 0.2])
@pytest.mark.parametrize("name", SCHEDULES)
def test_exact_denoiser_of_points_is_the_sum_at_every_time(name, width):
    schedule = SCHEDULES[name]
    data, times = draw(9, 3, seed=7), [1, 2, 3, 5, 10, *range(25, 1001, 75), 1000]
    denoise = ExactDenoiser(schedule, Points(data, width))
    x_t = draw(len(times), 3)
    prediction, t = denoise(x_t, torch.tensor(times)), torch.tensor(times)
    score, log_prob = denoise.score(x_t, t), denoise.log_prob(x_t, t)
    for i, time in enumerate(times):
        a, b = rates(schedule, time)
        x0, eps, log_p = brute_points(data.numpy(), width, x_t[i].numpy(), a, b)
        np.testing.assert_allclose(prediction.x0[i].numpy(), x0.astype(float), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(prediction.eps[i].numpy(), eps.astype(float), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(score[i].numpy(), (-eps / b).astype(float), rtol=1e-9, atol=1e-7)
        assert float(log_prob[i]) == pytest.approx(float(log_p), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine", "su"])
def test_float32_input_is_stable_at_every_time_for_bare_points(name):
    """x_t = a x_0 + b eps near a point, t = 1..1000: what comes back is exact to float32's own rounding.

    1 - alpha_bar taken from a float32 table would move eps by up to 9e-4 (cosine): see the second assertion.
    """
    schedule, data = SCHEDULES[name], draw(9, 4, seed=7)
    t = torch.arange(1, 1001)
    a, b = schedule.rates(t, torch.zeros(1000, 1, dtype=torch.float64))
    x_t = (a * data[t % 9] + b * draw(1000, 4)).float()
    prediction = ExactDenoiser(schedule, Points(data))(x_t, t)
    assert prediction.x0.dtype == prediction.eps.dtype == torch.float32
    worst, naive = 0.0, 0.0
    for i, time in enumerate(t.tolist()):
        x0, eps, _ = brute_points(data.numpy(), 0.0, x_t[i].numpy(), *rates(schedule, time))
        worst = max(worst, *np.abs(prediction.x0[i].numpy() - x0), *(np.abs(prediction.eps[i].numpy() - eps)))
        single = schedule.alpha_bar[time].float()
        lost = (x_t[i].double().numpy() - float(single) ** 0.5 * x0) / float(1 - single) ** 0.5
        naive = max(naive, *np.abs(lost - eps))
    assert worst < 5e-7
    assert naive > 2e-5 * (10 if name == "cosine" else 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DENSITIES)
def test_every_time_of_every_schedule_gives_finite_numbers(name, dtype):
    t = torch.arange(1, 1001)
    for schedule in SCHEDULES.values():
        denoise = ExactDenoiser(schedule, DENSITIES[name])
        for x in (draw(1000, 2, dtype=dtype), 30 * draw(1000, 2, dtype=dtype), torch.zeros(1000, 2, dtype=dtype)):
            for tensor in (*denoise(x, t), denoise.score(x, t), denoise.log_prob(x, t)):
                assert tensor.dtype == dtype and bool(tensor.isfinite().all())


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_x_t_is_recombined_from_the_prediction(name, schedule):
    """x_t = a x0 + b eps, for the exact denoiser, clipped or not, and for a network in every parameterization."""
    schedule = SCHEDULES[schedule]
    t, x_t = torch.arange(1, 1001, 7), 2 * draw(143, 2)
    a, b = schedule.rates(t, x_t)
    exact = ExactDenoiser(schedule, DENSITIES[name])
    for denoise in (
        exact,
        Clipped(exact, -0.2, 0.3),
        *(LearnedDenoiser(schedule, lambda x, t: torch.tanh(x) + 1e-3 * t[:, None], p) for p in (EPS, X0, V)),
    ):
        x0, eps = denoise(x_t, t)
        size = (a * x0).abs() + (b * eps).abs() + x_t.abs()
        assert bool(((a * x0 + b * eps - x_t).abs() < 1e-12 * size).all())


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("t", [1, 30, 400, 1000])
def test_score_is_the_gradient_of_the_log_prob(name, t):
    denoise = ExactDenoiser(linear(), DENSITIES[name])
    a, b = (float(rate) for rate in rates(linear(), t))
    x = (a * draw(6, 2, seed=7) + b * draw(6, 2)).requires_grad_()
    (gradient,) = torch.autograd.grad(denoise.log_prob(x, t).sum(), x)
    torch.testing.assert_close(denoise.score(x, t), gradient, rtol=1e-9, atol=1e-7)
    torch.testing.assert_close(denoise(x, t).eps, -b * gradient, rtol=1e-9, atol=1e-8)


def test_conditional_mean_beats_every_perturbed_guess():
    """E[x_0 | x_t] is the least-squares guess: shifting or scaling it raises the squared error on fresh draws."""
    x0 = PLANE.sample(4000, torch.Generator().manual_seed(1))
    a, b = (float(rate) for rate in rates(linear(), 250))
    x_t = a * x0 + b * draw(4000, 2)
    guess = ExactDenoiser(linear(), PLANE)(x_t, 250).x0
    best = float(((guess - x0) ** 2).mean())
    assert best < 0.9 * float(((x_t / a - x0) ** 2).mean())
    for other in (guess + 0.1, guess - 0.1, 0.8 * guess, 1.2 * guess, 0.9 * guess + 0.1 * x_t / a):
        assert float(((other - x0) ** 2).mean()) > best


def test_times_of_a_batch_are_each_their_own():
    denoise, x = ExactDenoiser(linear(), PLANE), draw(3, 2)
    times = torch.tensor([1, 400, 1000])
    together = denoise(x, times)
    for i, t in enumerate(times.tolist()):
        alone = denoise(x[i : i + 1], t)
        for left, right in zip(together, alone, strict=True):
            torch.testing.assert_close(left[i : i + 1], right, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("width", [0.0, 0.1])
def test_pictures_keep_their_shape(width):
    images = draw(5, 1, 3, 4)
    denoise, x_t = ExactDenoiser(linear(), Points(images, width)), draw(2, 1, 3, 4, seed=1)
    flat = ExactDenoiser(linear(), Points(images.flatten(1), width))
    prediction = denoise(x_t, 100)
    assert prediction.x0.shape == prediction.eps.shape == denoise.score(x_t, 100).shape == x_t.shape
    assert denoise.log_prob(x_t, 100).shape == (2,)
    assert torch.equal(prediction.x0.flatten(1), flat(x_t.flatten(1), 100).x0)


def test_memory_is_bounded_for_all_digits_at_batch_64():
    """1,797 images of 16x16 at batch 64: no tensor is larger than the data set (235 MB if written as (B, N, D))."""
    denoise = ExactDenoiser(linear(), Points(draw(1797, 1, 16, 16)))
    with LargestTensor() as largest:
        denoise(draw(64, 1, 16, 16, seed=1, dtype=torch.float32), torch.full((64,), 500))
    assert 64 * 1797 * 8 <= largest.bytes <= 1797 * 256 * 8


def test_memory_of_a_mixture_of_images():
    """30 components of 16x16 with full covariances: nothing larger than the covariances themselves (16 MB)."""
    root = draw(30, 256, 256) / 16
    mixture = Mixture(torch.full((30,), 1 / 30, dtype=torch.float64), draw(30, 256), root @ root.mT)
    with LargestTensor() as largest:
        ExactDenoiser(linear(), mixture)(draw(64, 256, seed=1), 500)
    assert largest.bytes <= 30 * 256 * 256 * 8


# Learned
@pytest.mark.parametrize("parameterization", [EPS, X0, V], ids=["EPS", "X0", "V"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_network_that_outputs_the_target_gives_back_x0_and_eps(name, parameterization):
    schedule = SCHEDULES[name]
    x0, eps, t = draw(4, 1, 2, 2), draw(4, 1, 2, 2, seed=1), torch.tensor([1, 10, 400, 900])
    a, b = schedule.rates(t, x0)
    asked = []

    def model(x_t, times):
        asked.append((x_t, times))
        return parameterization.target(schedule, x0, eps, times)

    prediction = LearnedDenoiser(schedule, model, parameterization)(a * x0 + b * eps, t)
    torch.testing.assert_close(prediction.x0, x0, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(prediction.eps, eps, rtol=1e-10, atol=1e-10)
    assert torch.equal(asked[0][1], t) and asked[0][1].dtype == torch.int64


def test_a_network_is_asked_with_one_time_a_point_and_eps_is_the_default():
    seen = []
    denoise = LearnedDenoiser(linear(), lambda x, t: seen.append(t) or x)
    assert torch.equal(denoise(draw(3, 2), 5).eps, draw(3, 2))
    assert seen[0].tolist() == [5, 5, 5]


def test_gradients_reach_the_network():
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    LearnedDenoiser(linear(), lambda x, t: weight * x)(draw(3, 2), 5).eps.sum().backward()
    assert float(weight.grad) == pytest.approx(float(draw(3, 2).sum()))


# Clipped
def test_clipped_keeps_x0_inside_and_leaves_what_is_inside():
    schedule, x_t = linear(), 3 * draw(50, 2)
    inner = LearnedDenoiser(schedule, lambda x, t: x, X0)
    clipped = Clipped(inner)(x_t, 300)
    assert torch.equal(clipped.x0, x_t.clamp(-1, 1))
    inside = (x_t.abs() <= 1).all(1)
    assert bool(inside.any()) and not bool(inside.all())
    torch.testing.assert_close(clipped.eps[inside], inner(x_t, 300).eps[inside], rtol=1e-12, atol=1e-12)
    outside = x_t.abs() > 1
    assert float((clipped.eps - inner(x_t, 300).eps)[outside].abs().min()) > 1e-6  # eps moves where x0 was cut
    narrow = Clipped(inner, -0.25, 0.5)(x_t, 300).x0
    assert (float(narrow.min()), float(narrow.max())) == (-0.25, 0.5)


def test_clipped_has_the_schedule_of_what_it_wraps_and_needs_one():
    inner = ExactDenoiser(cosine(), PLANE)
    assert Clipped(inner).schedule is inner.schedule is Clipped(Clipped(inner)).schedule
    error = refusal(lambda: Clipped(lambda x, t: Prediction(x, x)))
    assert type(error) is TypeError and names_everything(error, "denoise", "function"), error


# Mistakes
class Bare:
    """A denoiser with a schedule and without any check."""

    schedule = linear(10)

    def __call__(self, x_t, t):
        return Prediction(x_t, x_t)


GOOD = draw(4, 2)
KINDS = {
    "mixture": ExactDenoiser(linear(10), PLANE),
    "points": ExactDenoiser(linear(10), Points(draw(5, 2))),
    "learned": LearnedDenoiser(linear(10), lambda x, t: x),
    "clipped": Clipped(ExactDenoiser(linear(10), PLANE)),
    "clipped bare": Clipped(Bare()),
    "guided": Guided(ExactDenoiser(linear(10), PLANE), ExactDenoiser(linear(10), PLANE), 2.0),
    "score": ExactDenoiser(linear(10), PLANE).score,
    "log_prob": ExactDenoiser(linear(10), PLANE).log_prob,
}


@pytest.mark.parametrize(
    ("t", "came"),
    [
        (0, "0"),
        (11, "11"),
        (-1, "-1"),
        (2.0, "2.0"),
        (True, "True"),
        (torch.tensor([1.0, 2.0, 3.0, 4.0]), "torch.float32"),
        (torch.tensor([True] * 4), "torch.bool"),
        (torch.tensor([0, 1, 2, 3]), "0"),
        (torch.tensor([1, 2, 3]), "(3,)"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_times_are_refused(kind, t, came):
    """At t = 0 nothing is left to predict."""
    error = refusal(lambda: KINDS[kind](GOOD, t))
    assert names_everything(error, "t", came), error


@pytest.mark.parametrize(
    ("x_t", "came"),
    [
        (GOOD * math.nan, "NaN"),
        (GOOD / 0, "infinity"),
        (torch.ones(4, 2, dtype=torch.uint8), "torch.uint8"),
        (torch.ones(4, 2, dtype=torch.int64), "torch.int64"),
        ([[1.0, 2.0]], "list"),
    ],
)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "clipped bare"])
def test_bad_states_are_refused(kind, x_t, came):
    error = refusal(lambda: KINDS[kind](x_t, 3))
    assert names_everything(error, "x_t", came), error


@pytest.mark.parametrize("kind", ["mixture", "points", "score", "log_prob", "clipped"])
def test_another_dimension_is_refused(kind):
    error = refusal(lambda: KINDS[kind](draw(4, 3), 3))
    assert names_everything(error, "x_t", "(4, 3)"), error


@pytest.mark.parametrize(
    ("answer", "came"),
    [
        (lambda x: x[:2], "(2, 2)"),
        (lambda x: x[:, :1], "(4, 1)"),
        (lambda x: x.float(), "torch.float32"),
        (lambda x: x.to("meta"), "meta"),
        (lambda x: (x, x), "tuple"),
    ],
)
def test_a_network_that_answers_in_another_form_is_refused(answer, came):
    error = refusal(lambda: LearnedDenoiser(linear(10), lambda x, t: answer(x))(GOOD, 3))
    assert names_everything(error, "output of the model", came), error


@pytest.mark.parametrize(
    ("low", "high", "name", "came"),
    [
        (1.0, -1.0, "low", "1.0"),
        (math.nan, 1.0, "low", "nan"),
        ("0", 1.0, "low", "str"),
        (-1.0, math.nan, "high", "nan"),
        (-1.0, "1", "high", "str"),
    ],
)
def test_bad_limits_are_refused(low, high, name, came):
    error = refusal(lambda: Clipped(KINDS["mixture"], low, high))
    assert names_everything(error, name, came), error


# Guided
CENTRE = Mixture(torch.ones(1), torch.tensor([[0.3, -0.2]]), torch.tensor([[[0.5, 0.1], [0.1, 0.4]]]))
SHIFTED = Mixture(torch.ones(1), torch.tensor([[1.0, 0.4]]), torch.tensor([[[0.2, 0.0], [0.0, 0.1]]]))


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_guidance_at_scales_0_1_and_2(name):
    """0 ignores the label, 1 is no guidance, 2 goes as far again past the labelled prediction."""
    schedule, x_t, t = SCHEDULES[name], draw(5, 2), torch.tensor([1, 10, 200, 600, 1000])
    labelled, unlabelled = ExactDenoiser(schedule, PLANE), ExactDenoiser(schedule, CENTRE)
    with_label, without = labelled(x_t, t), unlabelled(x_t, t)
    for scale, expected in ((0.0, without), (1.0, with_label)):
        for found, right in zip(Guided(labelled, unlabelled, scale)(x_t, t), expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)
    for found, c, u in zip(Guided(labelled, unlabelled, 2)(x_t, t), with_label, without, strict=True):
        torch.testing.assert_close((found + u) / 2, c, rtol=1e-12, atol=1e-12)  # the label is the middle


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0, 20.0])
def test_guidance_keeps_x_t(scale):
    schedule = linear()
    t, x_t = torch.arange(1, 1001, 37), draw(28, 2)
    a, b = schedule.rates(t, x_t)
    x0, eps = Guided(ExactDenoiser(schedule, PLANE), ExactDenoiser(schedule, CENTRE), scale)(x_t, t)
    size = (a * x0).abs() + (b * eps).abs() + x_t.abs()
    assert bool(((a * x0 + b * eps - x_t).abs() < 1e-12 * (1 + scale) * size).all())


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 2.0, 4.5])
@pytest.mark.parametrize("t", [1, 100, 500, 1000])
@pytest.mark.parametrize("pair", [(SHIFTED, CENTRE), (PLANE, CENTRE)], ids=["Gaussians", "mixture"])
def test_guided_eps_is_the_score_of_the_guided_density(pair, t, scale):
    """log p_guided(x_t) = s log p(x_t | label) + (1 - s) log p(x_t) + constant; its gradient by autograd."""
    labelled, unlabelled = (ExactDenoiser(linear(), density) for density in pair)
    x_t = draw(6, 2).requires_grad_()
    log_prob = scale * labelled.log_prob(x_t, t) + (1 - scale) * unlabelled.log_prob(x_t, t)
    (score,) = torch.autograd.grad(log_prob.sum(), x_t)
    b = float(rates(linear(), t)[1])
    found = Guided(labelled, unlabelled, scale)(x_t.detach(), t).eps
    torch.testing.assert_close(found, -b * score, rtol=1e-8, atol=1e-9)


def test_guided_gaussians_are_a_gaussian_whose_precision_is_the_weighted_sum():
    """Two Gaussians N(m, C) at time t: s and 1 - s weigh their precisions; the score from that formula in numpy."""
    t, scale = 300, 2.5
    a, b = (float(rate) for rate in rates(linear(), t))
    x_t, score = draw(7, 2), np.zeros((7, 2))
    for density, weight in ((SHIFTED, scale), (CENTRE, 1 - scale)):
        mean, covariance = density.means[0].double().numpy(), density.covariances[0].double().numpy()
        precision = np.linalg.inv(a**2 * covariance + b**2 * np.eye(2))
        score -= weight * (x_t.numpy() - a * mean) @ precision
    found = Guided(ExactDenoiser(linear(), SHIFTED), ExactDenoiser(linear(), CENTRE), scale)(x_t, t)
    np.testing.assert_allclose(found.eps.numpy(), -b * score, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.x0.numpy(), (x_t.numpy() + b**2 * score) / a, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("scale", "came"), [(-0.1, "-0.1"), (-math.inf, "-inf"), (math.inf, "inf"), (math.nan, "nan"), ("2", "str")]
)
def test_bad_scales_are_refused(scale, came):
    error = refusal(lambda: Guided(KINDS["mixture"], KINDS["points"], scale))
    assert names_everything(error, "scale", came), error


def test_guided_has_the_schedule_of_what_it_wraps():
    known, plain = ExactDenoiser(cosine(), PLANE), lambda x, t: Prediction(x, x)
    assert Guided(known, ExactDenoiser(cosine(), CENTRE), 2.0).schedule is known.schedule  # equal tables
    assert Guided(known, plain, 2.0).schedule is Guided(plain, known, 2.0).schedule is known.schedule
    assert Guided(plain, plain, 2.0).schedule is None


@pytest.mark.parametrize("wrap", [lambda denoise: denoise, Clipped], ids=["bare", "clipped"])
def test_guidance_between_two_schedules_is_refused(wrap):
    error = refusal(lambda: Guided(wrap(KINDS["mixture"]), wrap(ExactDenoiser(cosine(10), PLANE)), 2.0))
    assert type(error) is ValueError
    assert names_everything(error, "unlabelled", str(float(cosine(10).alpha_bar[1]))), error


@pytest.mark.parametrize(
    ("kind", "times", "data"), [("mixture", 1, 1), ("learned", 1, 1), ("clipped", 2, 1), ("guided", 2, 2)]
)
def test_each_denoiser_checks_its_arguments_once(kind, times, data, monkeypatch):
    """Once each: a wrapper and what it wraps; the output of a network is the network's argument to nothing else."""
    calls = []
    for module in (denoisers, process, schedules):
        for check in {"require_data", "require_time"} & set(vars(module)):
            function = getattr(module, check)
            monkeypatch.setattr(module, check, lambda *args, f=function: calls.append(f.__name__) or f(*args))
    KINDS[kind](GOOD, 3)
    assert (calls.count("require_time"), calls.count("require_data")) == (times, data)
