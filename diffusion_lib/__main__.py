"""The command line: `python -m diffusion_lib train | sample | download`; `--help` after each says what it takes.

Several processes train one model under PyTorch's own launcher:
    torchrun --standalone --nproc-per-node 2 -m diffusion_lib train ...
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from diffusion_lib import recipes, runs
from diffusion_lib.files import FileError
from diffusion_lib.process import PARAMETERIZATIONS
from diffusion_lib.schedules import SCHEDULES
from diffusion_lib.training import TrainingError

COMMANDS = {"train": runs.train, "sample": runs.sample, "download": runs.download}
ERRORS = (ValueError, TypeError, OSError, FileError, TrainingError)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the three commands."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lib", description=str(__doc__).splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    add_training(
        commands.add_parser("train", help="train a U-Net, or another family, on digits, MNIST or your own images")
    )
    sample = commands.add_parser("sample", help="draw images from shipped weights, or from a run's, into a PNG")
    sample.add_argument("weights", help="mnist, digits, or the path of a weights.safetensors")
    sample.add_argument("--out", type=Path, default=Path("samples.png"))
    sample.add_argument("--steps", type=int, help="DDIM steps of a U-Net, 25 by default")
    sample.add_argument("--scale", type=float, help="guidance of a U-Net; 1, the default, is none")
    sample.add_argument("--seed", type=int, default=0)
    download = commands.add_parser("download", help="fetch MNIST into the cache, once")
    download.add_argument("--cache", type=Path)
    return parser


NUMBERS = {  # options of `train` that take one number: default, what it is
    "size": (32, "side of your own images, in pixels"),
    "drop": (0.1, "share of labels replaced by `no label`"),
    "batch": (64, "examples a step, over all processes together"),
    "steps": (8000, "of the optimizer"),
    "lr": (4e-4, "learning rate"),
    "warmup": (200, "steps in which the learning rate rises"),
    "ema": (0.999, "what a step keeps of the averaged weights"),
    "clip": (1.0, "largest norm of the gradient"),
    "seed": (0, "of the weights and of every draw"),
    **{f"{name}-every": (steps, "steps") for name, steps in {"save": 250, "log": 50, "sample": 1000}.items()},
}


FAMILY_OPTIONS = {  # options of `train` that are fields of a family's configuration: type, what it is
    "width": (int, "channels of a U-Net's first stage; numbers a position of an autoregressive model"),
    "mults": (int, "times the width, stage by stage"),
    "blocks": (int, "residual blocks a stage; blocks of a transformer"),
    "attention-at": (int, "sides with attention; else the lowest stage's"),
    "groups": (int, "of channels, for the norms"),
    "heads": (int, "of attention"),
    "spread": (float, "standard deviation of the embeddings' first values"),
    "latent": (int, "latent entries"),
    "inner": (int, "units of the hidden layer next to the latent"),
    "hidden": (int, "hidden layers of each player"),
    "activation": (str, "relu, silu or tanh"),
    "log-std": (float, "of the decoder, at first"),
    "beta": (float, "factor of the KL divergence"),
    "couplings": (int, "of a flow"),
    "limit": (float, "largest log of a coupling's scale"),
    "r1": (float, "factor of the discriminator's gradient penalty"),
}


def said_defaults(name: str) -> str:
    """Return the families that have an option, each with its default, for its help."""
    found = {family: recipes.family_options(family) for family in recipes.RECIPES}
    key = name.replace("-", "_")
    there = {family: options[key] for family, options in found.items() if options.get(key) is not None}
    return "".join(f"; {family}: {default}" for family, default in there.items())


def add_training(train: argparse.ArgumentParser) -> None:
    """Add the options of `train`."""
    train.add_argument(
        "--data", default="digits", help="digits, mnist, fashion-mnist, or a folder of PNG or JPEG files"
    )
    train.add_argument("--folder", help="of MNIST's four files, downloaded where it is not given, or Fashion-MNIST's")
    train.add_argument("--colour", action="store_true", help="your own images in colour; by default grey")
    train.add_argument("--damaged", choices=("refuse", "skip"), help="what to do with damaged images; else refuse")
    train.add_argument("--out", type=Path, required=True, help="a folder: checkpoint, metrics, samples, weights")
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if it holds one yet")
    train.add_argument("--init", help="begin with the parameters of these weights: mnist, digits, or a file's path")
    train.add_argument("--family", choices=tuple(recipes.RECIPES), default="unet", help="of models; unet by default")
    train.add_argument("--betas", type=float, nargs=2, help="AdamW's; 0.9 0.999 by default, a GAN's 0 0.99")
    train.add_argument("--schedule", choices=tuple(SCHEDULES), help="of a U-Net; linear by default")
    train.add_argument("--predict", choices=tuple(PARAMETERIZATIONS), help="what a U-Net answers; eps by default")
    for name, (kind, text) in FAMILY_OPTIONS.items():
        many = "*" if name == "attention-at" else "+" if name == "mults" else None
        train.add_argument(f"--{name}", type=kind, nargs=many, help=f"{text}{said_defaults(name)}")
    train.add_argument("--precision", choices=("auto", *runs.DTYPES), default="auto", help="auto: bf16 where fast")
    for name, (default, text) in NUMBERS.items():
        train.add_argument(f"--{name}", type=type(default), default=default, help=text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, 1 after an error (said in one line), 130 after Ctrl-C."""
    options = arguments().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):  # a path may hold letters that the terminal cannot write
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        COMMANDS[options.command](options)
    except ERRORS as error:
        print("error:", " ".join(line.strip() for line in str(error).splitlines()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        advice = ": --resume goes on from the last checkpoint" if options.command == "train" else ""
        print(f"interrupted{advice}", file=sys.stderr)
        return 130
    finally:
        runs.leave_processes()
    return 0


if __name__ == "__main__":
    sys.exit(main())
