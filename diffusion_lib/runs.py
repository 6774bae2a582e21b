"""The work of the command line: a run's folder, trained into and resumed; images drawn from its weights; MNIST fetched.

Each command takes the options that `__main__` has parsed.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import save as packed
from torch import Tensor
from tqdm.auto import tqdm

from diffusion_lib import __version__, checkpoints, data, pretrained, recipes
from diffusion_lib.arguments import require_count
from diffusion_lib.files import remove_parts, write_atomically
from diffusion_lib.models import Model
from diffusion_lib.training import Draw, Players, Trainer, TrainingConfig, TrainingStep

CHECKPOINT, WEIGHTS, METRICS = "checkpoint.safetensors", "weights.safetensors", "metrics.jsonl"
DTYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}

# ---- train ----


def train(options: argparse.Namespace) -> None:
    """Train, with a checkpoint, metrics and sample images in `options.out` as it goes.

    Raises: TypeError, ValueError, OSError, FileError, TrainingError.
    """
    recipes.settle(options)
    recipe = recipes.RECIPES[options.family]
    device = join_processes()
    precision = chosen_precision(options.precision, device)
    found = recipe.data(options)
    say(found.lines)
    found = found._replace(images=found.images.to(DTYPES[precision]))
    model = recipes.new_model(options, found)
    draw = recipe.draw(options, model, found)
    description = {**recipes.describe(options, model.config, precision), **found.about}
    description["init"] = initialise(options, model)
    betas = recipe.betas if options.betas is None else tuple(options.betas)
    trainer = recipe.trainer(model.to(device, DTYPES[precision]), training_config(options, precision, betas))
    open_folder(options, trainer, description)
    take_steps(options, trainer, draw, recipe.loss(options, model), description)


def initialise(options: argparse.Namespace, model: Model) -> dict[str, str] | None:
    """Copy the parameters of --init's weights into the network; return the weights' name and SHA-256, None without.

    A resumed run has its parameters in the checkpoint, which also says where they began.

    Raises: ValueError for weights of another network, or of one with another parameterization; WeightsError,
    CheckpointError.
    """
    if is_resumed(options):
        return checkpoints.read(options.out / CHECKPOINT).run.get("init")
    if not options.init:
        return None
    found = find_network(options.init)
    ours = {**recipes.described(options.family, model.config), "predict": options.predict}
    theirs = {**recipes.described(found.run["family"], found.model.config), "predict": found.run.get("predict")}
    if differing := checkpoints.differences(ours, theirs):
        raise ValueError(f"--init {options.init}: expected the weights of this network; {'; '.join(differing)}")
    model.load_state_dict(found.model.state_dict())
    return {"weights": options.init, "sha256": found.sha256}


def is_resumed(options: argparse.Namespace) -> bool:
    """Return whether there is a checkpoint to go on from, and the reader asked to."""
    return options.resume and (options.out / CHECKPOINT).exists()


def training_config(options: argparse.Namespace, precision: str, betas: tuple[float, float]) -> TrainingConfig:
    """Return the training's settings. Raises: TypeError, ValueError."""
    return TrainingConfig(
        steps=options.steps, lr=options.lr, warmup=options.warmup, ema=options.ema, clip=options.clip,
        seed=options.seed, betas=betas, bf16=precision == "bf16",
    )  # fmt: skip


def join_processes() -> torch.device:
    """Join the group that torchrun started, if one did, and return this process's device."""
    cuda = torch.cuda.is_available()
    if "RANK" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    if not cuda:
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))  # where NCCL looks
    return torch.device("cuda", torch.cuda.current_device())


def leave_processes() -> None:
    """Leave the group of processes, if this one joined any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_main_process() -> bool:
    """Return whether this process is the one that writes and prints."""
    return not dist.is_initialized() or dist.get_rank() == 0


def say(lines: Sequence[str]) -> None:
    """Print lines, in one process of many."""
    for line in lines if is_main_process() else ():
        print(line, flush=True)


def chosen_precision(name: str, device: torch.device) -> str:
    """Return the precision to compute in; auto is bf16 where the machine has instructions for it, else float32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # no public name for it yet
    return "bf16" if fast() else "float32"


def open_folder(options: argparse.Namespace, trainer: Trainer | Players, description: Mapping[str, Any]) -> None:
    """Make the run's folder, or take up the run that is in it.

    Raises: FileExistsError for a run not asked for, CheckpointError, ValueError, OSError.
    """
    for name in ("save_every", "log_every", "sample_every"):
        require_count(name, getattr(options, name))
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / CHECKPOINT
    if is_resumed(options):
        checkpoints.load(checkpoint, trainer, description)
    elif checkpoint.exists():
        raise FileExistsError(
            f"{options.out}: holds a run already; add --resume to go on with it, or name another --out"
        )
    checkpoints.require_same_step(trainer)
    if is_main_process():
        for name in (CHECKPOINT, WEIGHTS, METRICS):
            remove_parts(options.out / name)
        cut_metrics(options.out / METRICS, trainer.step)
        print(f"{options.out}: {'resumed after' if trainer.step else 'begun at'} step {trainer.step}", flush=True)


