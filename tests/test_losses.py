"""Losses against hand computation and each other."""

import math

import pytest
import torch
from oracles import draw, names_everything, network, rates, refusal, seeded
from small_gan import CONFIG, batch, both, copies, gan, unmoved
from small_vae import SMALL as SMALL_VAE
from small_vae import X, log_evidence, vae
from torch import distributions

from diffusion_lib.bound import (
    bound_weighting,
)
from diffusion_lib.losses import (
    denoising_draw,
    denoising_loss,
    discriminator_loss,
    elbo,
    frozen,
    generator_loss,
    importance_bound,
    labelled_draw,
    mean_square,
    min_snr,
    nll,
)
from diffusion_lib.models.vae import VAE, VAEConfig
from diffusion_lib.process import EPS, X0, V
from diffusion_lib.schedules import cosine, from_beta, linear
from diffusion_lib.training import Trainer

LINEAR = linear()
SHORT = from_beta(torch.linspace(0.05, 0.4, 12, dtype=torch.float64))  # the toy chain
TIMES = torch.tensor([1, 2, 40, 500, 1000])
IMAGES, NOISE = draw(5, 2, 3, seed=1), draw(5, 2, 3, seed=2)


# ---- the denoising loss


@pytest.mark.parametrize(
    ("parameterization", "target"),
    [
        (EPS, lambda a, b: NOISE),
        (X0, lambda a, b: IMAGES),
        # x_t moves along a circle as the angle grows (cos = signal rate); v is its velocity
        (V, lambda a, b: torch.func.jvp(lambda p: p.cos() * IMAGES + p.sin() * NOISE, (a.acos(),), (0 * a + 1,))[1]),
    ],
    ids=["eps", "x0", "v"],
)
def test_denoising_loss_by_hand(parameterization, target):
    a, b = rates(LINEAR, TIMES)
    output = network(a * IMAGES + b * NOISE, TIMES)
    by_hand = torch.stack([sum(d**2 for d in row) / 6 for row in (output - target(a, b)).reshape(5, 6)])
    loss = denoising_loss(LINEAR, network, IMAGES, TIMES, NOISE, parameterization)
    assert loss.shape == (5,)
    assert torch.allclose(loss, by_hand, rtol=1e-9, atol=0)


@pytest.mark.parametrize("weighting", [min_snr(3.0), bound_weighting, lambda schedule, t: schedule.snr[t]])
@pytest.mark.parametrize(
    ("parameterization", "guess"),
    [
        (EPS, lambda out, x_t, a, b: (x_t - b * out) / a),
        (X0, lambda out, x_t, a, b: out),
        # the two equations x_t = a x0 + b eps and v = a eps - b x0, solved as a linear system
        (
            V,
            lambda out, x_t, a, b: torch.linalg.solve(
                torch.cat([torch.cat([a, b], -1), torch.cat([-b, a], -1)], -2),
                torch.stack([x_t.flatten(1), out.flatten(1)], 1),
            )[:, 0].reshape(x_t.shape),
        ),
    ],
    ids=["eps", "x0", "v"],
)
def test_weighted_denoising_loss_by_hand(parameterization, guess, weighting):
    a, b = rates(LINEAR, TIMES)
    x_t = a * IMAGES + b * NOISE
    error = (guess(network(x_t, TIMES), x_t, a, b) - IMAGES).square().flatten(1).sum(1) / 6
    loss = denoising_loss(LINEAR, network, IMAGES, TIMES, NOISE, parameterization, weighting)
    assert torch.allclose(loss, weighting(LINEAR, TIMES) * error, rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    ("parameterization", "weight"),
    [(EPS, lambda snr: snr), (X0, lambda snr: 0 * snr + 1), (V, lambda snr: snr + 1)],
    ids=["eps", "x0", "v"],
)
@pytest.mark.parametrize("schedule", [LINEAR, cosine(), SHORT], ids=["linear", "cosine", "short"])
def test_the_plain_loss_is_a_weight_on_the_error_of_x0(parameterization, weight, schedule):
    times = torch.tensor([1, 2, schedule.T // 3, schedule.T // 2, schedule.T])
    snr = schedule.alpha_bar[times] / (1 - schedule.alpha_bar[times])
    plain = denoising_loss(schedule, network, IMAGES, times, NOISE, parameterization)
    weighted = denoising_loss(schedule, network, IMAGES, times, NOISE, parameterization, lambda s, t: weight(snr))
    assert torch.allclose(plain, weighted, rtol=1e-7, atol=0)


def test_one_time_for_all_and_gradients_reach_the_network():
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = denoising_loss(LINEAR, lambda x, t: scale * x, IMAGES, 300, NOISE)
    assert torch.equal(loss, denoising_loss(LINEAR, lambda x, t: scale * x, IMAGES, torch.full((5,), 300), NOISE))
    (gradient,) = torch.autograd.grad(loss.sum(), scale)
    a, b = rates(LINEAR, torch.tensor([300]))
    x_t = a * IMAGES + b * NOISE
    assert float(gradient) == pytest.approx(float((2 * (x_t - NOISE) * x_t).sum() / 6), rel=1e-12)


def test_mean_square_is_over_everything_but_the_batch():
    assert torch.equal(
        mean_square(torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 2.0]]])), torch.tensor([7.5, 1.0])
    )


