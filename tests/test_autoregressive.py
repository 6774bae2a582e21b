"""Autoregressive models: probabilities that sum to 1, no symbol in its own prediction, PyTorch's own blocks."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracles import names_everything, refusal, seeded
from small_trainers import same
from torch import nn

from diffusion_lib.losses import nll
from diffusion_lib.models.autoregressive import (
    Autoregressive,
    CausalBlock,
    GRUConfig,
    TransformerConfig,
)
from diffusion_lib.training import Trainer, TrainingConfig

SMALL = {
    "gru": GRUConfig(levels=3, rows=2, columns=2, width=8),
    "transformer": TransformerConfig(levels=3, rows=2, columns=2, width=8, heads=2),
}
TOLD = {
    "gru": GRUConfig(levels=3, rows=2, columns=2, width=8, classes=2),
    "transformer": TransformerConfig(levels=3, rows=2, columns=2, width=8, heads=2, classes=2),
}
ALL = torch.tensor(list(itertools.product(range(3), repeat=4)))  # (81, 4)
each = pytest.mark.parametrize("kind", SMALL)


@each
@pytest.mark.parametrize("labels", [None, 0, 2])
def test_the_probabilities_of_all_sequences_sum_to_one(kind, labels):
    """Fails if a symbol is an input of its own prediction, if the mask leaks, or if a symbol is not scored."""
    model = Autoregressive((SMALL if labels is None else TOLD)[kind], seed=1).double()
    told = None if labels is None else [labels] * 81
    assert model.log_prob(ALL, told).detach().exp().sum().item() == pytest.approx(1, abs=1e-12)


@each
def test_a_changed_symbol_moves_later_outputs_only(kind):
    model = Autoregressive(TransformerConfig() if kind == "transformer" else GRUConfig(), seed=2)
    x = torch.randint(0, 17, (3, 64), generator=seeded())
    before = model(x)
    for j in (0, 20, 62):
        other = x.clone()
        other[:, j] = (x[:, j] + 5) % 17
        moved = (model(other) != before).any(-1).any(0)  # (64,)
        assert not moved[: j + 1].any() and moved[j + 1 :].all()


@each
def test_prefixes_are_answered_as_within_whole_sequences(kind):
    model = Autoregressive(SMALL[kind], seed=3).double()
    x = ALL[5:9]
    for n in (1, 2, 3):
        torch.testing.assert_close(model(x[:, :n]), model(x)[:, :n], rtol=1e-12, atol=1e-12)


@each
def test_the_label_is_read_and_remembered_as_it_should_be(kind):
    """Log-probabilities of one sequence differ by label, and the first symbol is predicted from the label alone."""
    model = Autoregressive(TOLD[kind], seed=4).double()
    x = ALL[:3]
    first, second, none = (model(x, [label] * 3) for label in (0, 1, model.no_label))
    assert not torch.allclose(first, second) and not torch.allclose(first, none)
    assert torch.equal(first[0, 0], first[2, 0])


@each
def test_samples_have_the_probabilities_of_the_model(kind):
    """20,000 draws of three symbols in a row against exact probabilities, within 4.5 standard errors each."""
    model = Autoregressive(SMALL[kind], seed=5)
    n = 20_000
    drawn = model.sample(n, seeded(6))
    assert drawn.shape == (n, 4) and drawn.dtype == torch.int64
    index = (drawn * torch.tensor([27, 9, 3, 1])).sum(1)
    shares = torch.bincount(index, minlength=81).double() / n
    p = model.log_prob(ALL).detach().double().exp()
    assert float(((shares - p).abs() / (p * (1 - p) / n).sqrt()).max()) < 4.5


@each
def test_a_sequence_is_finished_from_its_beginning(kind):
    model = Autoregressive(TOLD[kind], seed=7)
    begin = torch.tensor([[2, 0], [1, 1]])
    drawn = model.sample(2, seeded(1), [0, 1], begin)
    assert torch.equal(drawn[:, :2], begin)
    whole = model.sample(2, seeded(1), [0, 1], drawn)
    assert torch.equal(whole, drawn)


def test_the_block_is_pytorchs_encoder_layer_with_a_causal_mask():
    ours, theirs = (
        CausalBlock(8, 2).double(),
        nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64),
    )
    names = {
        "norm_in": theirs.norm1,
        "norm_out": theirs.norm2,
        "mix": theirs.self_attn.out_proj,
        "mlp.0": theirs.linear1,
        "mlp.2": theirs.linear2,
    }
    with torch.no_grad():
        for p in ours.parameters():
            p.copy_(torch.randn(p.shape, generator=seeded(p.numel()), dtype=p.dtype))
        for name, module in names.items():
            module.load_state_dict(ours.get_submodule(name).state_dict())
        theirs.self_attn.in_proj_weight.copy_(ours.qkv.weight)
        theirs.self_attn.in_proj_bias.copy_(ours.qkv.bias)
    x = torch.randn(2, 5, 8, generator=seeded(3), dtype=torch.float64)
    blocked = torch.ones(5, 5, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours(x), theirs(x, src_mask=blocked), rtol=1e-10, atol=1e-10)


def test_the_recurrent_unit_by_hand():
    """One layer's states from its own weights (Cho et al. 2014, with PyTorch's place for the reset), in numpy."""
    core = GRUConfig(width=4).core().double()
    x = torch.randn(1, 6, 4, generator=seeded(8), dtype=torch.float64)
    gru = {name: p.detach().numpy() for name, p in core.gru.named_parameters()}
    sigmoid, h = (lambda z: 1 / (1 + np.exp(-z))), np.zeros(4)
    for row, expected in zip(x[0].numpy(), core(x)[0].detach().numpy(), strict=True):
        a = gru["weight_ih_l0"] @ row + gru["bias_ih_l0"]
        b = gru["weight_hh_l0"] @ h + gru["bias_hh_l0"]
        reset, update = sigmoid(a[:4] + b[:4]), sigmoid(a[4:8] + b[4:8])
        h = (1 - update) * np.tanh(a[8:] + reset * b[8:]) + update * h
        np.testing.assert_allclose(expected, h, rtol=1e-12)


@each
def test_places_are_rows_and_columns(kind):
    """The embedding of place i is that of row i // columns plus that of column i % columns."""
    config = GRUConfig(levels=3, rows=2, columns=3, width=8) if kind == "gru" else TransformerConfig(3, 2, 3, width=8)
    model = Autoregressive(config, seed=1)
    kept = []
    model.core.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    x = torch.zeros(1, 6, dtype=torch.int64)
    model(x)
    start, zero = model.symbol.weight[3], model.symbol.weight[0]
    for i in range(6):
        expected = (zero if i else start) + model.row.weight[i // 3] + model.column.weight[i % 3]
        torch.testing.assert_close(kept[0][0, i], expected)
    spread = torch.cat([e.weight.flatten() for e in (model.symbol, model.row, model.column)])
    assert float(spread.detach().std()) == pytest.approx(config.spread, rel=0.4)


@each
def test_weights_come_from_the_seed_alone_in_float32(kind):
    torch.manual_seed(0)
    first = Autoregressive(SMALL[kind], seed=9).state_dict()
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(1)
        second = Autoregressive(SMALL[kind], seed=9).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(first, second) and {p.dtype for p in second.values()} == {torch.float32}
    assert not same(first, Autoregressive(SMALL[kind], seed=10).state_dict())


@each
def test_training_learns_and_resumes_to_the_same_bits(kind):
    """On sequences that repeat their first symbol the loss tends to log 3, the entropy of that symbol."""
    data = torch.arange(3)[:, None].expand(3, 4)

    def draw(generator):
        return (data[torch.randint(3, (16,), generator=generator)],)

    def loss(model, x):
        return nll(model(x), x)

    config = TrainingConfig(steps=120, lr=2e-2, warmup=5)
    whole, broken = (Trainer(Autoregressive(SMALL[kind], seed=1), config) for _ in range(2))
    steps = list(whole.train(draw, loss))
    assert steps[-1].loss == pytest.approx(math.log(3), abs=0.1) and steps[0].loss > 2
    for step in broken.train(draw, loss):
        if step.step == 40:
            break
    again = Trainer(Autoregressive(SMALL[kind], seed=2), config)
    again.restore({name: tensor.clone() for name, tensor in broken.tensors().items()}, 40)
    for _ in again.train(draw, loss):
        pass
    assert same(whole.tensors(), again.tensors())


MODEL, LABELLED = Autoregressive(SMALL["gru"]), Autoregressive(TOLD["gru"])


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: GRUConfig(levels=0), "levels", "0"),
        (lambda: GRUConfig(classes=-1), "classes", "-1"),
        (lambda: GRUConfig(spread=0.0), "spread", "0"),
        (lambda: TransformerConfig(width=30), "width", "30"),
        (lambda: TransformerConfig(blocks=1.5), "blocks", "1.5"),
        (lambda: MODEL(ALL.double()), "x", "float64"),
        (lambda: MODEL(ALL + 1), "x", "3"),
        (lambda: MODEL(ALL - 1), "x", "-1"),
        (lambda: MODEL(torch.zeros(2, 5, dtype=torch.int64)), "x", "(2, 5)"),
        (lambda: MODEL(torch.zeros(4, dtype=torch.int64)), "x", "(4,)"),
        (lambda: MODEL(ALL, [0] * 81), "labels", "labels"),
        (lambda: LABELLED(ALL), "labels", "None"),
        (lambda: LABELLED(ALL, [3] * 81), "labels", "3"),
        (lambda: LABELLED(ALL, [0] * 80), "labels", "(80,)"),
        (lambda: MODEL.log_prob(ALL[:, :3]), "x", "(81, 3)"),
        (lambda: MODEL.sample(0, seeded()), "n", "0"),
        (lambda: MODEL.sample(2, 7), "generator", "int"),
        (lambda: MODEL.sample(2, seeded(), begin=ALL[:3, :1]), "begin", "3"),
        (lambda: MODEL.sample(2, seeded(), begin=ALL[:2, :1] + 3), "begin", "3"),
    ],
)
def test_mistakes_are_refused(mistake, name, value):
    error = refusal(mistake)
    assert names_everything(error, name, value), error


def test_the_sizes_of_the_two_models_by_hand():
    """17 levels and "no label", 8 + 8 places, a head for 17 levels; three gates, or two blocks of 12 w^2 + 13 w."""
    w = 64
    gru = (18 + 16) * w + 3 * (2 * w * w + 2 * w) + 17 * w + 17
    assert sum(p.numel() for p in Autoregressive(GRUConfig()).parameters()) == gru
    w = 32
    block = 3 * (w * w + w) + (w * w + w) + (4 * w * w + 4 * w) + (4 * w * w + w) + 4 * w
    transformer = (18 + 16) * w + 2 * block + 2 * w + 17 * w + 17
    assert sum(p.numel() for p in Autoregressive(TransformerConfig()).parameters()) == transformer
