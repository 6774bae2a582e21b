"""The trainer against recursions by hand in float64, in one process and as one of several."""

import math

import pytest
import torch
from oracles import draw, names_everything, refusal, seeded
from small_gan import CONFIG, batch, both, copies, gan, unmoved
from small_trainers import (
    WISH,
    Pixels,
    line_draw,
    line_loss,
    linear_model,
    pixel_trainer,
    same,
    taken,
)

from diffusion_lib import checkpoints, training
from diffusion_lib.models.gan import GAN, GANConfig
from diffusion_lib.training import (
    Players,
    Trainer,
    TrainingConfig,
    TrainingError,
    fit,
    learning_rate,
    share_of,
    step_generator,
)

# ---- one step after the other ----


def by_hand(config: TrainingConfig, weight: list[float], steps: int) -> list[dict]:
    """AdamW (Loshchilov and Hutter 2019, Algorithm 2), clipping and the average, number by number in Python floats."""
    w, m, v, ema, history = list(weight), [0.0] * 3, [0.0] * 3, list(weight), []
    for k in range(1, steps + 1):
        x, y = line_draw(torch.Generator().manual_seed(k))
        wrong = [sum(w[i] * float(row[i]) for i in range(3)) - float(target) for row, target in zip(x, y, strict=True)]
        grad = [sum(2 * e * float(row[i]) for e, row in zip(wrong, x, strict=True)) / 4 for i in range(3)]
        norm = math.sqrt(sum(g * g for g in grad))
        grad = [g * min(1.0, config.clip / (norm + 1e-6)) for g in grad]
        cosine = math.cos(math.pi * k / (2 * config.steps)) ** 2
        lr = config.lr * min(k / config.warmup, cosine)
        for i in range(3):
            m[i] = 0.9 * m[i] + 0.1 * grad[i]
            v[i] = 0.999 * v[i] + 0.001 * grad[i] ** 2
            step = (m[i] / (1 - 0.9**k)) / (math.sqrt(v[i] / (1 - 0.999**k)) + 1e-8)
            w[i] = w[i] - lr * config.weight_decay * w[i] - lr * step
            kept = min(config.ema, (1 + k) / (10 + k))
            ema[i] = kept * ema[i] + (1 - kept) * w[i]
        loss = sum(e * e for e in wrong) / 4
        history.append(
            {"loss": loss, "norm": norm, "lr": lr, "w": list(w), "ema": list(ema), "m": list(m), "v": list(v)}
        )
    return history


@pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(40, lr=0.1, warmup=5, ema=0.5, clip=0.7, weight_decay=0.1),
        TrainingConfig(30, lr=0.02, warmup=1, ema=0.999, clip=100.0),
    ],
    ids=["clipped, decayed, short average", "plain, young average"],
)
def test_weights_average_moments_and_report_are_the_recursion_by_hand(config):
    trainer = Trainer(linear_model(), config)
    expected = by_hand(config, linear_model().weight[0].tolist(), config.steps)
    clipped = 0
    for k, (step, hand) in enumerate(zip(trainer.train(line_draw, line_loss), expected, strict=True), start=1):
        found = {name: tensor.flatten().tolist() for name, tensor in trainer.tensors().items()}
        assert found["model.weight"] == pytest.approx(hand["w"], rel=1e-10, abs=1e-12)
        assert found["ema.weight"] == pytest.approx(hand["ema"], rel=1e-10, abs=1e-12)
        assert found["exp_avg.weight"] == pytest.approx(hand["m"], rel=1e-10, abs=1e-12)
        assert found["exp_avg_sq.weight"] == pytest.approx(hand["v"], rel=1e-10, abs=1e-12)
        assert step == pytest.approx((k, hand["loss"], hand["norm"], hand["lr"]), rel=1e-10, abs=1e-15)
        clipped += step.norm > config.clip
    assert trainer.step == config.steps
    assert (clipped > 3) == (config.clip < 1)  # the first case does clip, the second never


def test_training_learns_and_the_average_follows():
    trainer = Trainer(linear_model(), TrainingConfig(400, lr=0.1, warmup=10, ema=0.9))
    losses = [step.loss for step in trainer.train(line_draw, line_loss)]
    assert losses[-1] < 1e-4 * losses[0]
    torch.testing.assert_close(trainer.ema["weight"][0], WISH, rtol=0, atol=1e-2)


