"""Explorers of lesson 03: a kernel slides, sizes, stamps, what is averaged with what, chains by depth."""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from diffusion_lib import data
from diffusion_lib.lessons.layers import chains, figures
from diffusion_lib.noise import seeded
from diffusion_lib.teaching.explorer import Control, Explorer, explorer

KERNELS = {
    "edges from left to right": [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]],
    "edges from top to bottom": [[-1.0, -2.0, -1.0], [0.0, 0.0, 0.0], [1.0, 2.0, 1.0]],
    "mean of nine": [[1 / 9] * 3] * 3,
}


def twins() -> dict[str, Tensor]:
    """Return a digit and the same with its pixels shuffled, (8, 8) each."""
    digit = data.digits().train[3, 0]
    order = torch.randperm(64, generator=seeded(0))
    return {"digit": digit, "its pixels shuffled": digit.flatten()[order].view(8, 8)}


@explorer
def slide() -> Explorer:
    """A 3 x 3 kernel slides over a digit or its shuffled twin, and answers with one number a place."""
    pair = twins()

    def show(place, kernel, image):
        K = torch.tensor(KERNELS[kernel], dtype=torch.float64)
        answers = conv2d(pair[image][None, None], K[None, None])[0, 0]  # (6, 6)
        value = float(answers.flatten()[place - 1])
        sentence = f"Place {place} of 36, {kernel}, {image}: nine products add up to {value + 0.0:.2f}."
        return figures.slide(pair[image].numpy(), answers.numpy(), K.numpy(), place - 1), sentence

    controls = [
        Control("place", "place", (1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 34, 36), 16, form="number {}"),
        Control("kernel", "kernel", tuple(KERNELS)),
        Control("image", "image", tuple(pair)),
    ]
    return Explorer(show, controls)


@explorer
def sizes() -> Explorer:
    """A row of pixels with its border, and the places where a window lands: what comes out, and what is never read."""

    def show(pixels, kernel, stride, padding):
        starts = range(0, pixels + 2 * padding - kernel + 1, stride)
        read = {start + j for start in starts for j in range(kernel)}
        missed = sum(place + padding not in read for place in range(pixels))
        back = (len(starts) - 1) * stride - 2 * padding + kernel
        sentence = (
            f"{pixels} pixels, kernel {kernel}, stride {stride}, padding {padding}: {len(starts)} answers, "
            f"{missed} pixels never read; transposed, {len(starts)} give {back}."
        )
        return figures.windows(pixels, padding, kernel, list(starts)), sentence

    controls = [
        Control("pixels", "pixels", (6, 7, 8, 9), 8),
        Control("kernel", "kernel", (1, 2, 3, 4), 3),
        Control("stride", "stride", (1, 2, 3), 2),
        Control("padding", "padding", (0, 1), 1),
    ]
    return Explorer(show, controls)


CASES = {
    "kernel 2, stride 1": ([[1.0, 2.0], [3.0, 4.0]], 1),
    "kernel 3, stride 2": ([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]], 2),
}


@explorer
def stamps() -> Explorer:
    """A transposed convolution of a 2 x 2 input, stamp by stamp, with its matrix beside it."""
    small = torch.tensor([[1.0, 2.0], [0.0, 3.0]], dtype=torch.float64)

    def show(done, case):
        kernel, stride = torch.tensor(CASES[case][0], dtype=torch.float64), CASES[case][1]
        units = torch.eye(4, dtype=torch.float64).view(4, 1, 2, 2)
        single = conv_transpose2d(units, kernel[None, None], stride=stride)[:, 0]  # (4, H, W), a stamp of each pixel
        total = (small.flatten()[:done, None, None] * single[:done]).sum(0)
        sentence = (
            f"{case.capitalize()}, {done} of 4 stamps: the sum of the {total.shape[0]} x {total.shape[1]} output is"
        )
        W = single.flatten(1).T  # (H W, 4)
        return figures.stamps(
            small.numpy(), kernel.numpy(), total.numpy(), W.numpy(), done
        ), f"{sentence} {total.sum():g}."

    return Explorer(
        show, [Control("done", "stamps", range(5), 2, form="{} of 4"), Control("case", "layer", tuple(CASES))]
    )


WEIGHTS = ("all 1", "random")


def pattern(kernel: int, stride: int, padding: int, weights: str) -> Tensor:
    """Return what a transposed convolution makes of an image of ones, far from its border.

    "all 1" counts the stamps; "random" weights are standard normal.
    """
    one = torch.ones(1, 1, kernel, kernel, dtype=torch.float64)
    drawn = torch.randn(one.shape, generator=seeded(20 + kernel), dtype=torch.float64)
    image = torch.ones(1, 1, 12, 12, dtype=torch.float64)
    out = conv_transpose2d(image, one if weights == "all 1" else drawn, stride=stride, padding=padding)[0, 0]
    return out[6 * stride : 8 * stride, 6 * stride : 8 * stride]  # two periods a side, in the middle


