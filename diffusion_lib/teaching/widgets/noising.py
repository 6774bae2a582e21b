"""The noising explorer: one picture, one noise, and the slider that mixes them."""

import torch
from torch import Tensor

from diffusion_lib.data import digits
from diffusion_lib.images import decode_image
from diffusion_lib.process import q_sample
from diffusion_lib.schedules import Schedule, cosine, linear
from diffusion_lib.teaching.figures.noising import noising
from diffusion_lib.teaching.widgets.explorer import Control, Explorer

SIDE = 64  # pixels of a reader's own picture


def noising_explorer(seed: int = 0) -> Explorer:
    """Show x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps along t, with one eps all the way (lesson 09).

    Controls: the time; a digit 0, 1 or 2 of scikit-learn's set; the linear or the cosine schedule at T = 1000; and,
    live, the reader's own picture in the digit's place. Args: seed of eps.
    """
    schedules = {"linear": linear(), "cosine": cosine()}
    pictures = digits(16).train[:3]  # (3, 1, 16, 16): a nought, a one and a two

    def noised(t: int, digit: int, schedule: str, own: bytes | None) -> Tensor:
        x0 = pictures[digit] if own is None else decode_image(own, SIDE)  # (1, H, W)
        return _along(schedules[schedule], x0, t, seed)

    def draw(t: int, digit: int, schedule: str, own: bytes | None):
        table = schedules[schedule].alpha_bar
        return noising(noised(t, digit, schedule, own).numpy(), t, table.sqrt().numpy(), (1 - table).sqrt().numpy())

    def describe(t: int, digit: int, schedule: str, own: bytes | None) -> str:
        x_t, alpha_bar = noised(t, digit, schedule, own), schedules[schedule].alpha_bar[t]
        what = f"a handwritten {digit}" if own is None else "your picture"
        return (
            f"{what.capitalize()} at t = {t} on the {schedule} schedule: signal rate {alpha_bar.sqrt():.3g}, "
            f"noise rate {(1 - alpha_bar).sqrt():.3g}, pixels of mean {x_t.mean():.3g} and deviation {x_t.std():.3g}."
        )

    controls = [
        Control("t", "time t", range(0, 1001, 50), 200, "t = {}"),
        Control("digit", "digit", (0, 1, 2)),
        Control("schedule", "schedule", tuple(schedules)),
        Control("own", "your own picture", kind="picture"),
    ]
    return Explorer(draw, describe, controls)


def _along(schedule: Schedule, x0: Tensor, t: int, seed: int) -> Tensor:
    """Return x_t (H, W) of the picture x0 (1, H, W); the same noise at every t, and no noise yet at t = 0."""
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed), dtype=x0.dtype)
    return x0[0] if t == 0 else q_sample(schedule, x0[None], t, eps[None])[0, 0]
