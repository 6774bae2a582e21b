"""A VAE small enough for quadrature over its one latent entry: shared by the tests of the model and of the bounds."""

import math

import torch
from oracles import draw
from torch import distributions

from diffusion_lib.models.vae import VAE, VAEConfig

X = draw(4, 3, seed=9)  # four examples
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
