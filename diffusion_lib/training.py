"""The only optimizer: a trainer for every family of models, with a learning rate that rises and falls, and EMA."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm  # a line of text in a notebook too: a widget would be stored with the page

from diffusion_lib.arguments import require_between, require_count, require_positive, shown

# Everything random of one step, for the whole batch of all processes: (generator) -> tensors (B, ...)
Draw = Callable[[torch.Generator], Sequence[Tensor]]
# The loss of each example; nothing random in it: (model, *tensors (b, ...)) -> (b,)
Loss = Callable[..., Tensor]


class TrainingError(Exception):
    """Training cannot go on; the message names the step."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train: `steps` of AdamW; the learning rate rises over `warmup` steps and falls along a cosine.

    Raises: TypeError, ValueError, at once, for a number out of its range.
    """

    steps: int
    lr: float = 4e-4
    warmup: int = 200
    ema: float = 0.999  # what each step keeps of the averaged weights, once the average has warmed up
    clip: float = 1.0  # the largest norm of the gradient
    weight_decay: float = 0.0
    seed: int = 0
    betas: tuple[float, float] = (0.9, 0.999)  # what each step keeps of the gradient's mean and mean square
    bf16: bool = False  # compute in bfloat16 where PyTorch's autocast says it is safe; weights stay in their dtype

    def __post_init__(self) -> None:
        for name, low, high in (("steps", 1, None), ("warmup", 0, None), ("seed", 0, 2**32 - 1)):
            object.__setattr__(self, name, require_count(name, getattr(self, name), low, high))
        require_positive("lr", self.lr)
        require_positive("clip", self.clip)
        require_between("ema", self.ema, 0.0, 1.0)
        require_between("weight_decay", self.weight_decay, 0.0, 1.0)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise TypeError(f"betas: expected two numbers, got {shown(self.betas)}")
        for beta in self.betas:
            if require_between("betas", beta, 0.0, 1.0) == 1:
                raise ValueError("betas: expected numbers below 1, got 1")
        object.__setattr__(self, "betas", (float(self.betas[0]), float(self.betas[1])))


class TrainingStep(NamedTuple):
    """What one step reports: its number from 1, the mean loss of its batch, the gradient's norm before clipping."""

    step: int
    loss: float
    norm: float
    lr: float


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of a step in 1..steps: lr min(step / warmup, (1 + cos(pi step / steps)) / 2).

    It is 0 at the last step, which moves the average only. Raises: TypeError, ValueError for another step.
    """
    require_count("step", step, 1, config.steps)
    return config.lr * min(step / max(config.warmup, 1), (1 + math.cos(math.pi * step / config.steps)) / 2)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of one step: the same draws whether the run came here in one go or was resumed.

    PyTorch's CPU generator reads 32 bits of its seed only. Seed 0 starts at 0, each further seed 2^32 / golden ratio
    later, round the circle: seeds 0..1000 start at least 1.9 million steps apart.
    """
    return torch.Generator().manual_seed((seed * 0x9E3779B1 + step) % 2**32)


class Trainer:
    """A model in training: its parameters, their moving average, the optimizer's memory and the number of steps done.

    Buffers (batch norm's running statistics, say) are saved and restored with the parameters, but not averaged: those
    of the model belong to its own weights. For the averaged weights, load them and gather the statistics anew.
    Names are those of the plain network, also where the model is compiled or wrapped for several devices.

    Under torchrun every process holds a trainer, draws the whole batch and takes its share of it; gradients are
    averaged by PyTorch's DistributedDataParallel, so that n processes do what one does.

    Raises: ValueError for a model none of whose parameters can be trained.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig) -> None:
        if not any(p.requires_grad for p in model.parameters()):
            raise ValueError(
                "model: expected parameters to train, got none or frozen ones; model.requires_grad_() thaws"
            )
        self.model = model
        self.config = config
        self.step = 0
        # first: it gives every process the parameters of the first one
        self._forward = nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model
        self._plain = unwrapped(model)
        self.ema = {name: p.detach().clone() for name, p in self._plain.named_parameters()}
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=True
        )

    def train(self, draw: Draw, loss: Loss) -> Iterator[TrainingStep]:
        """Take the steps that are left, one at each `next`.

        Raises: TrainingError for a loss or gradient that is not finite (the weights are those of the step before);
        ValueError for a batch that does not divide by the number of processes, or a loss that is not (b,).
        """
        while self.step < self.config.steps:
            yield self.take(draw, loss)

    def take(self, draw: Draw, loss: Loss) -> TrainingStep:
        """Take the next step. Raises: as `train` does."""
        return self._one(draw, loss, self.step + 1)

    def _one(self, draw: Draw, loss: Loss, step: int) -> TrainingStep:
        device = next(self.model.parameters()).device
        mine = [share_of(tensor).to(device) for tensor in draw(step_generator(self.config.seed, step))]
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.bf16):
            each = loss(self._forward, *mine)
            if each.shape != (len(mine[0]),):
                raise ValueError(f"loss: expected one number an example, ({len(mine[0])},), got {tuple(each.shape)}")
            mean = each.mean()
        mean.backward()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip))
        value = global_mean(mean.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise TrainingError(f"step {step}: expected a finite loss and gradient, got loss {value}, norm {norm}")
        lr = learning_rate(self.config, step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self._average(step)
        self.step = step
        return TrainingStep(step, value, norm, lr)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        decay = min(self.config.ema, (1 + step) / (10 + step))  # a young average forgets faster
        torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.model.parameters()], 1 - decay)

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds: weights, their average, the optimizer's two moments, buffers."""
        found: dict[str, Tensor] = {f"buffer.{name}": buffer for name, buffer in self._buffers().items()}
        for name, p in self._plain.named_parameters():
            state = self.optimizer.state.get(p, {})
            found |= {f"model.{name}": p.detach(), f"ema.{name}": self.ema[name]}
            for moment in ("exp_avg", "exp_avg_sq"):
                found[f"{moment}.{name}"] = state.get(moment, torch.zeros_like(p))
        return {name: tensor.contiguous() for name, tensor in found.items()}  # safetensors knows no other layout

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take up a run where its checkpoint left it; `tensors` as `tensors()` gave them."""
        for name, buffer in self._buffers().items():
            buffer.copy_(tensors[f"buffer.{name}"])
        for name, p in self._plain.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            self.ema[name].copy_(tensors[f"ema.{name}"])
            # empty_like keeps the memory layout of p: fused AdamW reads moments in the order of the weights
            state = {m: torch.empty_like(p).copy_(tensors[f"{m}.{name}"]) for m in ("exp_avg", "exp_avg_sq")}
            self.optimizer.state[p] = {"step": torch.tensor(float(step), device=p.device), **state}
        self.step = step

    def _buffers(self) -> dict[str, Tensor]:
        """The buffers that the model's state_dict holds: others can be computed anew."""
        kept = self._plain.state_dict(keep_vars=True)
        return {name: buffer for name, buffer in self._plain.named_buffers() if name in kept}


