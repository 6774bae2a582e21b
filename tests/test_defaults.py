"""PyTorch's global defaults, for dtype and device, change nothing that the library gives.

But for two things, which follow the default dtype as PyTorch's own do: new modules, and `noise.normal`.
"""

import pytest
import torch

from diffusion_lib import bound, data, densities, gaussians, metrics, notation, process, samplers, schedules, toys
from diffusion_lib.denoisers import Clipped, ExactDenoiser
from diffusion_lib.losses import denoising_draw, denoising_loss
from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.noise import noise_like, seeded
from diffusion_lib.pretrained import pretrained
from diffusion_lib.runs import sample_images
from diffusion_lib.training import Trainer, TrainingConfig

SMALL = UNetConfig(image_size=8, width=8, mults=(1, 2), blocks=1, groups=2, classes=10)


def schedules_and_letters():
    """The tables, their times, and every paper's letters for them."""
    tables = [make(8) for make in (schedules.linear, schedules.scaled_linear, schedules.cosine, schedules.su)]
    steps = [schedules.uniform_steps(tables[0], 3), schedules.log_snr_steps(tables[0], 3)]
    letters = [each.encode(notation.amplitudes(tables[0])) for each in notation.CONVENTIONS.values()]
    return [*(table.alpha_bar for table in tables), *steps, *letters]


def toys_and_distances():
    """Draws of every toy, a fitted mixture, distances between samples."""
    points = [getattr(toys, name)().sample(50, seeded(0)) for name in ("two_moons", "eight_gaussians", "bimodal")]
    mixture = densities.fit_mixture(points[0], 2, seeded(1))
    numbers = [
        metrics.sliced_wasserstein(points[0], points[1], 5, seeded(2)),
        metrics.wasserstein(points[2], points[2]),
    ]
    return [*points, toys.Checkerboard().sample(9, seeded(3)), mixture.means, mixture.log_prob(points[1]), *numbers]


def process_and_samplers():
    """Noise laid on and taken off, by every sampler; the bound of an exact denoiser."""
    schedule, line = schedules.linear(20, 0.01, 0.3), toys.bimodal()
    denoise, x = Clipped(ExactDenoiser(schedule, line)), line.sample(6, seeded(0))
    x_t = process.q_sample(schedule, x, 20, noise_like(x, seeded(1)))
    steps = schedules.uniform_steps(schedule, 5)
    walks = [
        samplers.ddpm(denoise, schedule, x_t, steps, generator=seeded(2)),
        samplers.ddim(denoise, schedule, x_t, steps),
    ]
    ends = [samplers.final(walk) for walk in [*walks, samplers.dpmpp_2m(denoise, schedule, x_t, steps)]]
    terms = bound.variational_bound(schedule, ExactDenoiser(schedule, line), x, seeded(3))
    return [x_t, *ends, *process.q_posterior(schedule, x, x_t, 3, 7), terms, gaussians.kl_normal(x, x + 9, 0.0, 1.0)]


def images_and_training():
    """Digits, two steps of training in float32, what the shipped weights answer."""
    scans, schedule = data.digits(), schedules.linear()
    model = UNet(SMALL).float()  # drawn in the default dtype, as every module of PyTorch is
    for p in model.parameters():
        torch.nn.init.constant_(p, 0.01)
    trainer = Trainer(model, TrainingConfig(steps=2, warmup=1))
    draw = denoising_draw(scans.train.float(), schedule, 4, scans.train_labels, model.no_label, 0.5)
    loss = lambda net, x0, t, eps, labels: denoising_loss(schedule, lambda x, t: net(x, t, labels), x0, t, eps)  # noqa: E731
    for _ in trainer.train(draw, loss):
        pass
    return [scans.train, scans.test_labels, *trainer.ema.values(), sample_images(pretrained("digits"), steps=2)]


@pytest.mark.parametrize(
    "battery", [schedules_and_letters, toys_and_distances, process_and_samplers, images_and_training]
)
@pytest.mark.parametrize("defaults", [("float16", "cpu"), ("float64", "cpu"), ("float32", "meta")], ids=str)
def test_global_defaults_change_nothing(battery, defaults):
    """On the device `meta` whatever the library makes without saying where has no values."""
    expected, dtype = battery(), torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, defaults[0]))
    torch.set_default_device(defaults[1])
    try:
        found = battery()
    finally:
        torch.set_default_dtype(dtype)
        torch.set_default_device(None)
    for left, right in zip(expected, found, strict=True):
        left, right = torch.as_tensor(left), torch.as_tensor(right)
        assert (left.dtype, left.device) == (right.dtype, right.device)
        assert torch.equal(left.nan_to_num(7), right.nan_to_num(7))
