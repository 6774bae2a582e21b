"""The command line: `python -m diffusion_lib train | sample | download`; `--help` after each says what it takes.

Several processes train one model under PyTorch's own launcher:
    torchrun --standalone --nproc-per-node 2 -m diffusion_lib train ...
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from diffusion_lib import runs
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
    train.add_argument(
        "--precision", choices=("auto", *runs.DTYPES), default="auto", help="auto: bf16 where it is fast"
    )
    for name, default in {"save": 250, "log": 50, "sample": 1000}.items():
        train.add_argument(f"--{name}-every", type=int, default=default, help="steps")


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
