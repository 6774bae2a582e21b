"""A variational autoencoder: an encoder that guesses the latent, a decoder that is a likelihood."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib.arguments import require_between, require_count, require_generator, require_points, require_real
from diffusion_lib.gaussians import discretized_normal_log_prob, kl_normal, normal_log_prob, reparameterize
from diffusion_lib.models.layers import fresh_weights, mlp


@dataclass(frozen=True)
class VAEConfig:
    """A VAE of `dimensions` entries and `latent` latent ones; two hidden layers, of `width` and of `inner` units.

    Raises: TypeError, ValueError, at once.
    """

    dimensions: int = 64
    latent: int = 8
    width: int = 128
    inner: int = 128
    activation: str = "silu"
    levels: int = 0  # of grey, evenly from -1 to 1: the decoder is a discretized Gaussian; 0: a Gaussian density
    log_std: float = -1.0  # the decoder's at first; it is learned, one number for all entries

    def __post_init__(self) -> None:
        for name in ("dimensions", "latent", "width", "inner"):
            object.__setattr__(self, name, require_count(name, getattr(self, name)))
        object.__setattr__(self, "levels", require_count("levels", self.levels, 0))
        if self.levels == 1:
            raise ValueError("levels: expected 0 or at least 2, got 1")
        require_between("log_std", self.log_std, -20.0, 20.0)


class Terms(NamedTuple):
    """What an evidence lower bound is made of, example by example, in nats."""

    log_likelihood: Tensor  # (B,) log p(x | z), summed over the entries of x
    kl: Tensor  # (B,) KL(q(z | x) || p(z)), summed over the entries of z
    log_ratio: Tensor  # (B,) log p(z) - log q(z | x) at the z that was drawn


class VAE(nn.Module):
    """A latent-variable model (Kingma and Welling 2014): p(z) = N(0, I), p(x | z) = N(decoder(z), std^2), and q(z | x).

    q is a Gaussian with the mean and log-variance that the encoder answers. Weights are float32, drawn from `seed`.
    """

    def __init__(self, config: VAEConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        hidden = (config.width, config.inner)
        with fresh_weights(seed):
            self.encoder = mlp([config.dimensions, *hidden, 2 * config.latent], config.activation)
            self.decoder = mlp([config.latent, *reversed(hidden), config.dimensions], config.activation)
            self.log_std = nn.Parameter(torch.tensor(float(config.log_std)))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x), (B, D) -> (B, k) each. Raises: TypeError, ValueError."""
        mean, log_variance = self.encoder(require_points("x", x, self.config.dimensions)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x | z), (B, k) -> (B, D). Raises: TypeError, ValueError."""
        mean: Tensor = self.decoder(require_points("z", z, self.config.latent))
        return mean

    def forward(self, x: Tensor, eps: Tensor) -> Terms:
        """Return the terms of the bound at z = mean + std eps (Kingma and Welling 2014, eq. 10, any decoder).

        Args: x (B, D), on the levels where there are some; eps standard normal (B, k), one draw an example.
        Raises: TypeError, ValueError.
        """
        mean, log_variance = self.encode(x)
        if require_real("eps", eps).shape != mean.shape:
            raise ValueError(f"eps: expected shape {tuple(mean.shape)}, got {tuple(eps.shape)}")
        z = reparameterize(mean, (0.5 * log_variance).exp(), eps)
        log_q = normal_log_prob(z, mean, log_variance.exp()).sum(1)
        kl = kl_normal(mean, log_variance.exp(), 0.0, 1.0).sum(1)
        return Terms(self.log_likelihood(x, z), kl, normal_log_prob(z, 0.0, 1.0).sum(1) - log_q)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x | z) in nats, x (B, D), z (B, k) -> (B,). Raises: TypeError, ValueError."""
        mean, variance = self.decode(z), (2 * self.log_std).exp()
        if self.config.levels:
            return discretized_normal_log_prob(x, mean, variance, self.config.levels).sum(1)
        return normal_log_prob(x, mean, variance).sum(1)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw z from the prior, then x from p(x | z): (n, D), on the levels where there are some, on the CPU.

        For the means of the decoder, `decode` your own z. Raises: TypeError, ValueError.
        """
        require_count("n", n)
        require_generator(generator)
        config, device = self.config, self.log_std.device
        z = torch.randn(n, config.latent, generator=generator, dtype=torch.float32, device="cpu")
        eps = torch.randn(n, config.dimensions, generator=generator, dtype=torch.float32, device="cpu")
        x = self.decode(z.to(device)).cpu() + self.log_std.detach().exp().cpu() * eps
        if not config.levels:
            return x
        steps = (config.levels - 1) / 2
        return ((x + 1) * steps).round().clamp(0, config.levels - 1) / steps - 1
