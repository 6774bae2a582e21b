"""Denoisers estimate x_0 from x_t: exact ones from densities, learned ones from networks, and wrappers."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_lib.arguments import require_alike, require_between, require_data, require_time
from diffusion_lib.densities import Mixture, Points, View
from diffusion_lib.process import EPS, X0, Denoiser, Parameterization, Prediction, require_schedule, schedule_of
from diffusion_lib.schedules import Schedule, rates_of


class ExactDenoiser:
    """The optimal denoiser of a known density: the conditional means E[x_0 | x_t] and E[eps | x_t].

    No function of x_t has a smaller mean squared error, so a trained network can only approach it (Karras et al.
    2022, appendix B.3, for a finite data set). Computed in float64 whatever the dtype of x_t, returned in that dtype.
    """

    def __init__(self, schedule: Schedule, density: Mixture | Points) -> None:
        self.schedule = schedule
        self.density = density

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Prediction:
        """Return E[x_0 | x_t] and E[eps | x_t] = -noise_rate score (Efron 2011, eq. 1.4, Tweedie's formula).

        Args: x_t (B, *D) with as many dimensions as the density has; t in 1..T, int or (B,). Raises: TypeError,
        ValueError.
        """
        view, noise_rate = self._view(x_t, t)
        return Prediction(view.x0.to(x_t).reshape(x_t.shape), (-noise_rate * view.score).to(x_t).reshape(x_t.shape))

    def score(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Return the gradient of log q(x_t) with respect to x_t, (B, *D). Raises: TypeError, ValueError."""
        return self._view(x_t, t)[0].score.to(x_t).reshape(x_t.shape)

    def log_prob(self, x_t: Tensor, t: int | Tensor) -> Tensor:
        """Return log q(x_t) in nats, (B,). Raises: TypeError, ValueError."""
        return self._view(x_t, t)[0].log_prob.to(x_t)

    def _view(self, x_t: Tensor, t: int | Tensor) -> tuple[View, Tensor]:
        flat = require_data("x_t", x_t).reshape(len(x_t), -1).to("cpu", torch.float64)  # (B, D)
        if flat.shape[1] != self.density.D:
            raise ValueError(f"x_t: expected {self.density.D} dimensions, got shape {tuple(x_t.shape)}")
        times = require_time("t", t, 1, self.schedule.T, len(flat)).expand(len(flat))
        signal_rate, noise_rate = rates_of(self.schedule.alpha_bar[times], flat)  # (B, 1) each
        return self.density.view(flat, signal_rate[:, 0], noise_rate[:, 0]), noise_rate


class LearnedDenoiser:
    """A denoiser made from any network: model(x_t, t) -> (B, *D), read by a parameterization (EPS, X0 or V)."""

    def __init__(
        self, schedule: Schedule, model: Callable[[Tensor, Tensor], Tensor], parameterization: Parameterization = EPS
    ) -> None:
        self.schedule = schedule
        self.model = model
        self.parameterization = parameterization

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Prediction:
        """Return the network's estimates of x_0 and eps.

        Args: x_t (B, *D); t in 1..T, int or (B,). Raises: TypeError, ValueError.
        """
        require_data("x_t", x_t)
        times = require_time("t", t, 1, self.schedule.T, len(x_t)).expand(len(x_t))
        output = require_alike("output of the model", self.model(x_t, times.to(x_t.device)), "x_t", x_t)
        return self.parameterization.solve_from(*rates_of(self.schedule.alpha_bar[times], x_t), x_t, output)


class Clipped:
    """A denoiser whose x_0 is kept in [low, high], with eps recomputed so that x_t = signal_rate x0 + noise_rate eps.

    Pixels of images lie in [-1, 1]; an estimate outside cannot be right (Ho et al. 2020, code; "static thresholding"
    in Saharia et al. 2022).

    Args: denoise, a denoiser that has a `schedule`. Raises: TypeError (none: eps cannot be recomputed), ValueError.
    """

    def __init__(self, denoise: Denoiser, low: float = -1.0, high: float = 1.0) -> None:
        schedule = schedule_of(denoise)
        if schedule is None:
            raise TypeError(f"denoise: expected a denoiser with a schedule, got {type(denoise).__name__} without one")
        self.high = require_between("high", high, -math.inf, math.inf)
        self.low = require_between("low", low, -math.inf, self.high)
        self.schedule = schedule
        self.denoise = denoise

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Prediction:
        """Return the clipped x_0 and the eps that goes with it. Args and errors: those of the wrapped denoiser."""
        x0 = self.denoise(x_t, t).x0.clamp(self.low, self.high)
        times = require_time("t", t, 1, self.schedule.T, len(x_t))
        return X0.solve_from(*rates_of(self.schedule.alpha_bar[times], x_t), x_t, x0)


class Guided:
    """Classifier-free guidance: extrapolates from the unconditional prediction through the conditional one.

    eps = eps_unlabelled + scale (eps_labelled - eps_unlabelled), and x_0 likewise (Ho and Salimans 2022, eq. 6, whose w
    is scale - 1): 0 ignores the label, 1 is no guidance. Both are weighted sums with weights that add up to 1, so
    x_t = signal_rate x0 + noise_rate eps still holds.

    Raises: TypeError, ValueError for a bad scale, or for two denoisers of different schedules.
    """

    def __init__(self, labelled: Denoiser, unlabelled: Denoiser, scale: float) -> None:
        if schedule := schedule_of(labelled):
            require_schedule("unlabelled", unlabelled, schedule)
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.scale = require_between("scale", scale, 0.0, 1e6)  # infinity times a difference of 0 is not a number

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the two denoisers; None if neither has one."""
        return schedule_of(self.labelled) or schedule_of(self.unlabelled)

    def __call__(self, x_t: Tensor, t: int | Tensor) -> Prediction:
        """Return the guided x_0 and eps. Args and errors: those of the wrapped denoisers."""
        with_label, without = self.labelled(x_t, t), self.unlabelled(x_t, t)
        return Prediction(*(u + self.scale * (c - u) for c, u in zip(with_label, without, strict=True)))
