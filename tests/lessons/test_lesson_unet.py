"""Lesson 12's explorers and its tracer: against PyTorch's FLOP counter, plain sums, and training all over again."""

import re
from functools import cache

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from diffusion_lib.data import digits
from diffusion_lib.lessons.unet import explorers
from diffusion_lib.lessons.unet.explorers import MEASURED, SMALL, STAGES
from diffusion_lib.lessons.unet.figures import BANDS
from diffusion_lib.lessons.unet.trace import by_section, trace
from diffusion_lib.lessons.unet.variants import (
    VARIANTS,
    HourglassStage,
    hourglass,
    redrawn,
    without_attention,
    without_time,
)
from diffusion_lib.losses import denoising_draw, denoising_loss
from diffusion_lib.models.layers import SelfAttention
from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.schedules import linear
from diffusion_lib.training import Trainer, TrainingConfig

LABELLED = UNetConfig(3, 16, 16, (1, 2), 2, (16, 8), groups=4, heads=2, classes=10)


def network(name: str) -> UNet:
    return (UNet(LABELLED) if name == "labels, heads" else VARIANTS[name](SMALL, 0)).float()


def counted(unet: UNet) -> tuple[int, int]:
    """Return parameters and multiply-adds of one image, as PyTorch counts them."""
    config = unet.config
    x = torch.zeros(1, config.channels, config.image_size, config.image_size)
    labels = torch.zeros(1, dtype=torch.int64) if config.classes else None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(x, torch.ones(1, dtype=torch.int64), labels)
    return sum(p.numel() for p in unet.parameters()), counter.get_total_flops() // 2


def whole_numbers(text: str) -> list[int]:
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*\d|\d", text)]


@pytest.mark.parametrize("name", [*VARIANTS, "labels, heads"])
def test_a_trace_adds_up_to_the_whole_network(name):
    unet = network(name)
    parts, config = trace(unet), unet.config
    parameters, work = counted(unet)
    of_labels = (config.classes + 1) * config.embedding if config.classes else 0
    assert sum(part.parameters for part in parts) + of_labels == parameters
    assert sum(part.multiply_adds for part in parts) == work
    assert sum(by_section(parts).values()) + of_labels == parameters


def test_a_trace_leaves_no_hook_behind_and_follows_the_image():
    unet = network("labels, heads")
    parts = {part.name: part for part in trace(unet)}
    assert not any(module._forward_hooks for module in unet.modules())
    assert list(parts)[:4] == ["time", "shifts", "stem", "down.0.blocks.0"] and list(parts)[-2:] == ["norm", "head"]
    assert parts["stem"].reads == (3, 16, 16) == parts["head"].gives
    assert parts["down.1.down"].gives == (16, 8, 8) and parts["middle.0"].gives == (32, 8, 8)
    assert parts["up.0.blocks.0"].reads == (64, 8, 8)  # 32 from the middle beside 32 that were kept
    assert parts["up.1.blocks.2"].reads == (32, 16, 16)  # 16 from the block before beside the stem's 16


@pytest.mark.parametrize("stages", list(STAGES))
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3)])
def test_the_shape_explorer_says_what_pytorch_counts(side, channels, stages):
    mults = STAGES[stages]
    lowest = side // 2 ** (len(mults) - 1)
    words = shapes().description(side=side, stages=stages, channels=channels)
    assert f"is {16 * mults[-1]} x {lowest} x {lowest} in the middle" in words
    assert f"comes out as {channels} x {side} x {side};" in words
    parameters, work = counted(UNet(UNetConfig(channels, side, 16, mults, 2, (lowest,), groups=4)).float())
    assert whole_numbers(words)[-2:] == [parameters, work]


@cache
def shapes():
    return explorers.shape()


