"""Six notations of one process: 40 digits, an integrated SDE, conditioning, diffusers against every formula shown."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler
from oracles import numbers
from scipy.integrate import solve_ivp

from diffusion_lib import notation
from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.notation import CONVENTIONS, DDIM, DDPM, EDM, FLOW, SDE, SU, amplitudes, at, convert, decoded
from diffusion_lib.samplers import ddim
from diffusion_lib.schedules import Schedule, cosine, from_beta, linear, su
from diffusion_lib.teaching.figures.formulas import FORMULAS, MEANINGS, evaluate
from diffusion_lib.teaching.widgets import convention_explorer
from diffusion_lib.toys import two_moons

TIMES = (1, 2, 10, 250, 500, 999, 1000)
PAIRS = list(itertools.permutations(CONVENTIONS.values(), 2))
LINEAR = linear()
TABLE = amplitudes(LINEAR)


def by_name(convention):
    return convention.name


@pytest.fixture(scope="module")
def exact() -> dict[str, list[mpmath.mpf]]:
    """Every table for DDPM's linear schedule with 40 digits, from its betas alone."""
    with mpmath.workdps(40):
        beta = [mpmath.mpf(0), *(mpmath.mpf(float(b)) for b in torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))]
        alpha_bar = list(itertools.accumulate((1 - b for b in beta), lambda x, y: x * y))
        sigma = [mpmath.sqrt((1 - a) / a) for a in alpha_bar]
        return {
            "DDPM": beta,
            "DDIM": alpha_bar,
            "Su Jianlin": [mpmath.sqrt(b) for b in beta],
            "score SDE": [-1000 * mpmath.log(1 - b) for b in beta],
            "EDM": sigma,
            "flow matching": [s / (1 + s) for s in sigma],
            "signal": [mpmath.sqrt(a) for a in alpha_bar],
            "noise": [mpmath.sqrt(1 - a) for a in alpha_bar],
        }


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


def test_letters_at_a_time():
    numbers = at(DDPM, TABLE, 500, 100)
    for name, time in ((r"\bar\alpha_t", 500), (r"\bar\alpha_{t-1}", 499), (r"\bar\alpha_s", 100)):
        assert numbers[name] == pytest.approx(float(LINEAR.alpha_bar[time]), rel=1e-15)
    assert numbers[r"\beta_t"] == pytest.approx(float(LINEAR.beta[500]), rel=1e-10)
    assert numbers["T"] == 1000
    assert at(SDE, TABLE, 500, 100)[r"\beta(t/T)"] == float(SDE.encode(TABLE)[500])


# ---- formulas: what is displayed is evaluated ----


def coefficients(formula: str, numbers: dict, *symbols: str) -> list[float]:
    """The coefficient of each symbol in a linear formula: its value where that symbol is 1 and the others are 0."""
    return [evaluate(formula, numbers | dict.fromkeys(symbols, 0.0) | {symbol: 1.0}) for symbol in symbols]


def named(state: str, name: str) -> str:
    return state.replace("_t", name)


def state_amplitudes(convention, exact, t: int) -> tuple[float, float]:
    """How much of x_0 and eps is in this paper's state: squares sum to 1, or full strength, or the sum is 1."""
    a, b = exact["signal"][t], exact["noise"][t]
    scale = {"EDM": a, "flow matching": a + b}.get(convention.name, 1)
    return float(a / scale), float(b / scale)


WAYS = [(c, t) for c in CONVENTIONS.values() for t in TIMES]
each_way = pytest.mark.parametrize(("convention", "t"), WAYS, ids=[f"{c.name} {t}" for c, t in WAYS])


@each_way
def test_state_scale(convention, t, exact):
    a, b = state_amplitudes(convention, exact, t)
    scale = float(convention.state_scale(TABLE)[t])
    assert scale * float(TABLE.signal[t]) == pytest.approx(a, rel=1e-12)
    assert scale * float(TABLE.noise[t]) == pytest.approx(b, rel=1e-12)


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


# ---- the calculator ----


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


def test_the_convention_explorer_says_each_papers_numbers():
    """From the betas alone: every letter of every paper at one time, its image's scale, and one SNR for all."""
    explorer, t = convention_explorer(), 250
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
