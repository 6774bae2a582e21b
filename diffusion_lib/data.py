"""Handwritten digits: 8 x 8 from scikit-learn, float64, for exact denoisers; MNIST, float32, for networks; tables."""

import csv
import gzip
import hashlib
import math
import os
import struct
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm.auto import tqdm

from diffusion_lib.arguments import require_count, require_data, require_symbols
from diffusion_lib.files import FileError, checked, read_checked, write_atomically

# ---- digits ----


class DataError(FileError):
    """A data file is missing, damaged or cannot be fetched; the message names it and says what to do."""


class Digits(NamedTuple):
    """Images in [-1, 1] (-1 paper, 1 ink), their labels 0..9, and a fixed part of both kept for tests."""

    train: Tensor  # (N, 1, H, W)
    train_labels: Tensor  # (N,) int64
    test: Tensor  # (M, 1, H, W)
    test_labels: Tensor  # (M,) int64


DIGITS_TRAIN = 1437  # four fifths of 1,797, in the data set's own order; both parts hold every digit in like numbers


def digits(size: int = 8) -> Digits:
    """Return the 1,797 real handwritten digits that come with scikit-learn (UCI, after NIST): no download, no file.

    The first 1,437 are for training and the last 360 for tests. Values: 17 levels, count / 8 - 1 for 0..16 dark dots.
    Args: size 8, the images' own, or 16, interpolated (bilinear, so that values stay in [-1, 1]): it looks smoother,
    but the real detail is still 8x8.
    Returns: float64 images (N, 1, size, size). Raises: ValueError for another size.
    """
    if size not in (8, 16):
        raise ValueError(f"size: expected 8 or 16, got {size!r}")
    pixels, labels = load_digits(return_X_y=True)
    images = torch.as_tensor(pixels, device="cpu").reshape(-1, 1, 8, 8) / 8 - 1  # (1797, 1, 8, 8)
    if size == 16:
        images = interpolate(images, size=(16, 16), mode="bilinear", align_corners=False)
    labels = torch.as_tensor(labels, dtype=torch.int64, device="cpu")
    return Digits(images[:DIGITS_TRAIN], labels[:DIGITS_TRAIN], images[DIGITS_TRAIN:], labels[DIGITS_TRAIN:])


def to_levels(images: Tensor, levels: int = 17) -> Tensor:
    """Return images as sequences of symbols, row by row: level k of `levels` evenly spaced ones from -1 to 1.

    Args: images (N, C, H, W) whose entries are such levels, to 1e-4. Returns: int64 (N, C H W).
    Raises: TypeError, ValueError with the first entry that is no level.
    """
    require_count("levels", levels, 2)
    scaled = (require_data("images", images).flatten(1) + 1) / 2 * (levels - 1)
    found = scaled.round().clamp(0, levels - 1)
    if bool((wrong := (scaled - found).abs() > 1e-4 * (levels - 1)).any()):
        raise ValueError(f"images: expected {levels} levels from -1 to 1, got {float(images.flatten(1)[wrong][0]):.6g}")
    return found.long()


def from_levels(x: Tensor, shape: Sequence[int], levels: int = 17) -> Tensor:
    """Return sequences of symbols as images, the inverse of `to_levels`: (N, D) -> (N, *shape), float64 in [-1, 1].

    Raises: TypeError, ValueError for symbols out of range or another number of them.
    """
    symbols = require_symbols("x", x, require_count("levels", levels, 2))
    if symbols.ndim != 2 or symbols.shape[1] != math.prod(shape):
        raise ValueError(f"x: expected sequences (N, {math.prod(shape)}), got shape {tuple(symbols.shape)}")
    return symbols.reshape(-1, *shape).double() * 2 / (levels - 1) - 1


# ---- tables that come with the library: two series and one of measurements

TABLES = Path(__file__).parent / "assets" / "tables"
TABLES_SHA256 = {
    "sunspots": "f67889b1d9002cd5227f0e0ef54e35b419cdd85a31279adef6f73fb41e5c0a9b",
    "sea_temperature": "b647be00e0fd264be9764e317e6b963f35030014ecca2b21b204521716e463ad",
    "penguins": "f204db2c753b0937caac3cb35258562c14f073e4bbc76be24b4c51ce22767a93",
}


class Series(NamedTuple):
    """Values at evenly spaced times, in years."""

    times: Tensor  # (N,) float64
    values: Tensor  # (N,) float64


class Penguins(NamedTuple):
    """Four measurements of each penguin, in `names`, and the place of its species in `kinds`."""

    measurements: Tensor  # (N, 4) float64
    species: Tensor  # (N,) int64
    names: tuple[str, ...]
    kinds: tuple[str, ...]


def sunspots() -> Series:
    """Return the yearly mean number of sunspots, 1700 to 2008 (NOAA; statsmodels' copy, in the public domain)."""
    table = torch.tensor([[float(cell) for cell in row] for row in _rows("sunspots")], dtype=torch.float64)
    return Series(table[:, 0], table[:, 1])


def sea_temperature() -> Series:
    """Return the monthly sea surface temperature off Peru and Ecuador, degrees Celsius, 1950 to 2010.

    NOAA's ERSST.V3B, region Nino 1+2 (statsmodels' copy, in the public domain). Months: the time is year + k / 12.
    """
    table = torch.tensor([[float(cell) for cell in row] for row in _rows("sea_temperature")], dtype=torch.float64)
    months = torch.arange(12, dtype=torch.float64, device="cpu") / 12
    return Series((table[:, :1] + months).flatten(), table[:, 1:].flatten())  # (61 * 12,)