def test_learning_rate_rises_then_falls_along_a_cosine():
    config = TrainingConfig(1000, lr=2.0, warmup=100)
    expected = {1: 0.02, 50: 1.0, 200: 2 * 0.9045084971874737, 500: 1.0, 750: 2 * 0.14644660940672624, 1000: 0.0}
    assert {k: learning_rate(config, k) for k in expected} == pytest.approx(expected, abs=1e-12)
    rates = [learning_rate(config, k) for k in range(1, 1001)]
    top = rates.index(max(rates))
    assert 90 < top < 100 and rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert learning_rate(TrainingConfig(10, lr=1.0, warmup=0), 1) == pytest.approx(math.cos(math.pi / 20) ** 2)


@pytest.mark.parametrize("step", [0, -1, 11, 2.5])
def test_a_step_outside_the_schedule_is_refused(step):
    with pytest.raises((TypeError, ValueError), match="step: expected"):
        learning_rate(TrainingConfig(10), step)


@pytest.mark.parametrize("reduce", [lambda each: each.mean(), lambda each: each[:, None], lambda each: each[:1]])
def test_a_loss_that_is_not_one_number_an_example_is_refused(reduce):
    model = torch.nn.Linear(2, 1)
    trainer = Trainer(model, TrainingConfig(3))
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(ValueError, match=r"loss: expected one number an example, \(4,\), got"):
        next(trainer.train(lambda generator: [torch.ones(4, 2)], lambda net, x: reduce(net(x)[:, 0])))
    assert trainer.step == 0 and all(p.equal(q) for p, q in zip(before, model.parameters(), strict=True))


def test_a_step_draws_the_same_however_it_is_reached_and_seeds_differ():
    """PyTorch's generator reads 32 bits of its seed: a seed in the upper half would change nothing."""
    first = {(s, k): float(torch.rand(1, generator=step_generator(s, k))) for s in range(30) for k in range(1, 30)}
    assert len(set(first.values())) == len(first)
    assert step_generator(0, 7).initial_seed() == 7  # what step 7 of seed 0 has always drawn
    for seed in (0, 1, 2**32 - 1):
        left, right = (torch.randn(5, generator=step_generator(seed, 2**31)) for _ in range(2))
        assert left.equal(right)


def test_step_k_draws_with_the_generator_of_step_k():
    seen = []
    trainer = Trainer(linear_model(), TrainingConfig(4, seed=3))
    for _ in trainer.train(lambda g: (seen.append(g.initial_seed()), line_draw(g))[1], line_loss):
        pass
    assert seen == [step_generator(3, k).initial_seed() for k in (1, 2, 3, 4)]


def test_another_seed_is_another_run():
    left, right = (taken(pixel_trainer(seed=s), 3).tensors() for s in (0, 1))
    assert not left["model.first.weight"].equal(right["model.first.weight"])


def test_bf16_computes_in_bfloat16_and_keeps_weights_in_float32():
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        trainer = taken(Trainer(Pixels(), TrainingConfig(2, bf16=bf16)), 2)
        assert set(trainer.model.seen) == {dtype}
        assert {tensor.dtype for tensor in trainer.tensors().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("poison", "words"),
    [
        (lambda x: x * math.nan, "got loss nan"),
        (lambda x: x / 0, "got loss inf"),
        (lambda x: (x - x.detach()).abs().sqrt(), "norm nan"),  # 0, with a gradient that is not finite
    ],
    ids=["NaN", "infinity", "gradient"],
)
def test_a_loss_that_is_not_finite_stops_before_it_spoils_anything(poison, words):
    trainer = taken(Trainer(linear_model(), TrainingConfig(9)), 4, images=False)
    before = {name: tensor.clone() for name, tensor in trainer.tensors().items()}
    with pytest.raises(TrainingError, match=rf"^step 5: expected a finite loss and gradient.*{words}"):
        next(trainer.train(line_draw, lambda *a: poison(line_loss(*a))))
    assert trainer.step == 4 and same(before, trainer.tensors())
    assert all(bool(tensor.isfinite().all()) for tensor in before.values())
    assert next(trainer.train(line_draw, line_loss)).step == 5  # and can go on


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -1),
        ("steps", 2.0),
        ("lr", 0.0),
        ("lr", math.nan),
        ("warmup", -1),
        ("ema", 1.1),
        ("ema", math.nan),
        ("clip", 0.0),
        ("weight_decay", -0.1),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_bad_settings_are_refused_at_once(name, value):
    error = refusal(lambda: TrainingConfig(**{"steps": 5, name: value}))
    assert names_everything(error, name, str(value)), error


