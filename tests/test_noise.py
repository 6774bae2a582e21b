"""Noise: the same numbers for the same seed, on every device; other ones under $COURSE_SEED."""

import pytest
import torch
from scipy import stats

from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.noise import noise_like, normal, seeded


def numbers(generator: torch.Generator) -> list[float]:
    return torch.rand(4, generator=generator).tolist()


@pytest.fixture(autouse=True)
def no_course_seed(monkeypatch):
    monkeypatch.delenv("COURSE_SEED", raising=False)


def test_a_seed_is_pytorchs():
    assert numbers(seeded(3)) == numbers(torch.Generator().manual_seed(3))
    assert seeded(3).device.type == "cpu"


@pytest.mark.parametrize(("course", "n"), [("", 5), ("0", 5), ("2", 7), ("1000", 1005)])
def test_the_course_seed_is_added(monkeypatch, course, n):
    monkeypatch.setenv("COURSE_SEED", course)
    assert seeded(5).initial_seed() == n
    assert torch.equal(normal(3, seed=5), torch.randn(3, generator=torch.Generator().manual_seed(n)))


def test_the_course_seed_does_not_touch_the_weights_of_a_new_network(monkeypatch):
    config = UNetConfig(image_size=8, width=4, mults=(1,), blocks=1, attention_at=())
    before = UNet(config, seed=1).stem.weight
    monkeypatch.setenv("COURSE_SEED", "7")
    assert torch.equal(UNet(config, seed=1).stem.weight, before)


@pytest.mark.parametrize("course", ["many", "1.5"])
def test_a_course_seed_that_is_no_number_is_named(monkeypatch, course):
    monkeypatch.setenv("COURSE_SEED", course)
    with pytest.raises(ValueError, match=f"COURSE_SEED: expected a whole number, got '{course}'"):
        seeded(0)


def test_a_seed_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match="float"):
        seeded(1.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_is_standard_normal_in_the_default_dtype(dtype):
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        x = normal(100, 30, seed=1)
    finally:
        torch.set_default_dtype(before)
    assert x.shape == (100, 30) and x.dtype == dtype
    assert stats.kstest(x.flatten().double(), "norm").pvalue > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_noise_like_has_shape_and_dtype_and_follows_its_generator(dtype):
    x, generator = torch.zeros(4, 2, 3, dtype=dtype), seeded(2)
    first, second = noise_like(x, generator), noise_like(x, generator)
    assert first.shape == x.shape and first.dtype == dtype and not torch.equal(first, second)
    assert torch.equal(first, torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(2), dtype=dtype))


def test_noise_like_is_drawn_on_the_cpu_and_moved():
    """The device `meta` has no numbers: what is drawn there by a CPU generator would be an error."""
    assert noise_like(torch.zeros(2, 3, device="meta"), seeded(0)).device.type == "meta"


@pytest.mark.parametrize(
    ("x", "generator", "error", "words"),
    [
        ([1.0], seeded(0), TypeError, "x: expected a torch.Tensor, got list"),
        (torch.zeros(2).long(), seeded(0), TypeError, "x: expected floating point, got torch.int64"),
        (torch.zeros(2), 3, TypeError, "generator: expected a torch.Generator"),
    ],
)
def test_noise_like_refuses(x, generator, error, words):
    with pytest.raises(error, match=words):
        noise_like(x, generator)
