"""The data room: toys against quadrature, files real, small, broken and far away, pictures of all kinds."""

import gzip
import hashlib
import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from diffusion_lib import data
from diffusion_lib.data import DataError, Digits, mnist, picture

REAL_MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"
PLANE = {f.__name__: f for f in (data.two_moons, data.rings, data.eight_gaussians, data.checkerboard)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- toys ----


def cell_masses(density, cells: int, half: float, fine: int) -> torch.Tensor:
    """The mass of each cell of a grid over [-half, half]^2, by the midpoint rule with `fine`^2 points a cell."""
    n = cells * fine
    axis = (torch.arange(n, dtype=torch.float64) + 0.5) * (2 * half / n) - half
    points = torch.cartesian_prod(axis, axis)
    p = torch.cat([density.log_density(part) for part in points.split(20_000)]).exp() * (2 * half / n) ** 2
    return p.reshape(cells, fine, cells, fine).sum((1, 3))


@pytest.mark.parametrize("name", PLANE)
def test_a_toy_integrates_to_one_and_its_samples_follow_it(name):
    density, half, cells = PLANE[name](), 3.0, 12
    mass = cell_masses(density, cells, half, fine=16).flatten()
    assert mass.sum() == pytest.approx(1, abs=1e-9)
    x = density.sample(20_000, seeded())
    assert x.shape == (20_000, 2)
    assert x.dtype == torch.float64
    index = ((x + half) / (2 * half / cells)).floor().long()
    found = torch.bincount((index[:, 0] * cells + index[:, 1]).clamp(0, cells**2 - 1), minlength=cells**2)
    assert found[mass < 1e-15].sum() == 0
    keep = mass * 20_000 > 5  # chi-square needs a few in each cell; the rest is one cell more
    expected = torch.cat([mass[keep], mass[~keep].sum(0, keepdim=True)]) * 20_000
    counted = torch.cat([found[keep], found[~keep].sum(0, keepdim=True)])
    if expected[-1] < 1e-9:
        expected, counted = expected[:-1], counted[:-1]
    assert (
        stats.chisquare(counted.numpy(), expected.numpy() * counted.sum().item() / expected.sum().item()).pvalue > 1e-3
    )


def test_the_line_integrates_to_one_and_its_samples_follow_it():
    density = data.bimodal()
    axis = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    p = density.log_density(axis[:, None]).exp()
    assert torch.trapezoid(p, axis) == pytest.approx(1, abs=1e-12)
    cumulative = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(p, axis)])
    x = density.sample(5_000, seeded())[:, 0]
    assert stats.kstest(x.numpy(), lambda v: np.interp(v, axis, cumulative)).pvalue > 1e-3


@pytest.mark.parametrize("name", PLANE)
def test_a_seed_is_a_sample(name):
    density = PLANE[name]()
    assert density.sample(7, seeded(3)).equal(density.sample(7, seeded(3)))
    assert not density.sample(7, seeded(3)).equal(density.sample(7, seeded(4)))


def test_the_toys_have_the_shapes_that_they_promise():
    assert data.rings().weights.tolist() == pytest.approx([1 / 32] * 16 + [1 / 80] * 40)
    radius = data.rings().means.norm(dim=1)
    assert radius.tolist() == pytest.approx([0.6] * 16 + [1.5] * 40)
    assert data.eight_gaussians().means.var(0, correction=0).tolist() == pytest.approx([1, 1])
    moons = data.two_moons().means
    assert moons.mean(0).tolist() == pytest.approx([0, 0], abs=1e-15)
    centre = torch.tensor([-0.5, -0.25], dtype=torch.float64)
    assert (moons[:16] - centre).norm(dim=1).tolist() == pytest.approx([1] * 16)
    assert (moons[16:] + centre).norm(dim=1).tolist() == pytest.approx([1] * 16)


