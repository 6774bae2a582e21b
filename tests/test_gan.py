"""The GAN: whose weights move, losses by hand, the penalty by finite differences, two players in one checkpoint."""

import math

import pytest
import torch
from oracles import draw, names_everything, refusal, seeded
from small_trainers import same

from diffusion_lib import checkpoints, losses
from diffusion_lib.models.gan import GAN, GANConfig
from diffusion_lib.training import Players, Trainer, TrainingConfig

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


def test_the_losses_by_hand():
    model, (x, z, _) = gan(), batch(seeded(1))
    real, made = model.logit(x).sigmoid(), model.logit(model.generate(z)).sigmoid()
    torch.testing.assert_close(losses.generator_loss(model.generator, model.discriminator, z), -made.log())
    found = losses.discriminator_loss(model.discriminator, model.generator, x, z, 0.0)
    torch.testing.assert_close(found, -real.log() - (1 - made).log())
    with torch.no_grad():
        model.discriminator[-1].weight.zero_(), model.discriminator[-1].bias.zero_()
    blind = losses.discriminator_loss(model.discriminator, model.generator, x, z)
    assert blind.tolist() == pytest.approx([2 * math.log(2)] * 4)


def test_the_penalty_is_the_squared_slope_by_finite_differences():
    model, (x, z, _) = gan(), batch(seeded(2))
    with_it, without = (losses.discriminator_loss(model.discriminator, model.generator, x, z, r) for r in (3.0, 0.0))
    h, slope = 1e-6, torch.zeros(4, 2, dtype=torch.float64)
    for k in range(2):
        step = torch.eye(2, dtype=torch.float64)[k] * h
        slope[:, k] = (model.logit(x + step) - model.logit(x - step)).detach() / (2 * h)
    torch.testing.assert_close((with_it - without).detach(), 1.5 * slope.square().sum(1), rtol=1e-6, atol=1e-9)
    (with_it - without).sum().backward()  # it can be minimised
    assert any(p.grad.abs().max() > 0 for p in model.discriminator.parameters())


@pytest.mark.parametrize("who", ["generator", "discriminator"])
def test_a_step_moves_one_player_and_leaves_no_gradient_in_the_other(who):
    model = gan()
    other = {"generator": "discriminator", "discriminator": "generator"}[who]
    before, mine = copies(getattr(model, other)), copies(getattr(model, who))
    loss = dict(zip(("generator", "discriminator"), both(model), strict=True))[who]
    trainer = Trainer(getattr(model, who), CONFIG)
    next(trainer.train(batch, loss))
    assert unmoved(getattr(model, other), before) and not unmoved(getattr(model, who), mine)
    assert all(p.grad is None and p.requires_grad for p in getattr(model, other).parameters())


def test_players_are_two_trainers_in_turn_the_discriminator_first():
    model, plain = gan(), gan()
    reported = list(Players(model, CONFIG).train(batch, both(model)))
    g, d = Trainer(plain.generator, CONFIG), Trainer(plain.discriminator, CONFIG)
    of_g, of_d = both(plain)
    steps = []
    for _ in range(6):
        d.take(batch, of_d)
        steps.append(g.take(batch, of_g))
    assert unmoved(model, copies(plain)) and [s.loss for s in reported] == [s.loss for s in steps]


def test_one_checkpoint_holds_both_and_a_resumed_run_ends_with_the_same_bits(tmp_path):
    whole_model, cut_model, model = gan(), gan(), gan()
    whole, cut = Players(whole_model, CONFIG), Players(cut_model, CONFIG)
    for _ in whole.train(batch, both(whole_model)):
        pass
    run = cut.train(batch, both(cut_model))
    for _ in range(3):
        next(run)
    checkpoints.save(tmp_path / "c", cut, {"family": "gan"})
    resumed = Players(model, CONFIG)
    checkpoints.load(tmp_path / "c", resumed, {"family": "gan"})
    assert resumed.step == 3
    for _ in resumed.train(batch, both(model)):
        pass
    assert same(whole.tensors(), resumed.tensors()) and whole.ema.keys() == dict(model.named_parameters()).keys()
    fresh = gan()
    fresh.load_state_dict(whole.ema)
    assert not unmoved(fresh, copies(whole_model))  # the average, not the last weights


def test_players_learn_a_mean():
    model = GAN(GANConfig(dimensions=1, latent=1, width=16, hidden=1), seed=2)
    config = TrainingConfig(300, lr=0.01, warmup=10, betas=(0.0, 0.99), ema=0.9)

    def points(generator):
        x = torch.randn(64, 1, generator=generator) * 0.5 + 3
        return x, torch.randn(64, 1, generator=generator), torch.randn(64, 1, generator=generator)

    players = Players(model, config)
    for _ in players.train(points, both(model)):
        pass
    model.load_state_dict(players.ema)
    assert model.sample(2000, seeded(5)).mean().item() == pytest.approx(3, abs=0.3)


def test_a_sample_does_not_see_its_companions_and_comes_from_the_generator():
    model, z = gan(), draw(6, 3, seed=3)
    torch.testing.assert_close(model.generate(z)[2:3], model.generate(z[2:3]), rtol=1e-12, atol=1e-12)
    single = GAN(SMALL, seed=1)
    noise = torch.randn(6, 3, generator=seeded(4), dtype=torch.float32)
    assert single.sample(6, seeded(4)).equal(single.generate(noise).detach())


def test_weights_come_from_the_seed_in_float32():
    one, two, other = (GAN(SMALL, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(one[k].equal(two[k]) and one[k].dtype == torch.float32 for k in one)
    assert any(not one[k].equal(other[k]) for k in one)


def test_frozen_gives_back_what_was_trained_and_only_that():
    model = gan()
    model.generator[0].bias.requires_grad_(False)
    with losses.frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["generator.0.bias"]


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: GANConfig(latent=0), "latent", "0"),
        (lambda: GANConfig(hidden=0), "hidden", "0"),
        (lambda: gan().generate(torch.zeros(2, 2).double()), "z", "(2, 2)"),
        (lambda: gan().logit(torch.zeros(2, 3).double()), "x", "(2, 3)"),
        (lambda: gan().sample(0, seeded(1)), "n", "0"),
        (
            lambda: losses.discriminator_loss(gan().discriminator, gan().generator, draw(2, 2), draw(2, 3), -1.0),
            "r1",
            "-1",
        ),
        (lambda: TrainingConfig(5, betas=(0.9,)), "betas", "0.9"),
        (lambda: TrainingConfig(5, betas=(0.9, 1.0)), "betas", "1"),
        (lambda: TrainingConfig(5, betas=(-0.1, 0.9)), "betas", "-0.1"),
    ],
)
def test_mistakes_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)
