"""Digits and MNIST: files real, small, broken and far away."""

import gzip
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from own_images import idx
from sklearn.datasets import load_digits
from statsmodels import datasets

from diffusion_lib import data
from diffusion_lib.data import DataError, Digits, mnist

REAL_MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
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


def small_files() -> dict[str, bytes]:
    """Four IDX files of the right names: 5 and 3 images of 4 x 6 pixels."""
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


@pytest.mark.parametrize("place", ["", "MNIST/raw", "raw", "mnist"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_files_other_names_and_places_are_known(tmp_path, place, packed, monkeypatch):
    folder = tmp_path / "own" / place
    folder.mkdir(parents=True)
    for path in write_small(folder, packed).iterdir():
        path.rename(folder / path.name.replace("-idx", ".idx"))
    assert_small(read_small(tmp_path / "own"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_small(read_small("~/own"))


def test_the_checksum_decides_between_files_of_one_name(tmp_path):
    write_small(tmp_path, packed=True)
    (tmp_path / FIRST).write_bytes(b"an older attempt")
    assert_small(read_small(tmp_path))


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
    words = f"{FIRST}: expected this file or {FIRST}.gz beside it, found neither: it holds t10k-images-idx3-ubyte, "
    with pytest.raises(DataError, match=words):
        read_small(tmp_path)
    with pytest.raises(DataError, match="found neither: there is no such folder"):
        read_small(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found neither: it is empty"):
        read_small(tmp_path / "empty")


@pytest.mark.parametrize(
    "content",
    [cut(FILES[FIRST]), other_axes(FILES[FIRST]), b"\0\0\x0d\x01", b"", b"\0\0\x08\x03\0", b"\0\1" + FILES[FIRST][2:]],
)
def test_a_file_with_the_right_checksum_must_still_be_idx(tmp_path, content):
    write_small(tmp_path, packed=False)
    (tmp_path / FIRST).write_bytes(content)
    with pytest.raises(DataError, match=f"{FIRST}: expected a whole IDX file"):
        mnist(tmp_path, sha256=SHA256 | {FIRST: hashlib.sha256(content).hexdigest()})


def test_images_and_labels_must_fit(tmp_path):
    write_small(tmp_path, packed=False)
    content = idx(np.zeros((4, 4, 6)))
    (tmp_path / FIRST).write_bytes(content)
    with pytest.raises(DataError, match=r"images \(N, H, W\) with labels \(N,\), got \(4, 4, 6\) and \(5,\)"):
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


# ---- Fashion-MNIST


def test_fashion_mnist_is_read_packed_or_not(clothes):
    folder, md5 = clothes
    packed = data.fashion_mnist(folder, md5=md5)
    assert packed.train.shape == (3, 1, 28, 28) and packed.test_labels.tolist() == [0, 1]
    assert packed.train.flatten()[255].item() == 1 and packed.train.flatten()[256].item() == -1
    for name in md5:
        (folder / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
        (folder / f"{name}.gz").unlink()
    assert torch.equal(data.fashion_mnist(str(folder), md5=md5).train, packed.train)


def test_fashion_mnist_knows_its_packed_files(clothes):
    folder, md5 = clothes
    with pytest.raises(data.DataError, match="train-images-idx3-ubyte.gz: expected the MD5 8d4fb7e6"):
        data.fashion_mnist(folder)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(data.DataError, match="found neither"):
        data.fashion_mnist(folder, md5=md5)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1")
    with pytest.raises(data.DataError, match="expected a whole IDX file"):
        data.fashion_mnist(folder, md5=md5)


# ---- levels, and the tables that come with the library


def test_levels_go_there_and_back():
    found = data.digits(8).train[:50]
    x = data.to_levels(found)
    assert x.shape == (50, 64) and x.dtype == torch.int64
    assert torch.equal(x.reshape(50, 8, 8), torch.as_tensor(load_digits().images[:50]).long())
    assert torch.equal(data.from_levels(x, (1, 8, 8)), found)
    assert data.from_levels([[0, 1, 2]], (3,), levels=3).tolist() == [[-1, 0, 1]]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda: data.to_levels(torch.full((1, 1, 2, 2), 0.1)), "images: expected 17 levels from -1 to 1, got 0.1"),
        (lambda: data.to_levels(torch.full((1, 1, 2, 2), 1.125)), "got 1.125"),
        (lambda: data.to_levels(torch.zeros(1, 1, 2, 2), 1), "levels: expected at least 2, got 1"),
        (lambda: data.from_levels(torch.full((1, 4), 17), (2, 2)), "x: expected symbols in 0..16, got 17"),
        (lambda: data.from_levels(torch.zeros(1, 4, dtype=torch.int64), (3,)), r"expected sequences \(N, 3\)"),
    ],
)
def test_what_has_no_levels_is_refused(mistake, words):
    with pytest.raises(ValueError, match=words):
        mistake()


def test_the_series_are_statsmodels():
    """Its own copies; the first and last values and the mean are stated here as well."""
    sun, sea = data.sunspots(), data.sea_temperature()
    assert sun.times.tolist() == list(range(1700, 2009)) and sun.values[[0, 257, -1]].tolist() == [5.0, 190.2, 2.9]
    assert len(sea.values) == 61 * 12 and sea.values[[0, 12, -1]].tolist() == [23.11, 24.19, 22.07]
    assert sea.times[[0, 1, -1]].tolist() == pytest.approx([1950, 1950 + 1 / 12, 2010 + 11 / 12])
    modern = (sun.times >= 1749) & (sun.times <= 1924)  # figures of ../shared/design/foundations.md
    assert float(sun.values[modern].mean()) == pytest.approx(44.784, abs=5e-4)
    assert float(sun.values[modern].var(correction=0)) == pytest.approx(1203.35, abs=5e-3)
    np.testing.assert_array_equal(sun.values, datasets.sunspots.load().data["SUNACTIVITY"])
    np.testing.assert_array_equal(sea.values, datasets.elnino.load_pandas().data.to_numpy()[:, 1:].ravel())


def test_the_penguins_are_the_342_that_were_measured():
    found = data.penguins()
    assert found.measurements.shape == (342, 4) and found.kinds == ("Adelie", "Chinstrap", "Gentoo")
    assert torch.bincount(found.species).tolist() == [151, 68, 123]
    assert found.measurements[0].tolist() == [39.1, 18.7, 181.0, 3750.0]
    assert found.measurements.mean(0).tolist() == pytest.approx([43.92, 17.15, 200.92, 4201.75], abs=0.005)


def test_an_altered_table_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "TABLES", tmp_path)
    (tmp_path / "sunspots.csv").write_text("YEAR,SUNACTIVITY\n1700,6\n")
    with pytest.raises(DataError, match="sunspots.csv: expected SHA-256"):
        data.sunspots()


def test_levels_are_the_nearest_ones():
    found = data.digits(8).train[:5]
    assert torch.equal(data.to_levels((found - 5e-5).clamp(min=-1)), data.to_levels(found))