def test_the_checkerboard_has_dark_and_light_cells():
    x = torch.tensor([[-1.5, -1.5], [-0.5, -1.5], [0.5, 0.5], [2.5, 0.5], [-2.5, -1.5]], dtype=torch.float64)
    assert data.checkerboard().log_density(x).exp().tolist() == pytest.approx([1 / 8, 0, 1 / 8, 0, 0])
    drawn = data.checkerboard().sample(1000, seeded())
    assert data.checkerboard().log_density(drawn).isfinite().all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.Checkerboard(3), ValueError, "cells: expected an even number, got 3"),
        (lambda: data.Checkerboard(2.0), TypeError, "cells"),
        (
            lambda: data.checkerboard().log_density(torch.zeros(3)),
            ValueError,
            r"x: expected shape \(N, 2\), got \(3,\)",
        ),
        (lambda: data.checkerboard().sample(0, seeded()), ValueError, "n: expected at least 1, got 0"),
        (lambda: data.checkerboard().sample(1, None), TypeError, "generator"),
        (lambda: data.two_moons(std=0.0), ValueError, "std"),
        (lambda: data.digits(28), ValueError, "size: expected 8 or 16, got 28"),
    ],
)
def test_bad_input_to_toys_and_digits(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- digits ----


def test_the_digits_are_the_1797_of_scikit_learn_with_a_fixed_split():
    digits = data.digits()
    assert [tuple(part.shape) for part in digits] == [(1437, 1, 8, 8), (1437,), (360, 1, 8, 8), (360,)]
    assert digits.train.dtype == torch.float64
    assert digits.train_labels.dtype == torch.int64
    assert digits.test_labels[:8].tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    everything = torch.cat([digits.train, digits.test])
    assert sorted(everything.unique().tolist()) == [level / 8 - 1 for level in range(17)]
    assert ((everything + 1) * 8).sum() == 561_718  # the sum of the published table
    assert digits.test_labels.bincount().tolist() == [35, 36, 35, 37, 37, 37, 37, 36, 33, 37]


def test_the_16_pixel_digits_are_interpolated_and_stay_in_range():
    small, large = data.digits(8).train[:50], data.digits(16).train[:50]
    assert large.shape == (50, 1, 16, 16)
    assert large.abs().max() <= 1
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)  # pixel centres lie a quarter from the nearest old centre
    corner = torch.einsum("i,j,nij->n", weights, weights, small[:, 0, 2:4, 3:5])
    assert torch.allclose(large[:, 0, 5, 7], corner, atol=1e-15)


# ---- MNIST ----


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def small_files() -> dict[str, bytes]:
    """Four IDX files of the right names: 5 and 3 pictures of 4 x 6 pixels."""
    rng = np.random.default_rng(0)
    kinds = {"images": lambda n: rng.integers(0, 256, (n, 4, 6)), "labels": lambda n: rng.integers(0, 10, n)}
    return {name: idx(kinds[name.split("-")[1]](5 if "train" in name else 3)) for name in data.MNIST_SHA256}


FILES = small_files()
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
FIRST = next(iter(FILES))
read_small = partial(mnist, sha256=SHA256)


def write_small(folder: Path, packed: bool) -> Path:
    for name, content in FILES.items():
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def assert_small(found: Digits) -> None:
    assert [tuple(part.shape) for part in found] == [(5, 1, 4, 6), (5,), (3, 1, 4, 6), (3,)]
    assert found.train.dtype == torch.float32
    assert found.train_labels.dtype == torch.int64
    pixels = (found.test.flatten().double() + 1) * 127.5
    assert torch.allclose(
        pixels, torch.tensor(list(FILES["t10k-images-idx3-ubyte"][16:]), dtype=torch.float64), atol=1e-4
    )
    assert found.test_labels.tolist() == list(FILES["t10k-labels-idx1-ubyte"][8:])


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_is_read_packed_or_not(tmp_path, packed):
    assert_small(read_small(write_small(tmp_path, packed)))


def cut(content: bytes) -> bytes:
    return content[:-1]


def other_axes(content: bytes) -> bytes:
    return content[:3] + b"\x04" + content[4:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda content: content[:-1] + bytes([content[-1] ^ 1]),
            f"expected SHA-256 {SHA256[FIRST]}, found [0-9a-f]{{64}}",
        ),
        (cut, "expected SHA-256"),
        (lambda content: b"", "expected SHA-256"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage, message):
    write_small(tmp_path, packed=False)
    (tmp_path / FIRST).write_bytes(damage(FILES[FIRST]))
    with pytest.raises(DataError, match=f"{FIRST}: {message}"):
        read_small(tmp_path)


