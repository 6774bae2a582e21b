"""What the command line trains, family by family: the data, what a step draws and minimises, what to show of it."""

import argparse
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib import data, losses
from diffusion_lib.arguments import require_count
from diffusion_lib.denoisers import Clipped
from diffusion_lib.images import crop, image_folder, pad
from diffusion_lib.models import FAMILIES, Config, Model
from diffusion_lib.noise import seeded
from diffusion_lib.pretrained import Network, Pretrained
from diffusion_lib.process import PARAMETERIZATIONS
from diffusion_lib.samplers import ddim, final
from diffusion_lib.schedules import SCHEDULES, Schedule, uniform_steps
from diffusion_lib.training import Draw, Loss, Players, Trainer, TrainingConfig, unwrapped

DATA_SETS = ("digits", "mnist", "fashion-mnist")  # what --data names besides a folder
INK = ("digits", "mnist")  # shown as dark ink on white


class TrainingData(NamedTuple):
    """Training images in [-1, 1], their labels, the number of classes (0: none), what to record, what to say."""

    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,) int64
    classes: int
    about: Mapping[str, Any]
    lines: Sequence[str] = ()


Options = argparse.Namespace


@dataclass(frozen=True)
class Recipe:
    """How one family of models is trained and shown.

    The options that only this family has are the fields of its configuration that `sizes` does not decide, and those
    in `defaults`, each with its default value here; `betas` are the optimizer's where --betas gives no others.
    """

    data: Callable[[Options], TrainingData]
    sizes: Callable[[Options, TrainingData], dict[str, Any]]  # the fields of the configuration that the data decide
    draw: Callable[[Options, Any, TrainingData], Draw]  # what draws a step's batch, for (options, model, data)
    loss: Callable[[Options, Any], Any]  # (options, model) -> the loss of each example, or one a player
    show: Callable[[Network, int | None, float | None, int], Tensor]  # (network, steps, scale, seed) -> images
    trainer: Callable[[Any, TrainingConfig], Any] = Trainer
    defaults: Mapping[str, Any] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.999)


# ---- the data


def images_of(options: Options, size: int, padded: int = 0) -> TrainingData:
    """Return the data that --data names: digits of `size`, MNIST or Fashion-MNIST, `padded`, or a folder of images.

    Raises: DataError, ValueError, OSError.
    """
    if options.data not in DATA_SETS:
        return _folder_of(options)
    if options.colour or options.damaged:
        raise ValueError(f"--colour, --damaged: expected a folder of images in --data, got {options.data}")
    if options.data == "fashion-mnist" and options.folder is None:
        raise ValueError("--folder: expected the folder of Fashion-MNIST's four files; they are not downloaded")
    if options.data == "digits":
        found = data.digits(size)
        return TrainingData(found.train, found.train_labels, 10, {})
    found = data.mnist(options.folder) if options.data == "mnist" else data.fashion_mnist(options.folder)
    return TrainingData(pad(found.train, padded) if padded else found.train, found.train_labels, 10, {})


def _folder_of(options: Options) -> TrainingData:
    """The reader's own images, known again by their bytes."""
    own = image_folder(options.data, options.size, 3 if options.colour else 1, skip_damaged=options.damaged == "skip")
    said = [f"{options.data}: {len(own.images)} images, {len(own.classes)} classes"]
    pixels = hashlib.sha256(own.images.numpy().tobytes()).hexdigest()
    about = {"data": "folder", "images": len(own.images), "classes": list(own.classes), "sha256": pixels}
    lines = said + [f"skipped: {path}" for path in own.skipped]
    return TrainingData(own.images, own.labels, len(own.classes), about, lines)


# ---- a U-Net that learns to denoise


def padded_images(options: Options) -> TrainingData:
    """Return digits of 16 x 16 pixels, MNIST's of 32 x 32, or a folder's images. Raises: DataError, ValueError."""
    return images_of(options, 16, 32)


