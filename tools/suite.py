"""The test suite in stages, then what was counted; exit code 1 if anything failed.

    python tools/suite.py           make test: the three stages below
    python tools/suite.py deep      make deep: what re-trains, kills runs again and again, or runs a lesson in a browser

1. tests/: units, oracles, structure of the notebooks, on two workers of one thread each.
2. notebooks/: strict nbval under ONE thread (their outputs were stored from two) with the network blocked. The one
   stage that runs lessons; an explorer calls `show` for every frame there, but packs no images.
3. tests/browser: on two workers, each with its own server, browser and kernels of one thread.
"""

import collections
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

import course
from kernels import CELL_TIMEOUT, ROOT, kernel_environment

BUILD = ROOT / "build"
WORKERS = ["-n", "2", "--dist", "loadscope"]  # loadscope keeps the cells of one notebook together
STEALING = ["-n", "2", "--dist", "worksteal"]  # few tests, of very different lengths
NBVAL = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout", str(CELL_TIMEOUT)]
SANITIZE = ["--nbval-sanitize-with", "tests/support/nbval_sanitize.cfg"]
STAGES = {
    "tests": ["tests", "-m", "not browser and not deep", *WORKERS],
    "nbval": ["notebooks", *NBVAL, *SANITIZE, *WORKERS],
    "browser": ["tests", "-m", "browser and not deep", *STEALING],
}
DEEP = {"deep": ["tests", "-m", "deep", *STEALING]}
SETTINGS = {"nbval": {"DIFFUSION_LIB_FRAMES": "skip"}}
LIMITS = {"nbval": 55, "browser": 25, "tests": 20}  # worker-seconds that a lesson may cost on two quiet cores
EXCEPTIONS = {"13": 150}  # in all, until its training is cut


def run_stage(name: str, home: str) -> tuple[int, list[ET.Element]]:
    """Run one stage; return pytest's exit code and its test cases (none if it wrote no report)."""
    report = BUILD / f"{name}.xml"
    report.unlink(missing_ok=True)
    print(f"--- {name}", flush=True)
    stage = (STAGES | DEEP)[name]
    command = [sys.executable, "-m", "pytest", "-q", "--durations=5", f"--junitxml={report}", *stage]
    environment = kernel_environment(1, home) | SETTINGS.get(name, {})
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    return code, list(ET.parse(report).iter("testcase")) if report.exists() else []


def outcome(case: ET.Element) -> str:
    """Return passed, failed or skipped for one test case."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def counted(cases: list[ET.Element]) -> dict[str, int]:
    """Return the sums of what tests counted with `record_count`."""
    sums: collections.Counter[str] = collections.Counter()
    for entry in (entry for case in cases for entry in case.iter("property")):
        if entry.get("name", "").startswith("count: "):
            sums[entry.get("name", "").removeprefix("count: ")] += int(entry.get("value", 0))
    return dict(sums)


def skipped_lines(name: str, cases: list[ET.Element]) -> list[str]:
    """Say how many tests of a stage were skipped, and why; nothing if none was."""
    why = [case.find("skipped").get("message", "") for case in cases if outcome(case) == "skipped"]
    return [f"stage {name}: {len(why)} SKIPPED: {'; '.join(sorted(set(why)))}"] if why else []


def seconds(cases: list[ET.Element]) -> float:
    """Return the worker-seconds of test cases."""
    return sum(float(case.get("time", 0)) for case in cases)


def lesson_of(case: ET.Element, lessons: list[course.Lesson]) -> str | None:
    """Return the number of the lesson that a test case belongs to: by its notebook, its parameter or its own file."""
    where, name = case.get("classname", ""), case.get("name", "")
    for lesson in lessons:
        stem = f"{lesson.number}_{lesson.stem}"
        named = f"[{stem}" in name or f"[{lesson.stem}." in name
        if stem in where or named or where.endswith(f".test_lesson_{lesson.stem}"):
            return lesson.number
    return None


def shares(cases: dict[str, list[ET.Element]], lessons: list[course.Lesson]) -> list[str]:
    """Return, lesson by lesson, the worker-seconds of each stage; what is over the limit is marked."""
    lines = ["worker-seconds a lesson (nbval, browser, tests), of " + ", ".join(map(str, LIMITS.values()))]
    for lesson in lessons:
        own = {s: [c for c in cases.get(s, []) if lesson_of(c, lessons) == lesson.number] for s in LIMITS}
        spent = {stage: seconds(found) for stage, found in own.items()}
        most = EXCEPTIONS.get(lesson.number, sum(LIMITS.values()))
        over = "  OVER" if sum(spent.values()) > most else ""
        parts = ", ".join(f"{value:.0f}" + " over" * (value > LIMITS[stage]) for stage, value in spent.items())
        lines.append(f"  {lesson.number}: {sum(spent.values()):.0f} ({parts}) of {most}{over}")
    return lines


def summary(cases: dict[str, list[ET.Element]], codes: dict[str, int]) -> list[str]:
    """Return the last lines: what was counted and skipped, stages that ended badly, how many passed and failed."""
    everything = [case for stage in cases.values() for case in stage]
    lines = []
    if "nbval" in cases:
        cells = [case for case in cases["nbval"] if outcome(case) == "passed"]
        lines = [f"notebooks compared: {len({c.get('classname') for c in cells})}", f"cells compared: {len(cells)}"]
    lines += [f"{name}: {number}" for name, number in sorted(counted(everything).items())]
    spent = {name: seconds(stage) for name, stage in cases.items()}
    parts = ", ".join(f"{name} {value:.0f}" for name, value in spent.items())
    lines.append(f"worker-seconds: {sum(spent.values()):.0f} ({parts})")
    for name, stage in cases.items():
        lines += skipped_lines(name, stage)
    lines += [f"stage {name} ended with pytest's exit code {code}" for name, code in codes.items() if code]
    every = collections.Counter(map(outcome, everything))
    return [*lines, f"{every['passed']} passed, {every['failed']} failed, {every['skipped']} skipped"]


def main(arguments: list[str]) -> int:
    """Run the stages; returns the exit code."""
    BUILD.mkdir(exist_ok=True)
    stages, start = (DEEP if arguments == ["deep"] else STAGES), time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        results = {name: run_stage(name, home) for name in stages}
    codes = {name: code for name, (code, _) in results.items()}
    cases = {name: found for name, (_, found) in results.items()}
    print(f"\n{time.monotonic() - start:.0f} s")
    *lines, last = summary(cases, codes)
    lines += shares(cases, course.written()) if stages is STAGES else []
    print("\n".join([*lines, last]), flush=True)
    return 1 if any(codes.values()) else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
