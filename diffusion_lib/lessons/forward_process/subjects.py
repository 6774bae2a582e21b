"""Lesson 09's three images: a photograph, a digit that the shipped network drew, a digit that a person wrote.

`python -m diffusion_lib.lessons.forward_process.subjects` draws the network's digit anew, into `drawn_digit.png`.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor

from diffusion_lib.data import digits
from diffusion_lib.denoisers import Clipped
from diffusion_lib.images import crop, decode_image
from diffusion_lib.noise import seeded
from diffusion_lib.pretrained import pretrained
from diffusion_lib.samplers import ddim, final
from diffusion_lib.schedules import uniform_steps

SIDE = 40  # pixels of the photograph: few enough to see each of them
DRAWN = Path(__file__).with_name("drawn_digit.png")
LABEL, SEED = 3, 0


def photograph(side: int = SIDE) -> Tensor:
    """Return scikit-learn's china.jpg, cut to its left square and made small, in colour: (3, side, side) in [-1, 1]."""
    pixels = load_sample_image("china.jpg")  # (427, 640, 3) uint8
    square = Image.fromarray(pixels[:, : len(pixels)]).resize((side, side), Image.Resampling.BILINEAR)
    colours = torch.as_tensor(np.array(square), dtype=torch.float64, device="cpu")  # (side, side, 3)
    return colours.permute(2, 0, 1) / 127.5 - 1


def drawn_digit() -> Tensor:
    """Return the digit 3 that the shipped MNIST network drew: (1, 28, 28) in [-1, 1]."""
    return decode_image(DRAWN.read_bytes(), 28)


def written_digit() -> Tensor:
    """Return a 5 of scikit-learn's digits: (1, 8, 8) in [-1, 1]."""
    return digits(8).train[5]


def draw_digit() -> Tensor:
    """Return a digit as the shipped MNIST network draws it, by 50 DDIM steps with guidance 2: (1, 28, 28)."""
    network = pretrained("mnist")
    noise = torch.randn(1, 1, 32, 32, generator=seeded(SEED), dtype=torch.float32)
    denoise = Clipped(network.denoiser([LABEL], scale=2.0))
    with torch.inference_mode():
        return crop(final(ddim(denoise, network.schedule, noise, uniform_steps(network.schedule, 50))), 28)[0]


def main() -> None:
    """Draw the digit and write it, as grey bytes, beside this file."""
    grey = draw_digit()[0].add(1).mul(127.5).round().to(torch.uint8)
    Image.fromarray(grey.numpy()).save(DRAWN, optimize=True)


if __name__ == "__main__":
    main()
