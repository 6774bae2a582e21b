"""Lesson 03: sliding, stamping, averaging and chains by sums over indices, by numpy and by autograd."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffusion_lib.lessons.layers import chains, explorers
from diffusion_lib.noise import seeded


def numbers(sentence):
    return [float(found) for found in re.findall(r"[-+]?\d+\.?\d*", sentence)]


@pytest.mark.parametrize("kernel", list(explorers.KERNELS))
@pytest.mark.parametrize("image", ["digit", "its pixels shuffled"])
@pytest.mark.parametrize("place", [1, 16, 36])
def test_a_place_is_a_sum_of_nine_products(kernel, image, place):
    said = numbers(explorers.slide().description(place=place, kernel=kernel, image=image))[-1]
    row, column = divmod(place - 1, 6)
    window = explorers.twins()[image].numpy()[row : row + 3, column : column + 3]
    assert said == pytest.approx((window * np.array(explorers.KERNELS[kernel])).sum(), abs=0.006)


def test_the_twin_has_the_same_pixels_elsewhere():
    digit, twin = (image.flatten().sort()[0] for image in explorers.twins().values())
    assert digit.equal(twin) and not torch.equal(*explorers.twins().values())


@pytest.mark.parametrize("case", list(explorers.CASES))
@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_stamps_add_up(case, done):
    small, kernel = [1.0, 2.0, 0.0, 3.0], np.array(explorers.CASES[case][0])
    said = numbers(explorers.stamps().description(done=done, case=case))[-1]
    assert said == pytest.approx(sum(small[:done]) * kernel.sum())


@pytest.mark.parametrize("pixels", [7, 9])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 3), (2, 3), (3, 2), (4, 3)])
@pytest.mark.parametrize("padding", [0, 1])
def test_sizes_are_counted_by_sending_gradients(pixels, kernel, stride, padding):
    """Answers by PyTorch's layer; a pixel is read if its gradient is not 0; back by the transposed layer."""
    row, weight = torch.ones(1, 1, pixels, requires_grad=True), torch.ones(1, 1, kernel)
    out = F.conv1d(row, weight, stride=stride, padding=padding)
    out.sum().backward()
    missed = int((row.grad == 0).sum())
    back = F.conv_transpose1d(out.detach(), weight, stride=stride, padding=padding).shape[-1]
    chosen = {"pixels": pixels, "kernel": kernel, "stride": stride, "padding": padding}
    said = explorers.sizes().description(**chosen)
    assert numbers(said)[-4:] == [out.shape[-1], missed, out.shape[-1], back]
    assert numbers(said)[:4] == [pixels, kernel, stride, padding]


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (5, 2), (6, 3), (5, 3), (2, 3), (3, 1)])
@pytest.mark.parametrize("padding", [0, 1])
def test_the_overlap_is_even_where_the_stride_divides_the_kernel(kernel, stride, padding):
    chosen = {"kernel": kernel, "stride": stride, "padding": padding, "weights": "all 1"}
    sentence = explorers.overlap().description(**chosen)
    along = {sum((place - j) % stride == 0 for j in range(kernel)) for place in range(stride)}
    low, high = min(along) ** 2, max(along) ** 2
    word = f"is even, {low:.2f} everywhere." if low == high else f"is uneven, {low:.2f} to {high:.2f}."
    assert sentence.endswith(word)
    assert (low == high) == (kernel % stride == 0)
    size = F.conv_transpose1d(torch.ones(1, 1, 8), torch.ones(1, 1, kernel), stride=stride, padding=padding).shape[-1]
    assert f"8 pixels become {size};" in sentence


@pytest.mark.parametrize("kernel", [2, 3, 4, 6])
def test_random_stamps_add_up_by_kind_of_pixel(kernel):
    """Each kind of pixel gets the sum of the weights that lie a multiple of the stride away from it."""
    weights = torch.randn(kernel, kernel, generator=seeded(20 + kernel), dtype=torch.float64).numpy()
    sums = [weights[i::2, j::2].sum() for i in (0, 1) for j in (0, 1)]
    said = explorers.overlap().description(kernel=kernel, stride=2, padding=0, weights="random")
    assert numbers(said[:-1])[-2:] == pytest.approx([min(sums), max(sums)], abs=0.006)
    found = explorers.pattern(kernel, 2, 1, "random").numpy()
    assert sorted(found[:2, :2].flatten()) == pytest.approx(sorted(sums))
    assert np.allclose(found[2:, :2], found[:2, :2])


