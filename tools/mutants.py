"""Break the library formula by formula, and see that its tests notice each time.

Each mutant of mutants.txt changes one piece of text in a copy of the library and runs the tests of that room alone, up
to the first failure; the unmutated copy has to pass first. `python tools/mutants.py` runs them all and writes
tests/mutants.md; `python tools/mutants.py samplers process` runs some rooms and writes nothing. Exit code 1 if a mutant
survives.

One warm process imports torch and the oracles once; every run is a fork of it, two at a time, each with one thread.
"""

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "diffusion_lib"
MUTANTS = ROOT / "tools" / "mutants.txt"
TABLE = ROOT / "tests" / "mutants.md"
ROOMS = ("arguments", "gaussians", "schedules", "process", "denoisers", "samplers", "notation", "data")
ROOMS += ("metrics", "losses", "models/layers", "models/unet", "training", "pretrained")
ROOMS += ("checkpoints", "files", "noise")
WORKERS = 2
SLOW_IMPORTS = (
    "torch",
    "diffusers",
    "pytest",
    "mpmath",
    "scipy.integrate",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.mixture",
)
PATIENCE = 240  # seconds for the tests of one room


class Mutant(NamedTuple):
    """One mistake: in this room, `old`, which occurs exactly once, becomes `new`."""

    room: str
    old: str
    new: str
    mistake: str


def read_mutants(text: str) -> list[Mutant]:
    """Return the records of mutants.txt: `[room] mistake`, the lines of `old` (-), the lines of `new` (+, or none)."""
    mutants = []
    for record in text.split("\n\n"):
        lines = [line for line in record.strip("\n").split("\n") if not line.startswith("#")]
        if not any(lines):
            continue
        room, mistake = lines[0].removeprefix("[").split("] ", 1)
        if room not in ROOMS or any(line[:2] not in ("- ", "+ ") for line in lines[1:]):
            raise ValueError(f"mutants.txt: expected [room], then lines that begin with - or +, got {record!r}")
        old, new = ("\n".join(line[2:] for line in lines[1:] if line[0] == sign) for sign in "-+")
        mutants.append(Mutant(room, old, new, mistake))
    return mutants


def mutated(mutant: Mutant, text: str) -> str:
    """Return the room's text with the mistake in it; ValueError unless `old` occurs exactly once."""
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.room}: expected {mutant.old!r} exactly once, found {text.count(mutant.old)} times")
    return text.replace(mutant.old, mutant.new)


def file_of_tests(room: str) -> Path:
    """Return the file that tests a room: tests/test_unet.py for models/unet."""
    return ROOT / "tests" / f"test_{room.rpartition('/')[2]}.py"


def make_copy(folder: Path, mutant: Mutant | None) -> Path:
    """Copy the library into a folder, with the mistake if there is one; return the folder."""
    shutil.copytree(LIBRARY, folder / LIBRARY.name, ignore=shutil.ignore_patterns("__pycache__"))
    if mutant:
        room = folder / LIBRARY.name / f"{mutant.room}.py"
        room.write_text(mutated(mutant, room.read_text()))
    return folder


class FirstFailure:
    """A pytest plugin that remembers the first test that failed."""

    name = ""

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid.split("::", 1)[1].split("[")[0]

    def pytest_collectreport(self, report) -> None:
        if report.failed and not self.name:
            self.name = "(the test file could not be imported)"


