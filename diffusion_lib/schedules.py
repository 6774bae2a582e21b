"""Noise schedules: how much signal is left at each time, and which times to visit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffusion_lib.arguments import require_count, require_inside, require_positive, require_table, require_time


@dataclass(frozen=True, eq=False)
class Schedule:
    """A variance-preserving noise schedule: one table of alpha_bar, indexed as in the papers.

    ``alpha_bar[t]`` is the square of the factor of x_0 in x_t: q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0,
    (1 - alpha_bar_t) I), Ho et al. 2020, eq. 4. For data of variance 1 it is the share of the variance of x_t that is
    still signal. It has T + 1 entries because ``alpha_bar[0] = 1`` is one of them: at time 0 there is no noise. That
    entry is why the end of a sampling chain needs no special case.

    Args: alpha_bar (T+1,), any table of finite numbers in (0, 1] that starts at 1 and falls strictly; kept in
    float64.
    Raises: TypeError (not numbers), ValueError (not such a table).
    """

    alpha_bar: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha_bar", _checked_table(self.alpha_bar))

    @property
    def T(self) -> int:
        """The number of noising steps."""
        return len(self.alpha_bar) - 1

    @cached_property
    def beta(self) -> Tensor:
        """(T+1,) variance of the noise of each step, beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}; beta_0 = 0."""
        previous = torch.cat([self.alpha_bar[:1], self.alpha_bar[:-1]])
        return (previous - self.alpha_bar) / previous  # not 1 - ratio: that would cancel where beta is small

    @cached_property
    def alpha(self) -> Tensor:
        """(T+1,) what a step multiplies the variance of x_{t-1} by, alpha_t = 1 - beta_t; alpha_0 = 1."""
        return 1 - self.beta

    @cached_property
    def snr(self) -> Tensor:
        """(T+1,) signal-to-noise ratio alpha_bar / (1 - alpha_bar), Kingma et al. 2021, eq. 2; infinite at 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @cached_property
    def log_snr(self) -> Tensor:
        """(T+1,) natural logarithm of the signal-to-noise ratio; infinite at 0."""
        return self.snr.log()

    def rates(self, t: int | Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return signal_rate = sqrt(alpha_bar_t) and noise_rate = sqrt(1 - alpha_bar_t) (Ho et al. 2020, eq. 4).

        Args: t in 0..T, int or integer (B,); like (B, *D), whose dtype and device the rates take.
        Returns: two tensors (B, 1, ..., 1); (1, 1, ..., 1) for an int. Raises: TypeError, ValueError for a bad t.
        """
        return rates_of(self.alpha_bar[require_time("t", t, 0, self.T, len(like))], like)


def rates_of(alpha_bar: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return signal_rate = sqrt(alpha_bar) and noise_rate = sqrt(1 - alpha_bar), as `Schedule.rates` does.

    Args: alpha_bar () or (B,), float64; like (B, *D). Returns: two tensors (1 or B, 1, ..., 1).
    """
    column = per_example(alpha_bar, like)
    noise_rate = (1 - column).sqrt().to(like)  # rounded last: 1 - alpha_bar is small near t = 0
    return column.sqrt().to(like), noise_rate


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """Return one value or one an example, () or (B,), as (1 or B, 1, ..., 1): it broadcasts over `like` (B, *D)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _checked_table(alpha_bar: Sequence[float] | Tensor) -> Tensor:
    table = require_table("alpha_bar", alpha_bar, "(T+1,)", 2)
    if float(table[0]) != 1.0:
        raise ValueError(f"alpha_bar: expected to start from 1 (no noise at time 0), got {float(table[0])}")
    if float(table[-1]) <= 0.0 or not bool((table.diff() < 0).all()):
        raise ValueError(
            f"alpha_bar: expected to fall strictly within (0, 1], got {table.tolist()[:4]} ... {float(table[-1])}"
        )
    return table


def from_beta(beta: Sequence[float] | Tensor) -> Schedule:
    """Return the schedule of given step variances: alpha_bar_t = prod_{i<=t} (1 - beta_i), Ho et al. 2020, section 2.

    Args: beta (T,) for t = 1..T, each in (0, 1). Raises: TypeError, ValueError.
    """
    steps = require_table("beta", beta, "(T,)", 1)
    if not bool(((steps > 0) & (steps < 1)).all()):
        outside = steps[~((steps > 0) & (steps < 1))].tolist()
        raise ValueError(f"beta: expected every variance strictly between 0 and 1, got {outside[:4]}")
    return Schedule(torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), (1 - steps).cumprod(0)]))


def linear(T: int = 1000, start: float = 1e-4, end: float = 0.02) -> Schedule:
    """DDPM's schedule: beta_t rises evenly from `start` at t = 1 to `end` at t = T (Ho et al. 2020, section 4)."""
    require_count("T", T)
    require_inside("start", start, 0.0, 1.0)
    require_inside("end", end, 0.0, 1.0)
    return from_beta(torch.linspace(start, end, T, dtype=torch.float64, device="cpu"))


def scaled_linear(T: int = 1000, start: float = 0.00085, end: float = 0.012) -> Schedule:
    """Stable Diffusion's schedule: sqrt(beta_t) rises evenly (Rombach et al. 2022, latent-diffusion code)."""
    require_count("T", T)
    require_inside("start", start, 0.0, 1.0)
    require_inside("end", end, 0.0, 1.0)
    return from_beta(torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64, device="cpu") ** 2)


