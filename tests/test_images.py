"""Readers' images of all kinds, whole and broken; borders laid around and taken away."""

import io
import struct
import zlib

import numpy as np
import own_images
import pytest
import torch
from oracles import seeded
from PIL import Image

from diffusion_lib import images
from diffusion_lib.images import decode_image, image_folder

# ---- images ----


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


QUARTERS = np.array([[0, 255], [128, 64]], np.uint8).repeat(8, 0).repeat(8, 1)  # a 16 x 16 image of four grey squares


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
    "GIF": (encode(Image.fromarray(QUARTERS), "GIF"), GREYS, 0),
    "WebP": (encode(Image.fromarray(QUARTERS).convert("RGB"), "WEBP", lossless=True), GREYS, 0),
    "BMP": (encode(Image.fromarray(QUARTERS), "BMP"), GREYS, 0),
    "TIFF": (encode(Image.fromarray(QUARTERS), "TIFF"), GREYS, 0),
    "16-bit TIFF": (encode(Image.fromarray(QUARTERS.astype(np.uint16) * 257), "TIFF"), GREYS, 0),
    "animation": (
        encode(Image.fromarray(QUARTERS), save_all=True, append_images=[Image.new("L", (16, 16), 255)]),
        GREYS,
        0,
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_image_gives_its_greys(name):
    content, greys, tolerance = PICTURES[name]
    x = decode_image(content, 8)
    assert x.shape == (1, 8, 8)
    assert x.dtype == torch.float64
    assert corners(x) == pytest.approx(greys, abs=tolerance + 1e-4)


def test_colours_count_as_the_eye_sees_them():
    for colour, weight in (((255, 0, 0), 0.299), ((0, 255, 0), 0.587), ((0, 0, 255), 0.114)):
        x = decode_image(encode(Image.new("RGB", (9, 9), colour)), 3)
        assert torch.allclose((x + 1) / 2, torch.full_like(x, weight), atol=0.5 / 255)


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_that_the_camera_turned_stands_upright(turn):
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
        assert corners(decode_image(encode(image, kind, exif=exif, **options), 8)) == pytest.approx(GREYS, abs=2)


def test_a_phones_two_images_in_one_file_count_as_one():
    pair = encode(Image.fromarray(QUARTERS), "MPO", save_all=True, append_images=[Image.new("L", (16, 16))], quality=95)
    assert corners(decode_image(pair, 8)) == pytest.approx(GREYS, abs=2)


@pytest.mark.parametrize("sideways", [False, True])
def test_the_central_square_is_kept(sideways):
    strip = np.zeros((6, 16), np.uint8)
    strip[:, 5:11] = 255
    x = decode_image(encode(Image.fromarray(strip.T if sideways else strip)), 6)
    assert x.min() == 1
    half = decode_image(encode(Image.fromarray(np.array([[0, 255]], np.uint8))), 1)
    assert half.item() == pytest.approx(0, abs=1e-6)  # the square half a pixel from either end


@pytest.mark.parametrize("size", [1, 5, 8, 28, 64])
def test_scaling_keeps_range_and_mean(size):
    values = np.random.default_rng(0).integers(0, 2, (40, 40)).astype(np.uint8) * 255
    x = decode_image(encode(Image.fromarray(values)), size)
    assert x.shape == (1, size, size)
    assert x.abs().max() <= 1
    assert x.mean() == pytest.approx(values.mean() / 127.5 - 1, abs=0.06)


NOISY_JPEG = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)), "JPEG")


