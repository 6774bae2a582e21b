"""Checkpoints: a trainer saved whole, and taken up again by a run of the same settings, to the same bits."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as packed
from torch import Tensor

from diffusion_lib.files import FileError, write_atomically
from diffusion_lib.models import read_description
from diffusion_lib.training import Players, Trainer, global_mean

FORMAT = "diffusion_lib checkpoint"


class CheckpointError(FileError):
    """A checkpoint is damaged, foreign or of another run; the message says which."""


class Checkpoint(NamedTuple):
    """What a checkpoint's file holds: the description of its run, the number of steps done, the trainer's tensors."""

    run: dict[str, Any]
    step: int
    tensors: dict[str, Tensor]


def save(path: str | Path, trainer: Trainer | Players, description: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all; the description (JSON) says what run it belongs to. Raises: OSError."""
    run = json.dumps({"training": asdict(trainer.config), **description}, sort_keys=True)
    metadata = {"format": FORMAT, "step": str(trainer.step), "run": run}
    write_atomically(Path(path), packed(trainer.tensors(), metadata))


def read(path: str | Path) -> Checkpoint:
    """Return what a file written by `save` holds, its description in today's terms.

    Raises: CheckpointError (missing, damaged, foreign, or of a network that is not built any more).
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: expected a whole checkpoint, got a damaged or foreign file (no {FORMAT})")
        run, step = json.loads(metadata["run"]), int(metadata["step"])
        run["training"].setdefault("betas", [0.9, 0.999])  # what every run had before one could choose
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: expected a whole checkpoint, got a damaged or foreign file ({error})"
        ) from error
    try:
        return Checkpoint(read_description(run), step, tensors)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected the description of a run, got one that does not fit ({error})"
        ) from error


def load(path: str | Path, trainer: Trainer | Players, description: Mapping[str, Any]) -> None:
    """Restore a trainer from a checkpoint of the same run.

    Raises: CheckpointError for a file that is missing, damaged, foreign, or of a run with other settings; the trainer
    is then as it was.
    """
    found = read(path)
    run = json.loads(json.dumps({"training": asdict(trainer.config), **description}))
    if differing := differences(run, found.run):
        raise CheckpointError(f"{path}: belongs to another run: {'; '.join(differing)}")
    if differing := differences(_kinds(trainer.tensors()), _kinds(found.tensors)):
        raise CheckpointError(f"{path}: {len(differing)} tensors are not the model's; the first: {differing[0]}")
    if not 1 <= found.step <= trainer.config.steps:
        raise CheckpointError(f"{path}: expected a step in 1..{trainer.config.steps}, got {found.step}")
    trainer.restore(found.tensors, found.step)


def require_same_step(trainer: Trainer | Players) -> None:
    """CheckpointError unless all processes have done equally many steps: each machine reads the checkpoint itself."""
    device = next(trainer.model.parameters()).device
    mean = global_mean(torch.tensor(trainer.step, dtype=torch.float32, device=device))  # exact to 16 million
    if mean != trainer.step:
        raise CheckpointError(
            f"step: expected one checkpoint for all processes, in a folder that each machine sees, got step "
            f"{trainer.step} here and a mean of {mean} over all"
        )


def differences(expected: Mapping[str, Any], found: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return in words where two nested dictionaries differ."""
    words = []
    for key in sorted(expected.keys() | found.keys()):
        left, right = expected.get(key), found.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            words += differences(left, right, f"{prefix}{key}.")
        elif left != right:
            words.append(f"{prefix}{key} is {left} here and {right} there")
    return words


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in tensors.items()}
