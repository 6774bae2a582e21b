"""What the course learns from: toy densities, two sets of handwritten digits, and pictures that readers bring.

Toys and digits are float64, because the exact denoisers read them; MNIST is float32, because networks do.
"""

import gzip
import io
import math
import os
import struct
import urllib.request
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from diffusion_lib.arguments import require_count, require_data, require_generator
from diffusion_lib.files import FileError, checked, read_checked, write_atomically
from diffusion_lib.gaussians import Mixture

# ---- toy densities: `.log_density(x)` in nats, `.sample(n, generator)`; all but the checkerboard are mixtures ----


def two_moons(std: float = 0.1) -> Mixture:
    """Two interlocking half circles of radius 1, each 16 Gaussians of deviation `std` along an arc; centred, in 2-D."""
    angle = torch.linspace(0, math.pi, 16, dtype=torch.float64)
    upper = torch.stack([angle.cos(), angle.sin()], 1)  # (16, 2)
    moons = torch.cat([upper, torch.tensor([1.0, 0.5], dtype=torch.float64) - upper])  # (32, 2)
    return _even(moons - moons.mean(0), std)


def rings(std: float = 0.1) -> Mixture:
    """Two rings of radius 0.6 and 1.5 with the same mass, of 16 and 40 Gaussians of deviation `std`, in 2-D."""
    weights = torch.cat([torch.full((n,), 0.5 / n, dtype=torch.float64) for n in (16, 40)])
    return Mixture.isotropic(weights, torch.cat([0.6 * _circle(16), 1.5 * _circle(40)]), std)


def eight_gaussians(std: float = 0.15) -> Mixture:
    """Eight Gaussians of deviation `std` on a circle of radius sqrt(2): their centres have unit variance; in 2-D."""
    return _even(math.sqrt(2) * _circle(8), std)


def bimodal(std: float = 0.2) -> Mixture:
    """Two Gaussians of deviation `std` at -1 and 1 with equal weights: the course's line, D = 1."""
    return _even(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), std)


def _circle(n: int) -> Tensor:
    angle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    return torch.stack([angle.cos(), angle.sin()], 1)  # (n, 2)


def _even(means: Tensor, std: float) -> Mixture:
    return Mixture.isotropic(torch.full((len(means),), 1 / len(means), dtype=torch.float64), means, std)


