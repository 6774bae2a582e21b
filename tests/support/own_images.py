"""Files that a reader might have: small images of one colour, and Fashion-MNIST's four with next to nothing in them."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from diffusion_lib.data import FASHION_MNIST_MD5


def save(path: Path, colour: object, mode: str = "RGB") -> Path:
    """Write an image of 8 x 8 pixels of one colour, its folders with it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8), colour).save(path)
    return path


def idx(table: np.ndarray) -> bytes:
    """Return a table of bytes as an IDX file."""
    return struct.pack(f">HBB{table.ndim}I", 0, 8, table.ndim, *table.shape) + table.astype(np.uint8).tobytes()


def write_clothes(folder: Path) -> dict[str, str]:
    """Write three training and two test images, packed; return each file's MD5."""
    images = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 256
    tables = dict(zip(FASHION_MNIST_MD5, [images, np.arange(3), images[:2], np.arange(2)], strict=True))
    packed = {name: gzip.compress(idx(table)) for name, table in tables.items()}
    for name, content in packed.items():
        (folder / f"{name}.gz").write_bytes(content)
    return {name: hashlib.md5(content).hexdigest() for name, content in packed.items()}
