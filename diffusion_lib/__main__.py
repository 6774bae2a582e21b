"""The command line: `python -m diffusion_lib train | sample | download`; `--help` after each says what it takes.

Several processes train one model under PyTorch's own launcher:
    torchrun --standalone --nproc-per-node 2 -m diffusion_lib train ...
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn
from tqdm.auto import tqdm

from diffusion_lib import __version__, data, images, losses, pretrained, training
from diffusion_lib.arguments import require_count
from diffusion_lib.denoisers import Clipped
from diffusion_lib.models.unet import UNet, UNetConfig
from diffusion_lib.process import PARAMETERIZATIONS
from diffusion_lib.samplers import ddim, final
from diffusion_lib.schedules import SCHEDULES, Schedule, uniform_steps

CHECKPOINT, WEIGHTS, METRICS = "checkpoint.safetensors", "weights.safetensors", "metrics.jsonl"
DTYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}
ERRORS = (ValueError, TypeError, OSError, data.DataError, pretrained.WeightsError)
ERRORS += (training.TrainingError, training.CheckpointError)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the three commands."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add_training(commands.add_parser("train", help="train a U-Net on digits or MNIST"))
    sample = commands.add_parser("sample", help="draw digits from shipped weights, or from a run's, into a PNG")
    sample.add_argument("weights", help="mnist, digits, or the path of a weights.safetensors")
    sample.add_argument("--out", type=Path, default=Path("samples.png"))
    sample.add_argument("--steps", type=int, default=50, help="DDIM steps")
    sample.add_argument("--scale", type=float, default=1.0, help="guidance; 1 is none")
    sample.add_argument("--seed", type=int, default=0)
    download = commands.add_parser("download", help="fetch MNIST into the cache, once")
    download.add_argument("--cache", type=Path)
    return parser


def add_training(train: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    train.add_argument("--data", choices=("digits", "mnist"), default="digits")
    train.add_argument("--folder", help="folder of MNIST's four files; downloaded where it is not given")
    train.add_argument(
        "--out", type=Path, required=True, help="the run's folder: checkpoint, metrics, samples, weights"
    )
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if it holds one yet")
    train.add_argument("--init", help="begin with the parameters of these weights: mnist, digits, or a file's path")
    train.add_argument("--width", type=int, default=32)
    train.add_argument("--mults", type=int, nargs="+", default=[1, 2, 2])
    train.add_argument("--blocks", type=int, default=2)
    train.add_argument("--groups", type=int, default=2, help="of channels, for the norms")
    train.add_argument(
        "--attention-at", type=int, nargs="*", help="sides with attention; by default the lowest stage's"
    )
    train.add_argument("--schedule", choices=tuple(SCHEDULES), default="linear")
    train.add_argument("--predict", choices=tuple(PARAMETERIZATIONS), default="eps", help="what the network answers")
    train.add_argument("--drop", type=float, default=0.1, help="share of labels replaced by `no label`")
    train.add_argument("--batch", type=int, default=64, help="examples a step, over all processes together")
    train.add_argument("--steps", type=int, default=8000)
    train.add_argument("--lr", type=float, default=4e-4)
    train.add_argument("--warmup", type=int, default=200)
    train.add_argument("--ema", type=float, default=0.999)
    train.add_argument("--clip", type=float, default=1.0)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--precision", choices=("auto", *DTYPES), default="auto", help="auto: bf16 where it is fast")
    for name, default in {"save": 250, "log": 50, "sample": 1000}.items():
        train.add_argument(f"--{name}-every", type=int, default=default, help="steps")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 after an error (said in one line), 130 after Ctrl-C."""
    options = arguments().parse_args(argv)
    try:
        {"train": train, "sample": sample, "download": download}[options.command](options)
    except ERRORS as error:
        print("error:", " ".join(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        advice = ": --resume goes on from the last checkpoint" if options.command == "train" else ""
        print(f"interrupted{advice}", file=sys.stderr)
        return 130
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


# ---- train ----


def train(options: argparse.Namespace) -> None:
    """Train, with a checkpoint, metrics and pictures in `options.out` as it goes. Raises: one of ERRORS."""
    device = join_processes()
    precision = chosen_precision(options.precision, device)
    pictures, labels = training_data(options.data, options.folder)
    pictures = pictures.to(DTYPES[precision])
    schedule = SCHEDULES[options.schedule]()
    model = UNet(unet_config(options, pictures), seed=options.seed)
    draw = losses.denoising_draw(pictures, schedule, options.batch, labels, model.no_label, options.drop)
    about = described(options, model, precision)
    trainer = training.Trainer(model.to(device, DTYPES[precision]), training_config(options, precision))
    start(options, trainer, about)
    run(options, trainer, draw, partial(picture_loss, schedule, options.predict), about)


def described(options: argparse.Namespace, model: UNet, precision: str) -> dict:
    """Return what a checkpoint says of its run besides the training's settings; the network gets --init's parameters.

    Raises: ValueError, WeightsError (see `initialise`), CheckpointError.
    """
    about = {"unet": json.loads(json.dumps(asdict(model.config))), "data": options.data, "predict": options.predict}
    about |= {"schedule": options.schedule, "batch": options.batch, "drop": options.drop, "precision": precision}
    if resumes(options):  # the checkpoint has parameters, and knows where they began
        return about | {"init": training.read_checkpoint(options.out / CHECKPOINT).run.get("init")}
    return about | {"init": options.init and initialise(model, options.init, options.predict)}


def initialise(model: UNet, weights: str, predict: str) -> dict[str, str]:
    """Copy the parameters of a weights file into a network; return its name and SHA-256.

    Raises: ValueError for weights of another network, or of one that answers another question; WeightsError.
    """
    found = network_of(weights)
    ours = {"unet": asdict(model.config), "predict": predict}
    theirs = {"unet": asdict(found.model.config), "predict": found.run["predict"]}
    if differing := training.differences(ours, theirs):
        raise ValueError(f"--init {weights}: expected the weights of this network; {'; '.join(differing)}")
    model.load_state_dict(found.model.state_dict())
    return {"weights": weights, "sha256": found.sha256}


def resumes(options: argparse.Namespace) -> bool:
    """Return whether there is a checkpoint to go on from, and the reader asked to."""
    return options.resume and (options.out / CHECKPOINT).exists()


def training_config(options: argparse.Namespace, precision: str) -> training.TrainingConfig:
    """Return the training's settings. Raises: TypeError, ValueError."""
    return training.TrainingConfig(
        steps=options.steps, lr=options.lr, warmup=options.warmup, ema=options.ema, clip=options.clip,
        seed=options.seed, bf16=precision == "bf16",
    )  # fmt: skip


def picture_loss(
    schedule: Schedule, predict: str, model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, labels: Tensor
) -> Tensor:
    """Return each picture's denoising loss, (B,), for a network that takes labels."""
    return losses.denoising_loss(schedule, partial(model, labels=labels), x0, t, eps, PARAMETERIZATIONS[predict])


def training_data(name: str, folder: str | None) -> tuple[Tensor, Tensor]:
    """Return the training pictures, as the network sees them, and their labels."""
    if name == "mnist":
        found = data.mnist(folder)
        return images.pad(found.train, 32), found.train_labels
    found = data.digits(16)
    return found.train, found.train_labels


def unet_config(options: argparse.Namespace, pictures: Tensor) -> UNetConfig:
    """Return the network's configuration for these pictures."""
    size = pictures.shape[-1]
    attention_at = options.attention_at
    if attention_at is None:
        attention_at = [size // 2 ** (len(options.mults) - 1)]
    return UNetConfig(
        channels=pictures.shape[1], image_size=size, width=options.width, mults=tuple(options.mults),
        blocks=options.blocks, attention_at=tuple(attention_at), groups=options.groups, classes=10,
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


def chosen_precision(name: str, device: torch.device) -> str:
    """Return the precision to compute in; auto is bf16 where the machine has instructions for it, else float32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # no public name for it yet
    return "bf16" if fast() else "float32"


def leads() -> bool:
    """Return whether this process is the one that writes and prints."""
    return not dist.is_initialized() or dist.get_rank() == 0


def start(options: argparse.Namespace, trainer: training.Trainer, about: dict) -> None:
    """Make the run's folder, or take up the run that is in it.

    Raises: FileExistsError for a run not asked for, CheckpointError, ValueError, OSError.
    """
    for name in ("save_every", "log_every", "sample_every"):
        require_count(name, getattr(options, name))
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / CHECKPOINT
    if resumes(options):
        training.load_checkpoint(checkpoint, trainer, about)
    elif checkpoint.exists():
        raise FileExistsError(
            f"{options.out}: holds a run already; add --resume to go on with it, or name another --out"
        )
    training.require_same_step(trainer)
    if leads():
        keep_metrics(options.out / METRICS, trainer.step)
        print(f"{options.out}: {'resumed after' if trainer.step else 'begun at'} step {trainer.step}", flush=True)


def keep_metrics(path: Path, step: int) -> None:
    """Drop the lines after `step`, whose steps will be taken again, and a last line that was cut.

    Raises: ValueError for a file that is not such metrics, OSError.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected lines of JSON with a step, got something else ({error})") from error
    training.write_atomically(path, "".join(kept).encode())


def run(
    options: argparse.Namespace, trainer: training.Trainer, draw: training.Draw, loss: training.Loss, about: dict
) -> None:
    """Take the steps that are left and write down what a reader wants to see of them."""
    recent, since = [], time.perf_counter()  # since the last line or checkpoint: a resumed run starts there too
    hidden = None if leads() else True  # None: shown in a terminal only
    with tqdm(total=options.steps, initial=trainer.step, unit="step", disable=hidden) as bar:
        for step in trainer.train(draw, loss):
            recent.append(step.loss)
            bar.update()
            if not leads():
                continue
            if due(step.step, options.log_every, options.steps):
                speed = len(recent) * options.batch / (time.perf_counter() - since)
                mean = sum(recent) / len(recent)
                bar.set_postfix_str(f"loss {mean:.4f}, {speed:.0f} images/s")
                log(options.out / METRICS, step, mean, speed)
                recent, since = [], time.perf_counter()
            if keep(options, trainer, about):
                recent, since = [], time.perf_counter()


def due(step: int, every: int, steps: int) -> bool:
    """Return whether something is done after this step: every so many, and after the last."""
    return step % every == 0 or step == steps


def log(path: Path, step: training.TrainingStep, mean: float, speed: float) -> None:
    """Append a line to the metrics: loss is the mean since the last line or checkpoint. Raises: OSError."""
    line = {"step": step.step, "loss": mean, "norm": step.norm, "lr": step.lr, "images_per_s": round(speed, 1)}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def keep(options: argparse.Namespace, trainer: training.Trainer, about: dict) -> bool:
    """Write what is due after a step, the checkpoint last: whatever it counts as done is there; return whether it was.

    Raises: OSError.
    """
    pictures, checkpoint = (due(trainer.step, n, options.steps) for n in (options.sample_every, options.save_every))
    if pictures or checkpoint:
        save_weights(options.out / WEIGHTS, trainer, about)
    if pictures:
        drawn = sampled(pretrained.load_weights(options.out / WEIGHTS))
        save_grid(options.out / f"samples_{trainer.step:06d}.png", drawn)
    if checkpoint:
        training.save_checkpoint(options.out / CHECKPOINT, trainer, about)
    return checkpoint


def save_weights(path: Path, trainer: training.Trainer, about: dict) -> None:
    """Write the averaged weights in half precision, with all that is needed to use them. Raises: OSError."""
    half = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in trainer.ema.items()}
    run = {**about, "training": asdict(trainer.config), "step": trainer.step, "version": __version__}
    metadata = {"format": pretrained.FORMAT, "run": json.dumps(run, sort_keys=True)}
    training.write_atomically(path, save(half, metadata))


# ---- sample ----


def sampled(network: pretrained.Pretrained, steps: int = 25, scale: float = 1.0, seed: int = 0) -> Tensor:
    """Return eight pictures of each label, (80, C, H, W), by DDIM from one seed; MNIST's without the padding.

    Raises: TypeError, ValueError.
    """
    config, schedule = network.model.config, network.schedule
    labels = torch.arange(10).repeat(8)  # (80,) a row of all ten, eight times
    noise = torch.randn(80, config.channels, config.image_size, config.image_size, generator=seeded(seed))
    require_count("steps", steps, 2, schedule.T)
    denoise = Clipped(network.denoiser(labels, scale))
    with torch.inference_mode():
        pictures = final(ddim(denoise, schedule, noise, uniform_steps(schedule, steps)))
    return images.crop(pictures, 28) if network.run.get("data") == "mnist" else pictures


def seeded(seed: int) -> torch.Generator:
    """Return a generator that starts from a seed."""
    return torch.Generator().manual_seed(seed)


def save_grid(path: Path, pictures: Tensor, columns: int = 10) -> None:
    """Write pictures (N, 1, H, W) in [-1, 1] as one PNG, row by row."""
    rows = [torch.cat(list(row[:, 0]), dim=1) for row in pictures.split(columns)]  # (H, columns W) each
    grey = torch.cat(rows).mul(-127.5).add(127.5).round().clamp(0, 255)  # ink is dark
    Image.fromarray(grey.to(torch.uint8).numpy()).save(path)


def sample(options: argparse.Namespace) -> None:
    """Draw ten digits, eight times, into a PNG. Raises: one of ERRORS."""
    save_grid(options.out, sampled(network_of(options.weights), options.steps, options.scale, options.seed))


def network_of(weights: str) -> pretrained.Pretrained:
    """Return a network by the name of shipped weights or by a file's path. Raises: WeightsError."""
    shipped = weights in pretrained.SHA256
    return pretrained.pretrained(weights) if shipped else pretrained.load_weights(Path(weights))


def download(options: argparse.Namespace) -> None:
    """Fetch MNIST into the cache. Raises: DataError."""
    found = data.mnist(cache=options.cache)
    print(f"MNIST: {len(found.train):,} training and {len(found.test):,} test pictures are there")


if __name__ == "__main__":
    sys.exit(main())
