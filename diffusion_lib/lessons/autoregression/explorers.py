"""Explorers of lesson 01: the guessing game, the stationarity pad, a chain observed, what may move, a digit drawn."""

import math
from functools import cache

import torch
from torch import Tensor, nn

from diffusion_lib.lessons.autoregression import figures, series, tables, told
from diffusion_lib.models.autoregressive import Autoregressive, GRUConfig, TransformerConfig
from diffusion_lib.noise import seeded
from diffusion_lib.teaching.explorer import Control, Explorer, explorer

PLACES = {"the 13th": 12, "the 29th": 28, "the 36th": 35, "the 45th": 44, "the 52nd": 51}


@explorer
def game() -> Explorer:
    """Guess the next pixel of a digit and pay in bits: the most on your guess, half as much a level further."""
    _, test = tables.levels()
    digit = test[5]

    def show(guess, pixel):
        place = PLACES[pixel]
        if guess < 0:
            sentence = f"{pixel.capitalize()} pixel is covered: make your guess."
            return figures.game(digit.numpy(), place, None), f"{sentence} Knowing nothing costs 4.09."
        weights = torch.tensor([0.5 ** abs(level - guess) for level in range(17)])
        odds, truth = weights / weights.sum(), int(digit[place])
        paid = -math.log2(odds[truth])
        sentence = f"Your guess for {pixel} pixel is {guess}, it is {truth}: you pay {paid:.2f} bits."
        return figures.game(digit.numpy(), place, odds.numpy()), f"{sentence} Knowing nothing costs 4.09."

    controls = [
        Control("guess", "your guess (-1: none yet)", range(-1, 17), -1, form="level {}"),
        Control("pixel", "which pixel", tuple(PLACES), "the 36th"),
    ]
    return Explorer(show, controls)


@explorer
def pad() -> Explorer:
    """A point (phi1, phi2) in the triangle of stationary AR(2), and the series that it makes from the same noise."""

    def show(phi1, phi2):
        phi = torch.tensor([phi1, phi2], dtype=torch.float64)
        largest = float(torch.linalg.eigvals(series.companion(phi)).abs().max())
        made = series.simulate(series.AR(0.0, phi, 1.0), 120, seeded(4))
        word = "stationary" if largest < 1 - 1e-9 else "not stationary"
        sentence = f"phi = ({phi1:g}, {phi2:g}): the largest root has modulus {largest:.3f}, so the series is {word}."
        return figures.pad((phi1, phi2), made.numpy(), word == "stationary"), sentence

    controls = [
        Control("phi1", "phi1", (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.3, 1.6), 1.3, form="{:g}"),
        Control("phi2", "phi2", (-1.1, -0.65, -0.3, 0.0, 0.4), -0.65, form="{:g}"),
    ]
    return Explorer(show, controls)


BANDS = {"not observed": None, "near -1": -1.0, "near 0": 0.0, "near 1": 1.0}


@explorer
def chain() -> Explorer:
    """A - B - C, each 0.8 times the one before plus noise; A against C, with B observed or not."""
    generator = seeded(6)
    a, first, second = torch.randn(3, 4000, generator=generator, dtype=torch.float64)
    b = 0.8 * a + 0.6 * first
    c = 0.8 * b + 0.6 * second

    def show(observed):
        value = BANDS[observed]
        kept = torch.ones_like(a, dtype=torch.bool) if value is None else (b - value).abs() < 0.1
        correlation = float(torch.corrcoef(torch.stack([a[kept], c[kept]]))[0, 1])
        sentence = f"B {observed}: {int(kept.sum())} draws, in which A and C have the correlation {correlation:+.2f}."
        return figures.chain(a.numpy(), c.numpy(), kept.numpy(), correlation), sentence

    return Explorer(show, [Control("observed", "B", tuple(BANDS))])


class Unmasked(nn.Module):
    """A Transformer whose attention looks everywhere: PyTorch's encoder layers without a mask."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, batch_first=True, norm_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the answers, (B, n, width) -> (B, n, width)."""
        answers: Tensor = self.layer(x)
        return answers


@cache
def networks() -> dict[str, Autoregressive]:
    """Return untrained networks by name: what may move is a matter of their wiring, not of their weights."""
    found = {"GRU": Autoregressive(GRUConfig(), 1), "Transformer": Autoregressive(TransformerConfig(), 1)}
    open_one = Autoregressive(TransformerConfig(), 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        open_one.core = Unmasked(32, 4).float()
    return found | {"Transformer without its mask": open_one.eval()}


@explorer
def mask() -> Explorer:
    """Change one of 64 symbols, and see which of 64 predictions move."""
    train, _ = tables.levels()
    x = train[:1]

    @torch.no_grad()
    def show(place, network):
        model, other = networks()[network], x.clone()
        other[0, place - 1] = (x[0, place - 1] + 8) % 17
        changes = (model(other) - model(x)).abs().amax(-1)[0]  # (64,)
        before = int((changes[:place] > 1e-5).sum())
        after = int((changes[place:] > 1e-5).sum())
        sentence = (
            f"{network}: symbol {place} is changed; {before} predictions up to its own move, and {after} after it."
        )
        return figures.moved(torch.where(changes > 1e-5, changes, 0.0).numpy(), place - 1), sentence

    controls = [
        Control("place", "symbol that is changed", (1, 5, 12, 20, 28, 36, 44, 52, 60, 63), 28, form="number {}"),
        Control("network", "network", tuple(networks())),
    ]
    return Explorer(show, controls)


@explorer
def drawing() -> Explorer:
    """A digit drawn pixel by pixel: by a table given the pixel on the left, and by the Transformer, told the label."""
    train, _ = tables.levels()
    given_left = tables.given_neighbour(train, 1)

    def show(pixels, digit):
        network, table = told.drawn(digit), tables.draw_chain(given_left, 1, seeded(10 + digit))
        ink = [int((x[:pixels] >= 8).sum()) for x in (table, network)]
        sentence = (
            f"After {pixels} of 64 pixels of a {digit}: {ink[0]} dark ones from the table, {ink[1]} from the network."
        )
        return figures.drawing(table.numpy(), network.numpy(), pixels), sentence

    controls = [
        Control(
            "pixels", "pixels drawn", (1, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64), 36, form="{}"
        ),
        Control("digit", "label", (0, 1, 4, 5, 6, 8), 4, form="{}"),
    ]
    return Explorer(show, controls)
