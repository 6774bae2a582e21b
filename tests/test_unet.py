"""The U-Net: the same as diffusers' with the same weights; what is built from parts does what the parts say."""

from dataclasses import replace

import pytest
import torch
from unet_oracle import renamed, twins

from diffusion_lib.models.layers import ResBlock
from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.pretrained import pretrained

GRAPHS = {
    "MNIST's": UNetConfig(classes=10),
    "three stages, unlabelled": UNetConfig(image_size=16, mults=(1, 2, 4), attention_at=(4,)),
    "colour, two heads, one block": UNetConfig(
        channels=3, image_size=8, width=16, mults=(1, 2), blocks=1, attention_at=(4,), heads=2, classes=3
    ),
}


def relative(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).detach().norm() / right.detach().norm())


@pytest.mark.parametrize("config", GRAPHS.values(), ids=GRAPHS)
def test_same_weights_same_answer_same_gradients_as_diffusers(config):
    ours, theirs = twins(config)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, config.channels, config.image_size, config.image_size, generator=generator)
    direction = torch.randn(x.shape, generator=generator)
    t = torch.tensor([1, 777])  # the number that is embedded; diffusers' pipelines call our t - 1 "timestep"
    labels = torch.tensor([0, config.classes]) if config.classes else None
    left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = ours(left, t, labels), theirs(right, t, class_labels=labels).sample
    (a * direction).sum().backward(), (b * direction).sum().backward()
    assert relative(a, b) < 1e-5
    assert relative(left.grad, right.grad) < 1e-5
    gradients = renamed({name: p.grad for name, p in theirs.named_parameters()}, config)
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, p in ours.named_parameters():
        assert relative(p.grad, gradients[name]) < 1e-5, name


# ---- what it answers, and what it is made of

TINY = UNetConfig(image_size=8, width=8, mults=(1, 2), blocks=2, attention_at=(4,), groups=4, heads=2, classes=3)
X, TIMES, LABELS = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(4)), [1, 900], [0, 3]


def awake(config: UNetConfig, seed: int = 1) -> UNet:
    """Return a network with random weights, none of them zero."""
    network, generator = UNet(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network


def ask(network: UNet, x: torch.Tensor = X, t: list[int] = TIMES, labels: list[int] = LABELS) -> torch.Tensor:
    labels = torch.tensor(labels, dtype=torch.int64) if network.config.classes else None
    with torch.no_grad():
        return network(x, torch.tensor(t, dtype=torch.int64), labels)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        UNetConfig(channels=3, image_size=12, width=4, mults=(1, 1, 3), blocks=1, attention_at=(), groups=2),
        UNetConfig(image_size=5, width=4, mults=(2,), blocks=3, attention_at=(5,), groups=1),
    ],
)
def test_answer_has_the_shape_of_the_image(config):
    x = torch.ones(2, config.channels, config.image_size, config.image_size)
    assert ask(awake(config), x).shape == x.shape
    assert ask(awake(config), x[:0], [], []).shape == (0, *x.shape[1:])


def test_a_new_network_answers_zero():
    assert not ask(UNet(TINY)).any()


def test_weights_come_from_the_seed_alone_and_leave_the_global_generator_alone():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one = UNet(TINY, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    same, other = UNet(TINY, seed=1).state_dict(), UNet(TINY, seed=2).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["stem.weight"], other["stem.weight"])


def test_two_blocks_down_three_up_and_everything_kept_is_read_once():
    network, kept, read = awake(TINY), [], []
    for stage in network.down:
        stage.register_forward_hook(lambda _, args, out: kept.append(out[1]))
    for stage in network.up:
        stage.register_forward_hook(lambda _, args, out: read.append(args[2]))
    ask(network)
    assert [len(stage.blocks) for stage in network.down] == [2, 2]
    assert [len(stage.blocks) for stage in network.up] == [3, 3]
    assert [[tuple(k.shape[1:]) for k in stage] for stage in kept] == [[(8, 8, 8)] * 3, [(8, 4, 4)] + [(16, 4, 4)] * 2]
    assert [list(map(id, stage)) for stage in read] == [list(map(id, stage)) for stage in reversed(kept)]


