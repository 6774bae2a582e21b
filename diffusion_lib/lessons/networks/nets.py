"""The worked network of nine numbers, softmax regression on the digits, and schedules of the learning rate."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from diffusion_lib import data
from diffusion_lib.arguments import require_count, require_positive
from diffusion_lib.noise import seeded

WORKED: Mapping[str, float] = {
    "w11": 0.5, "w12": -0.5, "b11": 0.1, "w21": 0.3, "w22": 0.8, "b12": -0.2, "w31": 0.2, "w32": -0.4, "b2": 0.5,
}  # fmt: skip


class Pass(NamedTuple):
    """Everything that the worked network computes on the way to its loss."""

    z: tuple[float, float]  # before the ReLU
    a: tuple[float, float]  # after it
    output: float
    loss: float


def forward(theta: Mapping[str, float], x: tuple[float, float] = (1.0, 2.0), target: float = 1.0) -> Pass:
    """Return what the worked network computes for nine numbers, written out in plain Python."""
    z1 = theta["w11"] * x[0] + theta["w12"] * x[1] + theta["b11"]
    z2 = theta["w21"] * x[0] + theta["w22"] * x[1] + theta["b12"]
    a1, a2 = max(0.0, z1), max(0.0, z2)
    output = theta["w31"] * a1 + theta["w32"] * a2 + theta["b2"]
    return Pass((z1, z2), (a1, a2), output, 0.5 * (output - target) ** 2)


# ---- schedules of the learning rate: the share of the largest rate after a share u of the training


def constant(u: float) -> float:
    """Return 1."""
    return 1.0


def step(u: float) -> float:
    """Return 1 in the first third of the training, 0.1 in the second, 0.01 in the last."""
    return 0.1 ** int(3 * u)


def exponential(u: float) -> float:
    """Return 0.01^u: the same factor at every step."""
    return 0.01**u


def cosine(u: float) -> float:
    """Return (1 + cos(pi u)) / 2 (Loshchilov and Hutter 2017, eq. 5)."""
    return (1 + math.cos(math.pi * u)) / 2


def warm_up(u: float) -> float:
    """Return a rise over the first tenth, then the cosine's fall."""
    return min(10 * u, cosine(u))


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": constant, "step": step, "exponential": exponential, "cosine": cosine, "warm-up, then cosine": warm_up,
}  # fmt: skip


class Plateau:
    """The share of the largest rate by the loss in place of the clock: divided by 10 at each plateau.

    A plateau is a time when the mean of the last 50 losses has not been below its best for `patience` steps.
    Raises: TypeError, ValueError.
    """

    def __init__(self, patience: int = 100) -> None:
        self.patience = require_count("patience", patience)
        self.share, self.best, self.since = 1.0, math.inf, 0
        self.recent: deque[float] = deque(maxlen=50)

    def __call__(self, loss: float) -> float:
        """Take in the loss of a step; return the share of the largest rate for it."""
        self.recent.append(loss)
        if len(self.recent) == 50:
            total = sum(self.recent)
            self.best, self.since = (total, 0) if total < self.best else (self.best, self.since + 1)
        if self.since == self.patience:
            self.share, self.best, self.since = 0.1 * self.share, math.inf, 0
        return self.share


# ---- softmax regression: one layer, a convex loss, so that its optimum is known


@cache
def regression() -> tuple[Tensor, Tensor]:
    """Return the training digits with a column of ones (1437, 65), float64, and their labels."""
    digits = data.digits()
    return torch.cat(
        [digits.train.flatten(1), torch.ones(len(digits.train), 1, dtype=torch.float64)], 1
    ), digits.train_labels


def regression_loss(W: Tensor) -> Tensor:
    """Return the mean of -log softmax of softmax regression plus 0.005 |W|^2, W (65, 10)."""
    x, y = regression()
    return cross_entropy(x @ W, y) + 0.005 * W.square().sum()


@cache
def optimum() -> float:
    """Return the least loss, found by L-BFGS on all digits."""
    W = torch.zeros(65, 10, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([W], max_iter=400, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss = regression_loss(W)
        loss.backward()
        return loss

    search.step(closure)
    return float(regression_loss(W).detach())


def descend(schedule: str, lr: float, steps: int = 1000, seed: int = 0) -> Iterator[tuple[float, Tensor]]:
    """Take steps of softmax regression on batches of 16; yield the learning rate used and the weights after it.

    Raises: ValueError for a rate that is not above 0.
    """
    require_positive("lr", lr)
    x, y = regression()
    W, generator, plateau = torch.zeros(65, 10, dtype=torch.float64), seeded(seed), Plateau()
    for k in range(steps):
        i = torch.randint(len(x), (16,), generator=generator)
        logits, labels = x[i] @ W, y[i]
        error = logits.softmax(1) - torch.nn.functional.one_hot(labels, 10)
        loss = float(cross_entropy(logits, labels))
        share = plateau(loss) if schedule == "plateau" else SCHEDULES[schedule](k / steps)
        W = W - lr * share * (x[i].T @ error / 16 + 0.01 * W)
        yield lr * share, W
