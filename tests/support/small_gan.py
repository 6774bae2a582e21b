"""A small GAN, its data and its two losses: shared by the tests of the model, the losses and the trainer."""

import torch

from diffusion_lib import losses
from diffusion_lib.models.gan import GAN, GANConfig
from diffusion_lib.training import TrainingConfig

SMALL = GANConfig(dimensions=2, latent=3, width=5, hidden=2)
CONFIG = TrainingConfig(6, lr=0.02, warmup=2, betas=(0.0, 0.99), seed=3)


def gan() -> GAN:
    return GAN(SMALL, seed=1).double()


def batch(generator):
    """Real points and a normal vector for either player."""
    x = torch.randn(4, 2, generator=generator, dtype=torch.float64) + 2
    return x, *(torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))


def both(model, r1=0.1):
    return (
        lambda net, x, own, other: losses.generator_loss(net, model.discriminator, other),
        lambda net, x, own, other: losses.discriminator_loss(net, model.generator, x, own, r1),
    )


def copies(module):
    return [p.detach().clone() for p in module.parameters()]


def unmoved(module, before):
    return all(p.equal(q) for p, q in zip(module.parameters(), before, strict=True))
