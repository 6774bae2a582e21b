"""Checks of arguments, one function per kind of mistake: each error names argument, expectation and value."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

INTEGER_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def require_tensor(name: str, value: object) -> Tensor:
    """Return `value` if it is a tensor; TypeError otherwise."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    return value


def require_real(name: str, value: object) -> Tensor:
    """Return `value` if it is a tensor of real numbers in floating point; TypeError otherwise."""
    tensor = require_tensor(name, value)
    if not tensor.is_floating_point():
        raise TypeError(f"{name}: expected floating point, got {tensor.dtype} (scale integer images to [-1, 1] first)")
    return tensor


def require_data(name: str, value: object) -> Tensor:
    """Return `value` if it is a batch of real, finite data (B, *D); TypeError or ValueError otherwise."""
    tensor = require_real(name, value)
    if tensor.ndim < 1:
        raise ValueError(f"{name}: expected a batch (B, *D), got a single number")
    # a finite sum has only finite terms; an infinite one may have overflowed
    if not (bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())):
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity")
    return tensor


def require_alike(name: str, value: object, like_name: str, like: Tensor) -> Tensor:
    """Return `value` if it has the shape, dtype and device of `like`; TypeError or ValueError otherwise."""
    tensor = require_tensor(name, value)
    if tensor.shape != like.shape:
        raise ValueError(f"{name}: expected the shape of {like_name}, {tuple(like.shape)}, got {tuple(tensor.shape)}")
    if tensor.dtype != like.dtype:
        raise TypeError(f"{name}: expected the dtype of {like_name}, {like.dtype}, got {tensor.dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{name}: expected the device of {like_name}, {like.device}, got {tensor.device}")
    return tensor


def require_table(name: str, value: object, shape: str, shortest: int) -> Tensor:
    """Return a list or 1-D tensor of at least `shortest` real, finite numbers in float64 on the CPU, a copy.

    Raises: TypeError (not real numbers), ValueError (another shape, NaN or infinity), which names the expected `shape`.
    """
    if isinstance(value, Tensor) and value.is_complex():
        raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
    try:
        table = torch.as_tensor(value, dtype=torch.float64, device="cpu").detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}: expected a table of numbers, got {type(value).__name__}") from error
    if table.ndim != 1 or len(table) < shortest:
        raise ValueError(f"{name}: expected shape {shape} with T at least 1, got {tuple(table.shape)}")
    if not bool(table.isfinite().all()):
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinity: {table[~table.isfinite()].tolist()[:4]}"
        )
    return table


def require_time(name: str, t: int | Tensor, low: int, high: int, batch: int | None = None) -> Tensor:
    """Return integer times in low..high as an int64 CPU tensor, () or (B,); TypeError or ValueError for any others."""
    if isinstance(t, bool) or not isinstance(t, int | Tensor):
        raise TypeError(f"{name}: expected an int or an integer tensor, got {type(t).__name__} {t!r}")
    times = torch.as_tensor(t, device="cpu")
    if times.dtype not in INTEGER_DTYPES:
        raise TypeError(f"{name}: expected integers, got a tensor of {times.dtype}")
    if times.ndim > 1 or (times.ndim == 1 and batch is not None and times.shape[0] != batch):
        expected = "(B,)" if batch is None else f"({batch},)"
        raise ValueError(f"{name}: expected one time or shape {expected}, got shape {tuple(times.shape)}")
    if _has_values() and times.numel() and (int(times.min()) < low or int(times.max()) > high):
        raise ValueError(f"{name}: expected times in {low}..{high}, got {int(times.min())}..{int(times.max())}")
    return times.to(torch.int64)


def require_earlier(s: Tensor, t: Tensor) -> None:
    """ValueError unless every s is below its t."""
    if not bool((s < t).all()):
        raise ValueError(f"s: expected times before t, got s = {s.tolist()} with t = {t.tolist()}")


def require_steps(steps: Sequence[int] | Tensor, T: int) -> list[int]:
    """Return the times to visit as ints if they fall strictly within T..0; TypeError or ValueError otherwise."""
    if not isinstance(steps, Sequence | Tensor) or (isinstance(steps, Tensor) and steps.ndim != 1):
        raise TypeError(f"steps: expected a list of integers or an integer tensor (n+1,), got {steps!r}")
    times = list(steps.tolist() if isinstance(steps, Tensor) else steps)
    if any(isinstance(t, bool) or not isinstance(t, int) for t in times):
        raise TypeError(f"steps: expected integers, got {times}")
    if len(times) < 2:
        raise ValueError(f"steps: expected at least a start and an end, got {times}")
    if times[0] > T or times[-1] < 0 or any(s >= t for t, s in pairwise(times)):
        raise ValueError(f"steps: expected times that fall strictly within {T}..0, got {times}")
    return times


def require_between(name: str, value: float, low: float, high: float) -> float:
    """Return a real number if it lies in [low, high]; TypeError or ValueError otherwise (NaN lies nowhere)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__} {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name}: expected a number in [{low}, {high}], got {value}")
    return float(value)


def require_inside(name: str, value: float, low: float, high: float) -> float:
    """Return a real number if it lies strictly between low and high; TypeError or ValueError otherwise."""
    if require_between(name, value, low, high) in (low, high):
        raise ValueError(f"{name}: expected a number strictly between {low} and {high}, got {value}")
    return float(value)


def require_positive(name: str, value: float) -> float:
    """Return a real number above 0; TypeError or ValueError otherwise."""
    if require_between(name, value, 0.0, math.inf) in (0.0, math.inf):
        raise ValueError(f"{name}: expected a finite number above 0, got {value}")
    return float(value)


def require_count(name: str, value: object, low: int = 1, high: int | None = None) -> int:
    """Return an int in low..high (no upper end if None); TypeError or ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__} {value!r}")
    if value < low or (high is not None and value > high):
        expected = f"at least {low}" if high is None else f"{low}..{high}"
        raise ValueError(f"{name}: expected {expected}, got {value}")
    return value


def require_labels(labels: object, classes: int, batch: int) -> None:
    """Labels (batch,) in 0..classes where there are classes, none where there are not; TypeError or ValueError else."""
    if classes == 0:
        if labels is not None:
            raise ValueError("labels: expected None (this network was built without classes), got labels")
        return
    if labels is None:
        raise ValueError(f"labels: expected a tensor ({batch},) in 0..{classes} ({classes}: no label), got None")
    tensor = require_tensor("labels", labels)
    if tensor.dtype not in INTEGER_DTYPES[3:]:
        raise TypeError(f"labels: expected int32 or int64, got {tensor.dtype}")
    if tuple(tensor.shape) != (batch,):
        raise ValueError(f"labels: expected shape ({batch},), got {tuple(tensor.shape)}")
    if _has_values() and batch and not 0 <= int(tensor.min()) <= int(tensor.max()) <= classes:
        raise ValueError(
            f"labels: expected 0..{classes} ({classes}: no label), got {int(tensor.min())}..{int(tensor.max())}"
        )


def require_generator(generator: object) -> torch.Generator:
    """Return `generator` if it is a torch.Generator on the CPU; TypeError or ValueError otherwise."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator: expected a torch.Generator (every random draw takes one), got {type(generator).__name__}"
        )
    if generator.device.type != "cpu":
        raise ValueError(
            f"generator: expected a CPU generator (noise is drawn there and moved), got {generator.device}"
        )
    return generator


def require_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value` if it is one of `choices`; ValueError otherwise."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return str(value)


def _has_values() -> bool:
    """False while a network is traced for export: its tensors have shapes and dtypes, but no values to look at."""
    return not torch.compiler.is_compiling()
