r"""One process in every paper's letters: what each paper tabulates, and conversions between the tables.

A noisy image is a weighted sum of data and noise. Papers agree on that and on little else: one tabulates variances,
another amplitudes, a third the ratio of noise to signal; some rescale the image as well. `Amplitudes` is what all of
them have in common, and a `Convention` says how one paper writes it. Tables have T + 1 entries, for t = 0..T, as in
`Schedule`.

What a table can hold, a conversion keeps; what it cannot, is lost. Digits of small noise are lost in DDIM's letter,
which is alpha_bar itself: in float64 a noise of amplitude 0.002 comes back from it to about 1e-11, and from every other
paper's letter to about 1e-15. A `Schedule` is such a table too: see `amplitudes`.

Two facts about time itself. The software library diffusers counts timesteps k = t - 1: its ``alphas_cumprod[k]`` is
alpha_bar of our t = k + 1. And papers on flow matching put noise at time 0 and data at 1: `reverse_time` turns their
time into that of `FLOW`, and velocities change sign.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.arguments import require_data, require_time
from diffusion_lib.schedules import Schedule


class Amplitudes(NamedTuple):
    """How much of the data and of the noise is in x_t = signal x_0 + noise eps, where signal^2 + noise^2 = 1.

    Two tables although one would do: either can then hold a small number to all its digits.
    """

    signal: Tensor  # (T+1,) sqrt(alpha_bar), 1 at t = 0
    noise: Tensor  # (T+1,) sqrt(1 - alpha_bar), 0 at t = 0


def amplitudes(schedule: Schedule) -> Amplitudes:
    """Return signal = sqrt(alpha_bar) and noise = sqrt(1 - alpha_bar) of a schedule (Ho et al. 2020, eq. 4).

    The subtraction costs digits where alpha_bar is near 1: of float64's sixteen, four at 1 - alpha_bar = 1e-4.
    """
    return Amplitudes(schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt())


@dataclass(frozen=True, eq=False)
class Convention:
    """How one paper writes the process.

    `encode` and `decode` go between the amplitudes and the one table that defines the process in this paper: `letter`
    is its name in LaTeX, `meaning` what it says, `high` the largest value of an entry (the smallest is 0). `letters`
    computes the table of each of the paper's symbols, by LaTeX name. `state` is the paper's noisy image, DDPM's x_t
    times `state_scale`; `output` is what its network returns.
    """

    name: str
    paper: str
    letter: str
    meaning: str
    high: float
    encode: Callable[[Amplitudes], Tensor]
    decode: Callable[[Tensor], Amplitudes]
    letters: Mapping[str, Callable[[Amplitudes], Tensor]]
    state: str
    state_scale: Callable[[Amplitudes], Tensor]
    output: str


def convert(values: Tensor, source: Convention, target: Convention) -> Tensor:
    """Return the table that `target` writes for the process that `source` writes as `values`.

    Args: values (T+1,), floating point, the entries of `source.letter` for t = 0..T, without noise at t = 0.
    Returns: (T+1,) float64, the entries of `target.letter`. On DDPM's linear schedule a conversion and its inverse
    agree below 1e-12 in signal and in noise.
    Raises: TypeError (not floating point); ValueError (another shape, NaN, out of range, noise that does not grow).
    """
    return target.encode(decoded(values, source))


def decoded(values: Tensor, source: Convention) -> Amplitudes:
    """Return the amplitudes of a table in the letters of `source`. Shapes, TypeError and ValueError: see `convert`."""
    table = require_data("values", values).to("cpu", torch.float64)
    if table.ndim != 1 or len(table) < 2:
        raise ValueError(f"values: expected shape (T+1,) with T at least 1, got {tuple(table.shape)}")
    low, high = float(table.min()), float(table.max())
    if low < 0 or high > source.high:
        raise ValueError(f"values: expected numbers in [0, {source.high:g}] for {source.name}, got {low:g}..{high:g}")
    found = source.decode(table)
    if float(found.noise[0]) != 0 or not bool((found.noise.diff() > 0).all()) or float(found.signal[-1]) <= 0:
        raise ValueError(
            f"values: expected noise that grows from 0 and leaves some signal, got {table.tolist()[:3]} ..."
        )
    return found


def at(convention: Convention, table: Amplitudes, t: int, s: int) -> dict[str, float]:
    r"""Return the numbers of a convention's letters by LaTeX name: at t, and renamed at s and t-1; and T and e.

    A name with ``_t`` comes as ``_s`` and ``_{t-1}`` too: \bar\alpha_t brings \bar\alpha_s and \bar\alpha_{t-1}.

    Args: t in 1..T, s in 0..T. Raises: TypeError, ValueError for another time.
    """
    T = len(table.signal) - 1
    require_time("t", t, 1, T)
    require_time("s", s, 0, T)
    numbers = {"T": float(T), "e": math.e}
    for letter, values in convention.letters.items():
        for name, time in (("_s", s), ("_{t-1}", t - 1), ("_t", t)):  # _t last: a letter without an index is read at t
            numbers[letter.replace("_t", name)] = float(values(table)[time])
    return numbers


def reverse_time(time: Tensor) -> Tensor:
    """Return r = 1 - tau, the time of papers on flow matching, for `FLOW`'s tau; and tau for their r.

    Lipman et al. 2023 (section 4) and Liu et al. 2023 have noise at r = 0 and data at r = 1: their image is
    r x_0 + (1 - r) eps, and their velocity x_0 - eps, which is minus that of `FLOW`. (Lipman's line keeps noise of
    amplitude sigma_min at the data's end; `FLOW` keeps none.)

    Args: time, floating point, any shape, in [0, 1]. Raises: TypeError (not floating point), ValueError (out of range).
    """
    require_data("time", time)
    low, high = float(time.min()), float(time.max())
    if low < 0 or high > 1:
        raise ValueError(f"time: expected numbers in [0, 1], got {low:g}..{high:g}")
    return 1 - time


# ---- the conventions ----


def _log_alpha_bar(a: Amplitudes) -> Tensor:
    return torch.where(a.noise < a.signal, (-(a.noise**2)).log1p(), 2 * a.signal.log())  # the smaller keeps its digits


def _from_log_alpha_bar(log_alpha_bar: Tensor) -> Amplitudes:
    return Amplitudes((log_alpha_bar / 2).exp(), (-log_alpha_bar.expm1()).sqrt())


def _log_alpha(a: Amplitudes) -> Tensor:
    return _log_alpha_bar(a).diff(prepend=torch.zeros(1, dtype=torch.float64, device="cpu"))


def _beta(a: Amplitudes) -> Tensor:
    return -_log_alpha(a).expm1()


def _from_beta(beta: Tensor) -> Amplitudes:
    return _from_log_alpha_bar((-beta).log1p().cumsum(0))


def _alpha_bar(a: Amplitudes) -> Tensor:
    return torch.where(a.noise < a.signal, 1 - a.noise**2, a.signal**2)


def _rate(a: Amplitudes) -> Tensor:
    return -(len(a.signal) - 1) * _log_alpha(a)


def _from_rate(rate: Tensor) -> Amplitudes:
    return _from_log_alpha_bar(-rate.cumsum(0) / (len(rate) - 1))


def _sigma(a: Amplitudes) -> Tensor:
    return a.noise / a.signal


def _tau(a: Amplitudes) -> Tensor:
    return a.noise / (a.signal + a.noise)


def _from_ratio(signal: Tensor, noise: Tensor) -> Amplitudes:
    length = torch.hypot(signal, noise)
    return Amplitudes(signal / length, noise / length)


def _one(a: Amplitudes) -> Tensor:
    return torch.ones_like(a.signal)


DDPM = Convention(
    "DDPM",
    "Ho, Jain and Abbeel 2020, eq. 2, 4, 11 and 15",
    r"\beta_t",
    "variance of the noise that step t adds",
    high=1.0,
    encode=_beta,
    decode=_from_beta,
    letters={r"\beta_t": _beta, r"\alpha_t": lambda a: _log_alpha(a).exp(), r"\bar\alpha_t": _alpha_bar},
    state="x_t",
    state_scale=_one,
    output=r"\epsilon_\theta",
)

DDIM = Convention(
    "DDIM",
    "Song, Meng and Ermon 2021, eq. 3, 4, 9 and 12",
    r"\alpha_t",
    "DDPM's alpha-bar: the signal's share, for data of variance 1",
    high=1.0,
    encode=_alpha_bar,
    decode=lambda alpha: Amplitudes(alpha.sqrt(), (1 - alpha).sqrt()),
    letters={r"\alpha_t": _alpha_bar},
    state="x_t",
    state_scale=_one,
    output=r"\epsilon_\theta",
)

SU = Convention(
    "Su Jianlin",
    "Su 2022, Talks on generative diffusion models, part 1",
    r"\beta_t",
    "amplitude of the noise that step t adds, with alpha^2 + beta^2 = 1",
    high=1.0,
    encode=lambda a: _beta(a).sqrt(),
    decode=lambda beta: _from_beta(beta**2),  # not from alpha: near 1 it would keep few digits of the noise
    letters={
        r"\alpha_t": lambda a: (_log_alpha(a) / 2).exp(),
        r"\beta_t": lambda a: _beta(a).sqrt(),
        r"\bar\alpha_t": lambda a: a.signal,
        r"\bar\beta_t": lambda a: a.noise,
    },
    state="x_t",
    state_scale=_one,
    output=r"\epsilon_\theta",
)

SDE = Convention(
    "score SDE",
    "Song et al. 2021, eq. 11 and 29 (variance preserving)",
    r"\beta(t/T)",
    "rate of the noise, steady within a step; B its integral from 0",
    high=math.inf,
    encode=_rate,
    decode=_from_rate,
    letters={r"\beta(t/T)": _rate, r"B_t": lambda a: -_log_alpha_bar(a)},
    state="x_t",
    state_scale=_one,
    output=r"s_\theta",
)

EDM = Convention(
    "EDM",
    "Karras et al. 2022, section 2 and algorithm 1",
    r"\sigma_t",
    "amplitude of the noise, the data left at full strength",
    high=math.inf,
    encode=_sigma,
    decode=lambda sigma: _from_ratio(torch.ones_like(sigma), sigma),
    letters={r"\sigma_t": _sigma},
    state=r"\tilde x_t",
    state_scale=lambda a: 1 / a.signal,
    output=r"D_\theta",
)

FLOW = Convention(
    "flow matching",
    "straight line of Lipman et al. and Liu et al. 2023, their time reversed",
    r"\tau_t",
    "share of the noise: it and the signal add up to 1",
    high=1.0,
    encode=_tau,
    decode=lambda tau: _from_ratio(1 - tau, tau),
    letters={r"\tau_t": _tau},
    state=r"x_{\tau_t}",
    state_scale=lambda a: 1 / (a.signal + a.noise),
    output=r"v_\theta",
)

CONVENTIONS = {c.name: c for c in (DDPM, DDIM, SU, SDE, EDM, FLOW)}
