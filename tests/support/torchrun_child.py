"""The command line in one of several processes: notes which files this process opens to write, and when they change.

The first argument is a folder for the notes, `wrote.<rank>.json`; the others go to `diffusion_lib`. The first process
also keeps the checkpoint of step 25 there.
"""

import json
import os
import shutil
import sys
from pathlib import Path

NOTES = Path(sys.argv[1])
WROTE: list[str] = []
WATCHED = {"open", "os.rename", "os.mkdir", "os.remove"}


def note(event: str, arguments: tuple) -> None:
    """An audit hook: remember files opened to write, renamed or removed."""
    if event not in WATCHED or not isinstance(arguments[0], str | os.PathLike):
        return
    reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if not reads and str(arguments[0]).startswith(str(NOTES)):
        WROTE.append(f"{event} {Path(arguments[0]).name}")


sys.addaudithook(note)

from diffusion_lib import __main__ as command  # noqa: E402
from diffusion_lib import training  # noqa: E402

save_checkpoint = training.save_checkpoint


def save_and_keep(path: Path, trainer: training.Trainer, about: dict) -> None:
    save_checkpoint(path, trainer, about)
    if trainer.step == 25:
        shutil.copy(path, NOTES / "at_25")


training.save_checkpoint = save_and_keep
status = command.main(sys.argv[2:])
written = list(WROTE)
(NOTES / f"wrote.{os.environ['RANK']}.json").write_text(json.dumps(written))
sys.exit(status)