@dataclass(frozen=True)
class Checkerboard:
    """The uniform density on the dark cells of a board of `cells` x `cells` unit squares, centred at 0, in 2-D.

    A cell is dark when its column and row numbers add up to an even number; `cells` is even, so half of them are.
    """

    cells: int = 4

    def __post_init__(self) -> None:
        if require_count("cells", self.cells, 2) % 2:
            raise ValueError(f"cells: expected an even number, got {self.cells}")

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, (N, 2) -> (N,): -log(cells^2 / 2) on the dark cells, minus infinity elsewhere.

        Raises: TypeError, ValueError (not floating point, or another shape).
        """
        if require_data("x", x).ndim != 2 or x.shape[1] != 2:
            raise ValueError(f"x: expected shape (N, 2), got {tuple(x.shape)}")
        cell = (x + self.cells / 2).floor()  # (N, 2) column and row
        dark = ((cell >= 0) & (cell < self.cells)).all(1) & (cell.sum(1) % 2 == 0)
        return torch.full_like(x[:, 0], -math.log(self.cells**2 / 2)).masked_fill(~dark, -math.inf)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n points, (n, 2) float64: a dark cell, then a place in it."""
        require_count("n", n), require_generator(generator)
        k = torch.randint(self.cells**2 // 2, (n,), generator=generator)  # dark cells, counted row by row
        row = 2 * k // self.cells
        column = 2 * k % self.cells + row % 2
        place = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return torch.stack([column, row], 1) + place - self.cells / 2


def checkerboard() -> Checkerboard:
    """The board of 4 x 4 unit squares; eight of them are dark and carry the mass."""
    return Checkerboard()


# ---- digits ----


class Digits(NamedTuple):
    """Pictures in [-1, 1] (-1 paper, 1 ink), their labels 0..9, and a fixed part of both kept for tests."""

    train: Tensor  # (N, 1, H, W)
    train_labels: Tensor  # (N,) int64
    test: Tensor  # (M, 1, H, W)
    test_labels: Tensor  # (M,) int64


DIGITS_TRAIN = 1437  # four fifths of 1,797, in the data set's own order; both parts hold every digit in like numbers


def digits(size: int = 8) -> Digits:
    """Return the 1,797 real handwritten digits that come with scikit-learn (UCI, after NIST): no download, no file.

    The first 1,437 are for training and the last 360 for tests. Values: 17 levels, count / 8 - 1 for 0..16 dark dots.
    Args: size 8, the pictures' own, or 16, interpolated (bilinear, so that values stay in [-1, 1]): it looks smoother,
    but the real detail is still 8x8.
    Returns: float64 pictures (N, 1, size, size). Raises: ValueError for another size.
    """
    if size not in (8, 16):
        raise ValueError(f"size: expected 8 or 16, got {size!r}")
    images, labels = load_digits(return_X_y=True)
    pictures = torch.as_tensor(images).reshape(-1, 1, 8, 8) / 8 - 1  # (1797, 1, 8, 8)
    if size == 16:
        pictures = interpolate(pictures, size=(16, 16), mode="bilinear", align_corners=False)
    labels = torch.as_tensor(labels, dtype=torch.int64)
    return Digits(pictures[:DIGITS_TRAIN], labels[:DIGITS_TRAIN], pictures[DIGITS_TRAIN:], labels[DIGITS_TRAIN:])


# ---- MNIST: files that are read from a folder, or downloaded once; believed only when their checksum is right ----

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_SHA256 = {  # of the unpacked files: gzip's own bytes differ between mirrors
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DataError(FileError):
    """A data file is missing, damaged or cannot be fetched; the message names it and says what to do."""


def mnist(
    folder: str | Path | None = None,
    *,
    mirrors: Sequence[str] = MNIST_MIRRORS,
    cache: str | Path | None = None,
    sha256: Mapping[str, str] = MNIST_SHA256,
) -> Digits:
    """Return MNIST (LeCun, Cortes and Burges 1998): 60,000 training and 10,000 test digits of 28 x 28 pixels.

    With a `folder`, its four IDX files are read, packed (.gz) or not, and nothing is downloaded. Without one, each file
    that is not yet whole in `cache` (by default diffusion_lib/mnist under XDG_CACHE_HOME or ~/.cache) comes from the
    first mirror that gives it. Every file's SHA-256, unpacked, must be the one in `sha256`, whose keys name the four
    files in order.

    Returns: float32 pictures (N, 1, H, W), byte / 127.5 - 1.
    Raises: DataError for a file that is missing, damaged or out of reach.
    """

    def get(name: str) -> bytes:
        if folder is not None:
            return _read(Path(folder), name, sha256[name])
        return _read_or_download(Path(cache or _default_cache()), name, sha256[name], mirrors)

    train, train_labels, test, test_labels = (_idx(name, get(name)) for name in sha256)
    for pictures, labels in ((train, train_labels), (test, test_labels)):
        if pictures.ndim != 3 or labels.shape != pictures.shape[:1]:
            shapes = f"{tuple(pictures.shape)} and {tuple(labels.shape)}"
            raise DataError(f"MNIST: expected pictures (N, H, W) with labels (N,), got {shapes}")
    scale = [pictures[:, None].float() / 127.5 - 1 for pictures in (train, test)]  # (N, 1, H, W)
    return Digits(scale[0], train_labels.long(), scale[1], test_labels.long())


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion_lib" / "mnist"


def _read(folder: Path, name: str, sha256: str) -> bytes:
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        return read_checked(plain, sha256, DataError)
    if packed.is_file():
        return checked(packed, _unpack(packed, packed.read_bytes()), sha256, DataError)
    raise DataError(f"{plain}: expected this file or {packed.name} beside it, found neither")


def _unpack(source: str | Path, packed: bytes) -> bytes:
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source}: expected gzip, got {len(packed)} bytes that do not unpack ({error})") from error


def _read_or_download(cache: Path, name: str, sha256: str, mirrors: Sequence[str]) -> bytes:
    try:
        return _read(cache, name, sha256)
    except DataError as error:
        reasons = [str(error)]
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}.gz"
        try:
            content = checked(url, _unpack(url, _download(url)), sha256, DataError)
        except (DataError, OSError, ValueError, HTTPException) as error:  # no network, no such page, damaged on the way
            reasons.append(str(error) if isinstance(error, DataError) else f"{url}: {type(error).__name__}: {error}")
        else:
            cache.mkdir(parents=True, exist_ok=True)
            write_atomically(cache / name, content)
            return content
    files = f"{name}.gz and the other three files of MNIST"
    advice = f"Without a network, copy {files} into a folder and call mnist(folder); digits() needs no file at all."
    raise DataError("\n  ".join([f"{name}: no whole copy was found:", *reasons, advice]))


