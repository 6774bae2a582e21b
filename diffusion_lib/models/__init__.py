"""Everything with weights: the layers that networks are built from, and the networks, by family."""

from collections.abc import Mapping
from typing import Any

from diffusion_lib.models.autoregressive import Autoregressive, GRUConfig, TransformerConfig
from diffusion_lib.models.flow import Flow, FlowConfig
from diffusion_lib.models.gan import GAN, GANConfig
from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.models.vae import VAE, VAEConfig

Model = UNet | Autoregressive | VAE | Flow | GAN
Config = UNetConfig | GRUConfig | TransformerConfig | VAEConfig | FlowConfig | GANConfig

# What a file's `family` names: the class and the class of its configuration, which stands under that name in the file
FAMILIES: dict[str, tuple[Any, type[Config]]] = {
    "unet": (UNet, UNetConfig),
    "gru": (Autoregressive, GRUConfig),
    "transformer": (Autoregressive, TransformerConfig),
    "vae": (VAE, VAEConfig),
    "flow": (Flow, FlowConfig),
    "gan": (GAN, GANConfig),
}


def read_description(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description in a file of weights or a checkpoint in today's terms, whenever it was written.

    Files without a `family` describe a U-Net, which then had three switches for ablations, `skips`, `time` and
    `attention`. True is what every U-Net does today, so they are dropped; a network without is not built any more.

    Raises: ValueError for a switch that is not true, TypeError or ValueError for what is no description.
    """
    found = dict(run)
    if "unet" not in found:
        return found
    config = dict(found["unet"])
    for switch in ("skips", "time", "attention"):
        if config.pop(switch, True) is not True:
            raise ValueError(f"unet.{switch}: expected true, a U-Net with all its parts, got {run['unet'][switch]!r}")
    return {"family": "unet", **found, "unet": config}
