"""Images from readers, decoded with care, and borders that make images fit a network."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from diffusion_lib.arguments import require_count, require_data


def pad(images: Tensor, size: int, value: float = -1.0) -> Tensor:
    """Return images (N, C, H, W) with an even border of `value` (paper), (N, C, size, size): 28 x 28 to 32 x 32.

    Raises: ValueError for images that are larger or not centred by whole pixels.
    """
    H, W = require_data("images", images).shape[-2:]
    if H != W or size < H or (size - H) % 2:
        raise ValueError(f"size: expected {H} plus an even border around {H} x {W} images, got {size}")
    return torch.nn.functional.pad(images, [(size - H) // 2] * 4, value=value)


def crop(images: Tensor, size: int) -> Tensor:
    """Return the middle of images (N, C, H, W), (N, C, size, size): what `pad` added is taken away.

    Raises: ValueError for images that are smaller or not centred by whole pixels.
    """
    H, W = require_data("images", images).shape[-2:]
    if H != W or size > H or (H - size) % 2 or size < 1:
        raise ValueError(f"size: expected {H} less an even border of {H} x {W} images, got {size}")
    border = (H - size) // 2
    return images[..., border : H - border, border : W - border]


MAX_PIXELS = 40_000_000  # a decoded image of this size takes half a gigabyte
TOO_LARGE = f"data: expected at most {MAX_PIXELS:,} pixels"
PROGRAMS = {"EPS", "WMF"}  # formats that Pillow hands to another program, which a stranger's file should not reach


def decode_image(data: bytes, size: int) -> Tensor:
    """Return a reader's image file as a grey image (1, size, size) in [-1, 1], float64: black -1, white 1.

    The image is turned upright (EXIF), laid on white where it is transparent, made grey (.299 R + .587 G + .114 B),
    cropped to its central square and scaled with a triangle filter. Dark ink on white paper comes out as the negative
    of `digits`: use -decode_image(...).

    Args: data, the bytes of the file, in any format that Pillow reads by itself (of an animation, its first frame);
    size 1..1024.
    Raises: TypeError for anything but bytes; ValueError for a file that is no image, is damaged, or has more than 40
    million pixels (read in its header, before anything is decoded).
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data: expected the bytes of an image file, got {type(data).__name__}")
    require_count("size", size, 1, 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused or repaired here
        image = _opened(bytes(data))
        with _refusing("a whole image of 8 or 16 bits a channel, got a damaged or a deeper one"):
            grey = _grey_on_white(ImageOps.exif_transpose(image))
    side = min(grey.size)
    left, top = (grey.width - side) / 2, (grey.height - side) / 2
    small = grey.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return torch.as_tensor(np.asarray(small, dtype=np.float64), device="cpu")[None] / 127.5 - 1  # (1, size, size)


def _opened(data: bytes) -> Image.Image:
    Image.init()  # or Pillow knows the commonest formats only
    with _refusing("an image file, such as PNG or JPEG, got something else"):
        image = Image.open(io.BytesIO(data), formats=sorted(set(Image.OPEN) - PROGRAMS))  # reads the header only
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{TOO_LARGE}, got {image.width} x {image.height}; please make the image smaller first")
    return image


@contextmanager
def _refusing(expected: str) -> Iterator[None]:
    """Turn whatever goes wrong while bytes are decoded into a ValueError: Pillow raises errors of many kinds."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ValueError(f"{TOO_LARGE}; please make the image smaller first ({error})") from error
    except Exception as error:
        raise ValueError(f"data: expected {expected}") from error


def _grey_on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip it
        levels = np.asarray(image).astype(np.float32)
        levels[levels == image.info.get("transparency", -1)] = 65535
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("32 bits a pixel")
        return Image.fromarray(levels / 257)
    if image.mode == "F":
        raise ValueError("fractions, whose black and white nobody says")
    opaque = image.convert("RGBA")
    paper = Image.new("RGBA", opaque.size, "white")
    paper.alpha_composite(opaque)
    return paper.convert("L").convert("F")  # F: scaling then keeps fractions
