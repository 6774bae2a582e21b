"""Chains of convolutions with or without a norm and a shortcut, and what is left of gradient and of differences."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, group_norm, silu

from diffusion_lib import data
from diffusion_lib.arguments import require_count
from diffusion_lib.models.layers import fresh_weights
from diffusion_lib.noise import seeded

KINDS = {  # name -> norm, shortcut
    "plain": (False, False), "norm": (True, False), "shortcut": (False, True), "norm and shortcut": (True, True),
}  # fmt: skip
WIDTH = 16


class Chain(nn.Module):
    """A chain of layers (norm -) SiLU - convolution (+ input), 16 channels.

    For n inputs the initial weights have variance 1 / (3 n), PyTorch's, or, with `he`, 2 / n (He et al. 2015).
    """

    def __init__(self, depth: int, norm: bool, shortcut: bool, seed: int = 0, *, he: bool = False) -> None:
        super().__init__()
        self.norm, self.shortcut = norm, shortcut
        with fresh_weights(seed):
            layers = [nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(require_count("depth", depth))]
            for layer in layers if he else ():
                nn.init.kaiming_normal_(layer.weight)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's values, (B, 16, H, W) -> (B, 16, H, W)."""
        for layer in self.layers:
            h = layer(silu(group_norm(x, 4) if self.norm else x))
            x = x + h if self.shortcut else h
        return x


class Left(NamedTuple):
    """What is left at one end of a chain: of the gradient at its bottom, of the differences at its top."""

    gradient: float  # length of the gradient at the bottom over its length at the top
    likeness: float  # mean cosine of two different images' values at the top: 1 if all have become one
    between: float  # variance between images at the top, as a share of the mean square there


def images(count: int = 64) -> Tensor:
    """Return digits with 16 channels, each a random 3 x 3 kernel's answer: (count, 16, 8, 8), float32."""
    kernels = torch.randn(WIDTH, 1, 3, 3, generator=seeded(1), dtype=torch.float32)
    return conv2d(data.digits().train[:count].float(), kernels, padding=1)


def left(chain: Chain, x: Tensor) -> Left:
    """Send images up a chain and a random gradient down; return what arrives."""
    x = x.clone().requires_grad_()
    top = chain(x)
    sent = torch.randn(top.shape, generator=seeded(9), dtype=top.dtype)
    (arrived,) = torch.autograd.grad((top * sent).sum(), x)
    flat = top.detach().flatten(1).double()  # (N, D)
    between = flat.var(0, correction=0).mean() / flat.square().mean()
    units = nn.functional.normalize(flat, dim=1)  # each of length 1
    cosines, n = units @ units.T, len(units)
    return Left(float(arrived.norm() / sent.norm()), float((cosines.sum() - n) / (n * (n - 1))), float(between))
