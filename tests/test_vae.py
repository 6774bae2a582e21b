"""The VAE and its bounds: terms by other routes, bounds below a quadrature, gradients that reach the encoder."""

import math

import pytest
import torch
from oracles import draw, names_everything, refusal, seeded
from torch import distributions

from diffusion_lib import losses
from diffusion_lib.gaussians import discretized_normal_log_prob
from diffusion_lib.models.layers import mlp
from diffusion_lib.models.vae import VAE, VAEConfig

SMALL = VAEConfig(dimensions=3, latent=1, width=5, inner=4, log_std=-0.5)


def vae(config: VAEConfig = SMALL, seed: int = 1, scale: float = 0.5) -> VAE:
    """A VAE with random weights."""
    model = VAE(config).double()
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            if p.ndim:
                p.copy_(scale * draw(*p.shape, seed=seed + k))
    return model


def log_evidence(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """log p(x) by quadrature over the one latent entry, (B,)."""
    z = torch.linspace(-9, 9, 6001, dtype=torch.float64)
    prior = distributions.Normal(0.0, 1.0).log_prob(z)
    with torch.no_grad():
        rows = [(model.log_likelihood(one.expand(len(z), -1), z[:, None]) + prior) for one in x]
    return torch.stack([row.logsumexp(0) + math.log(18 / 6000) for row in rows])


X = draw(4, 3, seed=9)


def test_the_terms_are_torchs():
    model, eps = vae(VAEConfig(dimensions=3, latent=2, width=5, inner=4, log_std=-0.5)), draw(4, 2, seed=2)
    mean, log_variance = model.encode(X)
    q, prior = distributions.Normal(mean, (0.5 * log_variance).exp()), distributions.Normal(0.0, 1.0)
    z = q.mean + q.stddev * eps
    p = distributions.Normal(model.decode(z), math.exp(-0.5))
    terms = model(X, eps)
    torch.testing.assert_close(terms.log_likelihood, p.log_prob(X).sum(1), rtol=1e-6, atol=1e-6)
    expected = distributions.kl_divergence(q, distributions.Normal(0 * mean, 1 + 0 * mean)).sum(1)
    torch.testing.assert_close(terms.kl, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(terms.log_ratio, (prior.log_prob(z) - q.log_prob(z)).sum(1), rtol=1e-12, atol=1e-12)
    assert terms.kl.shape == terms.log_likelihood.shape == (4,)


def test_the_bound_is_below_the_evidence_and_rises_with_the_draws():
    model = vae()
    evidence = log_evidence(model, X)
    eps = torch.randn(20_000, 4, 1, generator=seeded(3), dtype=torch.float64)
    with torch.no_grad():
        single = torch.stack([losses.elbo(model, X, draw) for draw in eps])
        means = {1: single.mean(0)}
        error = single.std(0) / math.sqrt(len(eps))
        for K in (10, 100):
            grouped = eps.view(-1, K, 4, 1)
            means[K] = torch.stack([losses.importance_bound(model, X, draws) for draws in grouped]).mean(0)
    assert (means[1] < evidence - 4 * error).all()  # a gap: q is not the posterior
    assert (means[1] < means[10] + 4 * error).all() and (means[10] < means[100] + 4 * error).all()
    assert (means[100] < evidence + 4 * error).all() and (evidence - means[100] < 0.1 * (evidence - means[1])).all()


def test_with_one_draw_the_weighted_bound_has_the_bounds_expectation():
    model, eps = vae(), torch.randn(20_000, 4, 1, generator=seeded(4), dtype=torch.float64)
    with torch.no_grad():
        found = [torch.stack([f(e) for e in eps]) for f in (
            lambda e: losses.elbo(model, X, e), lambda e: losses.importance_bound(model, X, e[None]))]  # fmt: skip
    gap = found[0] - found[1]
    assert (gap.mean(0).abs() < 4 * gap.std(0) / math.sqrt(len(eps))).all() and gap.std() > 0.01


def test_the_bound_is_the_evidence_where_q_is_the_posterior():
    """Decoder x = w z + noise: the posterior is a Gaussian, and its encoder is linear in x."""
    model = VAE(VAEConfig(dimensions=2, latent=1, width=3, inner=3, log_std=-0.5)).double()
    w, variance = torch.tensor([0.8, -1.3], dtype=torch.float64), math.exp(-1.0)
    precision = 1 + (w @ w).item() / variance
    x, eps = draw(5, 2, seed=6), draw(5, 1, seed=7)
    model.encode = lambda x: (
        (x @ w / variance / precision)[:, None],
        torch.full((5, 1), -math.log(precision)).double(),
    )
    model.decode = lambda z: z * w
    joint = distributions.MultivariateNormal(
        torch.zeros(2).double(), torch.outer(w, w) + variance * torch.eye(2).double()
    )
    ratio = losses.importance_bound(model, x, eps[None])  # constant: every draw gives the evidence
    torch.testing.assert_close(ratio.detach(), joint.log_prob(x), rtol=1e-6, atol=1e-6)


def test_beta_weighs_the_divergence_only():
    model, eps = vae(), draw(4, 1, seed=8)
    terms = model(X, eps)
    for beta in (0.0, 1.0, 4.0):
        expected = terms.log_likelihood - beta * terms.kl
        torch.testing.assert_close(losses.elbo(model, X, eps, beta), expected, rtol=1e-12, atol=1e-12)


def test_a_log_variance_of_minus_four():
    """std 0.135 and KL 1.509, by hand: a slip in exp(0.5 l) shows."""
    model = VAE(SMALL).double()
    model.encode = lambda x: (torch.zeros(4, 1).double(), torch.full((4, 1), -4.0).double())
    seen = []
    model.log_likelihood = lambda x, z: seen.append(z) or z[:, 0]
    terms = model(X, torch.ones(4, 1).double())
    assert seen[0][0].item() == pytest.approx(0.1353, abs=1e-4) and terms.kl[0].item() == pytest.approx(
        1.5092, abs=1e-4
    )


def test_the_reconstruction_alone_gives_the_encoder_a_gradient_and_eval_changes_nothing():
    model, eps = vae(), draw(4, 1, seed=5)
    before = losses.elbo(model, X, eps)
    assert losses.elbo(model.eval(), X, eps).equal(before)
    model(X, eps).log_likelihood.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 1e-6 for p in model.encoder.parameters())


def test_samples_have_the_models_moments_or_lie_on_its_levels():
    model = vae(SMALL, scale=0.8).float()
    drawn = model.sample(40_000, seeded(1)).double()
    z = torch.linspace(-8, 8, 4001)[:, None]
    weight = torch.exp(-(z[:, 0].double() ** 2) / 2)
    with torch.no_grad():
        mean = (weight[:, None] * model.decode(z).double()).sum(0) / weight.sum()
        square = (weight[:, None] * model.decode(z).double() ** 2).sum(0) / weight.sum() + math.exp(-1.0)
    for found, expected in ((drawn, mean), (drawn**2, square)):
        assert ((found.mean(0) - expected).abs() < 4 * found.std(0) / math.sqrt(len(drawn))).all()
    levels = VAE(VAEConfig(dimensions=3, latent=1, levels=5, log_std=0.0)).sample(500, seeded(2))
    assert set(levels.flatten().tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}


def test_the_discretized_decoder_is_a_probability():
    model = vae(VAEConfig(dimensions=2, latent=1, width=5, inner=4, levels=3, log_std=-0.5))
    grid = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 2)
    assert model.log_likelihood(grid, torch.full((9, 1), 0.3).double()).exp().sum().item() == pytest.approx(
        1, abs=1e-12
    )


