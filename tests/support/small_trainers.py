"""Two models small enough to train in a test, with their data: shared by the tests of trainer and checkpoints."""

import torch
from oracles import draw
from torch import nn

from diffusion_lib.training import Trainer, TrainingConfig

WISH = draw(3, seed=5)  # what the linear model should learn


def linear_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Three weights."""
    model = nn.Linear(3, 1, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(draw(1, 3, seed=3))
    return model


def line_draw(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Four points and the values that the linear model should give."""
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    return x, x @ WISH


def line_loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Squared errors."""
    return (model(x)[:, 0] - y) ** 2


class Pixels(nn.Module):
    """Two convolutions in the memory layout of real training; what a wrong order of moments would spoil."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        self.to(memory_format=torch.channels_last)
        self.seen: list[torch.dtype] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x.contiguous(memory_format=torch.channels_last))
        self.seen.append(hidden.dtype)
        return self.last(torch.nn.functional.silu(hidden))


def pixel_draw(generator: torch.Generator) -> tuple[torch.Tensor]:
    """Four small images of noise."""
    return (torch.randn(4, 2, 5, 5, generator=generator),)


def pixel_loss(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """How far each image is from its mirror image."""
    return (model(x) - x.flip(-1)).square().flatten(1).mean(1)


def pixel_trainer(steps: int = 8, seed: int = 0) -> Trainer:
    """A trainer of the two convolutions."""
    return Trainer(Pixels(), TrainingConfig(steps, lr=0.01, warmup=2, seed=seed))


def taken(trainer: Trainer, steps: int, images: bool = True) -> Trainer:
    """Take so many steps, of the convolutions or of the linear model."""
    run = trainer.train(pixel_draw, pixel_loss) if images else trainer.train(line_draw, line_loss)
    for _ in range(steps):
        next(run)
    return trainer


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """True if both hold the same tensors, bit by bit."""
    return left.keys() == right.keys() and all(left[k].equal(right[k]) for k in left)