@pytest.mark.parametrize("width", [8, 32])
@pytest.mark.parametrize("t", [1, 300, 1000])
def test_the_time_explorer_says_sums_of_cosines(t, width):
    """cos a cos b + sin a sin b = cos(a - b): a dot product of two times is a sum of cosines of their distance."""
    frequency = 10000.0 ** (-2 * np.arange(width // 2) / width)
    said = [float(found) for found in re.findall(r"-?\d+\.\d\d", explorers.time().description(t=t, width=width))]
    assert said == pytest.approx([np.cos(k * frequency).sum() for k in (1, 10, 100)], abs=6e-3)


# ---- what a missing part costs


@cache
def learned(name: str, steps: int) -> tuple[float, ...]:
    """Train one of the four networks as the comment beside MEASURED says; return its error by bands of t."""
    schedule, data, unet = linear(), digits(), network(name)
    trainer = Trainer(unet, TrainingConfig(steps, lr=4e-3, warmup=50, ema=0.99, seed=0))
    for _ in trainer.train(denoising_draw(data.train.float(), schedule, 32), lambda *of: denoising_loss(schedule, *of)):
        pass
    unet.load_state_dict(trainer.ema)
    x0, generator = data.test.float().repeat(4, 1, 1, 1), torch.Generator().manual_seed(1)
    t = torch.randint(1, 1001, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    with torch.no_grad():
        error = denoising_loss(schedule, unet, x0, t, eps)
    ends = [tuple(map(int, band.split("-"))) for band in BANDS]
    return tuple(float(error[(t >= low) & (t <= high)].mean()) for low, high in ends)


@pytest.mark.deep
@pytest.mark.parametrize(("name", "steps"), [*((name, 150) for name in VARIANTS), ("nothing", 600), ("skips", 600)])
def test_the_stored_errors_are_what_training_gives(name, steps):
    """Other noise to guess than where they were measured, one seed where they are the mean of three: within 30 %."""
    assert learned(name, steps) == pytest.approx(MEASURED[steps][name], rel=0.3)


def test_the_ablation_explorer_says_ratios_of_the_stored_errors():
    explorer = explorers.ablation()
    for steps in MEASURED:
        for name in VARIANTS:
            words = explorer.description(without=name, steps=steps)
            ratios = [float(found) for found in re.findall(r"(\d+\.\d\d) at t", words)]
            whole = MEASURED[steps]["nothing"]
            assert ratios == pytest.approx([a / b for a, b in zip(MEASURED[steps][name], whole, strict=True)], abs=6e-3)
            assert whole_numbers(words.partition(":")[2])[:2] == list(counted(network(name)))


# ---- networks that lack a part


TINY = UNetConfig(image_size=8, width=8, mults=(1, 2), blocks=2, attention_at=(4,), groups=4, heads=2, classes=3)
X = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(4))


def awake(network: UNet, seed: int = 1) -> UNet:
    """Return the network with no weight zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network


def ask(network: UNet, x: torch.Tensor = X, t: tuple[int, int] = (1, 900), labels: tuple[int, int] = (0, 3)):
    with torch.no_grad():
        return network(x, torch.tensor(t), torch.tensor(labels))


def relative(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).norm() / right.norm())


def shapes_of(network: UNet) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in network.named_parameters()}


def test_without_attention_nothing_else_is_missing():
    expected = {name: shape for name, shape in shapes_of(UNet(TINY)).items() if ".attention." not in name}
    network = without_attention(TINY)
    assert shapes_of(network) == expected and len(expected) < len(shapes_of(UNet(TINY)))
    assert not any(isinstance(module, SelfAttention) for module in network.modules())


def test_without_time_the_answer_does_not_know_it():
    timeless = without_time(TINY)
    weights = {name.replace("time.embedding.", "time."): p for name, p in timeless.named_parameters()}
    assert all(torch.equal(weights.pop(name), p) for name, p in UNet(TINY).named_parameters()) and not weights
    timed, timeless = awake(UNet(TINY)), awake(timeless)
    assert torch.equal(ask(timeless), ask(timeless, t=(77, 3)))
    assert relative(ask(timeless, labels=(1, 3))[:1], ask(timeless)[:1]) > 1e-3  # labels are still read
    assert relative(ask(timed, t=(77, 3)), ask(timed)) > 1e-3


def test_a_network_without_time_is_told_zero():
    timed, timeless = UNet(TINY), without_time(TINY)
    zero = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(timeless.time(torch.tensor([1, 50, 1000])), timed.time(zero))


def test_an_hourglass_reads_no_skip_channels_and_only_those_readers_are_narrower():
    full, network = shapes_of(UNet(TINY)), hourglass(TINY)
    narrow = shapes_of(network)
    assert all(isinstance(stage, HourglassStage) for stage in network.up)
    reads = [block.res.conv_in.in_channels for stage in network.up for block in stage.blocks]
    assert reads == [16, 16, 16, 16, 8, 8]  # what the block before gives, and nothing beside it
    assert set(narrow) <= set(full)
    different = {name for name in full if narrow.get(name) != full[name]}
    readers = [f"up.{i}.blocks.{j}.res" for i in range(2) for j in range(3)]
    assert all(name.split(".res.")[0] + ".res" in readers for name in different)
    assert {f"{block}.conv_in.weight" for block in readers} <= different
    assert {name.rpartition(".res.")[2].partition(".")[0] for name in different} == {"conv_in", "norm_in", "shortcut"}


def test_an_hourglass_of_three_stages_widens_as_the_u_net_narrows():
    network = hourglass(UNetConfig(image_size=8, width=8, mults=(1, 2, 3), blocks=1, groups=4, heads=2, classes=3))
    assert [stage.blocks[0].res.conv_in.in_channels for stage in network.up] == [24, 24, 16]
    assert ask(awake(network)).shape == X.shape


def test_only_the_skips_pass_by_the_middle():
    """With the middle's answer set to zero an hourglass answers the same for every image, a U-Net does not."""
    for make in (UNet, hourglass):
        network = awake(make(TINY))
        network.middle[1].register_forward_hook(lambda _, args, out: torch.zeros_like(out))
        same = torch.equal(ask(network, t=(5, 5), labels=(1, 1))[0], ask(network, X.flip(0), (5, 5), (1, 1))[0])
        assert same is (make is hourglass)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_new_answers_zero_and_draws_from_its_seed_alone(name):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one, again, other = (VARIANTS[name](TINY, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not ask(one).any()
    for p, q in zip(one.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(one.stem.weight, other.stem.weight)
    assert not torch.equal(one.up[1].blocks[2].res.conv_in.weight, other.up[1].blocks[2].res.conv_in.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_drawn_once_more_are_those_of_a_new_network(dtype):
    """A convolution of three channels tells the two memory layouts apart; the same bits in the same places."""
    config = UNetConfig(3, 8, 8, (1, 2), 1, (4,), groups=2, classes=2)
    fresh = UNet(config, seed=5).to(dtype)
    drawn = redrawn(UNet(config, seed=6), 5).to(dtype)
    for (name, p), q in zip(fresh.named_parameters(), drawn.parameters(), strict=True):
        assert torch.equal(p, q) and p.stride() == q.stride(), name