@pytest.mark.parametrize("spoil", [cut, lambda packed: b"no gzip", lambda packed: packed[:10] + b"\x07" + packed[11:]])
def test_a_damaged_gzip_file_is_refused(tmp_path, spoil):
    write_small(tmp_path, packed=True)
    path = tmp_path / f"{FIRST}.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{FIRST}.gz: expected (gzip, got \d+ bytes that do not unpack|SHA-256)"):
        read_small(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    write_small(tmp_path, packed=False)
    (tmp_path / FIRST).unlink()
    with pytest.raises(DataError, match=f"{FIRST}: expected this file or {FIRST}.gz beside it, found neither"):
        read_small(tmp_path)
    with pytest.raises(DataError, match="found neither"):
        read_small(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content", [cut(FILES[FIRST]), other_axes(FILES[FIRST]), b"\0\0\x0d\x01", b"", b"\0\0\x08\x03\0"]
)
def test_a_file_with_the_right_checksum_must_still_be_idx(tmp_path, content):
    write_small(tmp_path, packed=False)
    (tmp_path / FIRST).write_bytes(content)
    with pytest.raises(DataError, match=f"{FIRST}: expected a whole IDX file"):
        mnist(tmp_path, sha256=SHA256 | {FIRST: hashlib.sha256(content).hexdigest()})


def test_pictures_and_labels_must_fit(tmp_path):
    write_small(tmp_path, packed=False)
    content = idx(np.zeros((4, 4, 6)))
    (tmp_path / FIRST).write_bytes(content)
    with pytest.raises(DataError, match=r"pictures \(N, H, W\) with labels \(N,\), got \(4, 4, 6\) and \(5,\)"):
        mnist(tmp_path, sha256=SHA256 | {FIRST: hashlib.sha256(content).hexdigest()})


@pytest.mark.skipif(not REAL_MNIST.is_dir(), reason="the real MNIST is not beside this checkout")
def test_the_real_mnist_is_read():
    found = mnist(REAL_MNIST)
    assert [tuple(part.shape) for part in found] == [(60000, 1, 28, 28), (60000,), (10000, 1, 28, 28), (10000,)]
    assert found.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert (found.train.double().mean() + 1) / 2 == pytest.approx(
        0.1306604, abs=1e-6
    )  # a figure that many papers print


# ---- MNIST from a server ----


class Server(ThreadingHTTPServer):
    """A mirror on 127.0.0.1: it gives `pages`, notes what it is asked, and adds `promise` to the announced length."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = {f"/{name}.gz": gzip.compress(content) for name, content in FILES.items()}
        self.asked: list[str] = []
        self.promise = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path)
        if page is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(page) + self.server.promise))
        self.end_headers()
        return self.wfile.write(page)

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_download_is_kept_and_not_repeated(tmp_path, server):
    assert_small(read_small(cache=tmp_path / "new" / "cache", mirrors=[server.url]))
    assert len(server.asked) == 4
    assert sorted(path.name for path in (tmp_path / "new" / "cache").iterdir()) == sorted(FILES)  # nothing half-written
    assert_small(read_small(cache=tmp_path / "new" / "cache", mirrors=[server.url]))
    assert len(server.asked) == 4


def test_the_cache_lies_in_the_home_folder(tmp_path, server, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    read_small(mirrors=[server.url])
    assert (tmp_path / ".cache" / "diffusion_lib" / "mnist" / FIRST).read_bytes() == FILES[FIRST]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    read_small(mirrors=[server.url])
    assert (tmp_path / "elsewhere" / "diffusion_lib" / "mnist" / FIRST).is_file()


def test_a_damaged_cache_is_fetched_again(tmp_path, server):
    write_small(tmp_path, packed=False)
    (tmp_path / FIRST).write_bytes(FILES[FIRST][:-1])
    assert_small(read_small(cache=tmp_path, mirrors=[server.url]))
    assert server.asked == [f"/{FIRST}.gz"]


def test_the_next_mirror_helps(tmp_path, server):
    assert_small(read_small(cache=tmp_path, mirrors=["http://127.0.0.1:9/", f"{server.url}wrong", server.url]))
    assert server.asked[:2] == [f"/wrong/{FIRST}.gz", f"/{FIRST}.gz"]


@pytest.mark.parametrize(
    ("spoil", "promise", "message"),
    [
        (lambda page: page[:100], 0, r"gz: expected gzip, got 100 bytes that do not unpack"),
        (lambda page: page[:-40], 40, r"gz: the connection broke after (\d+) of (\d+) bytes"),
        (lambda page: gzip.compress(b"another file"), 0, f"gz: expected SHA-256 {SHA256[FIRST]}, found"),
        (lambda page: b"<html>please log in</html>", 0, "gz: expected gzip"),
        (lambda page: None, 0, "gz: HTTPError: HTTP Error 404"),
    ],
)
def test_a_bad_download_is_refused_and_nothing_is_kept(tmp_path, server, spoil, promise, message):
    server.pages[f"/{FIRST}.gz"] = spoil(server.pages[f"/{FIRST}.gz"])
    server.promise = promise
    with pytest.raises(DataError, match=message):
        read_small(cache=tmp_path / "cache", mirrors=[server.url])
    assert not (tmp_path / "cache").exists()


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        mnist(cache=tmp_path, mirrors=["http://127.0.0.1:9/", "nonsense"])
    for words in (FIRST, "127.0.0.1:9", "refused", "nonsense", "Without a network, copy", "mnist(folder)", "digits()"):
        assert words in str(caught.value)


def test_the_progress_bar_shows(tmp_path, server):
    """In a child process, because tqdm reads TQDM_DISABLE when it is imported."""
    code = (
        "import sys; from diffusion_lib.data import mnist\n"
        "names, sums = sys.argv[3].split(','), sys.argv[4].split(',')\n"
        "mnist(cache=sys.argv[1], mirrors=[sys.argv[2]], sha256=dict(zip(names, sums)))"
    )
    argv = [str(tmp_path), server.url, ",".join(SHA256), ",".join(SHA256.values())]
    environment = os.environ | {"TQDM_DISABLE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, env=environment, check=True
    )
    for name in FILES:
        assert f"{name}.gz: 100%" in done.stderr


# ---- pictures ----


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, raw: bytes = b"", depth: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """A PNG file written by hand, chunk by chunk, with whatever header is wanted."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


QUARTERS = np.array([[0, 255], [128, 64]], np.uint8).repeat(8, 0).repeat(8, 1)  # a 16 x 16 picture of four grey squares


def corners(x: torch.Tensor) -> list[float]:
    """The grey levels 0..255 in the middle of the four quarters."""
    n = x.shape[-1] // 4
    return [float((x[0, i, j] + 1) * 127.5) for i in (n, 3 * n) for j in (n, 3 * n)]


def with_alpha(mode: str) -> Image.Image:
    """QUARTERS with a top left quarter that is transparent, and a bottom left one that is half so."""
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[:8, :8], alpha[8:, :8] = 0, 128
    image = Image.fromarray(QUARTERS).convert(mode)
    image.putalpha(Image.fromarray(alpha))
    return image


def palette_with_transparency() -> bytes:
    image = Image.fromarray((QUARTERS // 64).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 64, 64, 64, 128, 128, 128, 255, 255, 255])
    return encode(image, transparency=0)


def sixteen_bits(**chunks) -> bytes:
    raw = b"".join(b"\0" + (QUARTERS[i].astype(">u2") * 257).tobytes() for i in range(16))
    return png(16, 16, raw, depth=16, **chunks)


def sixteen_bit_colour() -> bytes:
    raw = b"".join(b"\0" + (QUARTERS[i].repeat(3).astype(">u2") * 257).tobytes() for i in range(16))
    return png(16, 16, raw, depth=16, colour=2)


GREYS = [0, 255, 128, 64]
PICTURES = {
    "grey": (encode(Image.fromarray(QUARTERS)), GREYS, 0),
    "colour": (encode(Image.fromarray(QUARTERS).convert("RGB")), GREYS, 0),
    "black and white": (encode(Image.fromarray(QUARTERS > 100)), [0, 255, 255, 0], 0),
    "palette": (encode(Image.fromarray(QUARTERS).convert("RGB").quantize(4)), GREYS, 0),
    "palette with a transparent colour": (palette_with_transparency(), [255, 255, 128, 64], 0),
    "16 bits": (sixteen_bits(), GREYS, 0),
    "16 bits with a transparent level": (sixteen_bits(extra=chunk(b"tRNS", b"\x40\x40")), [0, 255, 128, 255], 0),
    "16-bit colour": (sixteen_bit_colour(), GREYS, 0),
    "grey with alpha": (encode(with_alpha("L")), [255, 255, 191, 64], 1),
    "colour with alpha": (encode(with_alpha("RGB")), [255, 255, 191, 64], 1),
    "grey JPEG": (encode(Image.fromarray(QUARTERS), "JPEG", quality=95), GREYS, 2),
    "colour JPEG": (encode(Image.fromarray(QUARTERS).convert("RGB"), "JPEG", quality=95), GREYS, 2),
    "CMYK JPEG": (encode(Image.fromarray(QUARTERS).convert("CMYK"), "JPEG", quality=95), GREYS, 2),
    "progressive JPEG": (encode(Image.fromarray(QUARTERS), "JPEG", quality=95, progressive=True), GREYS, 2),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_gives_its_greys(name):
    content, greys, tolerance = PICTURES[name]
    x = picture(content, 8)
    assert x.shape == (1, 8, 8)
    assert x.dtype == torch.float64
    assert corners(x) == pytest.approx(greys, abs=tolerance + 1e-4)


def test_colours_count_as_the_eye_sees_them():
    for colour, weight in (((255, 0, 0), 0.299), ((0, 255, 0), 0.587), ((0, 0, 255), 0.114)):
        x = picture(encode(Image.new("RGB", (9, 9), colour)), 3)
        assert torch.allclose((x + 1) / 2, torch.full_like(x, weight), atol=0.5 / 255)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_that_the_camera_turned_stands_upright(turn):
    upright = Image.fromarray(QUARTERS)
    stored = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = turn
    image = upright.transpose(stored[turn]) if turn in stored else upright
    for kind, options in (("JPEG", {"quality": 95}), ("PNG", {})):
        assert corners(picture(encode(image, kind, exif=exif, **options), 8)) == pytest.approx(GREYS, abs=2)


def test_a_phones_two_pictures_in_one_file_count_as_one():
    pair = encode(Image.fromarray(QUARTERS), "MPO", save_all=True, append_images=[Image.new("L", (16, 16))], quality=95)
    assert corners(picture(pair, 8)) == pytest.approx(GREYS, abs=2)


@pytest.mark.parametrize("sideways", [False, True])
def test_the_central_square_is_kept(sideways):
    strip = np.zeros((6, 16), np.uint8)
    strip[:, 5:11] = 255
    x = picture(encode(Image.fromarray(strip.T if sideways else strip)), 6)
    assert x.min() == 1
    half = picture(encode(Image.fromarray(np.array([[0, 255]], np.uint8))), 1)
    assert half.item() == pytest.approx(0, abs=1e-6)  # the square half a pixel from either end


@pytest.mark.parametrize("size", [1, 5, 8, 28, 64])
def test_scaling_keeps_range_and_mean(size):
    values = np.random.default_rng(0).integers(0, 2, (40, 40)).astype(np.uint8) * 255
    x = picture(encode(Image.fromarray(values)), size)
    assert x.shape == (1, size, size)
    assert x.abs().max() <= 1
    assert x.mean() == pytest.approx(values.mean() / 127.5 - 1, abs=0.06)


NOISY_JPEG = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)), "JPEG")


def animation() -> bytes:
    return encode(Image.new("L", (8, 8)), save_all=True, append_images=[Image.new("L", (8, 8), 255)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a PNG or JPEG picture, got something else"),
        (b"not a picture at all", "a PNG or JPEG picture, got something else"),
        (encode(Image.new("L", (8, 8)), "GIF"), "a PNG or JPEG picture, got something else"),
        (encode(Image.new("RGB", (8, 8)), "WEBP"), "a PNG or JPEG picture, got something else"),
        (encode(Image.new("L", (64, 64)), "TIFF"), "a PNG or JPEG picture, got something else"),
        (animation(), "a still picture, got an animation"),
        (PICTURES["grey"][0][:-30], "damaged"),
        (NOISY_JPEG[: len(NOISY_JPEG) // 2], "damaged"),
        (PICTURES["colour JPEG"][0][:100], "PNG or JPEG picture|damaged"),
        (png(8, 8, b"short"), "damaged"),
    ],
)
def test_what_is_not_a_still_picture_is_refused(content, message):
    with pytest.raises(ValueError, match=f"data: expected .*{message}"):
        picture(content, 8)


@pytest.mark.parametrize(
    ("width", "height"), [(10_000, 6_000), (8_000, 5_001), (20_000, 10_000), (2**31 - 1, 2**31 - 1)]
)
def test_a_bomb_is_refused_by_its_header(width, height, monkeypatch):
    def explode(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", explode)
    with pytest.raises(ValueError, match=r"data: expected at most 40,000,000 pixels.*smaller"):
        picture(png(width, height), 8)


def test_random_damage_is_a_value_error_or_a_picture():
    """Flip bytes of every kind of picture: whatever Pillow makes of it, no other error gets out."""
    rng = np.random.default_rng(0)
    for content, _, _ in PICTURES.values():
        for _ in range(40):
            spoiled = bytearray(content)
            for place in rng.integers(8, len(content), 3):
                spoiled[place] = rng.integers(256)
            try:
                x = picture(bytes(spoiled), 4)
            except ValueError:
                continue
            assert x.abs().max() <= 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: picture("picture.png", 8), TypeError, "data: expected the bytes of a PNG or JPEG file, got str"),
        (lambda: picture(PICTURES["grey"][0], 0), ValueError, "size: expected 1..1024, got 0"),
        (lambda: picture(PICTURES["grey"][0], 8.0), TypeError, "size"),
    ],
)
def test_bad_arguments_to_picture(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bytes_come_in_three_types():
    content = PICTURES["grey"][0]
    for kind in (bytes, bytearray, memoryview):
        assert picture(kind(content), 8).equal(picture(content, 8))


# ---- borders ----


@pytest.mark.parametrize(("side", "size"), [(28, 32), (8, 8), (1, 5), (16, 32)])
def test_padding_lays_paper_around_and_cropping_takes_it_away(side, size):
    x = torch.rand(3, 2, side, side, generator=seeded(), dtype=torch.float64)
    wide = data.pad(x, size)
    border = (size - side) // 2
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (border, border), (border, border)], constant_values=-1.0)
    assert wide.dtype == x.dtype and np.array_equal(wide.numpy(), expected)
    assert data.crop(wide, side).equal(x)
    assert float(data.pad(x, side + 2, value=0.5)[0, 0, 0, 0]) == 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.pad(torch.zeros(1, 1, 28, 28), 31), ValueError, "size: expected 28 plus an even border.*got 31"),
        (lambda: data.pad(torch.zeros(1, 1, 28, 28), 26), ValueError, "size: expected 28 plus.*got 26"),
        (lambda: data.pad(torch.zeros(1, 1, 28, 26), 32), ValueError, "around 28 x 26 pictures"),
        (lambda: data.pad(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), 32), TypeError, "pictures: .*torch.uint8"),
        (lambda: data.crop(torch.zeros(1, 1, 32, 32), 27), ValueError, "size: expected 32 less an even border.*got 27"),
        (lambda: data.crop(torch.zeros(1, 1, 32, 32), 34), ValueError, "size: expected 32 less.*got 34"),
        (lambda: data.crop(torch.zeros(1, 1, 32, 32), 0), ValueError, "size: .*got 0"),
        (lambda: data.crop(torch.zeros(1, 1, 32, 30), 28), ValueError, "of 32 x 30 pictures"),
        (lambda: data.crop([[0.0]], 28), TypeError, "pictures: expected a torch.Tensor, got list"),
    ],
)
def test_borders_that_do_not_fit_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