def _download(url: str) -> bytes:
    chunks: list[bytes] = []
    with urllib.request.urlopen(url, timeout=30) as response:
        total = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=total or None, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1]) as bar:
            while chunk := response.read(1 << 16):
                chunks.append(chunk)
                bar.update(len(chunk))
    content = b"".join(chunks)
    if len(content) < total:
        raise DataError(f"{url}: the connection broke after {len(content)} of {total} bytes")
    return content


def _idx(name: str, content: bytes) -> Tensor:
    """Return the entries of an IDX file: two zeros, type 8 (bytes), the number of axes, their lengths, the entries."""
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    start = 4 + 4 * axes
    shape = struct.unpack(f">{axes}I", content[4:start]) if axes and len(content) >= start else ()
    if not shape or len(content) - start != math.prod(shape):
        raise DataError(f"{name}: expected a whole IDX file, got {len(content)} bytes that begin {content[:4].hex()}")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


def pad(pictures: Tensor, size: int, value: float = -1.0) -> Tensor:
    """Return pictures (N, C, H, W) with an even border of `value` (paper), (N, C, size, size): 28 x 28 to 32 x 32.

    Raises: ValueError for pictures that are larger or not centred by whole pixels.
    """
    H, W = require_data("pictures", pictures).shape[-2:]
    if H != W or size < H or (size - H) % 2:
        raise ValueError(f"size: expected {H} plus an even border around {H} x {W} pictures, got {size}")
    return torch.nn.functional.pad(pictures, [(size - H) // 2] * 4, value=value)


def crop(pictures: Tensor, size: int) -> Tensor:
    """Return the middle of pictures (N, C, H, W), (N, C, size, size): what `pad` added is taken away.

    Raises: ValueError for pictures that are smaller or not centred by whole pixels.
    """
    H, W = require_data("pictures", pictures).shape[-2:]
    if H != W or size > H or (H - size) % 2 or size < 1:
        raise ValueError(f"size: expected {H} less an even border of {H} x {W} pictures, got {size}")
    border = (H - size) // 2
    return pictures[..., border : H - border, border : W - border]


# ---- pictures from readers ----

MAX_PIXELS = 40_000_000  # a decoded picture of this size takes half a gigabyte
TOO_LARGE = f"data: expected at most {MAX_PIXELS:,} pixels"


def picture(data: bytes, size: int) -> Tensor:
    """Return a reader's PNG or JPEG as a grey picture (1, size, size) in [-1, 1], float64: black -1, white 1.

    The picture is turned upright (EXIF), laid on white where it is transparent, made grey (.299 R + .587 G + .114 B),
    cropped to its central square and scaled with a triangle filter. Dark ink on white paper comes out as the negative
    of `digits`: use -picture(...).

    Args: data, the bytes of the file; size 1..1024.
    Raises: TypeError for anything but bytes; ValueError for a file that is neither PNG nor JPEG, is damaged, moves, or
    has more than 40 million pixels (read in its header, before anything is decoded).
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data: expected the bytes of a PNG or JPEG file, got {type(data).__name__}")
    require_count("size", size, 1, 1024)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is refused or repaired here
        image = _opened(bytes(data))
        with _refusing("a whole picture, got a damaged one"):
            grey = _grey_on_white(ImageOps.exif_transpose(image))
    side = min(grey.size)
    left, top = (grey.width - side) / 2, (grey.height - side) / 2
    small = grey.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    return torch.as_tensor(np.asarray(small, dtype=np.float64))[None] / 127.5 - 1  # (1, size, size)


def _opened(data: bytes) -> Image.Image:
    with _refusing("a PNG or JPEG picture, got something else"):
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))  # reads the header only
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{TOO_LARGE}, got {image.width} x {image.height}; please make the picture smaller first")
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise ValueError("data: expected a still picture, got an animation; please save one frame of it")
    return image


@contextmanager
def _refusing(expected: str) -> Iterator[None]:
    """Turn whatever goes wrong while bytes are decoded into a ValueError: Pillow raises errors of many kinds."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ValueError(f"{TOO_LARGE}; please make the picture smaller first ({error})") from error
    except Exception as error:
        raise ValueError(f"data: expected {expected}") from error


def _grey_on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip it
        levels = np.asarray(image).astype(np.float32)
        levels[levels == image.info.get("transparency", -1)] = 65535
        return Image.fromarray(levels / 257)
    picture = image.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)
    return paper.convert("L").convert("F")  # F: scaling then keeps fractions
