"""Two processes under PyTorch's own launcher do what one does: the same losses, the same weights, one writer.

Real torchrun, gloo over 127.0.0.1, one thread each, the offline block in place.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from diffusion_lib import __main__ as command
from diffusion_lib import runs

torch.distributed.is_available() or pytest.skip("PyTorch without torch.distributed", allow_module_level=True)

CHILD = Path(__file__).with_name("support") / "torchrun_child.py"
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
RUN = ["--width", "8", "--mults", "1", "2", "--blocks", "1", "--batch", "8", "--steps", "50", "--warmup", "10"]
RUN += ["--log-every", "1", "--save-every", "25", "--sample-every", "1000", "--lr", "2e-3"]


@pytest.fixture(autouse=True)
def grey_images(monkeypatch):
    """Grids at no cost, in this process."""
    monkeypatch.setattr(runs, "sample_images", lambda network, *options: torch.zeros(80, 1, 16, 16))


def torchrun(*arguments: object) -> subprocess.CompletedProcess:
    """Run two processes on this machine."""
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    argv = [sys.executable, *LAUNCH, *map(str, arguments)]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=150, check=False)


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").open()]


def worst(left: list[dict], right: list[dict], name: str) -> float:
    """Return the largest relative difference of a number over all steps; the steps must be the same."""
    assert [line["step"] for line in left] == [line["step"] for line in right]
    return max(abs(a[name] - b[name]) / abs(b[name]) for a, b in zip(left, right, strict=True))


def weights_apart(left: Path, right: Path) -> float:
    """Return the largest difference of two runs' weights and averages, whose largest entries are of the order of 1."""
    a, b = (load((folder / "checkpoint.safetensors").read_bytes()) for folder in (left, right))
    names = [name for name in b if name.startswith(("model.", "ema."))]
    assert max(float(b[name].abs().max()) for name in names) > 0.5
    return max(float((a[name] - b[name]).abs().max()) for name in names)


@pytest.mark.deep  # float64, below, is the sharper comparison
def test_two_processes_agree_with_one_in_float32(tmp_path: Path):
    """The documented command; the global batch of eight, four in each process."""
    options = ["train", *RUN, "--precision", "float32", "--out"]
    done = torchrun("-m", "diffusion_lib", *options, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun at step 0") == 1  # one process speaks
    assert command.main([*options, str(tmp_path / "one")]) == 0
    two, one = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    assert len(one) == 50 and one[-1]["loss"] < 0.9 * one[0]["loss"]
    assert worst(two, one, "loss") < 1e-5
    assert worst(two, one, "norm") < 1e-3


def test_two_processes_agree_with_one_in_float64_and_one_of_them_writes(tmp_path: Path):
    options = ["train", *RUN, "--precision", "float64", "--out"]
    done = torchrun(CHILD, tmp_path, *options, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert command.main([*options, str(tmp_path / "one")]) == 0
    two, one = metrics(tmp_path / "two"), metrics(tmp_path / "one")
    assert len(one) == 50
    for name in ("loss", "norm"):
        assert worst(two, one, name) < 1e-10
    assert weights_apart(tmp_path / "two", tmp_path / "one") < 1e-10

    wrote = [json.loads((tmp_path / f"wrote.{rank}.json").read_text()) for rank in (0, 1)]
    assert {"open checkpoint.safetensors.part", "os.rename checkpoint.safetensors.part"} <= set(wrote[0])
    assert {"open metrics.jsonl", "open weights.safetensors.part", "open samples_000050.png"} <= set(wrote[0])
    assert [event for event in wrote[1] if event != "os.mkdir two"] == []

    # What two processes began, one ends: the half-way checkpoint, resumed alone.
    (tmp_path / "three").mkdir()
    (tmp_path / "at_25").rename(tmp_path / "three" / "checkpoint.safetensors")
    assert command.main([*options, str(tmp_path / "three"), "--resume"]) == 0
    three = metrics(tmp_path / "three")
    assert three[0]["step"] == 26 and worst(three, one[25:], "loss") < 1e-10
    assert weights_apart(tmp_path / "three", tmp_path / "one") < 1e-10


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path):
    done = torchrun("-m", "diffusion_lib", "train", *RUN, "--batch", "7", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "error: batch: expected a multiple of the 2 processes, got 7\n" in done.stderr
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