def test_the_discretized_gaussian_takes_a_learned_variance():
    x = torch.tensor([-1.0, -0.25, 0.5, 1.0], dtype=torch.float64)
    mean, variance = draw(4, seed=3).requires_grad_(), torch.tensor(0.04, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m, v: discretized_normal_log_prob(x, m, v, 17), (mean, variance))
    far = discretized_normal_log_prob(x, 40 + 0 * mean, variance, 17)
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(far.sum(), (mean, variance)))
    half = 1 / 16
    phi = [
        [0.5 * (1 + math.erf((edge - 0.1) / math.sqrt(0.08))) for edge in (v - half, v + half)] for v in (-0.25, 0.5)
    ]
    found = discretized_normal_log_prob(x, torch.tensor(0.1, dtype=torch.float64), 0.04, 17).exp()
    assert found[1:3].tolist() == pytest.approx([high - low for low, high in phi], rel=1e-10)
    ends = [0.5 * (1 + math.erf((sign * (1 - half) - 0.1) / math.sqrt(0.08))) for sign in (-1, 1)]
    assert found[[0, 3]].tolist() == pytest.approx([ends[0], 1 - ends[1]], rel=1e-10)


@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
def test_a_perceptron_is_its_layers_by_hand(activation):
    net, x = mlp([3, 4, 5, 2], activation).double(), draw(6, 3, seed=4)
    for layer in net[:-1:2]:
        x = getattr(torch.nn.functional, activation)(x @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net(draw(6, 3, seed=4)), x @ net[-1].weight.T + net[-1].bias, rtol=1e-12, atol=1e-12)
    assert len(net) == 5