@explorer
def overlap() -> Explorer:
    """A transposed convolution of an image that is 1 everywhere: an even answer, or a checkerboard."""

    def show(kernel, stride, padding, weights):
        inner = pattern(kernel, stride, padding, weights)
        low, high = float(inner.min()), float(inner.max())
        word = f"even, {low:.2f} everywhere" if high - low < 1e-9 else f"uneven, {low:.2f} to {high:.2f}"
        size = 7 * stride - 2 * padding + kernel
        sentence = (
            f"Kernel {kernel}, stride {stride}, padding {padding}, weights {weights}: 8 pixels become {size}; "
            f"away from the border the answer to a constant image is {word}."
        )
        return figures.counts(inner.numpy()), sentence

    controls = [
        Control("kernel", "kernel", (2, 3, 4, 5, 6), 3, form="{0} x {0}"),
        Control("stride", "stride", (1, 2, 3), 2, form="{}"),
        Control("padding", "padding", (0, 1), 0, form="{}"),
        Control("weights", "weights", WEIGHTS),
    ]
    return Explorer(show, controls)


NORMS = ("batch norm", "instance norm", "layer norm, image", "group norm", "layer norm, channels")


def averaging(norm: str, groups: int, shape: tuple[int, int, int, int] = (3, 8, 3, 3)) -> np.ndarray:
    """Return which entries of a batch are averaged with the entry (1, 2, 1, 1): boolean, of `shape` (N, C, H, W)."""
    n, c, h, w = np.indices(shape)
    width = shape[1] // groups
    same = {
        "batch norm": c == 2,
        "instance norm": (n == 1) & (c == 2),
        "layer norm, image": n == 1,
        "group norm": (n == 1) & (c // width == 2 // width),
        "layer norm, channels": (n == 1) & (h == 1) & (w == 1),
    }
    return same[norm]


@explorer
def averages() -> Explorer:
    """A batch of images with 8 channels of 3 x 3: which numbers share a mean and a variance with the framed one."""

    def show(groups, norm, images):
        same = averaging(norm, groups)[:images] if images == 3 else averaging(norm, groups)[1:2]
        said = f" in {groups} groups" if norm == "group norm" else ""
        number = "1 image" if images == 1 else f"{images} images"
        sentence = f"{norm.capitalize()}{said}, {number}: {same.sum()} of {same.size} numbers share a mean, "
        return figures.averaged(same.astype(float)), f"{sentence}{same.size // same.sum()} means in all."

    controls = [
        Control("groups", "groups of channels", (1, 2, 4, 8), 2, form="{}"),
        Control("norm", "norm", NORMS, "group norm"),
        Control("images", "images in the batch", (3, 1), 3, form="{}"),
    ]
    return Explorer(show, controls)


DEPTHS = (5, 10, 20, 30, 50, 100)


STARTS = {"PyTorch's": False, "He's": True}  # initial weights -> he


@cache
def by_depth(start: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return, for each kind of chain, the gradient that arrives and the variance between images at each depth."""
    x, he = chains.images(16), STARTS[start]
    found = {
        kind: [chains.left(chains.Chain(d, norm, shortcut, he=he), x) for d in DEPTHS]
        for kind, (norm, shortcut) in chains.KINDS.items()
    }
    gradient = {kind: np.array([left.gradient for left in row]) for kind, row in found.items()}
    return gradient, {kind: np.array([left.between for left in row]) for kind, row in found.items()}


@explorer
def depth() -> Explorer:
    """Four kinds of chains: the gradient that arrives at the bottom, and the variance between 16 digits at the top."""

    def show(layers, start):
        gradient, between = by_depth(start)
        at = DEPTHS.index(layers)
        told = ", ".join(f"{kind} {power(values[at])}" for kind, values in gradient.items())
        apart = ", ".join(f"{kind} {share(values[at])}" for kind, values in between.items())
        sentence = f"{layers} layers, {start} weights; the gradient that arrives: {told}; between images: {apart}."
        return figures.depth(np.array(DEPTHS), gradient, between, layers), sentence

    controls = [Control("layers", "layers", DEPTHS, 30), Control("start", "initial weights", tuple(STARTS))]
    return Explorer(show, controls)


def share(value: float) -> str:
    """Return a share in words, in whole per cent, "0 %" for anything below a half."""
    return f"{100 * value:.0f} %"


def power(value: float) -> str:
    """Return the power of ten below a number in words, "10^-17", or "0"."""
    return f"10^{math.floor(math.log10(value)):d}" if value > 0 else "0"
