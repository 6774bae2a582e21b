"""Images from readers, one or a folder of them, decoded with care; borders that make images fit a network."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from diffusion_lib.arguments import require_count, require_data, shown


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


def decode_image(data: bytes, size: int, channels: int = 1) -> Tensor:
    """Return a reader's image file as an image (channels, size, size) in [-1, 1], float64: black -1, white 1.

    The image is turned upright (EXIF), laid on white where it is transparent, made grey (.299 R + .587 G + .114 B) if
    one channel is asked for, cropped to its central square and scaled with a triangle filter. Dark ink on white paper
    comes out as the negative of `digits`: use -decode_image(...).

    Args: data, the bytes of the file, in any format that Pillow reads by itself (of an animation, its first frame);
    size 1..1024; channels 1, grey, or 3, colour.
    Raises: TypeError for anything but bytes; ValueError for a file that is no image, is damaged, or has more than 40
    million pixels (read in its header, before anything is decoded).
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data: expected the bytes of an image file, got {type(data).__name__}")
    require_count("size", size, 1, 1024)
    if channels not in (1, 3):
        raise ValueError(f"channels: expected 1, grey, or 3, colour, got {channels!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused or repaired here
        image = _opened(bytes(data))
        with _refusing("a whole image of 8 or 16 bits a channel, got a damaged or a deeper one"):
            bands = _on_white(ImageOps.exif_transpose(image), channels)
    width, height = bands[0].size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    small = [np.asarray(band.resize((size, size), Image.Resampling.BILINEAR, box=box)) for band in bands]
    return torch.as_tensor(np.stack(small).astype(np.float64), device="cpu") / 127.5 - 1  # (channels, size, size)


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


def _on_white(image: Image.Image, channels: int) -> list[Image.Image]:
    """Return each channel as an image of fractions, 0..255, so that scaling keeps fractions."""
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip it
        levels = np.asarray(image).astype(np.float32)
        if "transparency" in image.info:
            levels[levels == image.info["transparency"]] = 65535
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("32 bits a pixel")
        return [Image.fromarray(levels / 257)] * channels
    if image.mode == "F":
        raise ValueError("fractions, whose black and white nobody says")
    opaque = image.convert("RGBA")
    paper = Image.new("RGBA", opaque.size, "white")
    paper.alpha_composite(opaque)
    return [band.convert("F") for band in paper.convert("L" if channels == 1 else "RGB").split()]


# ---- a folder of images

SUFFIXES = (".png", ".jpg", ".jpeg")


class ImageFolder(NamedTuple):
    """A reader's own images: labels are places in `classes`, the names of the sub-folders; () where there are none."""

    images: Tensor  # (N, channels, size, size) float32 in [-1, 1]
    labels: Tensor  # (N,) int64; 0 where there are no classes
    classes: tuple[str, ...]
    skipped: tuple[Path, ...]  # damaged images, where they may be skipped, and files of other kinds


def image_folder(folder: str | Path, size: int, channels: int = 1, *, skip_damaged: bool = False) -> ImageFolder:
    """Read a folder of PNG and JPEG images, in the order of their paths, each as `decode_image` does.

    With sub-folders, each is a class, and every image lies in one, at any depth. Hidden files are not looked at; files
    that are no PNG or JPEG by their suffix are named in `skipped`, and so are damaged images if you say skip_damaged.

    Raises: FileNotFoundError for no such folder; ValueError for a folder without images, for images beside sub-folders
    that hold some, and, unless they may be skipped, for damaged images: the first is named, and how many there are.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected a folder of images, found none")
    parts = {path: path.relative_to(root).parts for path in sorted(root.rglob("*")) if path.is_file()}
    files = [path for path, names in parts.items() if not any(name.startswith(".") for name in names)]
    wanted = [path for path in files if path.suffix.lower() in SUFFIXES]
    classes = tuple(sorted({parts[path][0] for path in wanted if len(parts[path]) > 1}))
    if classes and (loose := [path for path in wanted if len(parts[path]) == 1]):
        raise ValueError(f"{loose[0]}: expected every image in one of the sub-folders {shown(classes)}, or none")
    found, damaged = {}, {}
    for path in wanted:
        try:
            found[path] = decode_image(path.read_bytes(), size, channels).float()
        except ValueError as error:
            damaged[path] = error
    if damaged and not skip_damaged:
        first = next(iter(damaged))
        raise ValueError(f"{first}: {damaged[first]} ({len(damaged)} of {len(wanted)} images are like that)")
    if not found:
        raise ValueError(f"{root}: expected PNG or JPEG images, got {len(files)} files, none of them a whole image")
    labels = [classes.index(parts[path][0]) if classes else 0 for path in found]
    skipped = tuple(path for path in files if path not in found)
    return ImageFolder(torch.stack(list(found.values())), torch.tensor(labels, device="cpu"), classes, skipped)
