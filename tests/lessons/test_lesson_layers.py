"""Lesson 03: sliding, stamping, averaging and chains by sums over indices, by numpy and by autograd."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from diffusion_lib.lessons.layers import chains, explorers


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


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 3), (5, 3), (3, 1)])
def test_the_overlap_is_even_where_the_stride_divides_the_kernel(kernel, stride):
    sentence = explorers.overlap().description(kernel=kernel, stride=stride)
    along = {sum((place - j) % stride == 0 for j in range(kernel)) for place in range(stride)}
    low, high = min(along) ** 2, max(along) ** 2
    assert sentence.endswith("is even." if low == high else f"uneven, {low} to {high}.")
    assert (low == high) == (kernel % stride == 0)


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
    assert numbers(explorers.averages().description(groups=groups, norm=norm))[-2] == same.sum()


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


def test_the_depth_explorer_says_the_powers_of_ten():
    gradient, likeness = explorers.by_depth()
    sentence = explorers.depth().description(layers=30)
    for kind, values in gradient.items():
        power = math.floor(math.log10(values[explorers.DEPTHS.index(30)]))
        assert f"{kind} 10^{power}" in sentence
    assert explorers.power(0.0) == "0" and explorers.power(0.02) == "10^-2" and explorers.power(300.0) == "10^2"
    assert likeness["plain"][-1] > 0.999 > likeness["norm and shortcut"][-1]