def test_each_image_of_a_batch_is_answered_by_itself():
    network = awake(TINY)
    alone = [ask(network, X[k : k + 1], TIMES[k : k + 1], LABELS[k : k + 1]) for k in range(2)]
    torch.testing.assert_close(ask(network), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_time_and_label_change_the_answer():
    network = awake(TINY)
    assert relative(ask(network, t=[2, 900])[:1], ask(network)[:1]) > 1e-4
    assert torch.equal(ask(network, t=[2, 900])[1:], ask(network)[1:])
    assert relative(ask(network, labels=[1, 3])[:1], ask(network)[:1]) > 1e-3


def test_no_label_is_a_row_of_its_own_after_the_last_class():
    network = awake(TINY)
    assert network.no_label == 3 and network.label.weight.shape == (4, 32)
    answers = [ask(network, labels=[k, k]) for k in range(4)]
    assert all(relative(answers[k], answers[3]) > 1e-3 for k in range(3))


def test_each_block_gets_its_rows_of_one_linear_map_of_time_plus_label():
    network, t, labels = awake(TINY).double(), torch.tensor(TIMES), torch.tensor(LABELS)
    emb = network.time(t) + network.label.weight[labels]
    expected = (emb * emb.sigmoid()) @ network.shifts.weight.T + network.shifts.bias
    widths = [[8] * 2, [16] * 2, [16] * 2, [16] * 3, [8] * 3]  # down, down, the middle, up, up
    stages = network.embed(t, labels)
    assert [[tuple(shift.shape) for shift in stage] for stage in stages] == [[(2, w) for w in ws] for ws in widths]
    shifts = [shift for stage in stages for shift in stage]
    torch.testing.assert_close(torch.cat(shifts, 1), expected, rtol=1e-12, atol=1e-12)
    heard = []
    for block in network.modules():
        if isinstance(block, ResBlock):
            block.register_forward_pre_hook(lambda _, args: heard.append(args[1]))
    network(X.double(), t, labels)
    assert all(torch.equal(left, right) for left, right in zip(heard, shifts, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_go_their_way_channels_last_whatever_layout_they_come_in(channels):
    network, layouts = awake(replace(TINY, channels=channels)).double(), set()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module is not network.head:
            module.register_forward_hook(
                lambda _, args, out: layouts.add(out.is_contiguous(memory_format=torch.channels_last))
            )
    x = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    answers = [ask(network, x.contiguous(memory_format=f)) for f in (torch.contiguous_format, torch.channels_last)]
    assert layouts == {True}
    answers.append(ask(network.to(memory_format=torch.contiguous_format), x))
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0], rtol=1e-10, atol=1e-12)


def test_double_precision():
    network = awake(TINY)
    single = ask(network)
    double = ask(network.double(), X.double())
    assert double.dtype == torch.float64
    assert relative(single.double(), double) < 1e-5


def test_autocast_to_bfloat16_answers_in_the_dtype_of_the_image():
    network = awake(TINY)
    with torch.autocast("cpu", torch.bfloat16):
        answer = ask(network)
    assert answer.dtype == torch.float32
    assert 1e-6 < relative(answer, ask(network)) < 0.05


# ---- exported


def test_an_exported_network_agrees_with_the_shipped_weights_for_any_batch():
    """With PyTorch's own exporter, from an example of two images."""
    network = pretrained("mnist").model
    size, batch = torch.export.Dim("batch"), {}
    for B in (1, 2, 7):
        generator = torch.Generator().manual_seed(B)
        t, labels = (torch.randint(low, high, (B,), generator=generator) for low, high in ((1, 1001), (0, 11)))
        batch[B] = torch.randn(B, 1, 32, 32, generator=generator), t, labels
    exported = torch.export.export(network, batch[2], dynamic_shapes=({0: size},) * 3).module()
    for example in batch.values():
        with torch.no_grad():
            answer = network(*example)
            torch.testing.assert_close(exported(*example), answer, rtol=1e-6, atol=1e-6)
        assert answer.abs().mean() > 0.1


# ---- bad input


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"image_size": 10, "mults": (1, 2, 2)},
            ValueError,
            "image_size: expected a multiple of 4 for 3 stages, got 10",
        ),
        ({"image_size": 0}, ValueError, "image_size: expected at least 1, got 0"),
        ({"channels": 0}, ValueError, "channels: expected at least 1, got 0"),
        ({"width": 0}, ValueError, "width: expected at least 1, got 0"),
        ({"width": 8.0}, TypeError, "width: expected an int, got float 8.0"),
        ({"width": 9, "groups": 3, "heads": 3}, ValueError, "width: expected channels that are even and .* got 9"),
        ({"groups": 3}, ValueError, "divide by 3 groups and 2 heads, got 8"),
        ({"heads": 3}, ValueError, "divide by 4 groups and 3 heads, got 8"),
        ({"blocks": 0}, ValueError, "blocks: expected at least 1, got 0"),
        ({"blocks": -1}, ValueError, "blocks: expected at least 1, got -1"),
        ({"groups": 0}, ValueError, "groups: expected at least 1, got 0"),
        (
            {"groups": 8},
            ValueError,
            "groups: expected at least two channels a group .*time.*, got 8 groups of 8 channels",
        ),
        ({"heads": 0}, ValueError, "heads: expected at least 1, got 0"),
        ({"classes": -1}, ValueError, "classes: expected at least 0, got -1"),
        ({"mults": ()}, ValueError, "mults: expected at least one stage, got none"),
        ({"mults": (1, 0)}, ValueError, "mults: expected at least 1, got 0"),
        ({"mults": (1, 1.5)}, TypeError, "mults: expected an int, got float 1.5"),
        ({"mults": 2}, TypeError, "mults: expected a tuple of integers, got 2"),
        ({"attention_at": (5,)}, ValueError, r"attention_at: expected sides among \(8, 4\), got \(5,\)"),
        ({"attention_at": 4}, TypeError, "attention_at: expected a tuple of integers, got 4"),
    ],
)
def test_config_refuses(change, error, message):
    with pytest.raises(error, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    ("x", "t", "labels", "error", "message"),
    [
        (X.expand(2, 3, 8, 8), [1, 2], [0, 1], ValueError, r"x_t: expected shape \(B, 1, 8, 8\), got \(2, 3, 8, 8\)"),
        (torch.ones(2, 1, 8, 4), [1, 2], [0, 1], ValueError, r"x_t: expected shape \(B, 1, 8, 8\), got \(2, 1, 8, 4\)"),
        (torch.ones(1, 8, 8), [1], [0], ValueError, r"x_t: expected shape \(B, 1, 8, 8\), got \(1, 8, 8\)"),
        (X.long(), [1, 2], [0, 1], TypeError, "x_t: expected floating point, got torch.int64"),
        (X.numpy(), [1, 2], [0, 1], TypeError, "x_t: expected a torch.Tensor, got ndarray"),
        (X.double(), [1, 2], [0, 1], TypeError, r"network's weights, torch.float32, got torch.float64: x_t.to\(torch"),
        (X, [1, 2, 3], [0, 1], ValueError, r"t: expected one time or shape \(2,\), got shape \(3,\)"),
        (X, [[1], [2]], [0, 1], ValueError, r"t: expected one time or shape \(2,\), got shape \(2, 1\)"),
        (X, 5, [0, 1], ValueError, r"t: expected shape \(2,\), one time an image, got a single time"),
        (X, [0, 5], [0, 1], ValueError, "t: expected times in 1..2147483648, got 0..5"),
        (X, [1.0, 2.0], [0, 1], TypeError, "t: expected integers, got a tensor of torch.float32"),
        (X, [1, 2], None, ValueError, r"labels: expected a tensor \(2,\) in 0..3 \(3: no label\), got None"),
        (X, [1, 2], [0, 4], ValueError, r"labels: expected 0..3 \(3: no label\), got 0..4"),
        (X, [1, 2], [-1, 0], ValueError, r"labels: expected 0..3 \(3: no label\), got -1..0"),
        (X, [1, 2], [1], ValueError, r"labels: expected shape \(2,\), got \(1,\)"),
        (X, [1, 2], 1, ValueError, r"labels: expected shape \(2,\), got \(\)"),
        (X, [1, 2], [0.0, 1.0], TypeError, "labels: expected int32 or int64, got torch.float32"),
    ],
)
def test_network_refuses(x, t, labels, error, message):
    labels = labels if labels is None else torch.tensor(labels)
    with pytest.raises(error, match=message):
        UNet(TINY)(x, torch.tensor(t), labels)


def test_unlabelled_network_refuses_labels():
    with pytest.raises(
        ValueError, match=r"labels: expected None \(this network was built without classes\), got labels"
    ):
        UNet(replace(TINY, classes=0))(X, torch.tensor(TIMES), torch.tensor(LABELS))


def test_a_list_of_labels_will_do():
    network, times = UNet(TINY), torch.tensor([1, 2])
    torch.nn.init.ones_(network.head.weight)
    assert torch.equal(network(X, times, [0, 1]), network(X, times, torch.tensor([0, 1])))


def test_the_default_network():
    assert UNetConfig().widths == (32, 64, 64)
    assert UNetConfig().sizes == (32, 16, 8)
