"""The U-Net: the same as diffusers' with the same weights; what is built from parts does what the parts say."""

import pytest
import torch
from unet_oracle import renamed, twins

from diffusion_lib.models.unet import UNetConfig

GRAPHS = {
    "MNIST's": UNetConfig(classes=10),
    "three stages, unlabelled": UNetConfig(image_size=16, mults=(1, 2, 4), attention_at=(4,)),
    "colour, two heads, one block": UNetConfig(
        channels=3, image_size=8, width=16, mults=(1, 2), blocks=1, attention_at=(4,), heads=2, classes=3
    ),
}


def relative(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).detach().norm() / right.detach().norm())


@pytest.mark.parametrize("config", GRAPHS.values(), ids=GRAPHS)
def test_same_weights_same_answer_same_gradients_as_diffusers(config):
    ours, theirs = twins(config)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, config.channels, config.image_size, config.image_size, generator=generator)
    direction = torch.randn(x.shape, generator=generator)
    t = torch.tensor([1, 777])  # the number that is embedded; diffusers' pipelines call our t - 1 "timestep"
    labels = torch.tensor([0, config.classes]) if config.classes else None
    left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = ours(left, t, labels), theirs(right, t, class_labels=labels).sample
    (a * direction).sum().backward(), (b * direction).sum().backward()
    assert relative(a, b) < 1e-5
    assert relative(left.grad, right.grad) < 1e-5
    gradients = renamed({name: p.grad for name, p in theirs.named_parameters()}, config)
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, p in ours.named_parameters():
        assert relative(p.grad, gradients[name]) < 1e-5, name
