"""The U-Net's parts against formulas written a second way: numpy, unfolded convolutions, PyTorch's own attention."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import diffusion_lib
from diffusion_lib.models import layers
from diffusion_lib.models.layers import (
    Down,
    Norm,
    ResBlock,
    SelfAttention,
    TimeEmbedding,
    Up,
    fresh_weights,
    mlp,
    sinusoidal,
    stamp,
    zeroed,
)


def awake(module: nn.Module, seed: int = 1) -> nn.Module:
    """Return the module in float64 with random weights, none of them zero or one."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


# ---- the formulas, written again


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def group_norm(norm: nn.GroupNorm, x: Tensor, groups: int = 4) -> Tensor:
    """Each image, each group of neighbouring channels: mean 0 and variance 1 over channels and pixels together."""
    answer = torch.empty_like(x)
    size = x.shape[1] // groups
    for image in range(len(x)):
        for start in range(0, x.shape[1], size):
            part = x[image, start : start + size]
            variance = ((part - part.mean()) ** 2).mean()
            answer[image, start : start + size] = (part - part.mean()) / (variance + 1e-5).sqrt()
    return answer * norm.weight[:, None, None] + norm.bias[:, None, None]


def convolution(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A 3x3 convolution at every pixel, as nine shifted images, each mixed by one matrix."""
    padded, (H, W) = F.pad(x, (1, 1, 1, 1)), x.shape[2:]
    answer = layer.bias[:, None, None].expand(len(x), -1, H, W).clone()
    for i in range(3):
        for j in range(3):
            answer += torch.einsum("oc,bchw->bohw", layer.weight[:, :, i, j], padded[:, :, i : i + H, j : j + W])
    return answer


# ---- time


@pytest.mark.parametrize("width", [2, 8, 32, 128])
def test_sinusoidal_is_the_formula_cosines_first(width):
    t = np.array([0, 1, 2, 10, 999, 1000])
    frequency = 10000.0 ** (-2 * np.arange(width // 2) / width)
    expected = np.concatenate([np.cos(np.outer(t, frequency)), np.sin(np.outer(t, frequency))], 1)
    found = sinusoidal(torch.from_numpy(t), width)
    assert found.dtype == torch.float64 and found.shape == (6, width)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_times_are_embedded_in_float64_on_the_cpu_whatever_the_device():
    """Apple's GPUs have no float64: nothing but the copy on the CPU may be looked at."""
    times, embedding = torch.tensor([1, 500, 1000]), layers.TimeEmbedding(8, 16)
    assert torch.equal(embedding(SimpleNamespace(cpu=lambda: times)), embedding(times))


def test_dot_products_of_times_depend_on_their_difference_only():
    table = sinusoidal(torch.arange(1, 1001), 32)
    products = table @ table.T
    for k in (0, 1, 30, 700):
        diagonal = products.diagonal(k)
        assert float(diagonal.max() - diagonal.min()) < 1e-10
    assert abs(float(products[0, 0]) - 16) < 1e-10


def test_no_two_times_look_alike():
    table = sinusoidal(torch.arange(1, 1001), 32)
    apart = torch.cdist(table, table) + 10 * torch.eye(1000, dtype=torch.float64)
    assert apart.min() > 0.5


@pytest.mark.parametrize(
    ("width", "error", "message"),
    [
        (7, ValueError, "width: expected an even number, one cosine and one sine each, got 7"),
        (0, ValueError, "width: expected at least 2, got 0"),
        (8.0, TypeError, "width: expected an int, got float 8.0"),
    ],
)
def test_sinusoidal_refuses(width, error, message):
    with pytest.raises(error, match=message):
        sinusoidal(torch.tensor([1]), width)


def test_time_embedding_is_two_linear_maps_with_silu_between():
    embedding, t = awake(TimeEmbedding(8, 20)), torch.tensor([1, 500])
    inner = silu(sinusoidal(t, 8) @ embedding.expand.weight.T + embedding.expand.bias)
    close(embedding(t), inner @ embedding.mix.weight.T + embedding.mix.bias)


# ---- group normalisation


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norm_is_its_formula_and_so_is_its_gradient_in_either_layout(layout):
    norm, x, direction = awake(Norm(4, 8)), noise(2, 8, 5, 7) + 3, noise(2, 8, 5, 7, seed=1)
    answers = []
    for f, image in ((norm, x.contiguous(memory_format=layout)), (partial(group_norm, norm), x)):
        image.requires_grad_()
        answer = f(image)
        answers.append([answer, *torch.autograd.grad((answer * direction).sum(), [image, norm.weight, norm.bias])])
    for left, right in zip(*answers, strict=True):
        close(left, right)


def test_under_bfloat16_norm_rounds_its_answer_and_nothing_before():
    norm, x = awake(Norm(4, 8)).float(), (noise(2, 8, 16, 16) + 50).bfloat16()  # a mean of 50 in bfloat16: 2^-3 off
    with torch.autocast("cpu", torch.bfloat16):
        answer = norm(x)
    exact = group_norm(norm, x.double())
    assert answer.dtype == torch.bfloat16
    torch.testing.assert_close(answer.double(), exact, rtol=2**-8, atol=1e-4)


def test_silu_writes_over_what_it_read_only_where_no_gradient_needs_it():
    x = noise(3, 5)
    before = x.clone()
    close(layers.silu(x), silu(before))
    assert torch.equal(x, before)
    with torch.no_grad():
        assert layers.silu(x) is x
    close(x, silu(before))


def test_a_norm_of_single_channels_is_refused_because_it_cannot_hear_the_time():
    """What it would do: PyTorch's norm of the channels one by one, with any shift of a channel taken away again."""
    x, shift = noise(2, 8, 5, 7), noise(2, 8, 1, 1, seed=1)
    close(F.group_norm(x + shift, 8), F.group_norm(x, 8))
    assert (F.group_norm(x + shift, 4) - F.group_norm(x, 4)).abs().max() > 0.1
    for make in (lambda: Norm(8, 8), lambda: ResBlock(16, 8, 8), lambda: SelfAttention(8, 1, 8)):
        with pytest.raises(
            ValueError, match="groups: expected at least two channels a group .*time.*, got 8 groups of 8"
        ):
            make()


FROZEN = """
import torch
from diffusion_lib.models.unet import UNet, UNetConfig
model = UNet(UNetConfig(image_size=8, width=16, mults=(1, 2), blocks=1, attention_at=()))
for p in model.parameters():
    torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(0))
model.stem.requires_grad_(False)
model(torch.ones(2, 1, 8, 8), torch.ones(2, dtype=torch.int64)).square().sum().backward()
assert model.down[0].blocks[0].res.norm_in.weight.grad.abs().max() > 0 and model.stem.weight.grad is None
"""


def test_the_part_behind_a_frozen_layer_can_be_trained():
    """In a process of its own: what it guards against is a crash of PyTorch's, not an exception."""
    here = Path(diffusion_lib.__file__).parents[1]  # so that the child reads the library under test, a mutant's too
    subprocess.run([sys.executable, "-c", FROZEN], check=True, cwd=here)


# ---- the residual block


@pytest.mark.parametrize(("c_in", "c_out"), [(8, 8), (8, 12)])
def test_res_block_is_its_formula(c_in, c_out):
    block, x, shift = awake(ResBlock(c_in, c_out, 4)), noise(2, c_in, 5, 7), noise(2, c_out, seed=1)
    h = convolution(block.conv_in, silu(group_norm(block.norm_in, x)))
    h = h + torch.einsum("bc,hw->bchw", shift, torch.ones(5, 7, dtype=torch.float64))
    h = convolution(block.conv_out, silu(group_norm(block.norm_out, h)))
    beside = x
    if c_in != c_out:
        beside = (
            torch.einsum("oc,bchw->bohw", block.shortcut.weight[:, :, 0, 0], x) + block.shortcut.bias[:, None, None]
        )
    close(block(x, shift), beside + h)


def test_new_res_block_passes_on_what_it_gets_and_the_gradient_too():
    block, x = ResBlock(8, 8, 4).double(), noise(2, 8, 4, 4).requires_grad_()
    direction = noise(2, 8, 4, 4, seed=2)
    y = block(x, noise(2, 8, seed=1))
    assert torch.equal(y, x)
    (y * direction).sum().backward()
    assert torch.equal(x.grad, direction)
    assert block.conv_out.weight.grad.abs().max() > 0  # and yet it can learn


def test_new_res_block_of_other_width_is_its_shortcut():
    block, x = ResBlock(8, 12, 4).double(), noise(2, 8, 4, 4)
    assert torch.equal(block(x, noise(2, 12)), block.shortcut(x))


def test_the_time_moves_a_channel_at_every_pixel_alike():
    block, x = awake(ResBlock(8, 8, 4)), noise(1, 8, 4, 4)
    seen = []
    block.norm_out.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    block(x, noise(1, 8, seed=1)), block(x, noise(1, 8, seed=2))
    moved = seen[1] - seen[0]  # (1, 8, 4, 4)
    close(moved, moved[:, :, :1, :1].expand_as(moved))
    assert moved[0, :, 0, 0].abs().min() > 0


@pytest.mark.parametrize(("c_in", "c_out"), [(6, 8), (8, 6)])
def test_res_block_refuses_groups_that_do_not_divide(c_in, c_out):
    with pytest.raises(ValueError, match="divisible by num_groups"):
        ResBlock(c_in, c_out, 4)


@pytest.mark.parametrize("shape", [(2, 1), (1, 8), (8,), (2, 8, 1)])
def test_res_block_does_not_stretch_a_shift(shape):
    with pytest.raises(ValueError, match=r"shift: expected shape \(2, 8\), got \("):
        ResBlock(8, 8, 4)(torch.zeros(2, 8, 4, 4), torch.zeros(shape))


# ---- self-attention


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_self_attention_is_pytorchs(heads):
    attention, x = awake(SelfAttention(8, heads, 4)), noise(2, 8, 3, 5)
    sequence = group_norm(attention.norm, x).flatten(2).transpose(1, 2)  # (2, 15, 8)
    mixed = sequence @ attention.qkv.weight[:, :, 0, 0].T + attention.qkv.bias  # (2, 15, 24)
    q, k, v = (part.unflatten(2, (heads, 8 // heads)).transpose(1, 2) for part in mixed.split(8, dim=2))
    found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (2, 15, 8)
    found = found @ attention.out.weight[:, :, 0, 0].T + attention.out.bias
    close(attention(x), x + found.transpose(1, 2).unflatten(2, (3, 5)))


def test_self_attention_does_not_know_where_a_pixel_is():
    attention, x = awake(SelfAttention(8, 2, 4)), noise(2, 8, 4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))

    def shuffled(image: Tensor) -> Tensor:
        return image.flatten(2)[:, :, order].unflatten(2, (4, 4))

    close(attention(shuffled(x)), shuffled(attention(x)))
    assert (Up(8).double()(shuffled(x)) - Up(8).double()(x)).abs().max() > 0.1


def test_one_pixel_asks_every_pixel():
    attention, x = awake(SelfAttention(8, 2, 4)), noise(1, 8, 4, 4).requires_grad_()
    attention.norm = nn.Identity()  # the norm alone would tie all pixels together
    attention(x)[0, :, 0, 0].sum().backward()
    assert x.grad.abs().sum(1).min() > 0


def test_new_self_attention_passes_on_what_it_gets():
    x = noise(2, 8, 4, 4)
    assert torch.equal(SelfAttention(8, 2, 4).double()(x), x)


def test_self_attention_refuses():
    with pytest.raises(ValueError, match="heads: expected a number that divides 8 channels, got 3"):
        SelfAttention(8, 3, 4)
    with pytest.raises(ValueError, match="divisible by num_groups"):
        SelfAttention(8, 2, 3)


# ---- down and up


def test_down_is_a_convolution_read_at_every_second_pixel():
    down, x = awake(Down(4)), noise(2, 4, 6, 8)
    assert down(x).shape == (2, 4, 3, 4)
    close(down(x), convolution(down.conv, x)[:, :, ::2, ::2])


def test_up_repeats_each_pixel_and_smooths():
    up, x = awake(Up(4)), noise(2, 4, 3, 5)
    close(up(x), convolution(up.conv, x.repeat_interleave(2, 2).repeat_interleave(2, 3)))


def test_up_draws_no_checkerboard_on_an_even_image():
    inside = awake(Up(4))(torch.ones(1, 4, 5, 5, dtype=torch.float64))[:, :, 1:-1, 1:-1]
    close(inside, inside[:, :, :1, :1].expand_as(inside))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_stamp_lies_channels_last_whatever_layout_the_kernel_has(layout):
    kernel = noise(4, 6, 3, 3).contiguous(memory_format=layout)
    assert stamp(kernel).stride() == (4 * 4 * 4, 1, 4 * 4, 4)  # (c_in, c_out, 4, 4), the numbers of a place together


def test_a_stamp_refuses_a_kernel_of_another_size():
    for shape in ((4, 4, 5, 5), (4, 4, 3)):
        with pytest.raises(ValueError, match=r"kernel: expected shape \(c_out, c_in, 3, 3\), got \(4, 4,"):
            stamp(torch.zeros(shape))


def test_zeroed_returns_the_layer_itself_with_weights_and_bias_zero():
    layer = nn.Conv2d(2, 3, 3)
    assert zeroed(layer) is layer
    assert not layer.weight.any() and not layer.bias.any()


def test_fresh_weights_come_from_their_seed_and_leave_no_trace():
    def drawn(seed):
        with fresh_weights(seed):
            return torch.nn.Linear(3, 4).weight

    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    try:
        state = torch.get_rng_state()
        first, other = drawn(1), drawn(2)
        assert torch.equal(torch.get_rng_state(), state) and torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert first.dtype == torch.float32 and not torch.equal(first, other)
    torch.manual_seed(6)
    assert torch.equal(drawn(1), first)


# ---- perceptrons


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_a_perceptron_is_its_layers_by_hand(activation):
    net = mlp([3, 4, 5, 2], activation).double()
    x = x0 = torch.randn(6, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for layer in net[:-1:2]:
        x = getattr(torch.nn.functional, activation)(x @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net(x0), x @ net[-1].weight.T + net[-1].bias, rtol=1e-12, atol=1e-12)
    assert len(net) == 5


@pytest.mark.parametrize(("sizes", "activation"), [([3], "relu"), ([3, 0], "relu"), ([3, 2], "sin")])
def test_perceptrons_that_make_no_sense_are_refused(sizes, activation):
    with pytest.raises(ValueError, match="sizes|activation"):
        mlp(sizes, activation)


def test_a_perceptron_without_a_hidden_layer_is_one_linear_map():
    net = mlp([3, 2], "relu")
    assert len(net) == 1 and (net[0].in_features, net[0].out_features) == (3, 2)