def constant(T: int = 1000, beta: float = 0.01) -> Schedule:
    """The same step variance at every time: alpha_bar_t = (1 - beta)^t."""
    require_inside("beta", beta, 0.0, 1.0)
    return from_beta(torch.full((require_count("T", T),), float(beta), dtype=torch.float64, device="cpu"))


def su(T: int = 1000, slope: float = 0.02) -> Schedule:
    """Su Jianlin's schedule: step t keeps the amplitude sqrt(1 - slope t / T), so beta_t = slope t / T (Su 2022)."""
    times = torch.arange(1, require_count("T", T) + 1, dtype=torch.float64, device="cpu")
    return from_beta(require_inside("slope", slope, 0.0, 1.0) * times / T)


def cosine(T: int = 1000, s: float = 0.008) -> Schedule:
    """The cosine schedule, with beta at most 0.999 (Nichol and Dhariwal 2021, eq. 17).

    alpha_bar_t = f(t) / f(0), f(t) = cos^2((t/T + s) / (1 + s) pi/2)."""
    times = torch.arange(require_count("T", T) + 1, dtype=torch.float64, device="cpu") / T
    f = torch.cos((times + require_positive("s", s)) / (1 + s) * torch.pi / 2) ** 2
    return from_beta((1 - f[1:] / f[:-1]).clamp(max=0.999))  # without the clip the last step would keep nothing


# by the names that files and command lines use
SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "constant": constant,
    "su": su,
    "cosine": cosine,
}


def uniform_steps(schedule: Schedule, n: int) -> Tensor:
    """Return n times spread evenly from T to 1, then 0: the times at which a sampler of n evaluations stops.

    Args: n in 2..T (1 where T is 1). Returns: int64 (n+1,), falling. Raises: TypeError, ValueError for a bad n;
    a single jump from T to 0 is the list [T, 0].
    """
    require_count("n", n, min(2, schedule.T), schedule.T)
    return _falling(torch.linspace(schedule.T, 1, n, dtype=torch.float64, device="cpu"))


def log_snr_steps(schedule: Schedule, n: int) -> Tensor:
    """Return the times nearest to n even steps of log SNR from T to 1, then 0 (Lu et al. 2022, DPM-Solver, section 3).

    Args: n in 2..T (1 where T is 1). Returns: int64, falling, at most n+1 (times that coincide are kept once).
    Raises: TypeError, ValueError for a bad n.
    """
    require_count("n", n, min(2, schedule.T), schedule.T)
    log_snr = schedule.log_snr[1:]
    wanted = torch.linspace(float(log_snr[-1]), float(log_snr[0]), n, dtype=torch.float64, device="cpu")
    return _falling((wanted[:, None] - log_snr).abs().argmin(1) + 1)


def _falling(times: Tensor) -> Tensor:
    visited = times.round().to(torch.int64).unique().flip(0)  # T, ..., 1
    return torch.cat([visited, torch.zeros(1, dtype=torch.int64, device="cpu")])