def cut_metrics(path: Path, step: int) -> None:
    """Drop the lines after `step`, whose steps will be taken again, and a last line that was cut.

    Raises: ValueError for a file that is not such metrics, OSError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected lines of JSON with a step, got something else ({error})") from error
    write_atomically(path, "".join(kept).encode())


def take_steps(
    options: argparse.Namespace, trainer: Trainer | Players, draw: Draw, loss: Any, description: Mapping[str, Any]
) -> None:
    """Take the steps that are left and write down what a reader wants to see of them.

    Raises: TrainingError, OSError.
    """
    recent: list[float] = []
    since = time.perf_counter()  # of the last line or checkpoint: a resumed run starts there too
    main = is_main_process()
    hidden = None if main else True  # None: shown in a terminal only
    with tqdm(total=options.steps, initial=trainer.step, unit="step", disable=hidden) as bar:
        for step in trainer.train(draw, loss):
            recent.append(step.loss)
            bar.update()
            if not main:
                continue
            if is_due(step.step, options.log_every, options.steps):
                speed = len(recent) * options.batch / (time.perf_counter() - since)
                mean = sum(recent) / len(recent)
                bar.set_postfix_str(f"loss {mean:.4f}, {speed:.0f} images/s")
                log_step(options.out / METRICS, step, mean, speed)
                recent, since = [], time.perf_counter()
            if save_due(options, trainer, description):
                recent, since = [], time.perf_counter()


def is_due(step: int, every: int, steps: int) -> bool:
    """Return whether something is done after this step: every so many, and after the last."""
    return step % every == 0 or step == steps


def log_step(path: Path, step: TrainingStep, mean: float, speed: float) -> None:
    """Append a line to the metrics: loss is the mean since the last line or checkpoint. Raises: OSError."""
    line = {"step": step.step, "loss": mean, "norm": step.norm, "lr": step.lr, "images_per_s": round(speed, 1)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def save_due(options: argparse.Namespace, trainer: Trainer | Players, description: Mapping[str, Any]) -> bool:
    """Write what is due after a step; return whether a checkpoint was.

    The checkpoint comes last, so that all the files of the steps that it counts as done are there. Raises: OSError.
    """
    images, checkpoint = (is_due(trainer.step, n, options.steps) for n in (options.sample_every, options.save_every))
    if images or checkpoint:
        save_weights(options.out / WEIGHTS, trainer, description)
    if images:
        network = pretrained.load_network(options.out / WEIGHTS)
        save_samples(options.out / f"samples_{trainer.step:06d}.png", network, sample_images(network))
    if checkpoint:
        checkpoints.save(options.out / CHECKPOINT, trainer, description)
    return checkpoint


def save_weights(path: Path, trainer: Trainer | Players, description: Mapping[str, Any]) -> None:
    """Write the averaged weights in half precision, with all that is needed to use them. Raises: OSError."""
    half = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in trainer.ema.items()}
    run = {**description, "training": asdict(trainer.config), "step": trainer.step, "version": __version__}
    metadata = {"format": pretrained.FORMAT, "run": json.dumps(run, sort_keys=True)}
    write_atomically(path, packed(half, metadata))


# ---- sample, download ----


def sample(options: argparse.Namespace) -> None:
    """Draw eight images of each label into a PNG. Raises: TypeError, ValueError, OSError, WeightsError."""
    network = find_network(options.weights)
    save_samples(options.out, network, sample_images(network, options.steps, options.scale, options.seed))


def find_network(weights: str) -> pretrained.Network:
    """Return a network by the name of shipped weights or by a file's path. Raises: WeightsError."""
    shipped = weights in pretrained.SHA256
    path = pretrained.ASSETS / f"{weights}.safetensors" if shipped else Path(weights)
    return pretrained.load_network(path, pretrained.SHA256.get(weights))


def sample_images(
    network: pretrained.Network, steps: int | None = None, scale: float | None = None, seed: int = 0
) -> Tensor:
    """Return eight rows of images, a label a column (ten, or the first ten), as the network's recipe draws them.

    What is random is that of `noise.seeded(seed)`. Returns: (8 columns, C, H, W). Raises: TypeError, ValueError.
    """
    return recipes.RECIPES[network.run["family"]].show(network, steps, scale, seed)


def save_samples(path: Path, network: pretrained.Network, images: Tensor) -> None:
    """Write samples as one PNG, a label a column; digits as dark ink on white. Raises: ValueError, OSError."""
    ink = network.run.get("data") in recipes.INK
    save_grid(path, -images if ink else images, recipes.columns_of(network))


def save_grid(path: Path, images: Tensor, columns: int) -> None:
    """Write images (N, 1 or 3, H, W) in [-1, 1], -1 black, as one PNG, row by row. Raises: ValueError, OSError."""
    rows = [torch.cat(list(row), dim=2) for row in images.split(columns)]  # (C, H, columns W) each
    shades = torch.cat(rows, dim=1).mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
    Image.fromarray(shades.permute(1, 2, 0).squeeze(2).numpy()).save(path)


def download(options: argparse.Namespace) -> None:
    """Fetch MNIST into the cache. Raises: DataError."""
    found = data.mnist(cache=options.cache)
    print(f"MNIST: {len(found.train):,} training and {len(found.test):,} test images are there")