def unet_sizes(options: Options, found: TrainingData) -> dict[str, Any]:
    """Return channels, size and classes of the images, and attention at the lowest stage if no side is given."""
    channels, size = found.images.shape[1], found.images.shape[-1]
    sides = options.attention_at
    attention_at = (size // 2 ** (len(options.mults) - 1),) if sides is None else tuple(sides)
    return {"channels": channels, "image_size": size, "classes": found.classes, "attention_at": attention_at}


def denoising_draw(options: Options, model: Any, found: TrainingData) -> Draw:
    """Return the draw of images, times, noise and dropped labels. Raises: TypeError, ValueError."""
    labels, schedule = found.labels if found.classes else None, SCHEDULES[options.schedule]()
    return losses.denoising_draw(found.images, schedule, options.batch, labels, model.no_label, options.drop)


def denoising_loss(options: Options, model: Any) -> Loss:
    """Return the denoising loss in the parameterization that --predict names."""
    return partial(image_loss, SCHEDULES[options.schedule](), options.predict)


def image_loss(
    schedule: Schedule, predict: str, model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Return each image's denoising loss, (B,); labels for a network that takes them."""
    return losses.denoising_loss(schedule, partial(model, labels=labels), x0, t, eps, PARAMETERIZATIONS[predict])


def ddim_images(network: Network, steps: int | None, scale: float | None, seed: int) -> Tensor:
    """Return what `steps` (25) DDIM steps make of seeded noise, guided by `scale` (1); MNIST's images unpadded.

    Raises: TypeError, ValueError.
    """
    found = Pretrained.of(network)
    config, schedule = found.model.config, found.schedule
    shape = (8 * columns_of(network), config.channels, config.image_size, config.image_size)
    noise = torch.randn(shape, generator=seeded(seed), dtype=torch.float32, device="cpu")
    count = require_count("steps", 25 if steps is None else steps, 2, schedule.T)
    denoise = Clipped(found.denoiser(columns_of_labels(network), 1.0 if scale is None else scale))
    with torch.inference_mode():
        images = final(ddim(denoise, schedule, noise, uniform_steps(schedule, count)))
    return crop(images, 28) if network.run.get("data") in ("mnist", "fashion-mnist") else images


# ---- models of grey images, as sequences of symbols or as points


def plain_images(options: Options) -> TrainingData:
    """Return digits of 8 x 8 pixels, MNIST's of 28 x 28, or a folder's images. Raises: DataError, ValueError."""
    return images_of(options, 8)


def levels_of(options: Options) -> int:
    """Return the number of grey levels from -1 to 1: 17 of the digits, else 256."""
    return 17 if options.data == "digits" else 256


def grey_size(options: Options, found: TrainingData) -> tuple[int, int]:
    """Return height and width of grey images. Raises: ValueError for colour."""
    channels, rows, columns = found.images.shape[1:]
    if channels != 1:
        raise ValueError(f"--colour: expected grey images for --family {options.family}, got {channels} channels")
    return rows, columns


def sequence_sizes(options: Options, found: TrainingData) -> dict[str, Any]:
    """Return rows, columns, grey levels and classes. Raises: ValueError for colour."""
    rows, columns = grey_size(options, found)
    return {"levels": levels_of(options), "rows": rows, "columns": columns, "classes": found.classes}


def sequence_draw(options: Options, model: Any, found: TrainingData) -> Draw:
    """Return the draw of sequences, and of their labels, some of them dropped, where the model takes labels."""
    symbols = data.to_levels(found.images.double(), model.config.levels)
    labels = found.labels if found.classes else None
    return losses.labelled_draw(symbols, options.batch, labels, model.no_label, options.drop)


def sequence_loss(options: Options, model: Any) -> Loss:
    """Return the negative log likelihood of each sequence, in nats."""
    return lambda net, x, labels=None: losses.nll(net(x, labels), x)


def sequence_images(network: Network, steps: int | None, scale: float | None, seed: int) -> Tensor:
    """Return sequences drawn symbol by symbol, as images. Raises: ValueError for steps or a scale: it has none."""
    refuse_steps(network, steps, scale)
    model = network.model
    drawn = model.sample(8 * columns_of(network), seeded(seed), columns_of_labels(network))
    return data.from_levels(drawn, (1, model.config.rows, model.config.columns), model.config.levels).float()


def point_sizes(options: Options, found: TrainingData) -> dict[str, Any]:
    """Return the number of pixels. Raises: ValueError for colour."""
    return {"dimensions": math.prod(grey_size(options, found))}


def vae_sizes(options: Options, found: TrainingData) -> dict[str, Any]:
    """Return the numbers of pixels and of grey levels. Raises: ValueError for colour."""
    return {**point_sizes(options, found), "levels": levels_of(options)}


def vae_draw(options: Options, model: Any, found: TrainingData) -> Draw:
    """Return the draw of points and of a standard normal vector for each."""
    return _with_normal(found.images.flatten(1), options.batch, [model.config.latent])


def vae_loss(options: Options, model: Any) -> Loss:
    """Return minus the evidence lower bound of each point, its KL divergence times --beta, in nats."""
    return lambda net, x, eps: -losses.elbo(net, x, eps, options.beta)


def flow_draw(options: Options, model: Any, found: TrainingData) -> Draw:
    """Return the draw of points with uniform noise of one level's width: a density has no finite value on a grid."""
    points, width = found.images.flatten(1), 2 / (levels_of(options) - 1)
    pick = losses.labelled_draw(points, options.batch)

    def draw(generator: torch.Generator) -> tuple[Tensor]:
        (x,) = pick(generator)
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device="cpu")
        return (x + width * (noise - 0.5),)

    return draw


def flow_loss(options: Options, model: Any) -> Loss:
    """Return -log p(x) of each point, in nats."""
    return lambda net, x: -net(x)


def gan_draw(options: Options, model: Any, found: TrainingData) -> Draw:
    """Return the draw of points and of two standard normal vectors for each: one for either player's step."""
    return _with_normal(found.images.flatten(1), options.batch, [model.config.latent] * 2)


def gan_losses(options: Options, model: Any) -> tuple[Loss, Loss]:
    """Return the losses of the two players of a GAN: generator, discriminator with the penalty --r1."""
    plain: Any = unwrapped(model)
    return (
        lambda net, x, own, other: losses.generator_loss(net, plain.discriminator, other),
        lambda net, x, own, other: losses.discriminator_loss(net, plain.generator, x, own, options.r1),
    )


def _with_normal(points: Tensor, batch: int, widths: Sequence[int]) -> Draw:
    pick = losses.labelled_draw(points, batch)

    def draw(generator: torch.Generator) -> tuple[Tensor, ...]:
        (x,) = pick(generator)
        normals = [torch.randn(batch, k, generator=generator, dtype=x.dtype, device="cpu") for k in widths]
        return x, *normals

    return draw


def point_images(network: Network, steps: int | None, scale: float | None, seed: int) -> Tensor:
    """Return draws of points as square images, cut to [-1, 1]. Raises: ValueError for steps or a scale: it has none."""
    refuse_steps(network, steps, scale)
    drawn = network.model.sample(8 * columns_of(network), seeded(seed))
    side = math.isqrt(drawn.shape[1])
    return drawn.clamp(-1, 1).view(-1, 1, side, side)


def refuse_steps(network: Network, steps: int | None, scale: float | None) -> None:
    """ValueError for steps or a guidance scale, of a family that samples in one way."""
    for name, value in (("steps", steps), ("scale", scale)):
        if value is not None:
            raise ValueError(f"--{name}: expected none for the family {network.run['family']}, got {value}")


_SEQUENCES = Recipe(plain_images, sequence_sizes, sequence_draw, sequence_loss, sequence_images)
RECIPES: Mapping[str, Recipe] = {
    "unet": Recipe(
        padded_images, unet_sizes, denoising_draw, denoising_loss, ddim_images,
        defaults={"schedule": "linear", "predict": "eps"},
    ),
    "gru": _SEQUENCES,
    "transformer": _SEQUENCES,
    "vae": Recipe(plain_images, vae_sizes, vae_draw, vae_loss, point_images, defaults={"beta": 1.0}),
    "flow": Recipe(plain_images, point_sizes, flow_draw, flow_loss, point_images),
    "gan": Recipe(
        plain_images, point_sizes, gan_draw, gan_losses, point_images,
        trainer=Players, defaults={"r1": 0.1}, betas=(0.0, 0.99),
    ),
}  # fmt: skip


# ---- from options to a model, and what a checkpoint says of it


def settle(options: Options) -> None:
    """Give every option of the family that was not given its default. Raises: ValueError for another family's option.

    An option that was not given is None; one without a default of the recipe has that of the configuration's field.
    """
    recipe, ours = RECIPES[options.family], family_options(options.family)
    for name in sorted(set().union(*map(family_options, RECIPES))):
        given = getattr(options, name)
        if name not in ours:
            if given is not None:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: expected an option of the family {options.family}, got {given}")
        elif given is None:
            setattr(options, name, recipe.defaults.get(name, ours[name]))


def family_options(family: str) -> dict[str, Any]:
    """Return the options that a family has, {name: default of its configuration}: what the data do not decide."""
    decided = {"channels", "image_size", "classes", "levels", "rows", "columns", "dimensions"}
    found = {entry.name: entry.default for entry in fields(FAMILIES[family][1]) if entry.name not in decided}
    if "attention_at" in found:
        found["attention_at"] = None  # the lowest stage's, which follows from the data
    return {**RECIPES[family].defaults, **found}


def new_model(options: Options, found: TrainingData) -> Model:
    """Return a new model of --family for these data. Raises: TypeError, ValueError."""
    family, config_class = FAMILIES[options.family]
    sizes = RECIPES[options.family].sizes(options, found)
    names = {entry.name for entry in fields(config_class)} - set(sizes)
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    model: Model = family(config_class(**given, **sizes), seed=options.seed)
    return model


def described(family: str, config: Config) -> dict[str, Any]:
    """Return what a file says of its model: its family, and its configuration under that name."""
    return {"family": family, family: json.loads(json.dumps(asdict(config)))}


def describe(options: Options, config: Config, precision: str) -> dict[str, Any]:
    """Return what a checkpoint says of its run besides the training's settings and the weights that it began with."""
    chosen = set(RECIPES[options.family].defaults) - {entry.name for entry in fields(config)}
    of_loss = {"data": options.data, **{name: getattr(options, name) for name in sorted(chosen)}}
    batch = {"batch": options.batch, "drop": options.drop, "precision": precision}
    return {**described(options.family, config), **of_loss, **batch}


def columns_of(network: Network) -> int:
    """Return how many images stand side by side in a grid of samples: one a label, at most ten; ten without labels."""
    return min(getattr(network.model.config, "classes", 0) or 10, 10)


def columns_of_labels(network: Network) -> Tensor | None:
    """Return the labels of eight rows of images, a row of them eight times, or None for a model without labels."""
    columns = columns_of(network)
    labelled = getattr(network.model.config, "classes", 0)
    return torch.arange(columns, device="cpu").repeat(8) if labelled else None
