"""Lesson 13's explorer: a sampler's state x_t and its prediction of x_0, at each recorded time."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.arguments import require_alike, require_data
from diffusion_lib.data import digits
from diffusion_lib.denoisers import ExactDenoiser
from diffusion_lib.densities import Points
from diffusion_lib.lessons.ddpm import figures
from diffusion_lib.noise import seeded
from diffusion_lib.samplers import Step, ddpm
from diffusion_lib.schedules import Schedule, linear
from diffusion_lib.teaching.explorer import Control, Explorer, explorer

TIMES = (1000, 900, 800, 700, 600, 500, 450, 400, 350, 300, 250, 200, 175, 150, 125, 100, 75, 50, 25, 10, 1, 0)


class Film(NamedTuple):
    """What a sampler did: at each kept time t its state x_t, the guess of x_0 made from it, and a sentence."""

    t: tuple[int, ...]
    x: Tensor  # (n, P, H, W)
    x0: Tensor  # (n, P, H, W)
    words: tuple[str, ...]


def record(
    schedule: Schedule, x: Tensor, steps: Iterable[Step], times: Sequence[int] = TIMES, t: int | None = None
) -> Film:
    """Run a sampler; keep its state x_t and the guess of x_0 made from it, at those of `times` that it visits.

    A `Step` holds the guess that led to its state; here each guess stands beside the state that it was made from. At
    t = 0 nothing is left to guess: the guess is the image.

    Args: x (P, 1, H, W), the state at the start; steps, what the sampler yields; t, the time of the start (T if not
    given). The words come from the schedule alone. Returns: a Film. Raises: TypeError, ValueError (none of the times
    was visited).
    """
    time, kept = schedule.T if t is None else t, {}
    require_data("x", x)
    for step in steps:
        if time in times:
            kept[time] = (x, require_alike("x0 of the step", step.x0, "x", x))
        time, x = step.t, step.x
    if time in times:
        kept[time] = (x, x)
    found = tuple(kept)
    if not found:
        raise ValueError(f"times: expected some that the sampler visits, got {list(times)}")
    states, guesses = (torch.stack([kept[moment][k][:, 0] for moment in found]) for k in (0, 1))
    return Film(found, states, guesses, tuple(rates_in_words(schedule, moment) for moment in found))


def rates_in_words(schedule: Schedule, t: int) -> str:
    """Say how much signal and noise x_t holds."""
    kept = float(schedule.alpha_bar[t])
    return f"At t = {t} the state is {kept**0.5:.3f} times an image plus {(1 - kept) ** 0.5:.3f} times noise"


def exact_film() -> Film:
    """Return the film of four digits sampled by the exact denoiser of the 8x8 training digits, in double precision."""
    schedule, data = linear(), digits()
    generator = seeded(13)
    x = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    steps = ddpm(ExactDenoiser(schedule, Points(data.train)), schedule, x, range(1000, -1, -1), generator=generator)
    film = record(schedule, x, steps)
    away = (film.x0 - film.x[-1]).square().flatten(1).mean(1).sqrt().tolist()  # (n,)
    ends = [f", and the guess lies {d:.3f} a pixel from where the walk will end" for d in away]
    return film._replace(words=tuple(start + end for start, end in zip(film.words, ends, strict=True)))


@explorer
def filmstrip(film: Film | None = None, limit: float = 1.0) -> Explorer:
    """The states of a sampler and its predictions of x_0, with a slider over the times of a film.

    Args: film, as `record` made it (if not given: four digits and the exact denoiser); limit, the value shown white.
    """
    film = exact_film() if film is None else film

    def show(t):
        k = film.t.index(t)
        return figures.states_and_guesses(film.x[k].numpy(), film.x0[k].numpy(), t, limit), film.words[k] + "."

    start = min(film.t, key=lambda moment: abs(moment - 300))
    return Explorer(show, [Control("t", "time t", film.t, start, "t = {}")])
