"""diffusers' UNet2DModel as an oracle: the same graph, and a copy of its weights into ours, name by name."""

import torch
from diffusers import UNet2DModel

from diffusion_lib.models.unet import UNet, UNetConfig


def peer(config: UNetConfig, groups: int | None = None, head_dim: int | None = None, seed: int = 0) -> UNet2DModel:
    """Return diffusers' network of the graph that `config` describes; `groups` and `head_dim`: its own defaults."""
    attend = [size in config.attention_at for size in config.sizes]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DModel(
            sample_size=config.image_size,
            in_channels=config.channels,
            out_channels=config.channels,
            layers_per_block=config.blocks,
            block_out_channels=config.widths,
            down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attend],
            up_block_types=["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)],
            norm_num_groups=groups or 32,
            attention_head_dim=head_dim or 8,
            # its embedding has no row of its own for "no label": we ask for one row more
            num_class_embeds=config.classes + 1 if config.classes else None,
        )


def head_dim(config: UNetConfig) -> int:
    """Return the size of a head: diffusers fixes it for all stages, so all stages with attention must agree."""
    widths = {w for w, size in zip(config.widths, config.sizes, strict=True) if size in config.attention_at}
    (width,) = widths | {config.widths[-1]}
    return width // config.heads


def renamed(state: dict[str, torch.Tensor], config: UNetConfig) -> dict[str, torch.Tensor]:
    """Return diffusers' weights under our names."""
    ours, shifts = {}, []
    stages = len(config.mults)

    def put(theirs: str, name: str) -> None:
        for part in ("weight", "bias"):
            if f"{theirs}.{part}" in state:
                ours[f"{name}.{part}"] = state[f"{theirs}.{part}"]

    def put_block(theirs: str, number: int, name: str) -> None:
        res = f"{theirs}.resnets.{number}"
        pairs = {"norm1": "norm_in", "conv1": "conv_in", "norm2": "norm_out"}
        pairs |= {"conv2": "conv_out", "conv_shortcut": "shortcut"}
        for left, right in pairs.items():
            put(f"{res}.{left}", f"{name}.res.{right}")
        shifts.append(f"{res}.time_emb_proj")  # a map for each block; ours are the rows of a single one
        attention = f"{theirs}.attentions.{number}"
        if f"{attention}.to_q.weight" not in state:
            return
        put(f"{attention}.group_norm", f"{name}.attention.norm")
        for part in ("weight", "bias"):
            qkv = torch.cat([state[f"{attention}.to_{letter}.{part}"] for letter in "qkv"])
            out = state[f"{attention}.to_out.0.{part}"]
            ours[f"{name}.attention.qkv.{part}"] = qkv[..., None, None] if part == "weight" else qkv
            ours[f"{name}.attention.out.{part}"] = out[..., None, None] if part == "weight" else out

    put("conv_in", "stem"), put("conv_norm_out", "norm"), put("conv_out", "head")
    put("time_embedding.linear_1", "time.expand"), put("time_embedding.linear_2", "time.mix")
    put("class_embedding", "label")
    for i in range(stages):
        for j in range(config.blocks):
            put_block(f"down_blocks.{i}", j, f"down.{i}.blocks.{j}")
        if i < stages - 1:  # theirs halves at the end of a stage, ours at the start of the next: the same place
            put(f"down_blocks.{i}.downsamplers.0.conv", f"down.{i + 1}.down.conv")
    put_block("mid_block", 0, "middle.0"), put_block("mid_block", 1, "middle.1")
    for i in range(stages):
        for j in range(config.blocks + 1):
            put_block(f"up_blocks.{i}", j, f"up.{i}.blocks.{j}")
        if i < stages - 1:
            put(f"up_blocks.{i}.upsamplers.0.conv", f"up.{i}.up.conv")
    for part in ("weight", "bias"):
        ours[f"shifts.{part}"] = torch.cat([state[f"{name}.{part}"] for name in shifts])
    return ours


def twins(config: UNetConfig) -> tuple[UNet, UNet2DModel]:
    """Return our network and diffusers' with the same random weights, none of them zero."""
    theirs = peer(config, config.groups, head_dim(config))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for p in theirs.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    ours = UNet(config)
    ours.load_state_dict(renamed(theirs.state_dict(), config))
    return ours, theirs
