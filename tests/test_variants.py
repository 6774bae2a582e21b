"""Lesson 12's networks that lack a part: each lacks what it says and nothing else, with the weights of its seed."""

import pytest
import torch

from diffusion_lib.lessons.unet.variants import (
    VARIANTS,
    HourglassStage,
    hourglass,
    redrawn,
    without_attention,
    without_time,
)
from diffusion_lib.models.layers import SelfAttention
from diffusion_lib.models.unet import UNet, UNetConfig

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


def shapes(network: UNet) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in network.named_parameters()}


def test_without_attention_nothing_else_is_missing():
    expected = {name: shape for name, shape in shapes(UNet(TINY)).items() if ".attention." not in name}
    network = without_attention(TINY)
    assert shapes(network) == expected and len(expected) < len(shapes(UNet(TINY)))
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
    full, network = shapes(UNet(TINY)), hourglass(TINY)
    narrow = shapes(network)
    assert all(isinstance(stage, HourglassStage) for stage in network.up)
    reads = [block.res.conv_in.in_channels for stage in network.up for block in stage.blocks]
    assert reads == [16, 16, 16, 16, 8, 8]  # what the block before gives, and nothing beside it
    assert set(narrow) <= set(full)
    different = {name for name in full if narrow.get(name) != full[name]}
    readers = [f"up.{i}.blocks.{j}.res" for i in range(2) for j in range(3)]
    assert all(name.split(".res.")[0] + ".res" in readers for name in different)
    assert {f"{block}.conv_in.weight" for block in readers} <= different
    assert {name.rpartition(".res.")[2].partition(".")[0] for name in different} == {"conv_in", "norm_in", "shortcut"}


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
