"""Train a small U-Net on handwritten digits and draw sixteen new ones with DDIM: two minutes on a CPU core."""

import argparse

import torch
from PIL import Image

from diffusion_lib.data import digits
from diffusion_lib.denoisers import LearnedDenoiser
from diffusion_lib.losses import denoising_draw, denoising_loss
from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.process import V
from diffusion_lib.samplers import ddim, final
from diffusion_lib.schedules import cosine, uniform_steps
from diffusion_lib.training import Trainer, TrainingConfig

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--steps", type=int, default=2000, help="training steps")
parser.add_argument("--width", type=int, default=16, help="channels of the first stage")
parser.add_argument("--out", default="digits.png", help="the image that is written")
options = parser.parse_args()

schedule = cosine()  # alpha_bar_t for t = 0..1000
data = digits().train.float()  # (1437, 1, 8, 8) in [-1, 1]
model = UNet(UNetConfig(image_size=8, width=options.width, mults=(1, 2), attention_at=(4,)))
trainer = Trainer(model, TrainingConfig(steps=options.steps, lr=1e-3))

draw = denoising_draw(data, schedule, batch=64)  # generator -> x_0, t, eps
for step in trainer.train(draw, lambda model, x0, t, eps: denoising_loss(schedule, model, x0, t, eps, V)):
    if step.step % 250 == 0 or step.step == options.steps:
        print(f"step {step.step}: loss {step.loss:.3f}", flush=True)

model.load_state_dict(trainer.ema)  # the averaged weights draw better images than the last ones
noise = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    samples = final(ddim(LearnedDenoiser(schedule, model, V), schedule, noise, uniform_steps(schedule, 50)))
row = torch.cat(list(samples[:, 0]), dim=1).mul(-127.5).add(127.5).clamp(0, 255)  # (8, 128), dark ink
Image.fromarray(row.to(torch.uint8).numpy()).resize((1024, 64), Image.Resampling.NEAREST).save(options.out)
