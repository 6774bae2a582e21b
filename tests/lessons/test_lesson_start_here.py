"""Lesson 00: every formula shown is evaluated, against 40 digits and conditioning; the calculator; the slider."""

import math

import mpmath
import numpy as np
import pytest
import torch
from oracles import forty_digits, numbers, state_amplitudes

from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.lessons.start_here import explorers
from diffusion_lib.lessons.start_here.formulas import FORMULAS, MEANINGS, evaluate
from diffusion_lib.notation import CONVENTIONS, DDPM, EDM, FLOW, SU, amplitudes, at
from diffusion_lib.samplers import ddim
from diffusion_lib.schedules import linear
from diffusion_lib.toys import two_moons

TIMES = (1, 2, 10, 250, 500, 999, 1000)
LINEAR = linear()
TABLE = amplitudes(LINEAR)
WAYS = [(c, t) for c in CONVENTIONS.values() for t in TIMES]
each_way = pytest.mark.parametrize(("convention", "t"), WAYS, ids=[f"{c.name} {t}" for c, t in WAYS])


@pytest.fixture(scope="module")
def exact():
    return forty_digits()


def coefficients(formula: str, numbers: dict, *symbols: str) -> list[float]:
    """The coefficient of each symbol in a linear formula: its value where that symbol is 1 and the others are 0."""
    return [evaluate(formula, numbers | dict.fromkeys(symbols, 0.0) | {symbol: 1.0}) for symbol in symbols]


def named(state: str, name: str) -> str:
    return state.replace("_t", name)


@each_way
def test_step_formula(convention, t, exact):
    """One step from the state of t-1 makes the state of t: data add up, and independent noises add in squares."""
    before, after = state_amplitudes(convention, exact, t - 1), state_amplitudes(convention, exact, t)
    numbers = at(convention, TABLE, t, t - 1)
    symbols = named(convention.state, "_{t-1}"), r"\epsilon_t"
    keep, add = coefficients(FORMULAS[convention.name]["step"], numbers, *symbols)
    assert keep * before[0] == pytest.approx(after[0], rel=1e-10)
    assert (keep * before[1]) ** 2 + add**2 == pytest.approx(after[1] ** 2, rel=1e-9)


@each_way
def test_jump_and_snr_formulas(convention, t, exact):
    numbers = at(convention, TABLE, t, 0)
    found = coefficients(FORMULAS[convention.name]["jump"], numbers, "x_0", r"\epsilon")
    assert found == pytest.approx(state_amplitudes(convention, exact, t), rel=1e-10)
    snr = float((exact["signal"][t] / exact["noise"][t]) ** 2)
    assert evaluate(FORMULAS[convention.name]["snr"], numbers) == pytest.approx(snr, rel=1e-9)


def network(convention, exact, t: int, x0: float, eps: float) -> dict[str, float]:
    """Every symbol at time t where a perfect network has seen the state made of x0 and eps."""
    a, b = state_amplitudes(convention, exact, t)
    numbers = at(convention, TABLE, t, max(t - 7, 0)) | {convention.state: a * x0 + b * eps, r"\hat x_0": x0}
    answer = evaluate(FORMULAS[convention.name]["target"], numbers | {"x_0": x0, r"\epsilon": eps})
    return numbers | {convention.output: answer}


@each_way
def test_target_and_x0_formulas(convention, t, exact):
    """From the state and what the network is asked for, its answer's x_0 is the one that was put in."""
    for x0, eps in ((0.3, -1.2), (-0.8, 0.5)):
        found = evaluate(FORMULAS[convention.name]["x0"], network(convention, exact, t, x0, eps))
        assert found == pytest.approx(x0, rel=1e-9)


TARGETS = {
    "DDPM": lambda a, b, x0, eps: eps,
    "DDIM": lambda a, b, x0, eps: eps,
    "score SDE": lambda a, b, x0, eps: -((a * x0 + b * eps) - a * x0) / b**2,  # d/dx log N(x; a x0, b^2)
    "EDM": lambda a, b, x0, eps: x0,
    "flow matching": lambda a, b, x0, eps: eps - x0,  # d/dtau of (1 - tau) x0 + tau eps
}


