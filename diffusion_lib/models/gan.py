"""A generative adversarial network: a generator that turns noise into samples, a discriminator that judges them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion_lib.arguments import require_count, require_generator, require_points
from diffusion_lib.models.layers import fresh_weights, mlp


@dataclass(frozen=True)
class GANConfig:
    """A generator latent -> width -> ... -> dimensions and a discriminator dimensions -> width -> ... -> 1.

    Raises: TypeError, ValueError, at once.
    """

    dimensions: int = 2
    latent: int = 2
    width: int = 64
    hidden: int = 3  # hidden layers of each
    activation: str = "relu"

    def __post_init__(self) -> None:
        for name in ("dimensions", "latent", "width", "hidden"):
            object.__setattr__(self, name, require_count(name, getattr(self, name)))


class GAN(nn.Module):
    """Samples without a density: x = generator(z), z normal (Goodfellow et al. 2014); both networks in one module.

    The discriminator answers a logit: sigmoid of it is the probability that a sample is of the data. Neither network
    looks at a sample's companions. Weights are float32, drawn from `seed`.
    """

    def __init__(self, config: GANConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        inner = [config.width] * config.hidden
        with fresh_weights(seed):
            self.generator = mlp([config.latent, *inner, config.dimensions], config.activation)
            self.discriminator = mlp([config.dimensions, *inner, 1], config.activation)

    def generate(self, z: Tensor) -> Tensor:
        """Return the samples that z makes, (B, k) -> (B, D). Raises: TypeError, ValueError."""
        x: Tensor = self.generator(require_points("z", z, self.config.latent))
        return x

    def logit(self, x: Tensor) -> Tensor:
        """Return the discriminator's logit of each sample, (B, D) -> (B,). Raises: TypeError, ValueError."""
        answers: Tensor = self.discriminator(require_points("x", x, self.config.dimensions))
        return answers[:, 0]

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return generator(z) for normal z, (n, D), float32, drawn on the CPU. Raises: TypeError, ValueError."""
        shape = (require_count("n", n), self.config.latent)
        z = torch.randn(shape, generator=require_generator(generator), dtype=torch.float32, device="cpu")
        return self.generate(z.to(next(self.parameters()).device))
