"""Figures of lesson 02: arrays in, figures out."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from diffusion_lib.teaching.style import (
    DATA,
    EXTRA,
    FONT,
    GREY,
    INK,
    MODEL,
    NOISE,
    POSTERIOR,
    SKY,
    Figure,
    described,
    label,
    legend,
    new_figure,
    show_image,
)

NODES = {"x1": (0, 1), "x2": (0, 0), "h1": (1.4, 1), "h2": (1.4, 0), "out": (2.8, 0.5)}
EDGES = {
    "w11": ("x1", "h1", 0.3), "w12": ("x2", "h1", 0.28), "w21": ("x1", "h2", 0.28), "w22": ("x2", "h2", 0.3),
    "w31": ("h1", "out", 0.45), "w32": ("h2", "out", 0.45),
}  # fmt: skip
BIASES = {"b11": "h1", "b12": "h2", "b2": "out"}


def worked(theta: Mapping[str, float], values: Mapping[str, str], moved: str, loss: float) -> Figure:
    """Draw the worked network: numbers on its edges, what each unit says in it, the moved number framed, the loss."""
    figure, (axes, gauge) = new_figure(6.4, 2.7, columns=2)
    gauge.set_box_aspect(2.6)
    for name, (start, stop, at) in EDGES.items():
        (x0, y0), (x1, y1) = NODES[start], NODES[stop]
        axes.plot(
            [x0, x1], [y0, y1], color=NOISE if name == moved else GREY, linewidth=2 if name == moved else 1, zorder=1
        )
        _number(axes, x0 + at * (x1 - x0), y0 + at * (y1 - y0), theta[name], name == moved)
    for name, node in BIASES.items():
        x, y = NODES[node]
        _number(axes, x, y + 0.3, theta[name], name == moved, "+")
    for name, (x, y) in NODES.items():
        axes.text(
            x, y, values[name], ha="center", va="center", fontsize=FONT, color=INK,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": "#cfe8df", "edgecolor": MODEL},
        )  # fmt: skip
    axes.set(xlim=(-0.35, 3.2), ylim=(-0.35, 1.5))
    axes.axis("off")
    gauge.bar([0], [min(loss, 2.0)], color=DATA, width=0.6)
    label(gauge, "", "loss", f"{loss:.3f}")
    gauge.set(xlim=(-0.6, 0.6), ylim=(0, 2), xticks=[])
    return figure


def _number(axes: Axes, x: float, y: float, value: float, moved: bool, sign: str = "") -> None:
    text = f"{sign}{value:.2g}" if value >= 0 else f"{value:.2g}"
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": NOISE if moved else "white"}
    axes.text(
        x, y, text, ha="center", va="center", fontsize=FONT - 1, color=NOISE if moved else INK, bbox=box, zorder=2
    )


def parabola(target: float, output: float) -> Figure:
    """Draw the half squared error along the output, with the tangent at one output."""
    figure, (axes,) = new_figure(4.8, 2.6)
    line = np.linspace(-2, 3, 201)
    loss, slope = 0.5 * (output - target) ** 2, output - target
    axes.plot(line, 0.5 * (line - target) ** 2, color=DATA, label="loss")
    near = np.array([output - 0.7, output + 0.7])
    axes.plot(near, loss + slope * (near - output), color=NOISE, linewidth=2, label="its slope here")
    axes.plot([output], [loss], "o", color=INK)
    label(axes, "output of the network", "loss")
    axes.set(xlim=(-2, 3), ylim=(-0.6, 4))
    legend(axes, "upper center")
    return figure


def differences(h: np.ndarray, error32: np.ndarray, error64: np.ndarray) -> Figure:
    """Draw the relative error of a central difference against its width h, in two number formats."""
    figure, (axes,) = new_figure(5.2, 2.7)
    axes.loglog(h, error32, "o-", color=NOISE, markersize=4, label="float32")
    axes.loglog(h, error64, "o-", color=DATA, markersize=4, label="float64")
    label(axes, "width h of the nudge", "relative error")
    legend(axes, "upper right")
    best = [(name, h[np.argmin(e)], e.min()) for name, e in (("float32", error32), ("float64", error64))]
    told = "; ".join(f"in {name} it is least near h = {at:.0e}, {least:.0e}" for name, at, least in best)
    return described(
        figure, f"Relative error of a central difference over h from {h.min():.0e} to {h.max():.0e}: {told}."
    )


def valley(path: np.ndarray, curvature: float) -> Figure:
    """Draw the steps (n, 2) of a descent in a valley of two curvatures, 1 and `curvature`."""
    figure, (axes,) = new_figure(4.8, 2.8)
    x, y = np.meshgrid(np.linspace(-3.4, 3.4, 120), np.linspace(-1.7, 1.7, 80))
    axes.contour(
        x,
        y,
        0.5 * (x**2 + curvature * y**2),
        levels=np.array([0.05, 0.4, 1.5, 4, 9, 16]),
        colors="#bbbbbb",
        linewidths=0.8,
    )
    axes.plot(*path.T, "o-", color=MODEL, markersize=3, linewidth=1.2)
    axes.plot(0, 0, "*", color=NOISE, markersize=11)
    label(axes, "first weight", "second weight")
    axes.set(xlim=(-3.4, 3.4), ylim=(-1.7, 1.7))
    return figure


def cloud(arrows: np.ndarray, true: np.ndarray) -> Figure:
    """Draw gradients of many batches (n, 2) as points around the gradient of all examples (2,)."""
    figure, (axes,) = new_figure(4.0, 3.0)
    axes.scatter(*arrows.T, s=9, color=NOISE, linewidths=0, alpha=0.6)
    axes.annotate("", true, (0, 0), arrowprops={"arrowstyle": "->", "color": DATA, "linewidth": 2.5})
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.axvline(0, color=GREY, linewidth=0.6)
    label(axes, "along the full gradient", "across it")
    axes.set(xlim=(-0.9, 2.9), ylim=(-1.3, 1.3))
    return figure


def slope(sizes: np.ndarray, rms: np.ndarray, fitted: float) -> Figure:
    """Draw the noise of batch gradients against the batch size, both in logarithms, with the fitted slope."""
    figure, (axes,) = new_figure(4.8, 2.7)
    axes.loglog(sizes, rms, "o", color=NOISE, label="measured")
    axes.loglog(sizes, rms[0] * (sizes / sizes[0]) ** fitted, color=MODEL, label=f"slope {fitted:.2f}")
    label(axes, "batch size B", "rms distance from the full gradient")
    legend(axes, "upper right")
    return described(
        figure,
        f"The distance of a batch's gradient from the full one falls from {rms[0]:.2g} at B = {sizes[0]:.0f} to "
        f"{rms[-1]:.2g} at B = {sizes[-1]:.0f}, along a slope of {fitted:.2f}.",
    )


def schedule(rates: np.ndarray, excess: np.ndarray, every: int) -> Figure:
    """Draw the learning rate of each step, and how far the loss is above its least value."""
    figure, (left, right) = new_figure(6.2, 2.6, columns=2)
    steps = np.arange(len(rates))
    left.plot(steps, rates, color=MODEL)
    label(left, "step", "learning rate")
    left.set(ylim=(0, 1.08 * max(0.21 if rates.max() > 0.03 else 0.021, rates.max())))
    right.semilogy(every * np.arange(1, len(excess) + 1), excess, color=DATA)
    label(right, "step", "loss above the optimum")
    right.set(ylim=(1e-3, 3))
    return figure


def every_schedule(shares: Mapping[str, np.ndarray]) -> Figure:
    """Draw the share of the largest rate along the training, one line a schedule."""
    figure, (axes,) = new_figure(6.0, 2.7)
    colours = (GREY, NOISE, EXTRA, MODEL, DATA, POSTERIOR, SKY)
    for (name, share), colour in zip(shares.items(), colours, strict=False):
        line = "--" if name.startswith("warm-up") else "-"
        axes.plot(np.linspace(0, 1, len(share)), share, line, color=colour, label=name, linewidth=1.8)
    label(axes, "share of the training", "share of the largest rate")
    axes.legend(fontsize=FONT - 1, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    half = ", ".join(f"{name} {share[len(share) // 2]:.2g}" for name, share in shares.items())
    return described(figure, f"Schedules of the learning rate; after half of the training the shares are: {half}.")


def shuffled(images: np.ndarray, scrambled: np.ndarray, accuracy: tuple[float, float]) -> Figure:
    """Draw digits (n, 64) and the same digits with one shuffle of their pixels."""
    n = len(images)
    figure, axes = new_figure(1.1 * n, 2.5, columns=n, rows=2)
    for k in range(n):
        show_image(axes[k], -images[k].reshape(8, 8))
        show_image(axes[n + k], -scrambled[k].reshape(8, 8))
    axes[0].set_ylabel("digit", fontsize=FONT)
    axes[n].set_ylabel("shuffled", fontsize=FONT)
    both = all(value >= 0.88 for value in accuracy) and abs(accuracy[0] - accuracy[1]) < 0.03
    word = "within 3 points of each other, both above 88 %" if both else "apart"
    return described(
        figure, f"Digits, {n} of them, and the same with one shuffle of their 64 pixels: test accuracies {word}."
    )


def averages(steps: np.ndarray, last: np.ndarray, mean: np.ndarray) -> Figure:
    """Draw the loss of the latest weights and of their moving average against the step."""
    figure, (axes,) = new_figure(5.2, 2.6)
    axes.semilogy(steps, last, color=NOISE, linewidth=1, label="latest weights")
    axes.semilogy(steps, mean, color=MODEL, linewidth=2, label="their average")
    label(axes, "step", "loss above the optimum")
    legend(axes, "upper right")
    return described(
        figure,
        f"At step {steps[-1]:.0f} the latest weights are {last[-1]:.1g} above the optimum, their mean {mean[-1]:.1g}.",
    )
