"""Lesson 00's explorer: the same formulas in the letters of one paper after another."""

from diffusion_lib.lessons.start_here import figures
from diffusion_lib.notation import CONVENTIONS, amplitudes
from diffusion_lib.schedules import linear
from diffusion_lib.teaching.explorer import Control, Explorer, explorer


def plain(latex: str) -> str:
    r"""Return a letter's LaTeX name as words: \bar\alpha_t as bar alpha_t."""
    return latex.replace("\\bar", "bar ").replace("\\", "")


@explorer
def convention() -> Explorer:
    """Show how one paper writes seven formulas, and its letters' numbers on DDPM's linear schedule.

    Controls: the time and the paper's convention.
    """
    table = amplitudes(linear())
    letters = {name: {latex: at(table) for latex, at in c.letters.items()} for name, c in CONVENTIONS.items()}
    scales = {name: c.state_scale(table) for name, c in CONVENTIONS.items()}
    snr = (table.signal / table.noise) ** 2

    def show(t, paper):
        c = CONVENTIONS[paper]
        numbers = {latex: float(values[t]) for latex, values in letters[paper].items()}
        words = ", ".join(f"{plain(latex)} = {value:.4g}" for latex, value in numbers.items())
        if c.state != "x_t":
            numbers[f"{c.state} / x_t"] = float(scales[paper][t])
        return figures.convention(paper, c.paper, c.meaning, t, numbers, float(snr[t])), (
            f"{paper} at t = {t}: {words}; its image is {scales[paper][t]:.4g} times DDPM's, "
            f"and the signal-to-noise ratio is {snr[t]:.4g}, as in every paper."
        )

    times = (1, 10, 100, 250, 500, 750, 1000)
    controls = [Control("t", "time t", times, 500, "t = {}"), Control("paper", "paper", tuple(CONVENTIONS))]
    return Explorer(show, controls)
