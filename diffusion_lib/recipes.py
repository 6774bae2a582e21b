"""What the command line trains, family by family: the data, what a step draws and minimises, what to show of it."""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import Any, NamedTuple, Protocol

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
from diffusion_lib.training import Draw, Loss

DATA_SETS = ("digits", "mnist", "fashion-mnist")  # what --data names besides a folder
INK = ("digits", "mnist")  # shown as dark ink on white


class TrainingData(NamedTuple):
    """Training images in [-1, 1], their labels, the number of classes (0: none), what to record, what to say."""

    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,) int64
    classes: int
    about: Mapping[str, Any]
    lines: Sequence[str] = ()


class Recipe(Protocol):
    """How one family of models is trained and shown; `options` are the command line's.

    The options that only this family has are the fields of its configuration that `sizes` does not decide, and those
    in `defaults`, each with its default value here.
    """

    defaults: Mapping[str, Any]

    def data(self, options: argparse.Namespace) -> TrainingData:
        """Return the images to learn from. Raises: DataError, ValueError, OSError."""

    def sizes(self, options: argparse.Namespace, found: TrainingData) -> dict[str, Any]:
        """Return the fields of the configuration that the data decide. Raises: ValueError."""

    def draw(self, options: argparse.Namespace, model: Any, found: TrainingData) -> Draw:
        """Return what draws a step's batch. Raises: TypeError, ValueError."""

    def loss(self, options: argparse.Namespace) -> Loss:
        """Return the loss of each example of a batch."""

    def show(self, network: Network, steps: int | None, scale: float | None, seed: int) -> Tensor:
        """Return eight rows of images, a label a column. Raises: TypeError, ValueError."""


# ---- the data


def images_of(options: argparse.Namespace, size: int, padded: int = 0) -> TrainingData:
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


def _folder_of(options: argparse.Namespace) -> TrainingData:
    """The reader's own images, known again by their bytes."""
    own = image_folder(options.data, options.size, 3 if options.colour else 1, skip_damaged=options.damaged == "skip")
    said = [f"{options.data}: {len(own.images)} images, {len(own.classes)} classes"]
    pixels = hashlib.sha256(own.images.numpy().tobytes()).hexdigest()
    about = {"data": "folder", "images": len(own.images), "classes": list(own.classes), "sha256": pixels}
    lines = said + [f"skipped: {path}" for path in own.skipped]
    return TrainingData(own.images, own.labels, len(own.classes), about, lines)


# ---- the recipes


