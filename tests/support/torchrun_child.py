"""The command line in one of several processes: notes which files this process opens to write, and when they change.

The first argument is a folder for the notes, `wrote.<rank>.json`; the others go to `diffusion_lib`. The first process
also keeps the checkpoint of step 25 there.
"""

import json
import os
import re
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
        name = re.sub(r"\.[0-9a-f]{8}\.part$", ".part", Path(arguments[0]).name)  # drawn anew for each writing
        WROTE.append(f"{event} {name}")


sys.addaudithook(note)

from diffusion_lib import __main__ as command  # noqa: E402
from diffusion_lib import checkpoints  # noqa: E402
from diffusion_lib.training import Trainer  # noqa: E402

save = checkpoints.save


def save_and_keep(path: Path, trainer: Trainer, description: dict) -> None:
    save(path, trainer, description)
    if trainer.step == 25:
        shutil.copy(path, NOTES / "at_25")


checkpoints.save = save_and_keep
status = command.main(sys.argv[2:])
written = list(WROTE)
(NOTES / f"wrote.{os.environ['RANK']}.json").write_text(json.dumps(written))
sys.exit(status)