def eps() -> bytes:
    return encode(Image.new("L", (8, 8)), "EPS")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an image file, such as PNG or JPEG, got something else"),
        (b"not an image at all", "an image file, such as PNG or JPEG, got something else"),
        (eps(), "an image file, such as PNG or JPEG, got something else"),  # Pillow would start another program
        (encode(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF"), "a deeper one"),
        (encode(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF"), "a deeper one"),
        (PICTURES["grey"][0][:-30], "damaged"),
        (NOISY_JPEG[: len(NOISY_JPEG) // 2], "damaged"),
        (PICTURES["colour JPEG"][0][:100], "image file|damaged"),
        (png(8, 8, b"short"), "damaged"),
    ],
)
def test_what_is_no_image_is_refused(content, message):
    with pytest.raises(ValueError, match=f"data: expected .*{message}"):
        decode_image(content, 8)


@pytest.mark.parametrize(
    ("width", "height"), [(10_000, 6_000), (8_000, 5_001), (20_000, 10_000), (2**31 - 1, 2**31 - 1)]
)
def test_a_bomb_is_refused_by_its_header(width, height, monkeypatch):
    def explode(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", explode)
    with pytest.raises(ValueError, match=r"data: expected at most 40,000,000 pixels.*smaller"):
        decode_image(png(width, height), 8)


def test_random_damage_is_a_value_error_or_an_image():
    """Flip bytes of every kind of image: whatever Pillow makes of it, no other error gets out."""
    rng = np.random.default_rng(0)
    for content, _, _ in PICTURES.values():
        for _ in range(40):
            spoiled = bytearray(content)
            for place in rng.integers(8, len(content), 3):
                spoiled[place] = rng.integers(256)
            try:
                x = decode_image(bytes(spoiled), 4)
            except ValueError:
                continue
            assert x.abs().max() <= 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: decode_image("image.png", 8), TypeError, "data: expected the bytes of an image file, got str"),
        (lambda: decode_image(PICTURES["grey"][0], 0), ValueError, "size: expected 1..1024, got 0"),
        (lambda: decode_image(PICTURES["grey"][0], 8.0), TypeError, "size"),
    ],
)
def test_bad_arguments_to_image(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_bytes_come_in_three_types():
    content = PICTURES["grey"][0]
    for kind in (bytes, bytearray, memoryview):
        assert decode_image(kind(content), 8).equal(decode_image(content, 8))


# ---- borders ----


@pytest.mark.parametrize(("side", "size"), [(28, 32), (8, 8), (1, 5), (16, 32)])
def test_padding_lays_paper_around_and_cropping_takes_it_away(side, size):
    x = torch.rand(3, 2, side, side, generator=seeded(), dtype=torch.float64)
    wide = images.pad(x, size)
    border = (size - side) // 2
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (border, border), (border, border)], constant_values=-1.0)
    assert wide.dtype == x.dtype and np.array_equal(wide.numpy(), expected)
    assert images.crop(wide, side).equal(x)
    assert float(images.pad(x, side + 2, value=0.5)[0, 0, 0, 0]) == 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: images.pad(torch.zeros(1, 1, 28, 28), 31),
            ValueError,
            "size: expected 28 plus an even border.*got 31",
        ),
        (lambda: images.pad(torch.zeros(1, 1, 28, 28), 26), ValueError, "size: expected 28 plus.*got 26"),
        (lambda: images.pad(torch.zeros(1, 1, 28, 26), 32), ValueError, "around 28 x 26 images"),
        (lambda: images.pad(torch.zeros(1, 1, 28, 28, dtype=torch.uint8), 32), TypeError, "images: .*torch.uint8"),
        (
            lambda: images.crop(torch.zeros(1, 1, 32, 32), 27),
            ValueError,
            "size: expected 32 less an even border.*got 27",
        ),
        (lambda: images.crop(torch.zeros(1, 1, 32, 32), 34), ValueError, "size: expected 32 less.*got 34"),
        (lambda: images.crop(torch.zeros(1, 1, 32, 32), 0), ValueError, "size: .*got 0"),
        (lambda: images.crop(torch.zeros(1, 1, 32, 30), 28), ValueError, "of 32 x 30 images"),
        (lambda: images.crop([[0.0]], 28), TypeError, "images: expected a torch.Tensor, got list"),
    ],
)
def test_borders_that_do_not_fit_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


RED, GREEN, CLEAR = (255, 0, 0), (0, 255, 0), (0, 0, 0, 0)

# ---- one image in colour


