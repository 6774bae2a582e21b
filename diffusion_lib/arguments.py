"""Checks of arguments, one function per kind of mistake: each error names argument, expectation and value.

Where an integer is expected, whatever Python can use as an index will do (numpy's integers too, but not True), and
where a tensor of integers is expected, a list or an array of them. An error has at most 300 characters.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

INTEGER_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
MOST = 80  # characters of a value that an error shows


def shown(value: object) -> str:
    """Return a value as an error shows it: what Python would print, cut where it is long."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} of {value.dtype}, shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= MOST else f"{text[:MOST]} ..."


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


def require_points(name: str, value: object, D: int) -> Tensor:
    """Return real points (B, D); TypeError or ValueError otherwise."""
    tensor = require_real(name, value)
    if tensor.ndim != 2 or tensor.shape[1] != D:
        raise ValueError(f"{name}: expected points (B, {D}), got shape {tuple(tensor.shape)}")
    return tensor


def require_table(name: str, value: object, shape: str, shortest: int) -> Tensor:
    """Return a list or 1-D tensor of at least `shortest` real, finite numbers in float64 on the CPU, a copy.

    Raises: TypeError (not real numbers), ValueError (another shape, NaN or infinity), which names the expected `shape`.
    """
    if isinstance(value, Tensor) and value.is_complex():
        raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
    try:
        value = np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value  # PyTorch takes no reversed one
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


def integers(name: str, value: Any) -> Tensor:
    """Return an integer, or a list, array or tensor of integers, as a tensor; TypeError for anything else."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value) if isinstance(value, list | tuple | np.ndarray | np.integer | int) else None
    if array is None or isinstance(value, bool) or array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an integer, or a list, array or tensor of integers, got {shown(value)}")
    return torch.as_tensor(np.array(array, dtype=np.int64), device="cpu")


def require_time(name: str, t: Any, low: int, high: int, batch: int | None = None) -> Tensor:
    """Return integer times in low..high as an int64 CPU tensor, () or (B,); TypeError or ValueError for any others."""
    times = integers(name, t).cpu()
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
    late = ~(s < t)
    if bool(late.any()):
        s, t = (x.expand_as(late).reshape(-1)[late.reshape(-1)][0] for x in (s, t))
        raise ValueError(f"s: expected times before t, got s = {int(s)} with t = {int(t)}")


def require_steps(steps: Any, T: int) -> list[int]:
    """Return the times to visit as ints if they fall strictly within T..0; TypeError or ValueError otherwise."""
    listed = isinstance(steps, Sequence) and not isinstance(steps, str | bytes)
    if not listed and (not isinstance(steps, Tensor | np.ndarray) or steps.ndim != 1):
        raise TypeError(f"steps: expected a list, array or tensor of integers (n+1,), got {shown(steps)}")
    values = list(steps) if listed else steps.tolist()
    plain = all(type(t) is int for t in values)  # the usual case, and quick: a sampler asks for each walk
    times = values if plain else [_index("steps", t, f" at place {i}") for i, t in enumerate(values)]
    if len(times) < 2:
        raise ValueError(f"steps: expected at least a start and an end, got {times}")
    bad = next((i for i, (t, s) in enumerate(pairwise([T + 1, *times])) if s >= t or s < 0), None)
    if bad is not None:
        before = f"{times[bad - 1]}, " if bad else ""
        raise ValueError(
            f"steps: expected times that fall strictly within {T}..0, got {before}{times[bad]} at place {bad}"
        )
    return times


def require_between(name: str, value: float, low: float, high: float) -> float:
    """Return a real number if it lies in [low, high]; TypeError or ValueError otherwise (NaN lies nowhere)."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__} {shown(value)}")
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
    number = _index(name, value)
    if number < low or (high is not None and number > high):
        expected = f"at least {low}" if high is None else f"{low}..{high}"
        raise ValueError(f"{name}: expected {expected}, got {number}")
    return number


def _index(name: str, value: Any, where: str = "") -> int:
    """An integer, numpy's too, as an int; but neither True nor a tensor, which would hide what was meant."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return index(value)
    raise TypeError(f"{name}: expected an int, got {type(value).__name__} {shown(value)}{where}")


def require_labels(labels: Any, classes: int, batch: int) -> Tensor | None:
    """Return labels (batch,) in 0..classes where there are classes, None where there are not, if they are so given.

    Raises: TypeError, ValueError otherwise.
    """
    if classes == 0:
        if labels is not None:
            raise ValueError("labels: expected None (this network was built without classes), got labels")
        return None
    if labels is None:
        raise ValueError(f"labels: expected a tensor ({batch},) in 0..{classes} ({classes}: no label), got None")
    tensor = integers("labels", labels)
    if tensor.dtype not in INTEGER_DTYPES[3:]:
        raise TypeError(f"labels: expected int32 or int64, got {tensor.dtype}")
    if tuple(tensor.shape) != (batch,):
        raise ValueError(f"labels: expected shape ({batch},), got {tuple(tensor.shape)}")
    if _has_values() and batch and not 0 <= int(tensor.min()) <= int(tensor.max()) <= classes:
        raise ValueError(
            f"labels: expected 0..{classes} ({classes}: no label), got {int(tensor.min())}..{int(tensor.max())}"
        )
    return tensor


def require_symbols(name: str, value: Any, levels: int, longest: int | None = None) -> Tensor:
    """Return integers in 0..levels-1; with `longest`, as sequences (B, n) of 1 to that many.

    Raises: TypeError, ValueError with the first symbol that is out of range.
    """
    symbols = integers(name, value)
    if symbols.dtype not in INTEGER_DTYPES:
        raise TypeError(f"{name}: expected integers, got {symbols.dtype}")
    if longest is not None and (symbols.ndim != 2 or not 1 <= symbols.shape[1] <= longest):
        raise ValueError(f"{name}: expected sequences (B, n), n in 1..{longest}, got shape {tuple(symbols.shape)}")
    if _has_values() and bool((wrong := (symbols < 0) | (symbols >= levels)).any()):
        raise ValueError(f"{name}: expected symbols in 0..{levels - 1}, got {int(symbols[wrong][0])}")
    return symbols


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
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {shown(value)}")
    return str(value)


def _has_values() -> bool:
    """False while a network is traced for export: its tensors have shapes and dtypes, but no values to look at."""
    return not torch.compiler.is_compiling()