@each_way
def test_target_formula_is_the_papers(convention, t, exact):
    a, b, x0, eps = float(exact["signal"][t]), float(exact["noise"][t]), 0.3, -1.2
    found = network(convention, exact, t, x0, eps)[convention.output]
    if convention is SU:
        assert found == pytest.approx(step_noise_given_all(exact, t) * eps, rel=1e-9)
    else:
        assert found == pytest.approx(TARGETS[convention.name](a, b, x0, eps), rel=1e-9)


def step_noise_given_all(exact, t: int) -> float:
    """E[noise of step t | all noise = 1]: the noise before and the step's make all; regression is a covariance."""
    before = exact["signal"][t] / exact["signal"][t - 1] * exact["noise"][t - 1]
    step = mpmath.sqrt(exact["DDPM"][t])
    return float(step / mpmath.sqrt(before**2 + step**2))


@each_way
def test_mean_formula(convention, t, exact):
    """The mean of the state at t-1 given the one at t and x_0, by conditioning the two in this paper's coordinates."""
    x0, eps = 0.3, -1.2
    before, after = state_amplitudes(convention, exact, t - 1), state_amplitudes(convention, exact, t)
    keep = after[0] / before[0]  # the state at t is keep times the one at t-1, plus new noise
    gain = keep * before[1] ** 2 / after[1] ** 2  # covariance of the two over the variance of the later
    expected = before[0] * x0 + gain * after[1] * eps
    found = evaluate(FORMULAS[convention.name]["mean"], network(convention, exact, t, x0, eps))
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-12)


@each_way
def test_ddim_formula(convention, t, exact):
    """The step without noise keeps x_0 and eps and mixes them in the amounts of time s."""
    s, x0, eps = max(t - 7, 0), 0.3, -1.2
    a, b = state_amplitudes(convention, exact, s)
    found = evaluate(FORMULAS[convention.name]["ddim"], network(convention, exact, t, x0, eps))
    assert found == pytest.approx(a * x0 + b * eps, rel=1e-9)


@pytest.mark.parametrize(("t", "s"), [(1000, 900), (500, 499), (300, 20), (20, 1), (7, 0)])
def test_ddim_is_euler_in_sigma_and_in_tau(t, s):
    """One DDIM step of the sampler, in three papers' coordinates, with the exact denoiser of the moons."""
    denoise = ExactDenoiser(LINEAR, two_moons())
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (step,) = ddim(denoise, LINEAR, x, [t, s])
    prediction = denoise(x, torch.full((50,), t))
    for convention in CONVENTIONS.values():
        scale = convention.state_scale(TABLE)
        symbols = at(convention, TABLE, t, s) | {
            "x_0": prediction.x0,
            r"\hat x_0": prediction.x0,
            r"\epsilon": prediction.eps,
        }
        symbols[convention.state] = scale[t] * x
        symbols[convention.output] = evaluate(FORMULAS[convention.name]["target"], symbols)
        reached = evaluate(FORMULAS[convention.name]["ddim"], symbols) / scale[s]
        assert (reached - step.x).abs().max() < 1e-10
    euler = scaled_euler(x / TABLE.signal[t], EDM.encode(TABLE), t, s, prediction.eps) * TABLE.signal[s]
    assert (euler - step.x).abs().max() < 1e-10
    total = TABLE.signal + TABLE.noise
    euler = scaled_euler(x / total[t], FLOW.encode(TABLE), t, s, prediction.eps - prediction.x0) * total[s]
    assert (euler - step.x).abs().max() < 1e-13


def scaled_euler(x, clock, t, s, velocity):
    return x + (clock[s] - clock[t]) * velocity


