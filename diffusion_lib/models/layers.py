"""The layers that the U-Net is built from: time embedding, residual block, self-attention, down and up."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, pad

from diffusion_lib.arguments import require_choice, require_count, shown


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """Return the sinusoidal embedding of each time: `width` entries in [-1, 1], cosines, then sines, from fast to slow.

    Entry i of each half has the frequency 10000^(-2i / width) (Vaswani et al. 2017, section 3.5; Ho et al. 2020,
    appendix B): near times differ in the fast entries, far times in the slow ones.

    Args: t (B,), any real numbers; width, even. Returns: (B, width), float64. Raises: TypeError, ValueError.
    """
    if require_count("width", width, 2) % 2:
        raise ValueError(f"width: expected an even number, one cosine and one sine each, got {width}")
    half = width // 2
    frequency = torch.exp(-math.log(10000) / half * torch.arange(half, dtype=torch.float64, device=t.device))
    angle = t[:, None].double() * frequency  # (B, half)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


@contextmanager
def fresh_weights(seed: int) -> Iterator[None]:
    """Let networks that are built inside draw their weights from `seed` alone: on the CPU, in float32."""
    dtype = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def silu(x: Tensor) -> Tensor:
    """Return x sigmoid(x), computed in place when gradients are off; pass only tensors that nothing else uses."""
    return nn.functional.silu(x, inplace=not torch.is_grad_enabled())


ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


def mlp(sizes: Sequence[int], activation: str) -> nn.Sequential:
    """Return linear layers sizes[0] -> sizes[1] -> ... -> sizes[-1] with an activation between them, none at the end.

    Raises: TypeError, ValueError for fewer than two sizes, a size below 1 or an unknown activation.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected at least an input's and an output's, got {shown(sizes)}")
    for size in sizes:
        require_count("sizes", size)
    between = ACTIVATIONS[require_choice("activation", activation, tuple(ACTIVATIONS))]
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers += [nn.Linear(inputs, outputs)] if i == 0 else [between(), nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


class TimeEmbedding(nn.Module):
    """The sinusoidal embedding of t, mixed by two linear maps into the vector that tells the network the time."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.width = width
        self.expand = nn.Linear(width, embedding)
        self.mix = nn.Linear(embedding, embedding)

    def forward(self, t: Tensor) -> Tensor:
        """Return the embedding of t, (B,) -> (B, embedding)."""
        weight = self.expand.weight
        waves = sinusoidal(t.cpu(), self.width).to(weight.dtype).to(weight.device)  # not every device has float64
        return self.mix(silu(self.expand(waves)))


class Norm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018, eq. 7): PyTorch's, with a way around a crash.

    It takes mean and variance of bfloat16 in float32 and rounds only its answer. On a CPU it does so fast for groups of
    16 channels or more, several times slower for narrower ones. Raises: ValueError for groups that do not divide the
    channels, and for groups of one channel (see `require_shared_groups`).
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels)
        require_shared_groups(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return x with each group of channels at mean 0 and variance 1, then scaled and shifted, (B, C, H, W)."""
        if torch.is_grad_enabled() and self.weight.requires_grad and not x.requires_grad:
            x = x.contiguous()  # behind a frozen layer PyTorch's backward crashes on channels last (seen in 2.13)
        return super().forward(x)


def require_shared_groups(groups: int, channels: int) -> None:
    """Raise ValueError where each channel is a group of its own: a residual block could not depend on the time then.

    The time's shift is added to a whole channel alike, before a norm that subtracts the mean of each group: only the
    differences of the shifts within a group remain, and a group of one channel has none.
    """
    if groups >= channels:
        raise ValueError(
            f"groups: expected at least two channels a group (the norm of a single channel subtracts the shift by "
            f"which a block is told the time), got {groups} groups of {channels} channels"
        )


class ResBlock(nn.Module):
    """x + f(x, shift): twice norm, SiLU, convolution, with the shift added in between (Ho et al. 2020, appendix B).

    The shift tells this block the time: one number for each channel, added at every pixel alike; the second norm leaves
    of it how the channels of a group differ. The last convolution starts at zero, so that a new block passes x on
    unchanged (where c_in = c_out; otherwise x goes through a convolution of size 1). Raises: ValueError for groups that
    do not divide both channels, or of one channel each.
    """

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.norm_in = Norm(groups, c_in)
        self.conv_in = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm_out = Norm(groups, c_out)
        self.conv_out = zeroed(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return the block's output, (B, c_in, H, W) and (B, c_out) -> (B, c_out, H, W).

        Raises: ValueError for a shift of another shape.
        """
        h = self.conv_in(silu(self.norm_in(x)))
        if shift.shape != h.shape[:2]:
            raise ValueError(f"shift: expected shape {tuple(h.shape[:2])}, got {tuple(shift.shape)}")
        h = self.conv_out(silu(self.norm_out(h + shift[:, :, None, None])))
        return self.shortcut(x) + h


class SelfAttention(nn.Module):
    """x + attention: each pixel takes a weighted mean of the values of all pixels, weighted by how well they match.

    softmax(q k^T / sqrt(C / heads)) v (Vaswani et al. 2017, eq. 1), with the pixels as the sequence. A convolution of
    size 1 is the same linear map at each pixel; the last one starts at zero. Each head works on its own share of the
    channels. Raises: ValueError for heads or groups that do not divide the channels.
    """

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads: expected a number that divides {channels} channels, got {heads}")
        self.heads = heads
        self.norm = Norm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the attention's answer, (B, C, H, W) -> (B, C, H, W)."""
        B, C, H, W = x.shape
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1)  # (B, H, W, 3C)
        qkv = qkv.reshape(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, HW, C/heads) each
        weights = (q @ k.transpose(-1, -2) / math.sqrt(C // self.heads)).softmax(-1)  # (B, heads, HW, HW)
        found = (weights @ v).permute(0, 2, 1, 3).reshape(B, H, W, C).permute(0, 3, 1, 2)  # (B, C, H, W)
        return x + self.out(found)


class Down(nn.Module):
    """Halve the image's side: a convolution of stride 2 (Ho et al. 2020, code)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller image, (B, C, H, W) -> (B, C, H/2, W/2)."""
        return self.conv(x)


class Up(nn.Module):
    """Double the image's side: repeat each pixel, then smooth by a convolution (no checkerboard pattern).

    Both in one step, with 16 products for each pixel of the small image in place of 36: see `stamp`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger image, (B, C, H, W) -> (B, C, 2H, 2W)."""
        larger = conv_transpose2d(x, stamp(self.conv.weight), stride=2, padding=1)
        assert self.conv.bias is not None  # a convolution may lack one; this one does not
        larger += self.conv.bias.to(larger.dtype)[:, None, None]  # given to it, the bias would double its backward pass
        return larger


def stamp(kernel: Tensor) -> Tensor:
    """Return what one pixel adds to an image of twice the side when pixels are repeated, then convolved.

    Repeating puts the pixel at 2 x 2 places; from each, a convolution spreads it by its kernel, turned by half a turn.
    The stamp is the sum of the four, and a transposed convolution of stride 2 adds it once for every pixel.

    Args: kernel (c_out, c_in, 3, 3), of a convolution. Returns: (c_in, c_out, 4, 4), for a transposed one, channels
    last in memory, which it reads fastest. Raises: ValueError for another shape.
    """
    if kernel.ndim != 4 or kernel.shape[2:] != (3, 3):
        raise ValueError(f"kernel: expected shape (c_out, c_in, 3, 3), got {tuple(kernel.shape)}")
    turned = kernel.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
    rows = pad(turned, (0, 0, 0, 1)) + pad(turned, (0, 0, 1, 0))  # (c_in, c_out, 4, 3)
    return pad(rows, (0, 1)) + pad(rows, (1, 0))


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Return the layer with weights and bias set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
