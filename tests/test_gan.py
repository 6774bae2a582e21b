"""The GAN: samples that do not see each other, weights from the seed. Its losses and players: their modules' tests."""

import pytest
import torch
from oracles import draw, names_everything, refusal, seeded
from small_gan import SMALL, gan

from diffusion_lib.models.gan import GAN, GANConfig


def test_a_sample_does_not_see_its_companions_and_comes_from_the_generator():
    model, z = gan(), draw(6, 3, seed=3)
    torch.testing.assert_close(model.generate(z)[2:3], model.generate(z[2:3]), rtol=1e-12, atol=1e-12)
    single = GAN(SMALL, seed=1)
    noise = torch.randn(6, 3, generator=seeded(4), dtype=torch.float32)
    assert single.sample(6, seeded(4)).equal(single.generate(noise).detach())


def test_the_logit_is_the_discriminators_only_answer():
    model, x = gan(), draw(4, 2, seed=5)
    assert model.logit(x).equal(model.discriminator(x).squeeze(1)) and model.logit(x).shape == (4,)


def test_weights_come_from_the_seed_in_float32():
    one, two, other = (GAN(SMALL, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(one[k].equal(two[k]) and one[k].dtype == torch.float32 for k in one)
    assert any(not one[k].equal(other[k]) for k in one)


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: GANConfig(latent=0), "latent", "0"),
        (lambda: GANConfig(hidden=0), "hidden", "0"),
        (lambda: gan().generate(torch.zeros(2, 2).double()), "z", "(2, 2)"),
        (lambda: gan().logit(torch.zeros(2, 3).double()), "x", "(2, 3)"),
        (lambda: gan().sample(0, seeded(1)), "n", "0"),
    ],
)
def test_mistakes_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


def test_the_default_sizes():
    """z 2 -> 64 -> 64 -> 64 -> 2, and as many down to one logit."""
    model = GAN(GANConfig())
    shapes = [
        [tuple(p.shape) for p in net.parameters() if p.ndim == 2] for net in (model.generator, model.discriminator)
    ]
    assert shapes == [[(64, 2), (64, 64), (64, 64), (k, 64)] for k in (2, 1)]
