"""A tracer for lesson 12: what each part of a U-Net reads and gives, how many parameters it has, what it costs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib.models.layers import Down, SelfAttention, TimeEmbedding, Up, stamp
from diffusion_lib.models.unet import Block, UNet


class Part(NamedTuple):
    """What one part of a network did with one image: the shapes it read and gave, its size and its work."""

    name: str
    reads: tuple[int, ...]
    gives: tuple[int, ...]
    parameters: int
    multiply_adds: int


def trace(network: UNet, run: Callable[[], object] | None = None) -> list[Part]:
    """Run the network and return its parts in the order in which they worked, seen by forward hooks.

    A part is the time embedding, the shifts made of it, the stem, a block with its attention, a Down, an Up, the last
    norm or the head; each shape is that of one image, without the batch.

    Args: run, anything that calls the network or its stages, for other sizes than the configuration's; if not given,
    the network reads one black image at t = 1.
    """
    found, pending = [], []
    kinds = (TimeEmbedding, Block, Down, Up)
    others = ("shifts", "stem", "norm", "head")
    named = [(n, m) for n, m in network.named_modules() if isinstance(m, kinds) or n in others]
    hooks = [m.register_forward_hook(partial(_work, pending)) for m in network.modules()]
    hooks += [module.register_forward_hook(partial(_note, found, pending, name)) for name, module in named]
    try:
        with torch.no_grad():
            _black(network) if run is None else run()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def multiply_adds(module: nn.Module, read: Tensor, given: Tensor) -> int:
    """Return how many products one image costs in a layer; 0 for a module that only holds others.

    A convolution: c_in kernel^2 for each value that it gives; a linear map: its inputs for each; an Up: its stamp for
    each value that it reads; attention: q k^T and the weighted mean, (H W)^2 C each. Norms, activations and sums are
    not counted.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        return given[0].numel() * module.weight[0].numel()
    if isinstance(module, Up):
        return read[0].numel() * stamp(module.conv.weight)[0].numel()
    if isinstance(module, SelfAttention):
        channels, height, width = read.shape[1:]
        return 2 * (height * width) ** 2 * channels
    return 0


def _work(pending: list[int], module: nn.Module, args: tuple, given: object) -> None:
    pending.append(multiply_adds(module, args[0], given))


def _note(found: list[Part], pending: list[int], name: str, module: nn.Module, args: tuple, given: Tensor) -> None:
    parameters = sum(p.numel() for p in module.parameters())
    found.append(Part(name, tuple(args[0].shape[1:]), tuple(given.shape[1:]), parameters, sum(pending)))
    pending.clear()


def _black(network: UNet) -> Tensor:
    c = network.config
    like = network.stem.weight
    image = torch.full((1, c.channels, c.image_size, c.image_size), -1.0, dtype=like.dtype, device=like.device)
    label = None if network.label is None else torch.full((1,), network.no_label, device=like.device)
    return network(image, torch.ones(1, dtype=torch.int64, device=like.device), label)


SECTIONS = {"time": "time", "shifts": "time", "stem": "stem and head", "norm": "stem and head", "head": "stem and head"}


def by_section(parts: Sequence[Part]) -> dict[str, int]:
    """Return the parameters of the way down, the middle, the way up, the time, and stem and head together."""
    totals = dict.fromkeys(("down", "middle", "up", "time", "stem and head"), 0)
    for part in parts:
        section = part.name.split(".")[0]
        totals[SECTIONS.get(section, section)] += part.parameters
    return totals