@pytest.mark.parametrize("norm", explorers.NORMS)
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_what_is_averaged_is_what_a_change_moves(norm, groups):
    """The entry (1, 2, 1, 1) of a norm's answer depends on the entries that share its mean, and on no other."""
    layer = {
        "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
        "instance norm": F.instance_norm,
        "layer norm, image": lambda x: F.layer_norm(x, x.shape[1:]),
        "group norm": lambda x: F.group_norm(x, groups),
        "layer norm, channels": lambda x: F.layer_norm(x.movedim(1, -1), (8,)).movedim(-1, 1),
    }[norm]
    x = torch.randn(3, 8, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    layer(x)[1, 2, 1, 1].backward()
    same = explorers.averaging(norm, groups)
    assert np.array_equal(x.grad.abs().numpy() > 1e-9, same)
    told = numbers(explorers.averages().description(groups=groups, norm=norm, images=3)[:-1])
    assert told[-4:] == [3, same.sum(), 216, 216 / same.sum()]
    told = numbers(explorers.averages().description(groups=groups, norm=norm, images=1)[:-1])
    x.grad = None
    layer(x[1:2])[0, 2, 1, 1].backward()
    own = int((x.grad.abs() > 1e-9).sum())
    assert told[-4:] == [1, own, 72, 72 / own]


def test_a_chain_is_its_layers_one_by_one():
    chain = chains.Chain(4, norm=True, shortcut=True, seed=2)
    x = chains.images(3)
    expected = x
    for layer in chain.layers:
        normed = nn.GroupNorm(4, 16)(expected)
        expected = expected + layer(normed * torch.sigmoid(normed))
    torch.testing.assert_close(chain(x), expected, rtol=1e-5, atol=1e-5)
    bare = chains.Chain(2, norm=False, shortcut=False, seed=2)
    by_hand = bare.layers[1](F.silu(bare.layers[0](F.silu(x))))
    torch.testing.assert_close(bare(x), by_hand)
    with pytest.raises(ValueError, match="depth: expected"):
        chains.Chain(0, norm=False, shortcut=False)


def test_the_initial_weights_have_the_variance_that_they_should_have():
    for he, variance in ((False, 1 / (3 * 144)), (True, 2 / 144)):
        chain = chains.Chain(30, norm=False, shortcut=False, seed=3, he=he)
        weights = torch.stack([layer.weight.detach() for layer in chain.layers])
        assert float(weights.var()) == pytest.approx(variance, rel=0.02)
        again = chains.Chain(30, norm=False, shortcut=False, seed=3, he=he)
        assert torch.equal(weights, torch.stack([layer.weight.detach() for layer in again.layers]))


def test_the_four_kinds_and_the_images():
    wanted = {"plain": (0, 0), "norm": (1, 0), "shortcut": (0, 1), "norm and shortcut": (1, 1)}
    assert {kind: tuple(map(int, how)) for kind, how in chains.KINDS.items()} == wanted
    assert chains.images(5).shape == (5, 16, 8, 8)


def test_what_is_left_is_measured_on_pairs_of_images():
    class Scaled(nn.Module):
        def forward(self, x):
            return -2.5 * x

    x = chains.images(5)
    found = chains.left(Scaled(), x)
    assert found.gradient == pytest.approx(2.5, rel=1e-6)
    flat = x.flatten(1).numpy()
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for i, a in enumerate(flat) for b in flat[:i]]
    assert found.likeness == pytest.approx(np.mean(cosines), abs=1e-5)
    top = (-2.5 * flat).astype(float)
    squares = np.mean([((a - top.mean(0)) ** 2).mean() for a in top])
    assert found.between == pytest.approx(squares / (top**2).mean(), rel=1e-5)


@pytest.mark.parametrize("start", ["PyTorch's", "He's"])
def test_the_depth_explorer_says_the_powers_of_ten(start):
    sentence = explorers.depth().description(layers=30, start=start)
    told, apart = sentence.split("; ")[1:]
    x = chains.images(16).requires_grad_()
    for kind, (norm, shortcut) in chains.KINDS.items():
        top = chains.Chain(30, norm, shortcut, he=start == "He's")(x)
        sent = torch.randn(top.shape, generator=seeded(9), dtype=top.dtype)
        (grad,) = torch.autograd.grad(top, x, sent)
        power = math.floor(math.log10(float(grad.norm() / sent.norm())))
        assert f"{kind} 10^{power}" in told
        flat = top.detach().flatten(1).double().numpy()
        assert f"{kind} {100 * flat.var(0).mean() / (flat**2).mean():.0f} %" in apart
    assert explorers.power(0.0) == "0" and explorers.power(0.02) == "10^-2" and explorers.power(300.0) == "10^2"
    assert explorers.share(0.004) == "0 %" and explorers.share(0.256) == "26 %"


def test_what_is_left_at_every_depth():
    gradient, between = explorers.by_depth("PyTorch's")
    assert gradient["plain"][-1] < 1e-37 and between["plain"][-1] < 1e-12
    assert min(values[-1] for kind, values in between.items() if kind != "plain") > 0.05
    assert 0.5 < gradient["norm and shortcut"][-1] < 10 < 50 < min(gradient["norm"][-1], gradient["shortcut"][-1])
