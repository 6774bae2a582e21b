"""Sliders: the one widget class of the course, and a factory for each explorer that a lesson shows."""

from diffusion_lib.teaching.widgets.ddpm import Film, filmstrip_explorer, record
from diffusion_lib.teaching.widgets.entropy import entropy_explorer
from diffusion_lib.teaching.widgets.explorer import Control, Explorer, sweep
from diffusion_lib.teaching.widgets.gaussian_sum import gaussian_sum_explorer
from diffusion_lib.teaching.widgets.histogram import histogram_explorer
from diffusion_lib.teaching.widgets.markov_step import markov_step_explorer
from diffusion_lib.teaching.widgets.noising import noising_explorer
from diffusion_lib.teaching.widgets.notation import convention_explorer
from diffusion_lib.teaching.widgets.objective import bound_explorer, rotation_explorer, weights_explorer
from diffusion_lib.teaching.widgets.posterior import posterior_explorer, posterior_path_explorer
from diffusion_lib.teaching.widgets.reverse import one_shot_explorer, reverse_variance_explorer
from diffusion_lib.teaching.widgets.sampler import circle_explorer, jump_explorer, sampler_explorer, steps_explorer
from diffusion_lib.teaching.widgets.terminal import terminal_explorer
from diffusion_lib.teaching.widgets.unet import ablation_explorer, shape_explorer, time_explorer, trace

__all__ = [
    "EXPLORERS",
    "Control",
    "Explorer",
    "Film",
    "ablation_explorer",
    "bound_explorer",
    "circle_explorer",
    "convention_explorer",
    "entropy_explorer",
    "filmstrip_explorer",
    "gaussian_sum_explorer",
    "histogram_explorer",
    "jump_explorer",
    "markov_step_explorer",
    "noising_explorer",
    "one_shot_explorer",
    "posterior_explorer",
    "posterior_path_explorer",
    "record",
    "reverse_variance_explorer",
    "rotation_explorer",
    "sampler_explorer",
    "shape_explorer",
    "steps_explorer",
    "sweep",
    "terminal_explorer",
    "time_explorer",
    "trace",
    "weights_explorer",
]

# Every factory: called without arguments it returns an Explorer, and tests sweep each of its controls.
EXPLORERS = (
    convention_explorer,
    steps_explorer,
    sampler_explorer,
    jump_explorer,
    circle_explorer,
    entropy_explorer,
    filmstrip_explorer,
    gaussian_sum_explorer,
    histogram_explorer,
    markov_step_explorer,
    noising_explorer,
    one_shot_explorer,
    posterior_explorer,
    posterior_path_explorer,
    reverse_variance_explorer,
    terminal_explorer,
    bound_explorer,
    rotation_explorer,
    weights_explorer,
    time_explorer,
    shape_explorer,
    ablation_explorer,
)
