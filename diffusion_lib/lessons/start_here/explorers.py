"""The convention explorer: the same formulas in the letters of one paper after another."""

from diffusion_lib.notation import CONVENTIONS, amplitudes
from diffusion_lib.schedules import linear
from diffusion_lib.teaching.figures.notation import convention
from diffusion_lib.teaching.widgets.explorer import Control, Explorer


def plain(latex: str) -> str:
    r"""Return a letter's LaTeX name as words: \bar\alpha_t as bar alpha_t."""
    return latex.replace("\\bar", "bar ").replace("\\", "")


def convention_explorer() -> Explorer:
    """Show how one paper writes seven formulas, and its letters' numbers on DDPM's linear schedule (lesson 00).

    Controls: the paper's convention and the time.
    """
    table = amplitudes(linear())
    letters = {name: {latex: at(table) for latex, at in c.letters.items()} for name, c in CONVENTIONS.items()}
    scales = {name: c.state_scale(table) for name, c in CONVENTIONS.items()}
    snr = (table.signal / table.noise) ** 2

    def numbers(paper: str, t: int) -> dict[str, float]:
        return {latex: float(values[t]) for latex, values in letters[paper].items()}

    def draw(t: int, paper: str):
        c, shown = CONVENTIONS[paper], numbers(paper, t)
        if c.state != "x_t":
            shown[f"{c.state} / x_t"] = float(scales[paper][t])
        return convention(paper, c.paper, c.meaning, t, shown, float(snr[t]))

    def describe(t: int, paper: str) -> str:
        words = ", ".join(f"{plain(latex)} = {value:.4g}" for latex, value in numbers(paper, t).items())
        return (
            f"{paper} at t = {t}: {words}; its picture is {scales[paper][t]:.4g} times DDPM's, "
            f"and the signal-to-noise ratio is {snr[t]:.4g}, as in every paper."
        )

    times = (1, 10, 100, 250, 500, 750, 1000)
    controls = [Control("t", "time t", times, 500, "t = {}"), Control("paper", "paper", tuple(CONVENTIONS))]
    return Explorer(draw, describe, controls)