def test_float32_in_float32_out():
    loss = denoising_loss(LINEAR, network, IMAGES.float(), TIMES, NOISE.float(), V, min_snr())
    assert loss.dtype == torch.float32
    assert torch.allclose(loss.double(), denoising_loss(LINEAR, network, IMAGES, TIMES, NOISE, V, min_snr()), rtol=1e-4)


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: denoising_loss(LINEAR, network, IMAGES * math.nan, TIMES, NOISE), "x0", "NaN"),
        (lambda: denoising_loss(LINEAR, network, IMAGES, TIMES + 1, NOISE), "t", "1001"),
        (lambda: denoising_loss(LINEAR, network, IMAGES, TIMES - 1, NOISE), "t", "0..999"),
        (lambda: denoising_loss(LINEAR, network, IMAGES, TIMES[:4], NOISE), "t", "(4,)"),
        (lambda: denoising_loss(LINEAR, network, IMAGES, TIMES.double(), NOISE), "t", "float64"),
        (lambda: denoising_loss(LINEAR, network, IMAGES.byte(), TIMES, NOISE), "x0", "uint8"),
        (lambda: denoising_loss(LINEAR, network, IMAGES, TIMES, NOISE[:4]), "eps", "(4, 2, 3)"),
    ],
)
def test_denoising_loss_refuses(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


# ---- the random half of Algorithm 1

DATA, LABELS = torch.arange(40.0)[:, None, None], torch.arange(40) % 4


def test_a_draw_is_decided_by_its_generator():
    sample = denoising_draw(DATA, LINEAR, 16, LABELS, 4)
    for one, two in zip(sample(seeded(3)), sample(seeded(3)), strict=True):
        assert torch.equal(one, two)
    assert all(not torch.equal(one, two) for one, two in zip(sample(seeded(3)), sample(seeded(4)), strict=True))


def test_a_draw_has_the_shapes_it_promises_and_keeps_labels_beside_their_images():
    x0, t, eps, labels = denoising_draw(DATA, LINEAR, 16, LABELS, 4, drop=0.0)(seeded(0))
    assert (x0.shape, t.shape, eps.shape, labels.shape) == ((16, 1, 1), (16,), (16, 1, 1), (16,))
    assert (eps.dtype, t.dtype, labels.dtype) == (x0.dtype, torch.int64, torch.int64)
    assert torch.equal(labels, x0.flatten().long() % 4)
    assert len(denoising_draw(DATA, LINEAR, 16)(seeded(0))) == 3
    assert denoising_draw(DATA.double(), LINEAR, 16)(seeded(0))[2].dtype == torch.float64


def test_no_example_is_drawn_twice_and_all_are_drawn_alike():
    sample, seen = denoising_draw(DATA, LINEAR, 10), torch.zeros(40)
    for seed in range(400):
        chosen = sample(seeded(seed))[0].flatten().long()
        assert len(chosen.unique()) == 10
        seen[chosen] += 1
    assert (seen - 100).abs().max() < 4.5 * (400 * 0.25 * 0.75) ** 0.5  # each example is drawn a quarter of the times


def test_times_are_uniform_and_noise_is_normal():
    short = from_beta([0.1] * 5)
    draws = [denoising_draw(torch.zeros(1000, 3), short, 1000)(seeded(seed)) for seed in range(20)]
    share = torch.bincount(torch.cat([t for _, t, _ in draws]), minlength=7) / 20_000
    assert share[0] == share[6] == 0
    assert (share[1:6] - 0.2).abs().max() < 4 * (0.2 * 0.8 / 20_000) ** 0.5
    eps = torch.cat([eps.flatten() for _, _, eps in draws])
    assert abs(float(eps.mean())) < 4 / len(eps) ** 0.5
    assert abs(float(eps.var()) - 1) < 4 * (2 / len(eps)) ** 0.5


@pytest.mark.parametrize("drop", [0.0, 0.1, 1.0])
def test_labels_are_dropped_at_the_asked_rate(drop):
    data, labels = torch.zeros(2000, 1), torch.arange(2000) % 3
    dropped = [denoising_draw(data, LINEAR, 2000, labels, 7, drop)(seeded(seed))[3] == 7 for seed in range(10)]
    share = float(torch.cat(dropped).double().mean())
    assert abs(share - drop) <= 4 * (drop * (1 - drop) / 20_000) ** 0.5


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: denoising_draw(DATA[:0], LINEAR, 1), "x0", "empty"),
        (lambda: denoising_draw(DATA, LINEAR, 41), "batch", "41"),
        (lambda: denoising_draw(DATA, LINEAR, 0), "batch", "0"),
        (lambda: denoising_draw(DATA, LINEAR, 4, LABELS[:39]), "labels", "(39,)"),
        (lambda: denoising_draw(DATA, LINEAR, 4, LABELS[:, None]), "labels", "(40, 1)"),
        (lambda: denoising_draw(DATA, LINEAR, 4, LABELS, 4, drop=1.5), "drop", "1.5"),
        (lambda: denoising_draw(DATA, LINEAR, 4, LABELS), "no_label", "None"),
        (lambda: denoising_draw(DATA, LINEAR, 4, LABELS, 3), "no_label", "3"),
        (lambda: denoising_draw(DATA / 0, LINEAR, 4), "x0", "NaN"),
        (lambda: denoising_draw(DATA.byte(), LINEAR, 4), "x0", "uint8"),
    ],
)
def test_denoising_draw_refuses(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


# ---- weightings


def test_min_snr_is_the_smaller_of_snr_and_gamma():
    times = torch.arange(1, 1001)
    snr = [float(a / (1 - a)) for a in LINEAR.alpha_bar[1:].tolist()]
    for gamma in (1.0, 5.0):
        assert torch.allclose(min_snr(gamma)(LINEAR, times), torch.tensor([min(s, gamma) for s in snr]).double())
    assert torch.equal(min_snr()(LINEAR, times), min_snr(5.0)(LINEAR, times))
    assert float(min_snr()(LINEAR, 1000)) == pytest.approx(snr[-1])


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: min_snr(0.0), "gamma", "0"),
        (lambda: min_snr(math.inf), "gamma", "inf"),
        (lambda: min_snr("five"), "gamma", "five"),
        (lambda: min_snr()(LINEAR, 0), "t", "0"),
    ],
)
def test_weightings_refuse(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


def test_a_tenth_of_the_labels_is_dropped_by_default():
    default, tenth = denoising_draw(DATA, LINEAR, 16, LABELS, 4), denoising_draw(DATA, LINEAR, 16, LABELS, 4, 0.1)
    for n in range(20):
        assert torch.equal(default(seeded(n))[3], tenth(seeded(n))[3])


def test_no_label_is_dropped_where_the_share_is_zero(monkeypatch):
    """Not even where the random number is 0, as it is once in sixteen million."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.zeros(*shape))
    x0, labels = torch.ones(4, 2), torch.arange(4)
    *_, found = denoising_draw(x0, linear(), 4, labels, no_label=4, drop=0.0)(seeded(0))
    assert sorted(found.tolist()) == [0, 1, 2, 3]


def test_labels_may_be_a_list():
    x0, labels = torch.ones(4, 2), [3, 1, 0, 2]
    for given in (labels, torch.tensor(labels)):
        *_, found = denoising_draw(x0, linear(), 4, given, no_label=4, drop=0.0)(seeded(0))
        assert sorted(found.tolist()) == [0, 1, 2, 3]
    with pytest.raises(TypeError, match=r"labels: expected an integer, or a list"):
        denoising_draw(x0, linear(), 4, [0.5] * 4, no_label=4)


# ---- the negative log likelihood


def test_nll_is_pytorchs_cross_entropy_summed_over_each_example():
    logits, x = 3 * draw(4, 5, 6, 7), torch.randint(0, 7, (4, 5, 6), generator=seeded(1))
    expected = torch.nn.functional.cross_entropy(logits.permute(0, 3, 1, 2), x, reduction="none").sum((1, 2))
    torch.testing.assert_close(nll(logits, x), expected, rtol=1e-12, atol=0)
    assert nll(logits[:, 0, 0], x[:, 0, 0].tolist()).shape == (4,)


def test_nll_of_logits_that_are_all_alike_is_log_of_their_number():
    assert nll(torch.zeros(2, 3, 17), torch.zeros(2, 3, dtype=torch.int64)).tolist() == pytest.approx(
        [3 * math.log(17)] * 2
    )


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: nll(torch.zeros(4, 7), torch.zeros(3, dtype=torch.int64)), "logits", "(4, 7)"),
        (lambda: nll(torch.zeros(4), torch.zeros(4, dtype=torch.int64)), "logits", "(4,)"),
        (lambda: nll(torch.zeros(4, 7), torch.full((4,), 7)), "x", "7"),
        (lambda: nll(torch.zeros(4, 7), torch.zeros(4)), "x", "float32"),
    ],
)
def test_nll_refuses(mistake, name, value):
    error = refusal(mistake)
    assert names_everything(error, name, value), error


# ---- draws without noise


def test_a_draw_takes_examples_with_their_labels_and_drops_some():
    x, labels = torch.arange(50)[:, None] * 10, torch.arange(50)
    taken, told = labelled_draw(x, 40, labels, 50, 0.3)(seeded(1))
    assert len(set(taken[:, 0].tolist())) == 40
    kept = told != 50
    assert taken[kept, 0].equal(10 * told[kept]) and 3 < int((~kept).sum()) < 25
    (alone,) = labelled_draw(x, 50)(seeded(2))
    assert alone[:, 0].sort()[0].equal(x[:, 0]) and not alone.equal(x)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(0, 3), 1), "x: expected at least one example"),
        ((torch.zeros(5, 3), 6), "batch: expected"),
        ((torch.zeros(5, 3), 2, [1, 2], 3), r"labels: expected shape \(5,\), got \(2,\)"),
        ((torch.zeros(5, 3), 2, [0, 1, 2, 3, 4], 4), "no_label: expected"),
        ((torch.zeros(5, 3), 2, None, None, 1.5), "drop: expected"),
    ],
)
def test_draws_that_make_no_sense_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        labelled_draw(*arguments)


# ---- bounds on the evidence


def test_the_bound_is_below_the_evidence_and_rises_with_the_draws():
    model = vae()
    evidence = log_evidence(model, X)
    eps = torch.randn(20_000, 4, 1, generator=seeded(3), dtype=torch.float64)
    with torch.no_grad():
        single = torch.stack([elbo(model, X, draw) for draw in eps])
        means = {1: single.mean(0)}
        error = single.std(0) / math.sqrt(len(eps))
        for K in (10, 100):
            grouped = eps.view(-1, K, 4, 1)
            means[K] = torch.stack([importance_bound(model, X, draws) for draws in grouped]).mean(0)
    assert (means[1] < evidence - 4 * error).all()  # a gap: q is not the posterior
    assert (means[1] < means[10] + 4 * error).all() and (means[10] < means[100] + 4 * error).all()
    assert (means[100] < evidence + 4 * error).all() and (evidence - means[100] < 0.1 * (evidence - means[1])).all()


def test_with_one_draw_the_weighted_bound_has_the_bounds_expectation():
    model, eps = vae(), torch.randn(20_000, 4, 1, generator=seeded(4), dtype=torch.float64)
    with torch.no_grad():
        found = [torch.stack([f(e) for e in eps]) for f in (
            lambda e: elbo(model, X, e), lambda e: importance_bound(model, X, e[None]))]  # fmt: skip
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
    ratio = importance_bound(model, x, eps[None])  # constant: every draw gives the evidence
    torch.testing.assert_close(ratio.detach(), joint.log_prob(x), rtol=1e-6, atol=1e-6)


def test_beta_weighs_the_divergence_only():
    model, eps = vae(), draw(4, 1, seed=8)
    terms = model(X, eps)
    for beta in (0.0, 1.0, 4.0):
        expected = terms.log_likelihood - beta * terms.kl
        torch.testing.assert_close(elbo(model, X, eps, beta), expected, rtol=1e-12, atol=1e-12)


def test_the_bound_is_of_plain_beta_one():
    model, eps = vae(), draw(4, 1, seed=8)
    terms = model(X, eps)
    torch.testing.assert_close(elbo(model, X, eps), terms.log_likelihood - terms.kl, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("mistake", "name", "value"),
    [
        (lambda: elbo(VAE(SMALL_VAE), torch.zeros(2, 3), torch.zeros(2, 1), -0.5), "beta", "-0.5"),
        (lambda: importance_bound(VAE(SMALL_VAE), torch.zeros(2, 3), torch.zeros(0, 2, 1)), "eps", "(0, 2, 1)"),
        (lambda: importance_bound(VAE(SMALL_VAE), torch.zeros(2, 3), torch.zeros(2, 1)), "eps", "(2, 1)"),
        (lambda: importance_bound(VAE(SMALL_VAE), torch.zeros(2, 3), torch.zeros(5, 3, 1)), "eps", "(5, 3, 1)"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(mistake, name, value):
    assert names_everything(refusal(mistake), name, value)


# ---- a GAN's two losses


def test_the_losses_by_hand():
    model, (x, z, _) = gan(), batch(seeded(1))
    real, made = model.logit(x).sigmoid(), model.logit(model.generate(z)).sigmoid()
    torch.testing.assert_close(generator_loss(model.generator, model.discriminator, z), -made.log())
    found = discriminator_loss(model.discriminator, model.generator, x, z, 0.0)
    torch.testing.assert_close(found, -real.log() - (1 - made).log())
    with torch.no_grad():
        model.discriminator[-1].weight.zero_(), model.discriminator[-1].bias.zero_()
    blind = discriminator_loss(model.discriminator, model.generator, x, z)
    assert blind.tolist() == pytest.approx([2 * math.log(2)] * 4)


def test_the_penalty_is_the_squared_slope_by_finite_differences():
    model, (x, z, _) = gan(), batch(seeded(2))
    with_it, without = (discriminator_loss(model.discriminator, model.generator, x, z, r) for r in (3.0, 0.0))
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


def test_frozen_gives_back_what_was_trained_and_only_that():
    model = gan()
    model.generator[0].bias.requires_grad_(False)
    with frozen(model):
        assert not any(p.requires_grad for p in model.parameters())
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["generator.0.bias"]


def test_a_negative_penalty_is_refused():
    with pytest.raises(ValueError, match="r1: expected"):
        discriminator_loss(gan().discriminator, gan().generator, draw(2, 2), draw(2, 3), -1.0)