class Players:
    """A GAN in training: two trainers of one configuration that step in turn, the discriminator first.

    To checkpoints it is one trainer: both lie in one file, so that a kill between two files cannot part them.
    """

    def __init__(self, gan: nn.Module, config: TrainingConfig) -> None:
        self.model, self.config = gan, config
        networks = {name: gan.get_submodule(name) for name in ("generator", "discriminator")}
        self._trainers = {name: Trainer(network, config) for name, network in networks.items()}

    @property
    def step(self) -> int:
        """The number of steps that both have done."""
        return self._trainers["generator"].step

    @property
    def ema(self) -> dict[str, Tensor]:
        """The averaged weights, under their names in the GAN."""
        return {f"{who}.{name}": p for who, one in self._trainers.items() for name, p in one.ema.items()}

    def train(self, draw: Draw, losses: tuple[Loss, Loss]) -> Iterator[TrainingStep]:
        """Take the steps that are left, one of each player at a `next`; what is reported is the generator's.

        Both players get the tensors of one draw. Args: the losses of the generator and of the discriminator.
        Raises: as `Trainer.train` does; after an error of the generator the discriminator is a step ahead.
        """
        of_generator, of_discriminator = losses
        while self.step < self.config.steps:
            self._trainers["discriminator"].take(draw, of_discriminator)
            yield self._trainers["generator"].take(draw, of_generator)

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint holds, of both."""
        return {f"{who}.{name}": x for who, one in self._trainers.items() for name, x in one.tensors().items()}

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Take up a run where its checkpoint left it; `tensors` as `tensors()` gave them."""
        for who, one in self._trainers.items():
            mine = {name.removeprefix(f"{who}."): x for name, x in tensors.items() if name.startswith(f"{who}.")}
            one.restore(mine, step)


def fit(model: nn.Module, draw: Draw, loss: Loss, config: TrainingConfig) -> Tensor:
    """Train a model whole, behind a bar, and leave it with its averaged weights, frozen; return each step's loss.

    For what is trained on a page in seconds; a run that may be interrupted is a `Trainer` with checkpoints.
    Returns: (steps,) float64. Raises: as `Trainer` does.
    """
    trainer = Trainer(model, config)
    steps = tqdm(trainer.train(draw, loss), total=config.steps, leave=False, unit="step")
    losses = torch.tensor([step.loss for step in steps], dtype=torch.float64, device="cpu")
    unwrapped(model).load_state_dict(trainer.ema, strict=False)
    model.requires_grad_(False)
    return losses


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network inside torch.compile, DataParallel and DistributedDataParallel, in any order."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # what torch.compile calls it
            model = inner
        else:
            return model


def share_of(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor drawn for all of them, (B, ...) -> (B / processes, ...).

    Raises: ValueError for a batch that does not divide by the number of processes.
    """
    if not dist.is_initialized():
        return tensor
    world = dist.get_world_size()
    if len(tensor) % world:
        raise ValueError(f"batch: expected a multiple of the {world} processes, got {len(tensor)}")
    return tensor.chunk(world)[dist.get_rank()]


def global_mean(value: Tensor) -> float:
    """Return the mean over all processes of one number."""
    if dist.is_initialized():
        dist.all_reduce(value)
        value = value / dist.get_world_size()
    return float(value)
