"""Explorers of lesson 02."""

import torch
from matplotlib.figure import Figure

from diffusion_lib.lessons.networks import figures
from diffusion_lib.noise import seeded
from diffusion_lib.teaching.explorer import Control, Explorer, explorer


@explorer
def scaled() -> Explorer:
    """A normal sample times a; slider: the factor a."""
    x = torch.randn(2000, generator=seeded(0), dtype=torch.float64)

    def show(a: float) -> tuple[Figure, str]:
        sentence = f"The sample times {a:g} has a standard deviation of {(a * x).std():.3g}."
        return figures.histogram((a * x).numpy()), sentence

    return Explorer(show, [Control("a", "factor a", (0.5, 1.0, 1.5, 2.0), 1.0)])
