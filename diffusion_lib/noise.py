"""Where noise comes from: generators by number, standard normal tensors, noise of another tensor's shape and device."""

import os
from operator import index

import torch
from torch import Tensor

from diffusion_lib.arguments import require_generator, require_real


def course_seed(n: int) -> int:
    """Return n + $COURSE_SEED (0 where that is not set).

    The variable runs a whole lesson under other seeds without an edit: a claim that fails under one of them was luck.
    A lesson passes its numbers through here or through `seeded`; the library itself does so for neither weights nor
    training. Raises: TypeError for an n that is no integer, ValueError for a $COURSE_SEED that is none.
    """
    course = os.environ.get("COURSE_SEED") or "0"
    try:
        return index(n) + int(course)
    except ValueError as error:
        raise ValueError(f"COURSE_SEED: expected a whole number, got {course!r}") from error


def seeded(n: int) -> torch.Generator:
    """Return a generator on the CPU that starts from `course_seed(n)`. Raises: TypeError, ValueError."""
    return torch.Generator().manual_seed(course_seed(n))


def normal(*shape: int, seed: int) -> Tensor:
    """Return independent standard normal numbers of this shape, drawn from `seeded(seed)`, in the default dtype."""
    return torch.randn(*shape, generator=seeded(seed), device="cpu")


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return standard normal noise of the shape, dtype and device of x.

    It is drawn on the CPU in x's dtype, then moved: one seed gives one image on every device. Raises: TypeError,
    ValueError (no floating point, no generator, or one of another device).
    """
    return draw_like(require_real("x", x), require_generator(generator))


def draw_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return `noise_like` without its checks: for a loop that has checked its arguments once."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device="cpu").to(x.device)
