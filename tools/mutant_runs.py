"""The machine that runs the tests of one module on a copy of the library with one mistake in it.

One warm process imports torch and the oracles once; every run is a fork of it, two at a time, each with one thread.
The tests that were quickest on the unmutated copy come first.
"""

import gc
import importlib
import json
import math
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter
from multiprocessing.connection import wait
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = ROOT / "diffusion_lib"
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
TESTED_WITH = {"frames": "explorer"}  # a module whose tests stand in another's file
PATIENCE = 600  # seconds for the tests of one module on the unmutated copy
LATE = "(ran past its time limit)"


class Job(NamedTuple):
    """The tests of one module to run: on its source with a mistake in it, or unmutated (None)."""

    module: str
    source: str | None
    label: str


def file_of_tests(module: str) -> Path:
    """Return the file that tests a module: tests/test_unet.py for models/unet, a lesson's one file for its folder."""
    folder, _, name = module.rpartition("/")
    if folder.startswith("lessons/"):
        return ROOT / "tests" / "lessons" / f"test_lesson_{folder.rpartition('/')[2]}.py"
    return ROOT / "tests" / f"test_{TESTED_WITH.get(name, name)}.py"


def make_copy(folder: Path, job: Job) -> Path:
    """Copy the library into a folder, with the mistake if there is one; return the folder."""
    shutil.copytree(LIBRARY, folder / LIBRARY.name, ignore=shutil.ignore_patterns("__pycache__"))
    if job.source is not None:
        (folder / LIBRARY.name / f"{job.module}.py").write_text(job.source, encoding="utf-8")
    return folder


class Watch:
    """A pytest plugin: it puts quick tests first, and remembers the first failure and each test's seconds."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.before = seconds  # of each test on the unmutated copy
        self.seconds: Counter = Counter()
        self.first = ""

    def pytest_collection_modifyitems(self, items: list) -> None:
        items.sort(key=lambda item: round(math.log2(max(self.before.get(item.nodeid, 0), 1 / 16))))  # in steps of 2

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed and not self.first:
            self.first = report.nodeid.split("::", 1)[1].split("[")[0]

    def pytest_collectreport(self, report) -> None:
        if report.failed and not self.first:
            self.first = "(the test file could not be imported)"


def run_tests(folder: Path, module: str, seconds: dict[str, float]) -> None:
    """Run a module's tests on the copy in `folder`, in this process; write what was found beside it."""
    import pytest

    log = os.open(folder / "log.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1), os.dup2(log, 2)
    os.environ["PYTHONPATH"] = str(folder)  # for the children of a test
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # pytest warns of plugins that were imported before it started
    sys.path.insert(0, str(folder))
    watch = Watch(seconds)
    quick = ["-x", "-q", "--tb=line", "--assert=plain", "-p", "no:cacheprovider"]
    code = pytest.main([*quick, f"--rootdir={ROOT}", str(file_of_tests(module))], plugins=[watch])
    import diffusion_lib

    if Path(diffusion_lib.__file__).parent.parent != folder:
        watch.first, code = f"the tests read {diffusion_lib.__file__}, not the copy", 99
    result = {"code": int(code), "killer": watch.first, "seconds": watch.seconds}
    (folder / "result.json").write_text(json.dumps(result))


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


def limit_of(sound: dict | None) -> float:
    """Return the seconds that a run may take: three times those of the unmutated run, and ten."""
    return 10 + 3 * sound["wall"] if sound else PATIENCE


def finished(folder: Path, job: Job, wall: float, late: bool) -> dict:
    """Return what a run left in its folder, print it, and clear the folder."""
    found = folder / "result.json"
    result = json.loads(found.read_text()) if found.exists() else {"code": 98, "killer": "(it crashed)", "seconds": {}}
    if late and not found.exists():
        result["killer"] = LATE
    if job.source is None and result["code"]:
        print((folder / "log.txt").read_text()[-3000:])
    shutil.rmtree(folder / LIBRARY.name)
    verdict = "passed" if result["code"] == 0 else f"failed: {result['killer']}"
    print(f"{wall:5.1f} s  {job.label}: {verdict}", flush=True)
    return {**result, "wall": wall}


def run_all(jobs: list[Job], folder: Path, sound: dict[str, dict]) -> list[dict]:
    """Run every job in a fork of its own, two at a time; return the results in order.

    `sound` holds the results of the unmutated runs by module, for the order of the tests and the limit of time.
    """
    fork, results = multiprocessing.get_context("fork"), [{} for _ in jobs]
    running: dict = {}  # sentinel of a process -> number of its job, process, start
    waiting = list(enumerate(jobs))
    while waiting or running:
        while waiting and len(running) < WORKERS:
            i, job = waiting.pop(0)
            seconds = sound.get(job.module, {}).get("seconds", {})
            process = fork.Process(target=run_tests, args=(make_copy(folder / str(i), job), job.module, seconds))
            process.start()
            running[process.sentinel] = (i, process, time.monotonic())
        ready = wait(list(running), timeout=1)
        for sentinel, (i, process, start) in list(running.items()):
            wall, job = time.monotonic() - start, jobs[i]
            late = wall > limit_of(sound.get(job.module))
            if sentinel in ready or late:
                del running[sentinel]
                process.kill(), process.join()
                results[i] = finished(folder / str(i), job, wall, late)
    return results
