"""The coupling flow: log-determinants by autograd, both ways, a density that integrates to 1, and exact inverses."""

import math

import pytest
import torch
from oracles import draw, names_everything, refusal, seeded
from torch.autograd.functional import jacobian

from diffusion_lib.models.flow import Coupling, Flow, FlowConfig

SIZES = (2, 3, 5)


def flow(dimensions: int = 2, seed: int = 3, scale: float = 0.7) -> Flow:
    """A flow with random weights: at its first ones a wrong sign would hardly show."""
    model = Flow(FlowConfig(dimensions=dimensions, couplings=3, width=6)).double()
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            p.copy_(scale * draw(*p.shape, seed=seed + k))
    return model


@pytest.mark.parametrize("D", SIZES)
def test_log_determinants_are_autograds_both_ways(D):
    model, x = flow(D), draw(4, D, seed=1)
    z, log_det = model.transform(x)
    for i in range(4):
        forth = jacobian(lambda point: model.transform(point[None])[0][0], x[i])
        back = jacobian(lambda point: model.inverse(point[None])[0], z[i])
        assert log_det[i].item() == pytest.approx(torch.linalg.slogdet(forth)[1].item(), abs=1e-12)
        assert log_det[i].item() == pytest.approx(-torch.linalg.slogdet(back)[1].item(), abs=1e-12)
    assert log_det.abs().min() > 0.05  # a sign would show


@pytest.mark.parametrize("D", SIZES)
def test_the_inverse_undoes_the_map(D):
    model, x = flow(D), draw(50, D, seed=2)
    torch.testing.assert_close(model.inverse(model.transform(x)[0]), x, rtol=0, atol=1e-13)
    torch.testing.assert_close(model.transform(model.inverse(x))[0], x, rtol=0, atol=1e-13)


def test_the_density_integrates_to_one_and_is_that_of_its_samples():
    model = flow(scale=0.3)
    line = torch.linspace(-15, 15, 1501, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        density = model.log_prob(grid).exp()
        assert density.sum().item() * 0.02**2 == pytest.approx(1, abs=1e-6)
        mean = (density[:, None] * grid).sum(0) * 0.02**2
    drawn = model.float().sample(20_000, seeded(1)).double()
    error = drawn.std(0) / math.sqrt(20_000)
    assert ((drawn.mean(0) - mean).abs() < 4 * error).all()


def test_log_prob_is_by_hand_that_of_noise_and_log_determinant():
    model, x = flow(), draw(7, 2, seed=4)
    z, log_det = model.transform(x)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(model.log_prob(x), normal + log_det, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("first", [True, False])
def test_a_coupling_keeps_one_part_and_moves_the_other_by_it(first):
    coupling, x = Coupling(5, first, 6, 2.0).double(), draw(3, 5, seed=5)
    y, _ = coupling(x)
    kept, moved = (slice(0, 2), slice(2, 5)) if first else (slice(2, 5), slice(0, 2))
    assert y[:, kept].equal(x[:, kept])
    raw, shift = coupling.net(x[:, kept]).chunk(2, dim=1)
    expected = x[:, moved] * torch.exp(2 * torch.tanh(raw / 2)) + shift
    torch.testing.assert_close(y[:, moved], expected, rtol=1e-12, atol=1e-12)


def test_scales_are_bounded_however_far_a_point_is():
    model = flow(scale=20.0)
    _, log_det = model.transform(1e3 * draw(20, 2, seed=6))
    assert log_det.abs().max() <= 3 * 2.0 + 1e-9


def test_every_part_moves_in_some_coupling_and_samples_do_not_see_each_other():
    model, x = flow(3).float(), draw(4, 3, seed=7).float()
    assert not (model.transform(x)[0] == x).all(0).any()
    torch.testing.assert_close(model.log_prob(x)[1:2], model.log_prob(x[1:2]), rtol=1e-6, atol=1e-6)
    assert model.sample(5, seeded(3)).equal(model.sample(5, seeded(3)))


def test_weights_come_from_the_seed_in_float32():
    one, two, other = (Flow(FlowConfig(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(one[k].equal(two[k]) and one[k].dtype == torch.float32 for k in one)
    assert any(not one[k].equal(other[k]) for k in one)


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: FlowConfig(dimensions=1), "dimensions", "1"),
        (lambda: FlowConfig(couplings=0), "couplings", "0"),
        (lambda: FlowConfig(width=0), "width", "0"),
        (lambda: FlowConfig(limit=0.0), "limit", "0"),
        (lambda: Flow(FlowConfig()).log_prob(torch.zeros(4, 3)), "x", "(4, 3)"),
        (lambda: Flow(FlowConfig()).log_prob(torch.zeros(4)), "x", "(4,)"),
        (lambda: Flow(FlowConfig()).inverse(torch.zeros(4, 1)), "z", "(4, 1)"),
        (lambda: Flow(FlowConfig()).sample(0, seeded(1)), "n", "0"),
    ],
)
def test_mistakes_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)
