"""The whole test suite in three stages, then what was counted; exit code 1 if anything failed.

1. tests/: units, oracles, structure of the notebooks, on two workers of one thread each.
2. notebooks/: strict nbval under ONE thread (their outputs were stored from two) with the network blocked.
3. tests/: the browser tests, on two workers, each with its own server, browser and kernels of one thread.
"""

import collections
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

from notebooks import CELL_TIMEOUT, ROOT, kernel_environment

BUILD = ROOT / "build"
WORKERS = ["-n", "2", "--dist", "loadscope"]  # loadscope keeps the cells of one notebook together
NBVAL = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout", str(CELL_TIMEOUT)]
SANITIZE = ["--nbval-sanitize-with", "tests/nbval_sanitize.cfg"]
NO_FRAMES = {"DIFFUSION_LIB_FRAMES": "skip"}  # nbval compares texts and no images: explorers draw no frames there
STAGES = {
    "tests": ["tests", "-m", "not browser", *WORKERS],
    "nbval": ["notebooks", *NBVAL, *SANITIZE, *WORKERS],
    "browser": ["tests", "-m", "browser", "-n", "2", "--dist", "worksteal"],  # few tests, of very different lengths
}


def run_stage(name: str, home: str) -> tuple[int, list[ET.Element]]:
    """Run one stage; return pytest's exit code and its test cases (none if it wrote no report)."""
    report = BUILD / f"{name}.xml"
    report.unlink(missing_ok=True)
    print(f"--- {name}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "--durations=5", f"--junitxml={report}", *STAGES[name]]
    env = kernel_environment(1, home) | (NO_FRAMES if name == "nbval" else {})
    code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
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
            sums[entry.get("name").removeprefix("count: ")] += int(entry.get("value"))
    return dict(sums)


def browser_line(cases: list[ET.Element]) -> str:
    """Say how many browser tests passed, how many failed, and how many were skipped and why."""
    found = collections.Counter(map(outcome, cases))
    why = {case.find("skipped").get("message") for case in cases if outcome(case) == "skipped"}
    line = f"browser tests: {found['passed']} passed"
    line += f", {found['failed']} FAILED" if found["failed"] else ""
    return line + (f", {found['skipped']} SKIPPED: {'; '.join(sorted(why))}" if why else "")


def slowest(cells: list[ET.Element]) -> str:
    """Say which notebook took longest and how long."""
    seconds: collections.Counter[str] = collections.Counter()
    for cell in cells:
        seconds[cell.get("classname", "").removeprefix("notebooks.")] += float(cell.get("time", 0))
    name, most = max(seconds.items(), key=lambda item: item[1], default=("none", 0.0))
    return f"slowest notebook: {most:.0f} s ({name})"


def summary(cases: dict[str, list[ET.Element]], codes: dict[str, int]) -> list[str]:
    """Return the last lines: what was counted, the browser, stages that ended badly, and how many passed and failed."""
    cells = [case for case in cases["nbval"] if outcome(case) == "passed"]
    lines = [f"notebooks compared: {len({case.get('classname') for case in cells})}", f"cells compared: {len(cells)}"]
    lines.append(slowest(cells))
    everything = [case for stage in cases.values() for case in stage]
    lines += [f"{name}: {number}" for name, number in sorted(counted(everything).items())]
    lines.append(browser_line(cases["browser"]))
    lines += [f"stage {name} ended with pytest's exit code {code}" for name, code in codes.items() if code]
    every = collections.Counter(map(outcome, everything))
    return [*lines, f"{every['passed']} passed, {every['failed']} failed, {every['skipped']} skipped"]


def main() -> int:
    """Run all stages; returns the exit code."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        results = {name: run_stage(name, home) for name in STAGES}
    codes = {name: code for name, (code, _) in results.items()}
    cases = {name: found for name, (_, found) in results.items()}
    print("\n" + "\n".join(summary(cases, codes)), flush=True)
    return 1 if any(codes.values()) else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
