"""Lesson 12's ablations: a U-Net that lacks its skips, its time or its attention, assembled from the library's blocks.

Each keeps the stages, names and forward pass of the library's `UNet`; only the missing part is another module.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from diffusion_lib.models.layers import Up
from diffusion_lib.models.unet import Block, UNet, UNetConfig


class HourglassStage(nn.Module):
    """A stage on the way up that reads nothing of what was kept: its blocks have no channels for it."""

    def __init__(self, c_in: int, c_out: int, config: UNetConfig, attend: bool, last: bool) -> None:
        super().__init__()
        before = [c_in] + [c_out] * config.blocks
        self.blocks = nn.ModuleList(Block(width, c_out, config, attend) for width in before)
        self.up = nn.Identity() if last else Up(c_out)

    def forward(self, x: Tensor, shifts: Sequence[Tensor], kept: Sequence[Tensor]) -> Tensor:
        """Return the stage's output, as `UpStage` does; `kept` is not read."""
        for block, shift in zip(self.blocks, shifts, strict=True):
            x = block(x, shift)
        return self.up(x)


class Timeless(nn.Module):
    """A time embedding that is told t = 0 whatever the time is."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, t: Tensor) -> Tensor:
        """Return the embedding of 0 for each time, (B,) -> (B, embedding)."""
        return self.embedding(torch.zeros_like(t))


def hourglass(config: UNetConfig, seed: int = 0) -> UNet:
    """Return a U-Net without skips: all that the way up knows of the image came through the middle."""
    network, widths = UNet(config), config.widths
    above = [*widths[1:], widths[-1]]  # the channels that enter each stage on the way up
    attend = [size in config.attention_at for size in config.sizes]
    with torch.random.fork_rng(devices=[]):  # what they draw here is drawn once more below
        network.up = nn.ModuleList(
            HourglassStage(above[i], widths[i], config, attend[i], i == 0) for i in reversed(range(len(widths)))
        )
    return redrawn(network, seed)


def without_time(config: UNetConfig, seed: int = 0) -> UNet:
    """Return a U-Net that is told the same time, 0, at every call."""
    network = UNet(config, seed)
    network.time = Timeless(network.time)
    return network


def without_attention(config: UNetConfig, seed: int = 0) -> UNet:
    """Return a U-Net in which no pixel sees another but through convolutions."""
    network = UNet(config)
    for module in network.modules():
        if isinstance(module, Block):
            module.attention = nn.Identity()
    return redrawn(network, seed)


def redrawn(network: UNet, seed: int) -> UNet:
    """Draw a new network's weights once more, as `UNet` itself does: from `seed` alone, layer by layer in their order.

    The layers that start at zero stay there. Returns: the network itself.
    """
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # as when a layer is made
    zero = [p for p in network.parameters() if not p.any()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                module.reset_parameters()
    for parameter in zero:
        nn.init.zeros_(parameter)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


# What a network lacks, and the function (config, seed) that makes it
VARIANTS: dict[str, Callable[[UNetConfig, int], UNet]] = {
    "nothing": UNet,
    "skips": hourglass,
    "time": without_time,
    "attention": without_attention,
}
