"""Explorers of lesson 03: a kernel slides, stamps overlap, what is averaged with what, chains by depth."""

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


@explorer
def overlap() -> Explorer:
    """How many stamps of a transposed convolution reach each pixel, by kernel and stride."""

    def show(kernel, stride):
        ones = torch.ones(1, 1, 8, 8, dtype=torch.float64)
        reached = conv_transpose2d(ones, torch.ones(1, 1, kernel, kernel, dtype=torch.float64), stride=stride)[0, 0]
        inner = reached[kernel:-kernel, kernel:-kernel]
        low, high = int(inner.min()), int(inner.max())
        word = "even" if low == high else f"uneven, {low} to {high}"
        window = reached[:9, :9].numpy()
        return figures.counts(window), f"Kernel {kernel}, stride {stride}: away from the border the overlap is {word}."

    controls = [
        Control("kernel", "kernel", (1, 2, 3, 4, 5, 6), 3, form="{0} x {0}"),
        Control("stride", "stride", (1, 2, 3), 2, form="{}"),
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
    """A batch of 3 images with 8 channels of 3 x 3: which numbers share a mean and a variance with the framed one."""

    def show(groups, norm):
        same = averaging(norm, groups)
        said = f" in {groups} groups" if norm == "group norm" else ""
        return figures.averaged(
            same.astype(float)
        ), f"{norm.capitalize()}{said}: {same.sum()} of 216 numbers share a mean."

    controls = [
        Control("groups", "groups of channels", (1, 2, 4, 8), 2, form="{}"),
        Control("norm", "norm", NORMS, "group norm"),
    ]
    return Explorer(show, controls)


DEPTHS = (5, 10, 20, 30, 50, 70, 100)


@cache
def by_depth() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return, for each kind of chain, the gradient that arrives and the images' likeness at each depth."""
    x = chains.images()
    found = {kind: [chains.left(chains.Chain(d, *how), x) for d in DEPTHS] for kind, how in chains.KINDS.items()}
    gradient = {kind: np.array([left.gradient for left in row]) for kind, row in found.items()}
    return gradient, {kind: np.array([left.likeness for left in row]) for kind, row in found.items()}


@explorer
def depth() -> Explorer:
    """Four kinds of chains: the gradient that arrives at the bottom, and how alike 64 digits have become at the top."""

    def show(layers):
        gradient, likeness = by_depth()
        at = DEPTHS.index(layers)
        told = ", ".join(f"{kind} {power(values[at])}" for kind, values in gradient.items())
        return figures.depth(
            np.array(DEPTHS), gradient, likeness, layers
        ), f"{layers} layers; the gradient that arrives: {told}."

    return Explorer(show, [Control("layers", "layers", DEPTHS, 30)])


def power(value: float) -> str:
    """Return the power of ten below a number in words, "10^-17", or "0"."""
    return f"10^{math.floor(math.log10(value)):d}" if value > 0 else "0"
