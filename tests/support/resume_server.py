"""Runs the command line in forks of one warm process, and ends them at the moments that test_resume.py asks for.

Reads one JSON object a line: {"argv": [...], "log": path, "kill": null or {...}}; answers with the child's wait status.
`kill` says when: {"signal": 9 or 2, "step": k, "delay": seconds} ends the child that long after step k is taken;
{"signal", "step": k, "piece": j} ends it while the checkpoint of step k is being written, after j pieces.

The fork is sound because this process has one thread (asserted) and has done nothing but read the digits.
"""

import functools
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from diffusion_lib import __main__ as command
from diffusion_lib import checkpoints, data, files, runs, training

PIECE = 32 * 1024  # bytes: two dozen pieces a checkpoint
PATIENCE = 60  # seconds: a child that outlives its moment by this much goes on, and the test fails


def grey(network: object, *options: object) -> torch.Tensor:
    """Images at no cost; what is trained does not depend on them."""
    return torch.zeros(80, 1, 16, 16)


def end_at(kill: dict) -> None:
    """Arrange that this process is ended at the moment asked for."""
    take, save, pieces = training.Trainer._one, checkpoints.save, files.pieces
    saving = {"step": 0}

    def end() -> None:
        os.kill(os.getpid(), kill["signal"])

    def one(self: training.Trainer, draw: object, loss: object, step: int) -> training.TrainingStep:
        taken = take(self, draw, loss, step)
        if step == kill["step"] and "delay" in kill:
            threading.Timer(kill["delay"], end).start()
        if step == self.config.steps - 1 and "delay" in kill:
            time.sleep(PATIENCE)  # the moment comes before the end, however slow the machine
        return taken

    def save_checkpoint(path: Path, trainer: training.Trainer, description: dict) -> None:
        saving["step"] = trainer.step
        save(path, trainer, description)
        saving["step"] = 0

    def slow_pieces(content: bytes) -> object:
        for j, piece in enumerate(pieces(content, PIECE)):
            if saving["step"] == kill["step"] and j == kill.get("piece"):
                end()
                time.sleep(PATIENCE)  # SIGINT arrives here
            yield piece

    training.Trainer._one, checkpoints.save, files.pieces = one, save_checkpoint, slow_pieces


def child(request: dict) -> int:
    """Run one command in this fork; return its exit status."""
    log = os.open(request["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runs.sample_images = grey
    if request["kill"]:
        end_at(request["kill"])
    return command.main(request["argv"])


def main() -> None:
    """Serve requests until stdin ends."""
    torch.set_num_threads(1)
    data.digits = functools.cache(data.digits)
    data.digits(16)
    for line in sys.stdin:
        threads = next(
            x for x in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if x.startswith("Threads")
        )
        assert threads.split()[1] == "1", f"forking needs a process with one thread, got {threads}"
        pid = os.fork()
        if pid == 0:
            os._exit(child(json.loads(line)))
        print(os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
