"""The VAE: its terms by other routes, gradients that reach the encoder, samples with the model's moments."""

import math

import pytest
import torch
from oracles import draw, names_everything, refusal, seeded
from small_vae import SMALL, X, vae
from torch import distributions

from diffusion_lib import losses
from diffusion_lib.models.vae import VAE, VAEConfig


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


def test_a_draw_goes_to_the_nearest_level():
    model = VAE(VAEConfig(dimensions=3, latent=1, levels=5, log_std=-15.0))
    model.decode = lambda z: torch.tensor([-1.4, 0.3, 0.1]).expand(len(z), 3)
    assert model.sample(2, seeded(1)).tolist() == [[-1.0, 0.5, 0.0]] * 2


def test_the_discretized_decoder_is_a_probability():
    model = vae(VAEConfig(dimensions=2, latent=1, width=5, inner=4, levels=3, log_std=-0.5))
    grid = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)] * 2)
    assert model.log_likelihood(grid, torch.full((9, 1), 0.3).double()).exp().sum().item() == pytest.approx(
        1, abs=1e-12
    )


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
        (lambda: VAE(SMALL).encode(torch.zeros(2, 4)), "x", "(2, 4)"),
        (lambda: VAE(SMALL).decode(torch.zeros(2, 2)), "z", "(2, 2)"),
        (lambda: VAE(SMALL)(torch.zeros(2, 3), torch.zeros(3, 1)), "eps", "(3, 1)"),
        (lambda: VAE(SMALL).sample(0, seeded(1)), "n", "0"),
    ],
)
def test_mistakes_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


def test_the_default_sizes():
    config = VAEConfig()
    assert (config.dimensions, config.latent, config.width, config.inner) == (64, 8, 128, 128)
    assert (
        sum(p.numel() for p in VAE(config).parameters())
        == 2 * (64 * 128 + 128 * 128) + 3 * 8 * 128 + 5 * 128 + 80 + 1 - 128
    )