class Denoising:
    """A U-Net that learns to denoise images: Algorithm 1 of Ho et al. 2020; shown by DDIM."""

    defaults: Mapping[str, Any] = {"schedule": "linear", "predict": "eps"}

    def data(self, options: argparse.Namespace) -> TrainingData:
        """Return digits of 16 x 16 pixels, MNIST's of 32 x 32, or a folder's images."""
        return images_of(options, 16, 32)

    def sizes(self, options: argparse.Namespace, found: TrainingData) -> dict[str, Any]:
        """Return channels, size and classes of the images, and attention at the lowest stage if no side is given."""
        channels, size = found.images.shape[1], found.images.shape[-1]
        sides = options.attention_at
        lowest = (size // 2 ** (len(options.mults) - 1),)
        attention_at = lowest if sides is None else tuple(sides)
        return {"channels": channels, "image_size": size, "classes": found.classes, "attention_at": attention_at}

    def draw(self, options: argparse.Namespace, model: Any, found: TrainingData) -> Draw:
        """Return the draw of images, times, noise and dropped labels."""
        labels = found.labels if found.classes else None
        schedule = SCHEDULES[options.schedule]()
        return losses.denoising_draw(found.images, schedule, options.batch, labels, model.no_label, options.drop)

    def loss(self, options: argparse.Namespace) -> Loss:
        """Return the denoising loss in the parameterization that --predict names."""
        return partial(image_loss, SCHEDULES[options.schedule](), options.predict)

    def show(self, network: Network, steps: int | None, scale: float | None, seed: int) -> Tensor:
        """Return what `steps` (25) DDIM steps make of seeded noise, guided by `scale` (1); MNIST's unpadded."""
        found = Pretrained.of(network)
        config, schedule, labels = found.model.config, found.schedule, columns_of_labels(network)
        shape = (8 * columns_of(network), config.channels, config.image_size, config.image_size)
        noise = torch.randn(shape, generator=seeded(seed), dtype=torch.float32, device="cpu")
        count = require_count("steps", 25 if steps is None else steps, 2, schedule.T)
        denoise = Clipped(found.denoiser(labels, 1.0 if scale is None else scale))
        with torch.inference_mode():
            images = final(ddim(denoise, schedule, noise, uniform_steps(schedule, count)))
        return crop(images, 28) if network.run.get("data") in ("mnist", "fashion-mnist") else images


class Sequences:
    """An autoregressive model that reads grey images row by row; the loss is its negative log likelihood, in nats."""

    defaults: Mapping[str, Any] = {}

    def data(self, options: argparse.Namespace) -> TrainingData:
        """Return digits of 8 x 8 pixels, MNIST's of 28 x 28, or a folder's images."""
        return images_of(options, 8)

    def sizes(self, options: argparse.Namespace, found: TrainingData) -> dict[str, Any]:
        """Return rows, columns, grey levels (the digits' 17, else 256) and classes. Raises: ValueError for colour."""
        channels, rows, columns = found.images.shape[1:]
        if channels != 1:
            raise ValueError(f"--colour: expected grey images for --family {options.family}, got {channels} channels")
        levels = 17 if options.data == "digits" else 256
        return {"levels": levels, "rows": rows, "columns": columns, "classes": found.classes}

    def draw(self, options: argparse.Namespace, model: Any, found: TrainingData) -> Draw:
        """Return the draw of sequences, and of their labels, some of them dropped, where the model takes labels."""
        symbols = data.to_levels(found.images.double(), model.config.levels)
        labels = found.labels if found.classes else None
        return losses.labelled_draw(symbols, options.batch, labels, model.no_label, options.drop)

    def loss(self, options: argparse.Namespace) -> Loss:
        """Return the negative log likelihood of each sequence, in nats."""
        return sequence_loss

    def show(self, network: Network, steps: int | None, scale: float | None, seed: int) -> Tensor:
        """Return sequences drawn symbol by symbol, as images. Raises: ValueError for steps or a scale: it has none."""
        for name, value in (("steps", steps), ("scale", scale)):
            if value is not None:
                raise ValueError(f"--{name}: expected none for the family {network.run['family']}, got {value}")
        model, labels = network.model, columns_of_labels(network)
        drawn = model.sample(8 * columns_of(network), seeded(seed), labels)
        return data.from_levels(drawn, (1, model.config.rows, model.config.columns), model.config.levels).float()


RECIPES: Mapping[str, Recipe] = {"unet": Denoising(), "gru": Sequences(), "transformer": Sequences()}


def image_loss(
    schedule: Schedule, predict: str, model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Return each image's denoising loss, (B,); labels for a network that takes them."""
    return losses.denoising_loss(schedule, partial(model, labels=labels), x0, t, eps, PARAMETERIZATIONS[predict])


def sequence_loss(model: nn.Module, x: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return each sequence's negative log likelihood in nats, (B,); labels for a model that takes them."""
    return losses.nll(model(x, labels), x)


# ---- from options to a model, and what a checkpoint says of it


def settle(options: argparse.Namespace) -> None:
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
    decided = {"channels", "image_size", "classes", "levels", "rows", "columns"}
    found = {field.name: field.default for field in fields(FAMILIES[family][1]) if field.name not in decided}
    if "attention_at" in found:
        found["attention_at"] = None  # the lowest stage's, which follows from the data
    return {**RECIPES[family].defaults, **found}


def new_model(options: argparse.Namespace, found: TrainingData) -> Model:
    """Return a new model of --family for these data. Raises: TypeError, ValueError."""
    family, config_class = FAMILIES[options.family]
    sizes = RECIPES[options.family].sizes(options, found)
    names = {field.name for field in fields(config_class)} - set(sizes)
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    model: Model = family(config_class(**given, **sizes), seed=options.seed)
    return model


def described(family: str, config: Config) -> dict[str, Any]:
    """Return what a file says of its model: its family, and its configuration under that name."""
    return {"family": family, family: json.loads(json.dumps(asdict(config)))}


def describe(options: argparse.Namespace, config: Config, precision: str) -> dict[str, Any]:
    """Return what a checkpoint says of its run besides the training's settings and the weights that it began with."""
    chosen = set(RECIPES[options.family].defaults) - {field.name for field in fields(config)}
    of_loss = {"data": options.data, **{name: getattr(options, name) for name in sorted(chosen)}}
    batch = {"batch": options.batch, "drop": options.drop, "precision": precision}
    return {**described(options.family, config), **of_loss, **batch}


def columns_of(network: Network) -> int:
    """Return how many images stand side by side in a grid of samples: one a label, at most ten; ten without labels."""
    return min(network.model.config.classes or 10, 10)


def columns_of_labels(network: Network) -> Tensor | None:
    """Return the labels of eight rows of images, a row of them eight times, or None for a model without labels."""
    columns = columns_of(network)
    return torch.arange(columns, device="cpu").repeat(8) if network.model.config.classes else None
