"""The U-Net of DDPM: an image and a time in, an image of the same shape out (Ho et al. 2020, appendix B)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion_lib.arguments import require_count, require_labels, require_real, require_time, shown
from diffusion_lib.models.layers import (
    Down,
    Norm,
    ResBlock,
    SelfAttention,
    TimeEmbedding,
    Up,
    fresh_weights,
    require_shared_groups,
    silu,
    zeroed,
)


@dataclass(frozen=True)
class UNetConfig:
    """What a U-Net is made of. Stage i works at side image_size / 2^i with width * mults[i] channels.

    Raises: TypeError, ValueError, at once, for numbers that do not fit together; among them groups of one channel, by
    whose norm a block would lose the time (`require_shared_groups`).
    """

    channels: int = 1  # of the image
    image_size: int = 32
    width: int = 32
    mults: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2  # residual blocks a stage on the way down; one more on the way up, for the stage's input
    attention_at: tuple[int, ...] = (8,)  # sides of the stages with attention; the middle always has it
    groups: int = 2  # of channels, for the norms; from width 32 on of 16 or more, narrower ones are slow on a CPU
    heads: int = 1
    classes: int = 0  # labels 0..classes-1, and `classes` itself for "no label"; 0: the network takes no labels

    def __post_init__(self) -> None:
        for name in ("channels", "image_size", "width", "blocks", "groups", "heads"):
            object.__setattr__(self, name, require_count(name, getattr(self, name)))
        object.__setattr__(self, "classes", require_count("classes", self.classes, 0))
        for name, low in (("mults", 1), ("attention_at", 0)):
            values = getattr(self, name)
            if not isinstance(values, tuple | list):
                raise TypeError(f"{name}: expected a tuple of integers, got {shown(values)}")
            object.__setattr__(self, name, tuple(require_count(name, value, low) for value in values))
        if not self.mults:
            raise ValueError("mults: expected at least one stage, got none")
        factor = 2 ** (len(self.mults) - 1)
        if self.image_size % factor:
            raise ValueError(
                f"image_size: expected a multiple of {factor} for {len(self.mults)} stages, got {self.image_size}"
            )
        for width in self.widths:
            require_shared_groups(self.groups, width)
        for width in [self.width, *self.widths]:
            if width % 2 or width % self.groups or width % self.heads:
                raise ValueError(
                    f"width: expected channels that are even and divide by {self.groups} groups and {self.heads} "
                    f"heads, got {width}"
                )
        if not set(self.attention_at) <= set(self.sizes):
            raise ValueError(f"attention_at: expected sides among {self.sizes}, got {tuple(self.attention_at)}")

    @property
    def widths(self) -> tuple[int, ...]:
        """The channels of each stage."""
        return tuple(self.width * m for m in self.mults)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The side of the image at each stage."""
        return tuple(self.image_size // 2**i for i in range(len(self.mults)))

    @property
    def embedding(self) -> int:
        """The length of the vector that carries time and label."""
        return 4 * self.width


class Block(nn.Module):
    """A residual block, followed by self-attention where the stage has it."""

    def __init__(self, c_in: int, c_out: int, config: UNetConfig, attend: bool) -> None:
        super().__init__()
        self.res = ResBlock(c_in, c_out, config.groups)
        self.attention = SelfAttention(c_out, config.heads, config.groups) if attend else nn.Identity()

    def forward(self, x: Tensor, shift: Tensor) -> Tensor:
        """Return the block's output, (B, c_in, H, W) and the time's shift (B, c_out) -> (B, c_out, H, W)."""
        return self.attention(self.res(x, shift))


class DownStage(nn.Module):
    """One stage on the way down. It keeps its input and every block's output for the stage opposite."""

    def __init__(self, c_in: int, c_out: int, config: UNetConfig, attend: bool, first: bool) -> None:
        super().__init__()
        self.down = nn.Identity() if first else Down(c_in)
        sizes = [c_in] + [c_out] * config.blocks
        self.blocks = nn.ModuleList(Block(a, c_out, config, attend) for a in sizes[:-1])

    def forward(self, x: Tensor, shifts: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the stage's output and what it keeps, blocks + 1 tensors; `shifts` has one for each block."""
        kept = [self.down(x)]  # (B, c_in, H, W)
        for block, shift in zip(self.blocks, shifts, strict=True):
            kept.append(block(kept[-1], shift))  # (B, c_out, H, W)
        return kept[-1], kept


class UpStage(nn.Module):
    """One stage on the way up: each block reads one of the kept tensors beside its input, the newest first."""

    def __init__(self, c_in: int, c_out: int, c_kept: int, config: UNetConfig, attend: bool, last: bool) -> None:
        super().__init__()
        before = [c_in] + [c_out] * config.blocks
        kept = [c_out] * config.blocks + [c_kept]
        self.blocks = nn.ModuleList(Block(a + b, c_out, config, attend) for a, b in zip(before, kept, strict=True))
        self.up = nn.Identity() if last else Up(c_out)

    def forward(self, x: Tensor, shifts: Sequence[Tensor], kept: Sequence[Tensor]) -> Tensor:
        """Return the stage's output, at the side of the next stage up; one shift and one kept tensor for each block."""
        for block, shift, skip in zip(self.blocks, shifts, reversed(kept), strict=True):
            x = block(torch.cat([x, skip], dim=1), shift)  # (B, c_out, H, W)
        return self.up(x)


class UNet(nn.Module):
    """The U-Net of Ho et al. 2020: down in stages, through the middle, up again with everything kept on the way down.

    Theirs for CIFAR10 also has dropout (0.1), 32 groups a norm, attention at side 16 (`attention_at`; by default it
    stands at side 8), their own initial weights, and the frequencies 10000^(-i / (width / 2 - 1)) for the time.

    Weights are drawn from `seed` alone; the last convolution starts at zero, so a new network answers 0. They lie in
    memory channels last, where PyTorch's convolutions are fastest; activations inherit this memory layout.

    `torch.export.export` takes it, with a batch of any size: the values of t and of labels are then not checked, for
    there are none while a network is traced.
    """

    def __init__(self, config: UNetConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with fresh_weights(seed):
            self._build(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's stubs lack it

    def _build(self, config: UNetConfig) -> None:
        widths, bottom = config.widths, config.widths[-1]
        attend = [size in config.attention_at for size in config.sizes]
        below = [widths[0], *widths[:-1]]  # what enters each stage on the way down
        above = [*widths[1:], bottom]  # what enters each stage on the way up
        self.time: nn.Module = TimeEmbedding(config.width, config.embedding)
        self.label = nn.Embedding(config.classes + 1, config.embedding) if config.classes else None
        self.stem = nn.Conv2d(config.channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(DownStage(below[i], widths[i], config, attend[i], i == 0) for i in range(len(widths)))
        self.middle = nn.ModuleList([Block(bottom, bottom, config, True), Block(bottom, bottom, config, False)])
        self.up = nn.ModuleList(
            UpStage(above[i], widths[i], below[i], config, attend[i], i == 0) for i in reversed(range(len(widths)))
        )
        self.block_channels = [_block_channels(stage) for stage in [*self.down, self.middle, *self.up]]
        total = sum(sum(channels) for channels in self.block_channels)
        self.shifts = nn.Linear(config.embedding, total)  # for each residual block its own rows
        self.norm = Norm(config.groups, widths[0])
        self.head = zeroed(nn.Conv2d(widths[0], config.channels, 3, padding=1))

    @property
    def no_label(self) -> int:
        """The label that says "no label": the one after the last class."""
        return self.config.classes

    def embed(self, t: Tensor, labels: Tensor | None) -> list[tuple[Tensor, ...]]:
        """Return the shifts by which each residual block is told time and label: stage by stage, (B, c_out) each.

        The stages in the order of their work: down, the middle, up. A shift is a linear map of SiLU(time + label); the
        blocks' matrices lie one below the other in a single one.
        """
        emb = self.time(t)
        emb = emb if self.label is None else emb + self.label(labels)
        stages = self.shifts(silu(emb)).split([sum(channels) for channels in self.block_channels], dim=1)
        return [stage.split(channels, dim=1) for stage, channels in zip(stages, self.block_channels, strict=True)]

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | Sequence[int] | None = None) -> Tensor:
        """Return the network's answer, of the shape and dtype of x_t.

        Args: x_t (B, channels, image_size, image_size); t integer (B,), at least 1; labels integer (B,) in 0..classes,
        if and only if the network has classes. Raises: TypeError, ValueError.
        """
        labels = self._check(x_t, t, labels)
        shifts, middle = self.embed(t, labels), len(self.down)
        x, kept = self.stem(x_t), []
        for stage, stage_shifts in zip(self.down, shifts[:middle], strict=True):
            x, skips = stage(x, stage_shifts)
            kept.append(skips)
        for block, shift in zip(self.middle, shifts[middle], strict=True):
            x = block(x, shift)
        for stage, stage_shifts in zip(self.up, shifts[middle + 1 :], strict=True):
            x = stage(x, stage_shifts, kept.pop())
        return self.head(silu(self.norm(x))).to(x_t.dtype)

    def _check(self, x_t: Tensor, t: Tensor, labels: Tensor | Sequence[int] | None) -> Tensor | None:
        """Return the labels as a tensor beside x_t."""
        expected = (self.config.channels, self.config.image_size, self.config.image_size)
        if require_real("x_t", x_t).ndim != 4 or tuple(x_t.shape[1:]) != expected:
            raise ValueError(f"x_t: expected shape (B, {', '.join(map(str, expected))}), got {tuple(x_t.shape)}")
        weights = self.stem.weight
        if x_t.dtype != weights.dtype and not torch.is_autocast_enabled(x_t.device.type):
            raise TypeError(
                f"x_t: expected the dtype of the network's weights, {weights.dtype}, got {x_t.dtype}: "
                f"x_t.to({weights.dtype}), or network.to({x_t.dtype})"
            )
        if require_time("t", t, 1, 2**31, x_t.shape[0]).ndim != 1:
            raise ValueError(f"t: expected shape ({len(x_t)},), one time an image, got a single time")
        found = require_labels(labels, self.config.classes, x_t.shape[0])  # not len(): traced, that would fix the batch
        return found if found is None or isinstance(labels, Tensor) else found.to(x_t.device)


def _block_channels(stage: nn.Module) -> list[int]:
    return [block.conv_out.out_channels for block in stage.modules() if isinstance(block, ResBlock)]
