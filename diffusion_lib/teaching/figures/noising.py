"""The noising explorer's picture: x_t, and beside it how much of it is signal and how much is noise."""

import numpy as np
from matplotlib.figure import Figure

from diffusion_lib.teaching.figures.style import DATA, FONT, GREY, NOISE, label, new_figure, show_image


def noising(x_t: np.ndarray, t: int, signal_rate: np.ndarray, noise_rate: np.ndarray) -> Figure:
    """Draw x_t (H, W) at time t beside both rates (T+1,) over all times, the present ones marked and written out."""
    figure, (picture, rates) = new_figure(5.6, 3.1, columns=2)
    show_image(picture, x_t, f"$x_t$ at t = {t}", limit=1.5)
    times = np.arange(len(signal_rate))
    for rate, colour in ((signal_rate, DATA), (noise_rate, NOISE)):
        rates.plot(times, rate, color=colour, linewidth=2)
        rates.plot(t, rate[t], "o", color=colour, markersize=8, clip_on=False)
    rates.axvline(t, color=GREY, linewidth=1)
    words = ((0.0, "left", DATA, f"signal {signal_rate[t]:.2f}"), (1.0, "right", NOISE, f"noise {noise_rate[t]:.2f}"))
    for x, side, colour, text in words:
        rates.text(x, 1.04, text, color=colour, fontsize=FONT + 1, weight="bold", ha=side, transform=rates.transAxes)
    label(rates, "time t")
    rates.set(xlim=(0, times[-1]), ylim=(0, 1), xticks=times[:: max(1, times[-1] // 2)], yticks=[0, 0.5, 1])
    return figure
