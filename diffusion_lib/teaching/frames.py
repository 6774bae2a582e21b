"""From figures to sprite sheets: the images behind a slider, as small as they go without losing a line."""

import base64
import io
import math
import os
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

LEVELS = 64  # shades kept per colour channel: an error of 2 in 255, unseen, for a third of the bytes of a line plot
NO_SHEET = "data:image/webp;base64,NONE"  # in a sheet's place where none is drawn


def are_skipped() -> bool:
    """Return whether the environment says DIFFUSION_LIB_FRAMES=skip: figures are made, but neither drawn nor packed.

    For tests that compare texts and never images: nbval runs lessons so.
    """
    return os.environ.get("DIFFUSION_LIB_FRAMES") == "skip"


def size(figure: Figure) -> tuple[int, int]:
    """Return height and width of a figure in pixels."""
    width, height = figure.canvas.get_width_height()
    return height, width


def rasterise(figure: Figure) -> np.ndarray:
    """Return the pixels of `figure`, (H, W, 3) uint8, at the figure's own dpi, with `LEVELS` shades a channel."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shades = np.arange(256) / 255 * (LEVELS - 1)
    table = np.round(np.round(shades) * 255 / (LEVELS - 1)).astype(np.uint8)
    return table[np.asarray(canvas.buffer_rgba())[..., :3]]


def rasterise_alike(figures: Iterable[Figure], model: Figure) -> list[np.ndarray]:
    """Return the pixels of each figure, its axes put where `model`, already drawn, has them.

    So nothing jumps from frame to frame, and the layout is solved once: half of matplotlib's time.
    """
    places = [axes.get_position(original=True) for axes in model.axes]
    frames = []
    for figure in figures:
        if len(figure.axes) == len(places):
            figure.set_layout_engine("none")
            for axes, place in zip(figure.axes, places, strict=True):
                axes.set_position(place)
        frames.append(rasterise(figure))
    return frames


def columns(n: int) -> int:
    """Return how many of `n` cells stand side by side in a sheet: about the square root."""
    return math.ceil(math.sqrt(n))


def background(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Return what stays the same, (H, W, 3): each pixel's median colour, which is its usual one wherever it has one."""
    red, green, blue = np.moveaxis(np.stack(frames).astype(np.int32), -1, 0)  # (3, n, H, W)
    middle = len(frames) // 2
    usual = np.partition(red << 16 | green << 8 | blue, middle, axis=0)[middle]  # (H, W)
    return np.stack([usual >> 16, usual >> 8 & 255, usual & 255], -1).astype(np.uint8)


def sheet(figures: Sequence[Figure], model: Figure) -> str:
    """Return figures as one image, laid out as `model`, which has been drawn: a data URI, or NO_SHEET if skipped.

    Raises: ValueError where a figure differs in size from the model.
    """
    sizes = {size(figure) for figure in [model, *figures]}
    if len(sizes) > 1:
        raise ValueError(f"show: expected figures of one size, got {sorted(sizes)} pixels")
    return NO_SHEET if are_skipped() else pack(rasterise_alike(figures, model))


def pack(frames: Sequence[np.ndarray]) -> str:
    """Return frames (H, W, 3) as one image, row by row, a data URI of lossless WebP.

    The first cell is their background. The cells after it hold, frame by frame, only the pixels that differ from it,
    the others transparent; the page lays them over it. That takes down to half the bytes of whole frames.
    """
    height, width, _ = frames[0].shape
    base = background(frames)
    across = columns(len(frames) + 1)
    page = Image.new("RGBA", (width * across, height * -(-(len(frames) + 1) // across)))
    for k, frame in enumerate([base, *frames]):
        seen = (frame != base).any(-1) if k else np.full((height, width), True)
        cell = np.dstack([frame, np.uint8(255) * seen]) * seen[..., None]  # (H, W, 4)
        page.paste(Image.fromarray(cell.astype(np.uint8)), (k % across * width, k // across * height))
    return _uri(page, "webp", {"lossless": True, "quality": 75, "method": 4})


def still(frame: np.ndarray) -> str:
    """Return one frame (H, W, 3) as a data URI of a palette PNG, which every viewer of notebooks shows."""
    image = Image.fromarray(frame).quantize(LEVELS, dither=Image.Dither.NONE)
    return _uri(image, "png", {"optimize": True})


def _uri(image: Image.Image, form: str, options: dict) -> str:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"
