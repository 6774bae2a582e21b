"""Autoregressive models of sequences: a GRU or a causal Transformer predicts each symbol from those before it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from diffusion_lib.arguments import (
    integers,
    require_count,
    require_generator,
    require_labels,
    require_positive,
    require_symbols,
)
from diffusion_lib.losses import nll
from diffusion_lib.models.layers import fresh_weights


@dataclass(frozen=True)
class GRUConfig:
    """An autoregressive model with a gated recurrent unit: what it has read lies in one vector of `width` numbers.

    A sequence is an image read row by row: rows * columns symbols, each one of 0..levels-1.
    Raises: TypeError, ValueError, at once.
    """

    levels: int = 17
    rows: int = 8
    columns: int = 8
    classes: int = 0  # labels 0..classes-1, and `classes` itself for "no label"; 0: the model takes no labels
    width: int = 64
    spread: float = 0.3  # standard deviation of the embeddings' first values

    def __post_init__(self) -> None:
        _check(self, "levels", "rows", "columns", "width")

    def core(self) -> nn.Module:
        """Return a new network (B, n, width) -> (B, n, width) whose answer at i depends on inputs 0..i only."""
        return Recurrent(self.width)


@dataclass(frozen=True)
class TransformerConfig:
    """An autoregressive model with causal self-attention: every symbol looks at all those before it.

    Fields as in `GRUConfig`, and the number of blocks and of heads. Raises: TypeError, ValueError, at once.
    """

    levels: int = 17
    rows: int = 8
    columns: int = 8
    classes: int = 0
    width: int = 32
    spread: float = 0.1
    blocks: int = 2
    heads: int = 4

    def __post_init__(self) -> None:
        _check(self, "levels", "rows", "columns", "width", "blocks", "heads")
        if self.width % self.heads:
            raise ValueError(f"width: expected a multiple of {self.heads} heads, got {self.width}")

    def core(self) -> nn.Module:
        """Return a new network (B, n, width) -> (B, n, width) whose answer at i depends on inputs 0..i only."""
        blocks = [CausalBlock(self.width, self.heads) for _ in range(self.blocks)]
        return nn.Sequential(*blocks, nn.LayerNorm(self.width))


def _check(config: GRUConfig | TransformerConfig, *counts: str) -> None:
    for name in counts:
        object.__setattr__(config, name, require_count(name, getattr(config, name)))
    object.__setattr__(config, "classes", require_count("classes", config.classes, 0))
    require_positive("spread", config.spread)


class Recurrent(nn.Module):
    """A gated recurrent unit (Cho et al. 2014, eq. 5 to 8), PyTorch's, which answers at every position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the states, (B, n, width) -> (B, n, width)."""
        return self.gru(x)[0]


class CausalBlock(nn.Module):
    """A Transformer's block, norms first: attention to positions 0..i, then a network of one hidden layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return softmax(q k^T / sqrt(d)) v over positions 0..i, mixed and added to x, then the same for the network.

        Vaswani et al. 2017, eq. 1, with their mask (section 3.2.3). Shapes: (B, n, width) -> (B, n, width).
        """
        B, n, width = x.shape
        qkv = self.qkv(self.norm_in(x)).view(B, n, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, n, d) each
        told = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)  # (B, n, heads, d)
        x = x + self.mix(told.reshape(B, n, width))
        return x + self.mlp(self.norm_out(x))


class Autoregressive(nn.Module):
    """A density over sequences, p(x) = p(x_1) p(x_2 | x_1) ... p(x_n | x_1..x_{n-1}) (van den Oord et al. 2016, eq. 1).

    The network reads a start symbol, which is the label where there are labels, then x_1 ... x_{n-1}, and answers with
    the logits of x_1 ... x_n: it is shifted by one, so that no symbol is an input of its own prediction. Each input is
    the sum of three embeddings: of the symbol, and of the row and the column that it predicts.

    Weights are float32 and drawn from `seed` alone.
    """

    def __init__(self, config: GRUConfig | TransformerConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with fresh_weights(seed):
            self.symbol = nn.Embedding(config.levels + config.classes + 1, config.width)  # the last: "no label"
            self.row = nn.Embedding(config.rows, config.width)
            self.column = nn.Embedding(config.columns, config.width)
            for embedding in (self.symbol, self.row, self.column):
                nn.init.normal_(embedding.weight, std=config.spread)
            self.core = config.core()
            self.head = nn.Linear(config.width, config.levels)

    @property
    def no_label(self) -> int:
        """The label that says "no label": the one after the last class."""
        return self.config.classes

    def forward(self, x: Tensor, labels: Tensor | Sequence[int] | None = None) -> Tensor:
        """Return the logits of each symbol given those before it, (B, n, levels); the last symbol is not read.

        Args: x (B, n) integers in 0..levels-1, n up to rows * columns; labels integer (B,) in 0..classes, if and only
        if the model has classes. Raises: TypeError, ValueError.
        """
        symbols = require_symbols("x", x, self.config.levels, self.config.rows * self.config.columns)
        B, n = symbols.shape
        found = require_labels(labels, self.config.classes, B)
        start = torch.zeros(B, dtype=torch.int64, device=symbols.device) if found is None else found.to(symbols.device)
        read = torch.cat([start[:, None] + self.config.levels, symbols[:, :-1]], dim=1)  # (B, n)
        place = torch.arange(n, device=symbols.device)
        places = self.row(place // self.config.columns) + self.column(place % self.config.columns)  # (n, width)
        return self.head(self.core(self.symbol(read) + places))

    def log_prob(self, x: Tensor, labels: Tensor | Sequence[int] | None = None) -> Tensor:
        """Return log p(x), or log p(x | label), in nats: (B, rows * columns) -> (B,). Raises: TypeError, ValueError."""
        length = self.config.rows * self.config.columns
        if integers("x", x).ndim != 2 or x.shape[1] != length:
            raise ValueError(f"x: expected whole sequences (B, {length}), got shape {tuple(x.shape)}")
        return -nll(self(x, labels), x)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator,
        labels: Tensor | Sequence[int] | None = None,
        begin: Tensor | None = None,
    ) -> Tensor:
        """Draw n sequences symbol by symbol, each from its softmax; int64 (n, rows * columns), on the CPU.

        Args: labels as in `forward`; begin (n, k), the first symbols where they are given. Raises: TypeError,
        ValueError.
        """
        require_count("n", n)
        require_generator(generator)
        length, device = self.config.rows * self.config.columns, self.head.weight.device
        x = torch.zeros(n, length, dtype=torch.int64, device="cpu")
        first = 0
        if begin is not None:
            given = require_symbols("begin", begin, self.config.levels, length)
            if len(given) != n:
                raise ValueError(f"begin: expected {n} sequences, got {len(given)}")
            first = given.shape[1]
            x[:, :first] = given
        for i in range(first, length):
            logits = self(x[:, : i + 1].to(device), labels)[:, i]  # (n, levels)
            x[:, i] = torch.multinomial(logits.cpu().softmax(1), 1, generator=generator)[:, 0]
        return x
