"""What is minimised: the denoising loss in any parameterization and weighting."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from diffusion_lib.arguments import (
    integers,
    require_alike,
    require_between,
    require_count,
    require_data,
    require_positive,
    require_real,
    require_symbols,
    require_time,
)
from diffusion_lib.process import EPS, Parameterization
from diffusion_lib.schedules import Schedule, rates_of

# How much the squared error of x_0 counts at each time: (schedule, t (B,)) -> (B,)
Weighting = Callable[[Schedule, Tensor], Tensor]


def denoising_loss(
    schedule: Schedule,
    model: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: int | Tensor,
    eps: Tensor,
    parameterization: Parameterization = EPS,
    weighting: Weighting | None = None,
) -> Tensor:
    """Return how wrong the network is about each image, noised to its time t.

    Without a weighting: the mean squared error of the network's own target over the D pixels of an image; for EPS
    that is L_simple (Ho et al. 2020, eq. 14). With one: weighting(t) times the mean squared error of x_0.

    Args: model(x_t, t) -> (B, *D); x0, eps (B, *D) alike; t in 1..T, int or (B,). Returns: (B,).
    Raises: TypeError, ValueError.
    """
    times = require_time("t", t, 1, schedule.T, len(require_data("x0", x0))).expand(len(x0))
    require_alike("eps", eps, "x0", x0)
    a, b = rates_of(schedule.alpha_bar[times], x0)
    x_t = a * x0 + b * eps
    output = model(x_t, times.to(x0.device))
    if output.shape != x0.shape:
        raise ValueError(f"output of the model: expected the shape of x0, {tuple(x0.shape)}, got {tuple(output.shape)}")
    if weighting is None:
        return mean_square(output - parameterization.target_from(a, b, x0, eps))
    error = mean_square(parameterization.solve_from(a, b, x_t, output).x0 - x0)
    return weighting(schedule, times).to(error) * error


def nll(logits: Tensor, x: Tensor) -> Tensor:
    """Return the negative log likelihood of symbols or labels, in nats, summed over everything but the batch.

    -sum_i log softmax(logits_i)[x_i], from logits (neither probabilities nor their logarithms), so no softmax stands
    before it. Divide by D log 2 for bits (`bound.bits_per_dim`).

    Args: logits (B, *S, K), x integer (B, *S) in 0..K-1. Returns: (B,). Raises: TypeError, ValueError.
    """
    symbols = integers("x", x)
    if require_real("logits", logits).shape[:-1] != symbols.shape or symbols.ndim == 0:
        raise ValueError(f"logits: expected shape {(*symbols.shape, 'K')} for x, got {tuple(logits.shape)}")
    require_symbols("x", symbols, logits.shape[-1])
    chosen = logits.log_softmax(-1).gather(-1, symbols[..., None].to(logits.device))[..., 0]  # (B, *S)
    return -chosen.reshape(len(chosen), -1).sum(1)


def elbo(model: Callable[[Tensor, Tensor], Any], x: Tensor, eps: Tensor, beta: float = 1.0) -> Tensor:
    """Return the evidence lower bound of each example in nats, with one draw: log p(x | z) - beta KL(q || p).

    Kingma and Welling 2014, eq. 10, for beta = 1; Higgins et al. 2017, eq. 4, for others (no bound below 1). Both terms
    are sums over entries: a mean over the D entries of x in place of their sum would be beta = D.

    Args: model(x, eps) -> terms with log_likelihood and kl (B,), as a `VAE` gives them; x (B, D); eps (B, k) standard
    normal. Returns: (B,). Raises: TypeError, ValueError for a beta below 0.
    """
    require_between("beta", beta, 0.0, math.inf)
    terms = model(x, eps)
    bound: Tensor = terms.log_likelihood - beta * terms.kl
    return bound


def importance_bound(model: Callable[[Tensor, Tensor], Any], x: Tensor, eps: Tensor) -> Tensor:
    """Return the importance-weighted bound on log p(x), in nats: log of the mean of p(x, z) / q(z | x) over K draws.

    Burda et al. 2016, eq. 8. With K = 1 its expectation is the evidence lower bound; it rises with K to log p(x).

    Args: model as for `elbo`, terms with log_likelihood and log_ratio (B,); x (B, D); eps (K, B, k) standard normal.
    Returns: (B,). Raises: TypeError, ValueError for other shapes, no draw among them.
    """
    if require_real("eps", eps).ndim != 3 or not len(eps) or eps.shape[1] != len(x):
        raise ValueError(f"eps: expected draws (K, {len(x)}, k) with K >= 1, got shape {tuple(eps.shape)}")
    K = len(eps)
    terms = model(x.repeat(K, 1), eps.flatten(0, 1))  # K copies of the batch, one after the other
    weights: Tensor = (terms.log_likelihood + terms.log_ratio).view(K, len(x))
    return weights.logsumexp(0) - math.log(K)


def generator_loss(generator: nn.Module, discriminator: nn.Module, z: Tensor) -> Tensor:
    """Return the non-saturating loss of a GAN's generator, -log D(G(z)), in nats (Goodfellow et al. 2014, section 3).

    D is the sigmoid of the discriminator's logit; its parameters get no gradient. z (B, k) -> (B,).
    """
    with frozen(discriminator):
        return softplus(-discriminator(generator(z))[:, 0])


def discriminator_loss(discriminator: nn.Module, generator: nn.Module, x: Tensor, z: Tensor, r1: float = 0.1) -> Tensor:
    """Return -log D(x) - log(1 - D(G(z))) + r1/2 |grad_x log D's logit|^2 of each pair of a real and a made example.

    Goodfellow et al. 2014, eq. 1, with the gradient penalty of Mescheder et al. 2018, eq. 9. The generator's
    parameters get no gradient.

    Args: x (B, D), z (B, k). Returns: (B,), nats. Raises: TypeError, ValueError for r1 below 0.
    """
    require_between("r1", r1, 0.0, math.inf)
    with torch.no_grad():
        made = generator(z)
    real = x.detach().requires_grad_()
    logit = discriminator(real)[:, 0]
    loss: Tensor = softplus(-logit) + softplus(discriminator(made)[:, 0])
    if not r1:
        return loss
    (gradient,) = torch.autograd.grad(logit.sum(), real, create_graph=True)
    return loss + 0.5 * r1 * gradient.square().flatten(1).sum(1)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module inside, but none to its parameters."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


def mean_square(error: Tensor) -> Tensor:
    """Return the mean over everything but the batch, (B, *D) -> (B,)."""
    return error.square().flatten(1).mean(1)


def denoising_draw(
    x0: Tensor,
    schedule: Schedule,
    batch: int,
    labels: Tensor | Sequence[int] | None = None,
    no_label: int | None = None,
    drop: float = 0.1,
) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """Return the random half of Algorithm 1 (Ho et al. 2020): a function that draws a batch for `denoising_loss`.

    It draws `batch` different images, their times from 1..T, their noise and, with labels, which labels are replaced
    by `no_label`, so that guidance can learn both (Ho and Salimans 2022, Algorithm 1).

    Args: x0 (N, *D), the data; labels int64 (N,), with the network's `no_label`, a number above them all; drop, the
    share of labels replaced. Returns: generator -> x0 (batch, *D), t (batch,), eps (batch, *D) and, with labels,
    labels (batch,).
    Raises: TypeError, ValueError (an empty data set, a batch larger than it, labels that are not one an image, or
    labels without a number for "no label").
    """
    pick = _pick("x0", require_data("x0", x0), batch)
    dropped = _dropped(x0, labels, no_label, drop)

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        chosen = pick(generator)
        t = torch.randint(1, schedule.T + 1, (batch,), generator=generator, device="cpu")
        eps = torch.randn(batch, *x0.shape[1:], generator=generator, dtype=x0.dtype, device="cpu")
        return x0[chosen], t, eps, *dropped(chosen, generator)

    return draw


def labelled_draw(
    x: Tensor,
    batch: int,
    labels: Tensor | Sequence[int] | None = None,
    no_label: int | None = None,
    drop: float = 0.1,
) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """Return a function that draws `batch` different examples and, with labels, theirs, some replaced by `no_label`.

    Arguments and errors as of `denoising_draw`; x (N, ...), integers or real numbers.
    Returns: generator -> x (batch, ...) and, with labels, labels (batch,).
    """
    pick, dropped = _pick("x", x, batch), _dropped(x, labels, no_label, drop)

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        chosen = pick(generator)
        return x[chosen], *dropped(chosen, generator)

    return draw


def _pick(name: str, x: Tensor, batch: int) -> Callable[[torch.Generator], Tensor]:
    """What draws the places of a batch of different examples."""
    if len(x) == 0:
        raise ValueError(f"{name}: expected at least one example, got an empty data set")
    require_count("batch", batch, 1, len(x))
    return lambda generator: torch.randperm(len(x), generator=generator, device="cpu")[:batch]


def _dropped(
    x: Tensor, labels: Tensor | Sequence[int] | None, no_label: int | None, drop: float
) -> Callable[[Tensor, torch.Generator], tuple[Tensor, ...]]:
    """What draws the labels of the chosen places, each replaced by `no_label` with probability `drop`; () without."""
    require_between("drop", drop, 0.0, 1.0)
    if labels is None:
        return lambda chosen, generator: ()
    known = integers("labels", labels)
    if known.shape != x.shape[:1]:
        raise ValueError(f"labels: expected shape ({len(x)},), got {tuple(known.shape)}")
    absent = require_count("no_label", no_label, int(known.max()) + 1)

    def draw(chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        replaced = torch.rand(len(chosen), generator=generator, dtype=torch.float32, device="cpu") < drop
        return (known[chosen].masked_fill(replaced, absent),)

    return draw


# ---- weightings, in units of the squared error of x_0


def min_snr(gamma: float = 5.0) -> Weighting:
    """Return the weighting min(snr_t, gamma): L_simple's, kept from growing where there is little noise.

    The mean squared error of eps is snr_t times that of x_0, so for small snr_t this is L_simple (Hang et al. 2023,
    section 3.4). Raises: TypeError, ValueError for a gamma not above 0.
    """
    limit = require_positive("gamma", gamma)
    return lambda schedule, t: schedule.snr[require_time("t", t, 1, schedule.T)].clamp(max=limit)
