"""A normalizing flow of affine couplings: an invertible map to normal noise, so that densities are exact."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffusion_lib.arguments import require_count, require_generator, require_points, require_positive
from diffusion_lib.models.layers import fresh_weights, mlp


@dataclass(frozen=True)
class FlowConfig:
    """A flow on `dimensions` real numbers: `couplings` maps, each moved by a tanh network of two layers of `width`.

    Tanh, since a network whose output grows without bound now and then gives one point a density near 0.
    Raises: TypeError, ValueError, at once; a coupling needs two dimensions.
    """

    dimensions: int = 2
    couplings: int = 6
    width: int = 32
    limit: float = 2.0  # the largest log of a scale, either way

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimensions", require_count("dimensions", self.dimensions, 2))
        for name in ("couplings", "width"):
            object.__setattr__(self, name, require_count(name, getattr(self, name)))
        require_positive("limit", self.limit)


class Coupling(nn.Module):
    """An affine coupling (Dinh et al. 2017, eq. 4 and 5): one half stays, and says how the other is scaled and moved.

    y_kept = x_kept, y_moved = x_moved exp(s(x_kept)) + m(x_kept), with s = limit tanh(raw / limit).
    """

    def __init__(self, dimensions: int, first: bool, width: int, limit: float) -> None:
        super().__init__()
        half = dimensions // 2
        low, high = slice(0, half), slice(half, dimensions)
        self.kept, self.moved = (low, high) if first else (high, low)
        kept = half if first else dimensions - half
        self.limit = limit
        self.net = mlp([kept, width, width, 2 * (dimensions - kept)], "tanh")

    def _scale(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.net(kept).chunk(2, dim=1)
        return self.limit * torch.tanh(raw / self.limit), shift

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (B, D) and log |det dy/dx| (B,), the sum of s."""
        scale, shift = self._scale(x[:, self.kept])
        y = x.clone()
        y[:, self.moved] = x[:, self.moved] * scale.exp() + shift
        return y, scale.sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """Return x (B, D) with forward(x)[0] = y."""
        scale, shift = self._scale(y[:, self.kept])
        x = y.clone()
        x[:, self.moved] = (y[:, self.moved] - shift) * (-scale).exp()
        return x


class Flow(nn.Module):
    """A density over points, log p(x) = log N(f(x); 0, I) + log |det df/dx| (Rezende and Mohamed 2015, eq. 5 and 7).

    f is a chain of couplings that keep the first and the second half in turn. Weights are float32, drawn from `seed`.
    """

    def __init__(self, config: FlowConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        sizes = (config.width, config.limit)
        with fresh_weights(seed):
            maps = [Coupling(config.dimensions, k % 2 == 0, *sizes) for k in range(config.couplings)]
        self.couplings = nn.ModuleList(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, (B, D) -> (B,). Raises: TypeError, ValueError."""
        z, log_det = self.transform(x)
        return log_det - 0.5 * (z.square().sum(1) + self.config.dimensions * math.log(2 * math.pi))

    def transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z = f(x) (B, D) and log |det dz/dx| (B,). Raises: TypeError, ValueError."""
        z, log_det = require_points("x", x, self.config.dimensions), torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for coupling in self.couplings:
            z, change = coupling(z)
            log_det = log_det + change
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Return x with f(x) = z, (B, D) -> (B, D). Raises: TypeError, ValueError."""
        x = require_points("z", z, self.config.dimensions)
        for k in reversed(range(self.config.couplings)):
            x = self.couplings[k].inverse(x)  # type: ignore[operator]  # a Coupling; ModuleList knows modules only
        return x

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, as `forward` does, (B, D) -> (B,). Raises: TypeError, ValueError."""
        log_p: Tensor = self(x)
        return log_p

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return f^-1 of normal noise, (n, D), float32, drawn on the CPU. Raises: TypeError, ValueError."""
        shape = (require_count("n", n), self.config.dimensions)
        noise = torch.randn(shape, generator=require_generator(generator), dtype=torch.float32, device="cpu")
        return self.inverse(noise.to(next(self.parameters()).device))
