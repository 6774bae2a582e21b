"""Tables of the digits' 17 grey levels: histograms of pixels, alone and given a neighbour."""

import torch
from torch import Tensor

from diffusion_lib import data

LEVELS = 17


def levels() -> tuple[Tensor, Tensor]:
    """Return the training and the test digits as sequences of 64 levels: (1437, 64), (360, 64)."""
    found = data.digits()
    return data.to_levels(found.train), data.to_levels(found.test)


def histograms(x: Tensor, add: float = 0.3) -> Tensor:
    """Return p(level) of each place, (D, 17), from sequences (N, D); `add` is added to every count."""
    counts = torch.stack([torch.bincount(column, minlength=LEVELS) for column in x.T]).double() + add
    return counts / counts.sum(1, keepdim=True)


def given_neighbour(x: Tensor, back: int, strength: float = 30.0) -> Tensor:
    """Return p(level | level of the pixel `back` places before) of each place, (D, 17, 17), rows for the neighbour.

    Where a neighbour's level is rare, the pixel's own histogram stands in: it counts as `strength` examples. The first
    `back` places have no neighbour: every row is their histogram.
    """
    alone = histograms(x)
    tables = alone[:, None].expand(-1, LEVELS, -1).clone()  # (D, 17, 17)
    for i in range(back, x.shape[1]):
        counts = torch.zeros(LEVELS, LEVELS, dtype=torch.float64)
        counts.index_put_((x[:, i - back], x[:, i]), counts.new_ones(len(x)), accumulate=True)
        counts = counts + strength * alone[i]
        tables[i] = counts / counts.sum(1, keepdim=True)
    return tables


def chain_bits(tables: Tensor, x: Tensor, back: int) -> Tensor:
    """Return -log2 p of each pixel given the one `back` places before, (N, D)."""
    places = torch.arange(x.shape[1])
    neighbour = torch.cat([x.new_zeros(len(x), back), x[:, :-back]], 1)
    return -tables[places, neighbour, x].log2()


def draw_chain(tables: Tensor, back: int, generator: torch.Generator) -> Tensor:
    """Return one sequence (D,) drawn pixel after pixel from tables given a neighbour."""
    x = torch.zeros(len(tables), dtype=torch.int64)
    for i in range(len(tables)):
        row = tables[i, x[i - back] if i >= back else 0]
        x[i] = torch.multinomial(row, 1, generator=generator)[0]
    return x
