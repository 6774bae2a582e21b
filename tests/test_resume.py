"""Killed at random moments and resumed, a run ends with the same bits as one that was left alone.

The tiny network has the optimizer of real training, fused AdamW. The run that is left alone is the real command in a
process of its own; the ten that are killed are forks of one warm process, because importing PyTorch takes longer than
they do.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load

from diffusion_lib.checkpoints import CheckpointError, read

pytestmark = [
    pytest.mark.deep,  # resuming within one process is in test_checkpoints.py and test_main.py
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc"),
]

SERVER = Path(__file__).with_name("support") / "resume_server.py"
STEPS, SAVE = 18, 6
RUN = ["--width", "8", "--mults", "1", "2", "--blocks", "1", "--batch", "4", "--steps", str(STEPS), "--warmup", "5"]
RUN += ["--save-every", str(SAVE), "--log-every", "4", "--lr", "1e-3"]
FLOAT32, BF16 = ["--precision", "float32"], ["--precision", "bf16"]


def moments(seed: int = 3) -> list[dict]:
    """Draw ten moments: one before the first checkpoint, four while one is being written, five anywhere after."""
    rng = random.Random(seed)
    delay = lambda: rng.uniform(0, 0.03)  # noqa: E731 (about a step)
    found = [{"step": rng.randint(1, SAVE - 3), "delay": 0.0}, {"step": SAVE, "piece": rng.randint(0, 20)}]
    found += [{"step": SAVE * rng.randint(2, 3), "piece": rng.randint(0, 20)} for _ in range(3)]
    found += [{"step": rng.randint(SAVE + 1, STEPS - 3), "delay": delay()} for _ in range(5)]
    return [{**moment, "signal": int((signal.SIGKILL, signal.SIGINT)[i % 2])} for i, moment in enumerate(found)]


@pytest.fixture(scope="module")
def command() -> Iterator[Callable[..., int]]:
    """`command(out, *options, kill=moment)` runs `train` in a fork and returns its wait status."""
    server = subprocess.Popen([sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(out: Path, *options: str, kill: dict | None = None) -> int:
        argv = ["train", "--out", str(out), *RUN, *options]
        server.stdin.write(json.dumps({"argv": argv, "log": str(out) + ".log", "kill": kill}) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline())

    yield run
    server.stdin.close()
    assert server.wait(20) == 0


def real(out: Path, *options: str) -> subprocess.Popen:
    """Start the command as a reader would."""
    argv = [sys.executable, "-m", "diffusion_lib", "train", "--out", str(out), *RUN, *options]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs do not hear Ctrl-C
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The folder of a run that nobody interrupted."""
    out = tmp_path_factory.mktemp("alone") / "run"
    process = real(out, *FLOAT32)
    assert process.wait(120) == 0, process.stderr.read()
    process.communicate()
    return out


def assert_same_end(left: Path, right: Path) -> None:
    """The tensors of checkpoint (weights, average, both moments) and of weights byte for byte, and the metrics."""
    for name in ("checkpoint.safetensors", "weights.safetensors"):
        a, b = (load((folder / name).read_bytes()) for folder in (left, right))
        assert a.keys() == b.keys()
        assert [key for key in a if a[key].numpy().tobytes() != b[key].numpy().tobytes()] == []
    checkpoints = [read(folder / "checkpoint.safetensors") for folder in (left, right)]
    assert checkpoints[0].run == checkpoints[1].run and checkpoints[0].step == checkpoints[1].step == STEPS
    assert {name.split(".")[0] for name in checkpoints[0].tensors} == {"model", "ema", "exp_avg", "exp_avg_sq"}
    metrics = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (left, right)]
    assert [line["step"] for line in metrics[1]] == [4, 8, 12, 16, 18]
    for line in metrics[0] + metrics[1]:
        del line["images_per_s"]
    assert metrics[0] == metrics[1]


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint, 0 where there is none yet; a file that is not whole fails the test."""
    return read(checkpoint).step if checkpoint.exists() else 0


def test_the_moments_are_of_every_kind():
    drawn = moments()
    assert len(drawn) == 10
    assert sum("piece" in moment for moment in drawn) >= 2
    assert sum("delay" in moment and moment["step"] < SAVE for moment in drawn) >= 1
    assert {moment["signal"] for moment in drawn if "piece" in moment} == {signal.SIGKILL, signal.SIGINT}


@pytest.mark.parametrize("moment", moments(), ids=str)
def test_a_killed_and_resumed_run_ends_with_the_same_bits(tmp_path: Path, alone, command, moment, record_count):
    out, log = tmp_path / "run", tmp_path / "run.log"
    status = command(out, *FLOAT32, kill=moment)
    if moment["signal"] == signal.SIGKILL:
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, log.read_text()
    else:
        assert os.waitstatus_to_exitcode(status) == 130 and "interrupted: --resume" in log.read_text(), log.read_text()
    kept = step_of(out / "checkpoint.safetensors")
    if "piece" in moment:
        assert kept == moment["step"] - SAVE  # the good one, not the one that was being written
        parts = list(out.glob("checkpoint.safetensors.*.part"))
        assert len(parts) == (moment["signal"] == signal.SIGKILL)  # Ctrl-C leaves time to remove it
        assert all(part.stat().st_size <= 32 * 1024 * (moment["piece"] + 1) for part in parts)
    else:
        assert kept % SAVE == 0 and kept >= (moment["step"] - 1) // SAVE * SAVE  # of the last step, or not yet
        assert kept == 0 or moment["step"] > SAVE - 3
    assert command(out, *FLOAT32, "--resume") == 0, log.read_text()
    assert f"{'resumed after' if kept else 'begun at'} step {kept}" in log.read_text()
    assert_same_end(alone, out)
    assert not list(out.glob("*.part"))
    record_count("killed and resumed", 1)


def test_one_run_killed_again_and_again_ends_with_the_same_bits(tmp_path: Path, alone, command):
    """Four of the moments, one after the other in one run: before the first checkpoint, in a write, twice elsewhere."""
    out, drawn = tmp_path / "run", moments()
    for moment in [drawn[0], drawn[1], *sorted(drawn[-2:], key=lambda moment: moment["step"])]:
        assert moment["step"] > step_of(out / "checkpoint.safetensors")
        assert command(out, *FLOAT32, "--resume", kill=moment) != 0
    assert command(out, *FLOAT32, "--resume") == 0
    assert_same_end(alone, out)


def test_ctrl_c_in_a_real_process_in_bf16(tmp_path: Path, command):
    """A process of its own, interrupted as by Ctrl-C once it has a checkpoint, resumed by another."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert command(whole, *BF16) == 0
    process = real(out, *BF16)
    deadline = time.monotonic() + 100
    while not (out / "checkpoint.safetensors").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted: --resume goes on from the last checkpoint" in errors
    assert 0 < step_of(out / "checkpoint.safetensors") < STEPS
    again = real(out, *BF16, "--resume")
    assert again.wait(120) == 0, again.stderr.read()
    assert "resumed after step" in again.communicate()[0]
    assert_same_end(whole, out)


def test_a_half_written_checkpoint_itself_is_refused(tmp_path: Path, command):
    """What a write that is not atomic would leave behind: the file cut where the kill struck."""
    moment = {"step": SAVE, "piece": 5, "signal": int(signal.SIGKILL)}
    command(tmp_path / "run", *FLOAT32, kill=moment)
    (part,) = (tmp_path / "run").glob("checkpoint.safetensors.*.part")
    with pytest.raises(CheckpointError, match="expected a whole checkpoint"):
        read(part)
