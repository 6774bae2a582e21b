"""Lesson 12's explorers: the time embedding, the shapes along the U, what a missing part costs."""

from functools import cache

import torch

from diffusion_lib.lessons.unet import figures
from diffusion_lib.lessons.unet.trace import Part, by_section, trace
from diffusion_lib.lessons.unet.variants import VARIANTS
from diffusion_lib.models.layers import sinusoidal
from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.teaching.explorer import Control, Explorer, explorer


@explorer
def time() -> Explorer:
    """The time embedding as a heat map, and the dot products of one time with all others."""

    def show(t, width):
        table = sinusoidal(torch.arange(1, 1001), width)
        products = table @ table[t - 1]  # (1000,), the k-th with time k + 1
        near = {k: float(products[t - 1 + (k if t + k <= 1000 else -k)]) for k in (1, 10, 100)}
        words = ", ".join(f"{value:.2f} with a time {k} away" for k, value in near.items())
        return figures.time_embedding(table.numpy(), products.numpy(), t), (
            f"At width {width} the dot product of t = {t} is {width / 2:.0f} with itself, {words}."
        )

    times = (1, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
    controls = [Control("t", "time t", times, 300, "t = {}"), Control("width", "width", (8, 32), 32, "{} numbers")]
    return Explorer(show, controls)


STAGES = {"1": (1,), "1, 2": (1, 2), "1, 2, 2": (1, 2, 2), "1, 1, 2, 2": (1, 1, 2, 2)}


@cache
def traced(image_size: int, mults: tuple[int, ...], channels: int) -> tuple[Part, ...]:
    """Return the trace of a new network of width 16 with two blocks a stage."""
    sides = (image_size // 2 ** (len(mults) - 1),)
    config = UNetConfig(channels, image_size, 16, mults, 2, sides, groups=4)
    return tuple(trace(UNet(config).float()))  # a page may work in double precision, which is slow here


@explorer
def shape() -> Explorer:
    """The shapes along the U, for images and stages of your choice."""

    def show(side, stages, channels):
        parts = traced(side, STAGES[stages], channels)
        title = f"A {channels} x {side} x {side} image in, the same out; numbers over the bars: channels"
        bottom = next(part for part in parts if part.name == "middle.0").gives
        reads = [part.reads[0] for part in parts if part.name.startswith("up.") and "blocks" in part.name]
        return figures.u_shape(*_channels(parts, side, len(STAGES[stages])), title), (
            f"A {channels} x {side} x {side} image is {' x '.join(map(str, bottom))} in the middle and comes out "
            f"as {' x '.join(map(str, parts[-1].gives))}; the blocks on the way up read {', '.join(map(str, reads))} "
            f"channels; {sum(p.parameters for p in parts):,} parameters and {sum(p.multiply_adds for p in parts):,} "
            "multiply-adds an image."
        )

    controls = [
        Control("side", "side of the image", (8, 16, 24, 32), 32, "{} pixels"),
        Control("stages", "stages", tuple(STAGES), "1, 2, 2", "width times {}"),
        Control("channels", "channels of the image", (1, 3), 1),
    ]
    return Explorer(show, controls)


def _channels(parts: tuple[Part, ...], side: int, stages: int) -> tuple[list, list, list, list]:
    """Return each stage's side, and the channels of what is kept on the way down, in the middle and on the way up."""
    gives = {part.name: part.gives[0] for part in parts}
    enters = ["stem", *(f"down.{i}.down" for i in range(1, stages))]
    down = [[gives[enters[i]], *(gives[f"down.{i}.blocks.{j}"] for j in (0, 1))] for i in range(stages)]
    up = [[gives[f"up.{stages - 1 - i}.blocks.{j}"] for j in (0, 1, 2)] for i in range(stages)]
    return [side // 2**i for i in range(stages)], down, [gives[f"middle.{j}"] for j in (0, 1)], up


SMALL = UNetConfig(image_size=8, width=16, mults=(1, 2, 2), blocks=1, attention_at=(2,), groups=4)
# The squared error of eps on unseen 8x8 digits in four bands of t (figures.BANDS), by steps of training and what was
# missing. Measured on a CPU with lesson 12's `trained` and `errors`, networks VARIANTS[name], learning rate 4e-3, 32
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


@explorer
def ablation() -> Explorer:
    """The U-Net without its skips, its time or its attention: parameters, and losses measured once."""
    parts = {name: trace(make(SMALL, 0).float()) for name, make in VARIANTS.items()}

    def show(without, steps):
        whole, less = by_section(parts["nothing"]), by_section(parts[without])
        losses = MEASURED[steps]["nothing"], MEASURED[steps][without]
        ratios = [b / a for a, b in zip(*losses, strict=True)]
        words = ", ".join(f"{r:.2f} at t = {band}" for r, band in zip(ratios, figures.BANDS, strict=True))
        count = sum(part.parameters for part in parts[without])
        work = sum(part.multiply_adds for part in parts[without])
        pairs = {section: (whole[section], less[section]) for section in whole}
        return figures.ablation(pairs, losses, missing(without)), (
            f"{missing(without).capitalize()}: {count:,} parameters, {work:,} multiply-adds a digit; after {steps} "
            f"training steps its error of eps, as a multiple of the whole U-Net's, was {words}."
        )

    controls = [
        Control("without", "without", tuple(VARIANTS), "skips"),
        Control("steps", "training steps", tuple(MEASURED), 150, "{} steps"),
    ]
    return Explorer(show, controls)
