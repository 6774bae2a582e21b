"""The figure of lesson 00: one paper's formulas, and its letters' numbers at one time."""

from collections.abc import Mapping
from functools import lru_cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from diffusion_lib.lessons.start_here.formulas import FORMULAS, MEANINGS
from diffusion_lib.teaching.style import DATA, DPI, FONT, INK

LEFT, MIDDLE, RIGHT = 0.015, 0.34, 0.985
POINTS = 72  # to the inch


def convention(name: str, paper: str, meaning: str, t: int, numbers: Mapping[str, float], snr: float) -> Figure:
    """Draw the seven formulas of FORMULAS[name], and below them the `numbers` (by LaTeX name) of its letters at time t.

    `meaning` says what the paper tabulates; `snr` is the signal-to-noise ratio that all papers agree on.
    """
    figure = Figure(figsize=(7.6, 6.0), dpi=DPI)
    _write(figure, LEFT, 0.96, name, size=FONT + 4, bold=True)
    _write(figure, RIGHT, 0.96, paper, size=FONT - 1)
    for row, (key, words) in enumerate(MEANINGS.items()):
        _write(figure, LEFT, 0.88 - 0.105 * row, words)
        _formula(figure, MIDDLE, 0.88 - 0.105 * row, FORMULAS[name][key].replace("frac", "dfrac"), INK)
    _write(figure, LEFT, 0.155, "the paper tabulates")
    _write(figure, MIDDLE, 0.155, meaning)
    _write(figure, LEFT, 0.095, f"its letters at t = {t}", color=DATA, bold=True)
    place = MIDDLE
    for letter, value in numbers.items():
        place = _formula(figure, place, 0.095, letter, DATA)
        _write(figure, place, 0.095, f" = {value:.4g}", size=FONT + 1, color=DATA)
        place += 0.14
    _write(figure, LEFT, 0.035, "in every paper")
    _write(figure, _formula(figure, MIDDLE, 0.035, r"\mathrm{SNR}_t", INK), 0.035, f" = {snr:.4g}", size=FONT + 1)
    return figure


def _write(
    figure: Figure, x: float, y: float, words: str, size: int = FONT, color: str = INK, bold: bool = False
) -> None:
    side, weight = "right" if x == RIGHT else "left", "bold" if bold else "normal"
    figure.text(x, y, words, fontsize=size, color=color, weight=weight, ha=side, va="center")


def _formula(figure: Figure, x: float, y: float, latex: str, color: str) -> float:
    """Draw a formula from x on, its middle at y, and return where it ends; all are fractions of the figure."""
    outline, length = _outline(latex)
    width, height = figure.get_size_inches()
    place = Affine2D().translate(x * width, y * height) + figure.dpi_scale_trans
    figure.add_artist(PathPatch(outline, color=color, linewidth=0, transform=place))
    return x + length / width


@lru_cache
def _outline(latex: str) -> tuple[Path, float]:
    """Return a formula's outline and its length, both in inches, from x = 0 on and with its middle at y = 0.

    It is kept, because reading LaTeX is slow, and a figure's own texts are read anew in every frame of an explorer.
    """
    written = TextPath((0, 0), f"${latex}$", size=FONT + 4, prop=FontProperties(math_fontfamily="cm"))
    ink = written.get_extents()
    to_inches = Affine2D().translate(-ink.x0, -(ink.y0 + ink.y1) / 2).scale(1 / POINTS)
    return written.transformed(to_inches), ink.width / POINTS