def run_tests(folder: Path, room: str) -> None:
    """Run a room's tests on the copy in `folder`, in this process; write what was found beside it."""
    import pytest

    log = os.open(folder / "log.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1), os.dup2(log, 2)
    os.environ["PYTHONPATH"] = str(folder)  # for the children of a test
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # pytest warns of plugins that were imported before it started
    sys.path.insert(0, str(folder))
    first = FirstFailure()
    quick = ["-x", "-q", "--tb=line", "--assert=plain", "-p", "no:cacheprovider"]
    code = pytest.main([*quick, f"--rootdir={ROOT}", str(file_of_tests(room))], plugins=[first])
    import diffusion_lib

    if Path(diffusion_lib.__file__).parent.parent != folder:
        first.name, code = f"the tests read {diffusion_lib.__file__}, not the copy", 99
    (folder / "result.json").write_text(json.dumps({"code": int(code), "killer": first.name}))


def warm_up() -> None:
    """Import, once for all forks, everything that is slow to import and is not the library."""
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    diffusers = sys.modules["diffusers"]
    schedulers = ("DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler")
    for name in (*schedulers, "UNet2DModel"):
        getattr(diffusers, name)  # diffusers imports them when they are asked for
    sys.modules["torch"].set_num_threads(1)
    gc.freeze()  # the forks need not look through all this for garbage


def run_all(jobs: list[tuple[str, Mutant | None]], folder: Path) -> list[dict]:
    """Run every job (a room and its mutant, or None) in a fork of its own, two at a time; return results in order."""
    fork, results = multiprocessing.get_context("fork"), [{} for _ in jobs]
    running: dict = {}  # sentinel of a process -> number of its job, process, start
    waiting = list(enumerate(jobs))
    while waiting or running:
        while waiting and len(running) < WORKERS:
            i, (room, mutant) = waiting.pop(0)
            process = fork.Process(target=run_tests, args=(make_copy(folder / str(i), mutant), room))
            process.start()
            running[process.sentinel] = (i, process, time.monotonic())
        ready = wait(list(running), timeout=1)
        late = [sentinel for sentinel, (_, _, start) in running.items() if time.monotonic() - start > PATIENCE]
        for sentinel in {*ready, *late}:
            i, process, _ = running.pop(sentinel)
            process.kill(), process.join()
            found = folder / str(i) / "result.json"
            results[i] = json.loads(found.read_text()) if found.exists() else {"code": 98, "killer": "(did not end)"}
            if not jobs[i][1] and results[i]["code"]:
                print((folder / str(i) / "log.txt").read_text()[-3000:])
            shutil.rmtree(folder / str(i) / LIBRARY.name)
            verdict = "passed" if results[i]["code"] == 0 else f"failed: {results[i]['killer']}"
            print(f"{jobs[i][0]}: {jobs[i][1].mistake if jobs[i][1] else 'unmutated'}: {verdict}", flush=True)
    return results


def cell(text: str) -> str:
    """Return a text as it can stand in a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(mutants: list[Mutant], killers: list[str]) -> str:
    """Return the table that is stored: what was broken, and which test noticed first."""
    lines = [
        "# Mutants: formulas broken one at a time, and the test that noticed",
        "",
        f"Written by `make mutants` (tools/mutants.py): {len(mutants)} mutants, each killed by the tests of its own",
        "room. A row is a change of one piece of text in a copy of the library.",
        "",
        "| | room | was | became | mistake | killed by |",
        "|---|---|---|---|---|---|",
    ]
    for i, (m, killer) in enumerate(zip(mutants, killers, strict=True), start=1):
        new = f"`{cell(m.new.strip())}`" if m.new.strip() else "(nothing)"
        lines.append(f"| {i} | {m.room} | `{cell(m.old.strip())}` | {new} | {m.mistake} | {cell(killer)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the unmutated rooms, then their mutants; print, store the table, return the exit code."""
    parser = argparse.ArgumentParser(description="Break the library formula by formula; the tests must notice.")
    parser.add_argument("rooms", nargs="*", help=f"rooms to break, of {', '.join(ROOMS)}; all, and the table, if none")
    rooms = parser.parse_args().rooms or list(ROOMS)
    if unknown := set(rooms) - set(ROOMS):
        parser.error(f"no such room: {', '.join(sorted(unknown))}")
    mutants = [mutant for mutant in read_mutants(MUTANTS.read_text()) if mutant.room in rooms]
    for mutant in mutants:
        mutated(mutant, (LIBRARY / f"{mutant.room}.py").read_text())  # every old text is there, before minutes are lost
    start = time.monotonic()
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        sound = run_all([(room, None) for room in rooms], Path(folder) / "sound")
        broken = [room for room, result in zip(rooms, sound, strict=True) if result["code"] != 0]
        if broken:
            print(f"the unmutated library does not pass: {', '.join(broken)}")
            return 1
        results = run_all([(mutant.room, mutant) for mutant in mutants], Path(folder) / "mutants")
    survivors = [mutant for mutant, result in zip(mutants, results, strict=True) if result["code"] == 0]
    for mutant in survivors:
        print(f"SURVIVED: {mutant.room}: {mutant.old!r} -> {mutant.new!r} ({mutant.mistake})")
    print(f"{len(mutants)} mutants, {len(mutants) - len(survivors)} killed, {time.monotonic() - start:.0f} s")
    if not survivors and len(rooms) == len(ROOMS):
        TABLE.write_text(table(mutants, [result["killer"] for result in results]))
        print(f"stored in {TABLE.relative_to(ROOT)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TQDM_DISABLE="1")
    sys.exit(main())