def test_a_restored_trainer_goes_on_with_the_same_bits():
    whole, half, other = taken(pixel_trainer(), 6), taken(pixel_trainer(), 3), taken(pixel_trainer(), 5)
    kept = {name: tensor.clone() for name, tensor in half.tensors().items()}
    other.restore(kept, 3)
    assert other.step == 3 and same(other.tensors(), kept)
    assert same(whole.tensors(), taken(other, 3).tensors())
    assert other.model.first.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_course_seed_does_not_touch_training(monkeypatch):
    before = taken(pixel_trainer(), 2).tensors()
    monkeypatch.setenv("COURSE_SEED", "7")
    assert same(before, taken(pixel_trainer(), 2).tensors())


# ---- several processes ----


@pytest.fixture
def rank(monkeypatch):
    """Pretend to be one of several processes."""

    def pretend(rank: int, world: int) -> None:
        monkeypatch.setattr(training.dist, "is_initialized", lambda: True)
        monkeypatch.setattr(training.dist, "get_world_size", lambda: world)
        monkeypatch.setattr(training.dist, "get_rank", lambda: rank)

    return pretend


def test_shares_are_the_batch_in_order(rank):
    whole = draw(6, 2)
    assert share_of(whole) is whole
    parts = []
    for k in range(3):
        rank(k, 3)
        parts.append(share_of(whole))
    assert [len(part) for part in parts] == [2, 2, 2] and torch.cat(parts).equal(whole)


def test_a_batch_that_does_not_divide_is_refused(rank):
    rank(0, 4)
    error = refusal(lambda: share_of(draw(6, 2)))
    assert names_everything(error, "batch", "6") and "4 processes" in str(error)


def test_a_frozen_network_is_refused_with_the_cure():
    model = linear_model()
    for p in list(model.parameters())[1:]:
        p.requires_grad_(False)
    Trainer(model, TrainingConfig(steps=1))  # a part of it may be frozen
    with pytest.raises(ValueError, match=r"model: expected parameters to train, .* model.requires_grad_\(\) thaws"):
        Trainer(model.requires_grad_(False), TrainingConfig(steps=1))
    with pytest.raises(ValueError, match="model: expected parameters to train"):
        Trainer(torch.nn.Identity(), TrainingConfig(steps=1))


def test_a_trainer_that_took_no_step_has_moments_of_zero():
    moments = {name: t for name, t in pixel_trainer().tensors().items() if name.startswith("exp_avg")}
    assert moments
    assert all(not bool(tensor.any()) for tensor in moments.values())


def test_training_is_in_the_weights_dtype_unless_asked_otherwise():
    assert TrainingConfig(1).bf16 is False


# ---- a whole training


def test_fit_is_the_trainer_run_to_its_end_with_the_average_in_place():
    config = TrainingConfig(30, lr=0.1, warmup=5, ema=0.8)
    model, trainer = linear_model(), Trainer(linear_model(), config)
    expected = [step.loss for step in trainer.train(line_draw, line_loss)]
    losses = fit(model, line_draw, line_loss, config)
    assert losses.dtype == torch.float64 and losses.tolist() == expected
    assert all(torch.equal(p, trainer.ema[name]) for name, p in model.named_parameters())
    assert not any(p.requires_grad for p in model.parameters())


# ---- a GAN's two players


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


@pytest.mark.parametrize("betas", [(0.9,), (0.9, 1.0), (-0.1, 0.9), 0.9])
def test_betas_that_make_no_sense_are_refused(betas):
    with pytest.raises((TypeError, ValueError), match="betas: expected"):
        TrainingConfig(5, betas=betas)


def test_the_optimizer_has_the_betas_of_its_configuration():
    trainer = Trainer(linear_model(), TrainingConfig(5, betas=[0.5, 0.7]))
    assert trainer.optimizer.param_groups[0]["betas"] == (0.5, 0.7)