@pytest.mark.parametrize(
    ("mode", "colour", "channels", "expected"),
    [
        ("RGB", RED, 3, (1, -1, -1)),
        ("RGB", RED, 1, (0.299 * 2 - 1,)),
        ("L", 51, 3, (-0.6, -0.6, -0.6)),
        ("RGBA", CLEAR, 3, (1, 1, 1)),
        ("P", 0, 3, (-1, -1, -1)),
        ("I;16", 65535, 3, (1, 1, 1)),
    ],
)
def test_colours_are_kept_where_they_are_asked_for(mode, colour, channels, expected):
    file = io.BytesIO()
    Image.new(mode, (6, 4), colour).save(file, "PNG")
    image = decode_image(file.getvalue(), 2, channels)
    assert image.shape == (len(expected), 2, 2)
    assert image.amax((1, 2)).tolist() == pytest.approx(expected, abs=0.005)
    assert image.amin((1, 2)).tolist() == pytest.approx(expected, abs=0.005)


def test_a_coloured_image_is_turned_upright_and_cut_to_its_middle():
    pixels = np.zeros((2, 4, 3), np.uint8)  # left to right: red, green, blue, white
    for k, colour in enumerate([RED, GREEN, (0, 0, 255), (255, 255, 255)]):
        pixels[:, k] = colour
    upside_down, file = Image.Exif(), io.BytesIO()
    upside_down[274] = 3
    Image.fromarray(pixels).save(file, "PNG", exif=upside_down)
    middle = decode_image(file.getvalue(), 2, 3)
    assert middle[:, 0].T.tolist() == [[-1, -1, 1], [-1, 1, -1]]  # blue, green


def test_channels_are_one_or_three():
    with pytest.raises(ValueError, match="channels: expected 1, grey, or 3, colour, got 2"):
        decode_image(b"", 2, 2)


# ---- a folder


def test_sub_folders_are_classes_in_order(animals):
    found = image_folder(animals, 4, 3)
    assert found.classes == ("dog", "猫") and found.labels.tolist() == [0, 1, 1, 1, 1]
    assert found.images.shape == (5, 3, 4, 4) and found.images.dtype == torch.float32
    assert found.images[1:, 0, 0, 0].tolist() == pytest.approx([60 * k / 127.5 - 1 for k in range(4)])
    assert [path.name for path in found.skipped] == ["notes.txt"]


def test_a_folder_without_sub_folders_has_no_classes(tmp_path):
    for k in (2, 1):
        own_images.save(tmp_path / f"{k}.png", 50 * k, "L")
    found = image_folder(str(tmp_path), 8)
    assert found.classes == () and found.labels.tolist() == [0, 0] and found.skipped == ()
    assert found.images[:, 0, 0, 0].tolist() == pytest.approx([50 / 127.5 - 1, 100 / 127.5 - 1])


@pytest.mark.parametrize("content", [b"", b"no image at all", None], ids=["empty", "text", "cut off"])
def test_damaged_images_are_refused_or_named(animals, content):
    whole = (animals / "dog" / "deep" / "a.JPG").read_bytes()
    (animals / "dog" / "bad.png").write_bytes(whole[:200] if content is None else content)
    with pytest.raises(ValueError, match=r"bad.png: data: expected .* \(1 of 6 images are like that\)"):
        image_folder(animals, 4)
    found = image_folder(animals, 4, skip_damaged=True)
    assert len(found.images) == 5
    assert [path.name for path in found.skipped] == ["bad.png", "notes.txt"]


def test_what_is_no_folder_of_images_is_refused(tmp_path, animals):
    with pytest.raises(FileNotFoundError, match="nowhere: expected a folder of images"):
        image_folder(tmp_path / "nowhere", 4)
    own_images.save(animals / "loose.png", RED)
    with pytest.raises(ValueError, match="loose.png: expected every image in one of the sub-folders"):
        image_folder(animals, 4)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("")
    with pytest.raises(ValueError, match="expected PNG or JPEG images, got 1 files"):
        image_folder(tmp_path / "empty", 4)