def test_weights_come_from_the_seed_in_float32():
    one, two, other = (VAE(VAEConfig(), seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(one[k].equal(two[k]) and one[k].dtype == torch.float32 for k in one)
    assert any(not one[k].equal(other[k]) for k in one) and one["log_std"].item() == -1


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: VAEConfig(latent=0), "latent", "0"),
        (lambda: VAEConfig(inner=0), "inner", "0"),
        (lambda: VAEConfig(levels=1), "levels", "1"),
        (lambda: VAEConfig(levels=-1), "levels", "-1"),
        (lambda: VAEConfig(log_std=50.0), "log_std", "50"),
        (lambda: VAE(VAEConfig(activation="sin")), "activation", "sin"),
        (lambda: mlp([3], "relu"), "sizes", "3"),
        (lambda: mlp([3, 0], "relu"), "sizes", "0"),
        (lambda: VAE(SMALL).encode(torch.zeros(2, 4)), "x", "(2, 4)"),
        (lambda: VAE(SMALL).decode(torch.zeros(2, 2)), "z", "(2, 2)"),
        (lambda: VAE(SMALL)(torch.zeros(2, 3), torch.zeros(3, 1)), "eps", "(3, 1)"),
        (lambda: VAE(SMALL).sample(0, seeded(1)), "n", "0"),
        (lambda: losses.elbo(VAE(SMALL), torch.zeros(2, 3), torch.zeros(2, 1), -0.5), "beta", "-0.5"),
        (lambda: losses.importance_bound(VAE(SMALL), torch.zeros(2, 3), torch.zeros(0, 2, 1)), "eps", "(0, 2, 1)"),
        (lambda: losses.importance_bound(VAE(SMALL), torch.zeros(2, 3), torch.zeros(2, 1)), "eps", "(2, 1)"),
        (lambda: losses.importance_bound(VAE(SMALL), torch.zeros(2, 3), torch.zeros(5, 3, 1)), "eps", "(5, 3, 1)"),
        (lambda: discretized_normal_log_prob(torch.tensor([0.1]), torch.zeros(1), 0.1, 17), "x", "0.1"),
        (lambda: discretized_normal_log_prob(torch.tensor([0.0]), torch.zeros(1), torch.zeros(1), 17), "variance", "0"),
    ],
)
def test_mistakes_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)
