"""Explorers of the U-Net: the hands of its clock, the shapes along the U, what a missing part costs; and a tracer."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib.models.layers import Down, SelfAttention, TimeEmbedding, Up, sinusoidal, stamp
from diffusion_lib.models.unet import Block, UNet, UNetConfig
from diffusion_lib.teaching.figures import unet as figures
from diffusion_lib.teaching.widgets.explorer import Control, Explorer

# ---- the tracer


class Part(NamedTuple):
    """What one part of a network did with one picture: the shapes it read and gave, its size and its work."""

    name: str
    reads: tuple[int, ...]
    gives: tuple[int, ...]
    parameters: int
    multiply_adds: int


def trace(network: UNet, run: Callable[[], object] | None = None) -> list[Part]:
    """Run the network and return its parts in the order in which they worked, seen by forward hooks.

    A part is the time embedding, the shifts made of it, the stem, a block with its attention, a Down, an Up, the last
    norm or the head; each shape is that of one picture, without the batch.

    Args: run, anything that calls the network or its stages, for other sizes than the configuration's; if not given,
    the network reads one black picture at t = 1.
    """
    found, pending = [], []
    kinds = (TimeEmbedding, Block, Down, Up)
    ends = ("shifts", "stem", "norm", "head")
    named = [(n, m) for n, m in network.named_modules() if isinstance(m, kinds) or n in ends]
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
    """Return how many products one picture costs in a layer; 0 for a module that only holds others.

    A convolution: c_in kernel^2 for each number that it gives; a linear map: its inputs for each; an Up: its stamp for
    each number that it reads; attention: q k^T and the weighted mean, (H W)^2 C each. Norms, activations and sums are
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
    picture = torch.full((1, c.channels, c.image_size, c.image_size), -1.0, dtype=like.dtype, device=like.device)
    label = None if network.label is None else torch.full((1,), network.no_label, device=like.device)
    return network(picture, torch.ones(1, dtype=torch.int64, device=like.device), label)


SECTIONS = {"time": "time", "shifts": "time", "stem": "ends", "norm": "ends", "head": "ends"}


def by_section(parts: Sequence[Part]) -> dict[str, int]:
    """Return the parameters of the way down, the middle, the way up, what says the time, and both ends."""
    totals = dict.fromkeys(("down", "middle", "up", "time", "ends"), 0)
    for part in parts:
        section = part.name.split(".")[0]
        totals[SECTIONS.get(section, section)] += part.parameters
    return totals


# ---- the explorers


