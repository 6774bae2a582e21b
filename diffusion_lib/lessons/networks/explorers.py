"""Explorers of lesson 02: the worked network, its target, a descent, the noise of batches, schedules."""

import numpy as np
import torch

from diffusion_lib.lessons.networks import figures, nets
from diffusion_lib.noise import seeded
from diffusion_lib.teaching.explorer import Control, Explorer, explorer

NUMBERS = {
    "w11 (0.5)": "w11", "w12 (-0.5)": "w12", "b11 (0.1)": "b11", "w21 (0.3)": "w21", "w22 (0.8)": "w22",
    "b12 (-0.2)": "b12", "w31 (0.2)": "w31", "w32 (-0.4)": "w32", "b2 (0.5)": "b2",
}  # fmt: skip


@explorer
def worked() -> Explorer:
    """The worked network: choose one of its nine numbers, add something to it, and watch the loss."""

    def show(add, number):
        name = NUMBERS[number]
        theta = {**nets.WORKED, name: nets.WORKED[name] + add}
        found = nets.forward(theta)
        values = {
            "x1": "1",
            "x2": "2",
            "h1": f"{found.a[0]:.2f}",
            "h2": f"{found.a[1]:.2f}",
            "out": f"{found.output:.2f}",
        }
        sentence = f"{name} = {theta[name]:.2f}: the output is {found.output:.3f}, the loss {found.loss:.3f}."
        return figures.worked(theta, values, name, found.loss), sentence

    steps = (-1.0, -0.8, -0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    controls = [
        Control("add", "what is added to it", steps, 0.0, form="{:+.1f}"),
        Control("number", "the number", tuple(NUMBERS), "w32 (-0.4)"),
    ]
    return Explorer(show, controls)


@explorer
def target() -> Explorer:
    """The half squared error of the output -0.18, as the target moves."""

    def show(target):
        output = nets.forward(nets.WORKED).output
        loss = 0.5 * (output - target) ** 2
        sentence = (
            f"Target {target:g}: the output {output:.2f} has the loss {loss:.3f} and the slope {output - target:+.2f}."
        )
        return figures.parabola(target, output), sentence

    return Explorer(show, [Control("target", "target", (-1.5, -1.0, -0.5, -0.18, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5), 1.0)])


CURVATURE = 12.0


def path(lr: float, momentum: float, steps: int = 20) -> torch.Tensor:
    """Return the points (steps + 1, 2) of a descent from (-3, 1.2) in the valley 1/2 (x^2 + 12 y^2)."""
    point = torch.tensor([-3.0, 1.2], dtype=torch.float64)
    velocity, walked = torch.zeros(2, dtype=torch.float64), [point]
    for _ in range(steps):
        velocity = momentum * velocity + point * torch.tensor([1.0, CURVATURE], dtype=torch.float64)
        point = point - lr * velocity
        walked.append(point)
    return torch.stack(walked)


@explorer
def descent() -> Explorer:
    """Twenty gradient steps in a curved valley, by learning rate, with and without momentum."""

    def show(lr, method):
        walked = path(lr, 0.8 if method == "momentum 0.8" else 0.0)
        x, y = walked[-1].tolist()
        loss = 0.5 * (x**2 + CURVATURE * y**2)
        size = f"{loss:.2g}" if loss < 1e3 else "over 1,000"
        return (
            figures.valley(walked.clamp(-9, 9).numpy(), CURVATURE),
            f"Learning rate {lr:g}, {method}: from a loss of 13.1 to {size} in 20 steps.",
        )

    controls = [
        Control("lr", "learning rate", (0.01, 0.03, 0.06, 0.1, 0.13, 0.16, 0.17), 0.06),
        Control("method", "step", ("plain gradient", "momentum 0.8")),
    ]
    return Explorer(show, controls)


@explorer
def noise() -> Explorer:
    """Gradients of 150 batches of one size, around the gradient of all digits."""
    x, y = nets.regression()
    W = 0.05 * torch.randn(65, 10, generator=seeded(1), dtype=torch.float64)
    error = (x @ W).softmax(1) - torch.nn.functional.one_hot(y, 10)
    whole = x.T @ error / len(x)  # (65, 10)
    along = whole / whole.norm()
    across = torch.randn(65, 10, generator=seeded(2), dtype=torch.float64)
    across = across - (across * along).sum() * along
    across = across / across.norm()
    each = torch.stack([((x @ u) * error).sum(1) for u in (along, across)], 1)  # (N, 2): x_i^T u error_i
    lengths = torch.einsum("nd,nd,nk,nk->n", x, x, error, error)  # squared length of each example's gradient
    spread = float((lengths.mean() - whole.square().sum()).sqrt())

    def show(batch):
        i = torch.randint(len(x), (150, batch), generator=seeded(batch))
        arrows = each[i].mean(1)  # (150, 2)
        drawn = figures.cloud(arrows.numpy(), np.array([float(whole.norm()), 0.0]))
        off = float((arrows - each.mean(0)).square().mean().sqrt())
        sentence = f"Batches of {batch}: in these two directions the gradients lie {off:.3f} from the full one (rms)"
        return drawn, f"{sentence}; over all 650 weights it is {spread / batch**0.5:.2f}."

    return Explorer(show, [Control("batch", "batch size", (1, 2, 4, 8, 16, 32, 64, 128, 256, 512), 16, form="B = {}")])


@explorer
def schedules() -> Explorer:
    """The learning rate along 1,000 steps of softmax regression, and the loss above its optimum, by schedule."""

    def show(schedule, lr):
        rates, excess = [], []
        for k, (rate, W) in enumerate(nets.descend(schedule, lr)):
            rates.append(rate)
            if k % 20 == 19:
                excess.append(float(nets.regression_loss(W)) - nets.optimum())
        sentence = f"{schedule.capitalize()}, largest rate {lr:g}: after 1,000 steps the loss is {excess[-1]:.2g} above"
        return figures.schedule(np.array(rates), np.array(excess), 20), f"{sentence} its optimum."

    controls = [
        Control("schedule", "schedule", (*nets.SCHEDULES, "plateau"), "cosine"),
        Control("lr", "largest rate", (0.2, 0.02), 0.2),
    ]
    return Explorer(show, controls)