def test_every_paper_writes_every_formula_with_its_own_letters_only():
    for name, convention in CONVENTIONS.items():
        assert FORMULAS[name].keys() == MEANINGS.keys()
        left = {
            key: formula.replace(r"\approx", "=").partition("=")[0].strip() for key, formula in FORMULAS[name].items()
        }
        assert left["step"] == left["jump"] == convention.state
        assert left["ddim"] == named(convention.state, "_s")
        assert left["target"] == convention.output
        assert (left["snr"], left["x0"], left["mean"]) == (r"\mathrm{SNR}_t", r"\hat x_0", r"\mu")


def test_a_ddpm_network_in_sus_update_misses_the_mean(exact):
    """Erratum 001-9: Su's network answers beta_t / bar beta_t times DDPM's; with DDPM's the update is another one."""
    for t in (2, 250, 1000):
        symbols = network(SU, exact, t, 0.3, -1.2)
        right = evaluate(FORMULAS["Su Jianlin"]["mean"], symbols)
        ddpm = network(DDPM, exact, t, 0.3, -1.2)
        assert right == pytest.approx(evaluate(FORMULAS["DDPM"]["mean"], ddpm), rel=1e-9)
        wrong = evaluate(FORMULAS["Su Jianlin"]["mean"], symbols | {r"\epsilon_\theta": ddpm[r"\epsilon_\theta"]})
        assert abs(wrong - right) > 0.2 * float(exact["Su Jianlin"][t])


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("y = 2", 2),
        (r"y \approx 3x", 15),
        ("-x + 1", -4),
        ("10 - x - 2", 3),
        (r"\frac{x}{2} x", 12.5),
        (r"\frac{12}{5}", 2.4),
        (r"\sqrt{x^2 + 144}", 13),
        (r"x^2 x_t", 175),
        (r"\left(x - 1\right)^2", 16),
        (r"2(x + x_t)(x_t - x)", 48),
        (r"e^{-\frac{x}{5}}", math.exp(-1)),
        (r"x_{t-1}^2 - x_t^{2}", 72),
        (r"\sqrt{\frac{x_t + 2}{x - 1}}\,x", 7.5),
        (r"12.5", None),
        (r"x +", None),
        (r"(x", None),
        (r"(x}", None),
        (r"x)", None),
        (r"\sin x", None),
        (r"\frac{x}", None),
        (r"\frac12", None),
        ("", None),
    ],
)
def test_the_calculator(formula, value):
    values = {"x": 5.0, "x_t": 7.0, "x_{t-1}": 11.0, "e": math.e}
    if value is None:
        with pytest.raises(ValueError, match="formula: expected"):
            evaluate(formula, values)
    else:
        assert evaluate(formula, values) == pytest.approx(value, rel=1e-14)


def test_the_calculator_takes_tensors():
    x = torch.linspace(1, 2, 5, dtype=torch.float64)
    assert torch.allclose(evaluate(r"\frac{1 - x}{\sqrt{x}}", {"x": x}), (1 - x) * x.rsqrt())


def test_the_convention_explorer_says_each_papers_numbers():
    """From the betas alone: every letter of every paper at one time, its image's scale, and one SNR for all."""
    explorer, t = explorers.convention(), 250
    beta = np.linspace(1e-4, 0.02, 1000)[:t]
    kept = np.prod(1 - beta)
    signal, noise, last = kept**0.5, (1 - kept) ** 0.5, beta[-1]
    expected = {
        "DDPM": [last, 1 - last, kept, 1],
        "DDIM": [kept, 1],
        "Su Jianlin": [(1 - last) ** 0.5, last**0.5, signal, noise, 1],
        "score SDE": [-1000 * math.log1p(-last), -math.log(kept), 1],
        "EDM": [noise / signal, 1 / signal],
        "flow matching": [noise / (signal + noise), 1 / (signal + noise)],
    }
    assert expected.keys() == CONVENTIONS.keys()
    for paper, values in expected.items():
        words = explorer.description(t=t, paper=paper).partition(": ")[2]
        said = numbers(words)
        assert said == pytest.approx([*values, kept / (1 - kept)], rel=6e-4)
        drawn = [text.get_text() for text in explorer.figure(t=t, paper=paper).texts]
        assert {f" = {value:.4g}" for value in said[:-2]} <= set(drawn)