def time_explorer() -> Explorer:
    """Lesson 12: the time embedding as a heat map, and the dot products of one time with all others."""

    def draw(t, width):
        table = sinusoidal(torch.arange(1, 1001), width)
        return figures.hands(table.numpy(), (table @ table[t - 1]).numpy(), t)

    def describe(t, width):
        table = sinusoidal(torch.arange(1, 1001), width)
        products = {k: float(table[t - 1] @ table[t - 1 + (k if t + k <= 1000 else -k)]) for k in (1, 10, 100)}
        words = ", ".join(f"{value:.2f} with a time {k} away" for k, value in products.items())
        return f"At width {width} the dot product of t = {t} is {width / 2:.0f} with itself, {words}."

    times = (1, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
    controls = [Control("t", "time t", times, 300, "t = {}"), Control("width", "width", (8, 32), 32, "{} numbers")]
    return Explorer(draw, describe, controls)


STAGES = {"1": (1,), "1, 2": (1, 2), "1, 2, 2": (1, 2, 2), "1, 1, 2, 2": (1, 1, 2, 2)}


@cache
def traced(image_size: int, mults: tuple[int, ...], channels: int) -> tuple[Part, ...]:
    """Return the trace of a new network of width 16 with two blocks a stage."""
    sides = (image_size // 2 ** (len(mults) - 1),)
    config = UNetConfig(channels, image_size, 16, mults, 2, sides, groups=4)
    return tuple(trace(UNet(config).float()))  # a page may work in double precision, which is slow here


def shape_explorer() -> Explorer:
    """Lesson 12: the shapes along the U, for pictures and stages of your choice."""

    def draw(side, stages, channels):
        parts = {part.name: part for part in traced(side, STAGES[stages], channels)}
        count = len(STAGES[stages])
        enters = [(["stem"] if i == 0 else [f"down.{i}.down"]) for i in range(count)]
        down = [
            [parts[n].gives[0] for n in [*enters[i], *(f"down.{i}.blocks.{j}" for j in (0, 1))]] for i in range(count)
        ]
        middle = [parts[f"middle.{j}"].gives[0] for j in (0, 1)]
        up = [[parts[f"up.{count - 1 - i}.blocks.{j}"].gives[0] for j in (0, 1, 2)] for i in range(count)]
        title = f"A {channels} x {side} x {side} picture in, the same out; numbers over the bars: channels"
        return figures.u_shape([side // 2**i for i in range(count)], down, middle, up, title)

    def describe(side, stages, channels):
        parts = traced(side, STAGES[stages], channels)
        bottom = next(part for part in parts if part.name == "middle.0").gives
        reads = [part.reads[0] for part in parts if part.name.startswith("up.") and "blocks" in part.name]
        return (
            f"A {channels} x {side} x {side} picture is {' x '.join(map(str, bottom))} in the middle and comes out "
            f"as {' x '.join(map(str, parts[-1].gives))}; the blocks on the way up read {', '.join(map(str, reads))} "
            f"channels; {sum(p.parameters for p in parts):,} parameters and {sum(p.multiply_adds for p in parts):,} "
            "multiply-adds a picture."
        )

    controls = [
        Control("side", "side of the picture", (8, 16, 24, 32), 32, "{} pixels"),
        Control("stages", "stages", tuple(STAGES), "1, 2, 2", "width times {}"),
        Control("channels", "channels of the picture", (1, 3), 1),
    ]
    return Explorer(draw, describe, controls)


SMALL = UNetConfig(image_size=8, width=16, mults=(1, 2, 2), blocks=1, attention_at=(2,), groups=4)
WITHOUT = {
    "nothing": SMALL,
    "skips": replace(SMALL, skips=False),
    "time": replace(SMALL, time=False),
    "attention": replace(SMALL, attention=False),
}
# The squared error of eps on unseen 8x8 digits in four bands of t (figures.BANDS), by steps of training and what was
# missing. Measured on a CPU with lesson 12's `trained` and `errors`, config WITHOUT[name], learning rate 4e-3, 32
# digits a step: after 150 steps the mean over seeds 0, 1, 2, whose networks lie within 20 % of it; after 600 seed 0.
MEASURED = {
    150: {
        "nothing": (0.7380, 0.3444, 0.1066, 0.0111),
        "skips": (0.9669, 0.7272, 0.5289, 0.4519),
        "time": (0.7924, 0.3674, 0.1250, 0.0186),
        "attention": (0.7454, 0.3426, 0.1059, 0.0107),
    },
    600: {
        "nothing": (0.5508, 0.2613, 0.0906, 0.0057),
        "skips": (0.6417, 0.3203, 0.1033, 0.0160),
        "time": (0.5816, 0.2847, 0.1081, 0.0120),
        "attention": (0.5511, 0.2555, 0.0902, 0.0054),
    },
}


def missing(without: str) -> str:
    """Say in words what a network lacks."""
    return "nothing missing" if without == "nothing" else f"without {without}"


def ablation_explorer() -> Explorer:
    """Lesson 12: the U-Net without its skips, its time or its attention: parameters, and losses measured once."""
    parts = {name: trace(UNet(config).float()) for name, config in WITHOUT.items()}

    def draw(without, steps):
        whole, less = by_section(parts["nothing"]), by_section(parts[without])
        pairs = {section: (whole[section], less[section]) for section in whole}
        losses = MEASURED[steps]["nothing"], MEASURED[steps][without]
        return figures.ablation(pairs, losses, missing(without))

    def describe(without, steps):
        count = sum(part.parameters for part in parts[without])
        work = sum(part.multiply_adds for part in parts[without])
        ratios = [a / b for a, b in zip(MEASURED[steps][without], MEASURED[steps]["nothing"], strict=True)]
        words = ", ".join(f"{r:.2f} at t = {band}" for r, band in zip(ratios, figures.BANDS, strict=True))
        return (
            f"{missing(without).capitalize()}: {count:,} parameters, {work:,} multiply-adds a digit; after {steps} "
            f"training steps its error of eps, as a multiple of the whole U-Net's, was {words}."
        )

    controls = [
        Control("without", "without", tuple(WITHOUT), "skips"),
        Control("steps", "training steps", tuple(MEASURED), 150, "{} steps"),
    ]
    return Explorer(draw, describe, controls)