def penguins() -> Penguins:
    """Return the 342 Palmer penguins that were measured (Horst, Hill and Gorman 2020; CC0): mm, mm, mm, g."""
    rows = [row for row in _rows("penguins") if "NA" not in row[2:6]]
    kinds = tuple(sorted({row[0] for row in rows}))
    measurements = torch.tensor([[float(cell) for cell in row[2:6]] for row in rows], dtype=torch.float64)
    species = torch.tensor([kinds.index(row[0]) for row in rows], device="cpu")
    return Penguins(measurements, species, ("bill length", "bill depth", "flipper length", "body mass"), kinds)


def _rows(name: str) -> list[list[str]]:
    """The rows of a table below its header."""
    content = read_checked(TABLES / f"{name}.csv", TABLES_SHA256[name], DataError)
    return list(csv.reader(content.decode().splitlines()))[1:]


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


def mnist(
    folder: str | Path | None = None,
    *,
    mirrors: Sequence[str] = MNIST_MIRRORS,
    cache: str | Path | None = None,
    sha256: Mapping[str, str] = MNIST_SHA256,
) -> Digits:
    """Return MNIST (LeCun, Cortes and Burges 1998): 60,000 training and 10,000 test digits of 28 x 28 pixels.

    With a `folder`, its four IDX files are read, packed (.gz) or not, and nothing is downloaded; they may also be
    called train-images.idx3-ubyte and so on, or lie where torchvision puts them (MNIST/raw). Without one, each file
    that is not yet whole in `cache` (by default diffusion_lib/mnist under XDG_CACHE_HOME or ~/.cache) comes from the
    first mirror that gives it. Every file's SHA-256, unpacked, must be the one in `sha256`, whose keys name the four
    files in order.

    Returns: float32 images (N, 1, H, W), byte / 127.5 - 1.
    Raises: DataError for a file that is missing, damaged or out of reach.
    """

    def get(name: str) -> bytes:
        if folder is not None:
            return _read(Path(folder).expanduser(), name, sha256[name])
        return _read_or_download(Path(cache or _default_cache()).expanduser(), name, sha256[name], mirrors)

    return _digits({name: _idx(name, get(name)) for name in sha256})


FASHION_MNIST_MD5 = {  # of the packed files, as their authors publish them
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}


def fashion_mnist(folder: str | Path, *, md5: Mapping[str, str] = FASHION_MNIST_MD5) -> Digits:
    """Return Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): pieces of clothing in MNIST's format and number.

    Args: the folder of its four IDX files, called as MNIST's are. A packed file (.gz) must have the MD5 that the
    authors publish, by name in `md5`; they publish none for unpacked files, which only have to be whole.

    Returns: float32 images (N, 1, H, W), byte / 127.5 - 1; labels 0..9, T-shirt to ankle boot.
    Raises: DataError for a file that is missing or damaged.
    """
    place = Path(folder).expanduser()
    return _digits({name: _idx(name, _read(place, name, packed_md5=md5[name])) for name in md5})


def _digits(tables: Mapping[str, Tensor]) -> Digits:
    """The four tables of bytes, training images first, as images in [-1, 1] with labels."""
    train, train_labels, test, test_labels = tables.values()
    for images, labels in ((train, train_labels), (test, test_labels)):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
            raise DataError(f"{next(iter(tables))}: expected images (N, H, W) with labels (N,), got {shapes}")
    scale = [images[:, None].float() / 127.5 - 1 for images in (train, test)]  # (N, 1, H, W)
    return Digits(scale[0], train_labels.long(), scale[1], test_labels.long())


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion_lib" / "mnist"


PLACES = ("", "MNIST/raw", "raw", "mnist")  # where torchvision and others keep the files, inside a reader's folder


def _read(folder: Path, name: str, sha256: str | None = None, packed_md5: str | None = None) -> bytes:
    """Return the first file of that name, however it is spelt and packed, whose checksum, if known, is right."""
    found = [path for place in PLACES for path in _named(folder / place, name)]
    if not found:
        seen = sorted(path.name for path in folder.iterdir())[:5] if folder.is_dir() else []
        what = (
            f"it holds {', '.join(seen)}" if seen else "it is empty" if folder.is_dir() else "there is no such folder"
        )
        raise DataError(f"{folder / name}: expected this file or {name}.gz beside it, found neither: {what}")
    reasons = []
    for path in found:
        content = path.read_bytes()
        try:
            if path.suffix == ".gz":
                content = _unpack(path, content, packed_md5)
            return checked(path, content, sha256, DataError) if sha256 else content
        except DataError as error:
            reasons.append(error)
    raise reasons[0]


def _named(folder: Path, name: str) -> list[Path]:
    """The files of a folder that are called so but for dots in place of hyphens, a plain one first."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    same = [path for path in files if path.name.removesuffix(".gz").replace(".", "-") == name and path.is_file()]
    return sorted(same, key=lambda path: path.suffix == ".gz")


def _unpack(source: str | Path, packed: bytes, md5: str | None = None) -> bytes:
    if md5 and (found := hashlib.md5(packed, usedforsecurity=False).hexdigest()) != md5:
        raise DataError(f"{source}: expected the MD5 {md5}, got {found}: another data set, or a damaged copy")
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
