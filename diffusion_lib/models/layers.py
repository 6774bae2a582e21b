"""The parts that the U-Net is built from: time embedding, residual block, self-attention, down and up."""

import math

import torch
from torch import Tensor, nn

from diffusion_lib.arguments import require_count


def sinusoidal(t: Tensor, width: int) -> Tensor:
    """Write each time as `width` numbers between -1 and 1: cosines, then sines, from fast to slow.

    Entry i of each half turns at frequency 10000^(-2i / width) (Vaswani et al. 2017, section 3.5; Ho et al. 2020,
    appendix B): near times differ in the fast entries, far times in the slow ones.

    Args: t (B,), any real numbers; width, even. Returns: (B, width), float64. Raises: TypeError, ValueError.
    """
    if require_count("width", width, 2) % 2:
        raise ValueError(f"width: expected an even number, one cosine and one sine each, got {width}")
    half = width // 2
    frequency = torch.exp(-math.log(10000) / half * torch.arange(half, dtype=torch.float64, device=t.device))
    angle = t[:, None].double() * frequency  # (B, half)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def silu(x: Tensor) -> Tensor:
    """Return x sigmoid(x), written over x where no gradient will ask for it: for an x that nobody else reads."""
    return nn.functional.silu(x, inplace=not torch.is_grad_enabled())


class TimeEmbedding(nn.Module):
    """The sinusoidal numbers of t, mixed by two linear maps into the vector that says the time to the network."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.width = width
        self.expand = nn.Linear(width, embedding)
        self.mix = nn.Linear(embedding, embedding)

    def forward(self, t: Tensor) -> Tensor:
        """Return the embedding of t, (B,) -> (B, embedding)."""
        return self.mix(silu(self.expand(sinusoidal(t, self.width).to(self.expand.weight))))


class Norm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018, eq. 7): PyTorch's, with a way around a crash.

    It takes mean and variance of bfloat16 in float32 and rounds only its answer. On a CPU it does so fast for groups of
    16 channels or more, several times slower for narrower ones.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x with each group of channels at mean 0 and variance 1, then scaled and shifted, (B, C, H, W)."""
        if torch.is_grad_enabled() and self.weight.requires_grad and not x.requires_grad:
            x = x.contiguous()  # behind a frozen layer PyTorch's backward crashes on channels last (seen in 2.13)
        return super().forward(x)


class ResBlock(nn.Module):
    """x + f(x, shift): twice norm, SiLU, convolution, with the shift added in between (Ho et al. 2020, appendix B).

    The shift is what the time says to this block: one number for each channel, added at every pixel alike. The last
    convolution starts at zero, so that a new block passes x on unchanged (where c_in = c_out; otherwise x goes through
    a convolution of size 1). Raises: ValueError for groups that do not divide both channels.
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
        h += shift[:, :, None, None]
        h = self.conv_out(silu(self.norm_out(h)))
        h += self.shortcut(x)
        return h


class SelfAttention(nn.Module):
    """x + attention: every pixel looks at every other and takes a weighted mean of what it finds there.

    softmax(q k^T / sqrt(C / heads)) v (Vaswani et al. 2017, eq. 1), with the pixels as the sequence. A convolution of
    size 1 is the same linear map at each pixel; the last one starts at zero. Each head looks with its own share of the
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
        """Return x plus what attention found, (B, C, H, W) -> (B, C, H, W)."""
        B, C, H, W = x.shape
        qkv = self.qkv(self.norm(x)).permute(0, 2, 3, 1)  # (B, H, W, 3C)
        qkv = qkv.reshape(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, HW, C/heads) each
        weights = (q @ k.transpose(-1, -2) / math.sqrt(C // self.heads)).softmax(-1)  # (B, heads, HW, HW)
        found = (weights @ v).permute(0, 2, 1, 3).reshape(B, H, W, C).permute(0, 3, 1, 2)  # (B, C, H, W)
        return x + self.out(found)


class Down(nn.Module):
    """Halve the picture's side: a convolution whose centre stops at every second pixel (Ho et al., code)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the smaller picture, (B, C, H, W) -> (B, C, H/2, W/2)."""
        return self.conv(x)


class Up(nn.Module):
    """Double the picture's side: repeat each pixel, then smooth by a convolution (no checkerboard pattern).

    Both in one step, with 16 products for each pixel of the small picture in place of 36: see `stamp`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the larger picture, (B, C, H, W) -> (B, C, 2H, 2W)."""
        larger = nn.functional.conv_transpose2d(x, stamp(self.conv.weight), stride=2, padding=1)
        larger += self.conv.bias.to(larger.dtype)[:, None, None]  # given to it, the bias would double its backward pass
        return larger


def stamp(kernel: Tensor) -> Tensor:
    """Return what one pixel leaves on a picture of twice the side when pixels are repeated, then convolved.

    Repeating puts the pixel at 2 x 2 places; from each, a convolution spreads it by its kernel, turned by half a turn.
    The stamp is the sum of the four, and a transposed convolution of stride 2 presses it down for every pixel.

    Args: kernel (c_out, c_in, 3, 3), of a convolution. Returns: (c_in, c_out, 4, 4), for a transposed one, channels
    last in memory, which it reads fastest. Raises: ValueError for another shape.
    """
    if kernel.ndim != 4 or kernel.shape[2:] != (3, 3):
        raise ValueError(f"kernel: expected shape (c_out, c_in, 3, 3), got {tuple(kernel.shape)}")
    turned = kernel.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
    rows = nn.functional.pad(turned, (0, 0, 0, 1)) + nn.functional.pad(turned, (0, 0, 1, 0))  # (c_in, c_out, 4, 3)
    return nn.functional.pad(rows, (0, 1)) + nn.functional.pad(rows, (1, 0))


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Return the layer with weights and bias set to zero."""
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    return layer
