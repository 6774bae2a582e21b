"""Run the course's notebooks and store them in canonical form, or check that they are stored so.

    python tools/notebooks.py store [path ...]       run top to bottom in a fresh kernel and write the outputs
    python tools/notebooks.py check [path ...]       say what is not canonical; exit code 1 if anything is
    python tools/notebooks.py seeds 13 1 2 3 4 5     run lesson 13 under other seeds; list each claim that fails
    python tools/notebooks.py new 15 fast_solvers    make the skeleton of a lesson that course.toml lists

Without paths: all of notebooks/.

Outputs are stored from TWO threads and compared by nbval under ONE: what is printed cannot depend on the thread count.
"""

import argparse
import sys
from pathlib import Path

import course
import nbformat
import skeleton
from canonical import canonical, keep_images, problems, run_problems, text_of
from kernels import ROOT, run
from nbformat import NotebookNode

MEGABYTE = 1_000_000  # bytes: no notebook is larger
SLOW = 0.1  # seconds: slower cells are named when a notebook is stored


def cleared(path: Path) -> NotebookNode:
    """Return a notebook in canonical form without its outputs."""
    notebook = canonical(nbformat.reads(path.read_text(encoding="utf-8"), as_version=4))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def store(path: Path) -> dict[str, float]:
    """Run one notebook and write it in canonical form; nothing is written if it does not run cleanly.

    Returns: the seconds of each code cell, by its id.
    """
    before, notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4), cleared(path)
    seconds = run(notebook, path.parent)
    notebook = canonical(notebook)
    keep_images(notebook, before)
    if found := list(run_problems(notebook)):
        raise SystemExit(f"{path}: " + "; ".join(found))
    nbformat.validate(notebook)
    path.write_text(text_of(notebook), encoding="utf-8")
    return seconds


def stored_line(path: Path, seconds: dict[str, float]) -> str:
    """Return what is said of a stored notebook: its seconds, all and cell by cell, and the bytes left of a megabyte."""
    size = path.stat().st_size
    slow = [f"{name} {value:.1f}" for name, value in seconds.items() if value >= SLOW]
    line = f"stored {path.name} in {sum(seconds.values()):.1f} s, {size / 1000:.0f} kB, {MEGABYTE - size:,} bytes left"
    return line + (f"; seconds a cell: {', '.join(slow)}" if slow else "")


def failed_claims(path: Path, seed: int) -> list[str]:
    """Return, for a run under $COURSE_SEED = seed, each cell that raised and what it said."""
    notebook = cleared(path)
    run(notebook, path.parent, go_on=True, settings={"COURSE_SEED": str(seed)})
    expected = {cell.id for cell in notebook.cells if "raises-exception" in cell.metadata.get("tags", [])}
    errors = [(cell.id, output) for cell in notebook.cells for output in cell.get("outputs", [])]
    errors = [(name, output) for name, output in errors if output.output_type == "error" and name not in expected]
    return [f"cell {name}: {output.ename}: {output.evalue}" for name, output in errors]


def seeds(number: str, values: list[int]) -> int:
    """Run a lesson under other seeds and print each claim that fails; return how many did."""
    path, failures = course.NOTEBOOKS / course.find(number).notebook, 0
    for seed in values:
        found = failed_claims(path, seed)
        failures += len(found)
        print(f"seed {seed}: {'every claim holds' if not found else f'{len(found)} cells failed'}", flush=True)
        print(*(f"  {line}" for line in found), sep="\n", end="\n" if found else "")
    return failures


def expand(paths: list[Path]) -> list[Path]:
    """Return the notebooks that `paths` name: files as they are, folders by their .ipynb files."""
    found = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
        found += inside if path.is_dir() else [path]
    return found


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the four commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="action", required=True)
    for name in ("store", "check"):
        commands.add_parser(name).add_argument("paths", nargs="*", type=Path, default=[ROOT / "notebooks"])
    other = commands.add_parser("seeds")
    other.add_argument("lesson")
    other.add_argument("seeds", nargs="+", type=int)
    new = commands.add_parser("new")
    new.add_argument("number")
    new.add_argument("stem")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = arguments().parse_args(argv)
    if options.action == "seeds":
        return 1 if seeds(options.lesson, options.seeds) else 0
    if options.action == "new":
        return skeleton.main(options.number, options.stem)
    failures = 0
    for path in expand(options.paths):
        if options.action == "store":
            print(stored_line(path, store(path.resolve())), flush=True)
        for problem in problems(path):
            failures += 1
            print(f"{path}: {problem}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
