"""The source of one explorer that has every kind of control, small enough to be run in many tests."""

SMALL = """
import torch
from diffusion_lib.images import decode_image
from diffusion_lib.teaching.explorer import Control, Explorer
from diffusion_lib.teaching.style import new_figure, show_image

def show(t, shift, name, own):
    x = torch.linspace(-1, 1, 8).repeat(8, 1) if own is None else decode_image(own, 8)[0]
    figure, (axes,) = new_figure(2.4, 2.4)
    show_image(axes, (1 - t) * x + shift, name)
    what = "ramp" if own is None else f"own image of {len(own)} bytes"
    return figure, f"{name}: t = {t}, shift = {shift}, {what}."

controls = [
    Control("t", "time t", (0.0, 0.5, 0.75), form="t = {:.2f}"),
    Control("shift", "shift", (0, 1, 2), kind="live"),
    Control("name", "name", ("one", "two")),
    Control("own", "your own image", kind="image"),
]
explorer = Explorer(show, controls)
explorer
"""
