"""Run the course's notebooks and store them in canonical form, or check that they are stored so.

    python tools/notebooks.py store [path ...]     run top to bottom in a fresh kernel and write the outputs
    python tools/notebooks.py check [path ...]     say what is not canonical; exit code 1 if anything is

Without paths: all of notebooks/.

Outputs are stored from TWO threads and compared by nbval under ONE: what is printed cannot depend on the thread count.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = ROOT / "tests" / "offline"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT = 300  # seconds: stops a cell that hangs; the longest takes half a minute on two quiet cores
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class OwnKernel(AsyncKernelManager):
    """Starts one kernel only: the interpreter that runs this program, whatever is registered on the machine."""

    kernel_spec = KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def kernel_environment(threads: int, home: str) -> dict[str, str]:
    """Return the environment of a lesson's kernel: no progress bars, no network, no user's settings."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    path = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH", "")]))
    env = dict(os.environ, PYTHONPATH=path, TQDM_DISABLE="1", IPYTHONDIR=home, **dict.fromkeys(names, str(threads)))
    env["OMP_WAIT_POLICY"] = "PASSIVE"  # on a busy machine, threads that spin while they wait cost minutes
    for name in ("MPLBACKEND", "DIFFUSION_LIB_FRAMES"):  # what is stored holds every frame
        env.pop(name, None)
    return env


def run(notebook: NotebookNode, folder: Path, threads: int = 2) -> None:
    """Execute every cell in a fresh kernel whose working directory is `folder`; outputs land in `notebook`."""
    client = NotebookClient(
        notebook,
        kernel_manager_class=OwnKernel,
        extra_arguments=["--log-level=ERROR"],
        timeout=CELL_TIMEOUT,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    with tempfile.TemporaryDirectory() as home:
        client.execute(env=kernel_environment(threads, home))


def merged_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream: how a stream is cut into messages is chance."""
    merged: list[NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def canonical_output(output: NotebookNode) -> NotebookNode:
    """Drop the widget view, which is dead without its kernel; text/html and text/plain stay."""
    output = NotebookNode(output)
    if "data" in output:
        output.data = NotebookNode({kind: value for kind, value in output.data.items() if kind != WIDGET_VIEW})
        output.metadata = NotebookNode({kind: value for kind, value in output.metadata.items() if value})
    return output


def canonical_cell(cell: NotebookNode, number: int) -> NotebookNode:
    """Return a copy of a cell with its id and its tags and nothing else that its reader cannot see."""
    cell = NotebookNode(cell)
    cell.metadata = NotebookNode({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
    cell.id = cell.get("id") or f"cell-{number}"
    if cell.cell_type == "code":
        cell.outputs = merged_streams([canonical_output(output) for output in cell.outputs])
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return cell


def canonical(notebook: NotebookNode) -> NotebookNode:
    """Return a copy in canonical form: minimal metadata, no widget state, no blank cells, no thread of chance."""
    cells = [canonical_cell(cell, i) for i, cell in enumerate(notebook.cells) if cell.source.strip()]
    return nbformat.from_dict({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def text_of(notebook: NotebookNode) -> str:
    """Return the file's text: sorted keys, one space of indent, a newline at the end."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def run_problems(notebook: NotebookNode) -> Iterator[str]:
    """Yield what shows that a notebook was not run cleanly from top to bottom."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        yield f"was not run top to bottom: execution counts are {counts}"
    for cell in code:
        kinds = {output.get("name", output.output_type) for output in cell.outputs}
        if "stderr" in kinds:
            text = "".join(output.text for output in cell.outputs if output.get("name") == "stderr")
            yield f"cell {cell.get('id')} writes to stderr: {text.strip()[:300]}"
        if "error" in kinds and "raises-exception" not in cell.metadata.get("tags", []):
            yield f"cell {cell.get('id')} holds an error"


def problems(path: Path) -> list[str]:
    """Return what keeps a stored notebook from being canonical; an empty list if nothing does."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    found = list(run_problems(notebook))
    if text_of(canonical(notebook)) != text:
        found.append("is not in canonical form: run `make notebooks`")
    return found


def store(path: Path) -> None:
    """Run one notebook and write it in canonical form; nothing is written if it does not run cleanly."""
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    notebook = canonical(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    run(notebook, path.parent)
    notebook = canonical(notebook)
    if found := list(run_problems(notebook)):
        raise SystemExit(f"{path}: " + "; ".join(found))
    nbformat.validate(notebook)
    path.write_text(text_of(notebook), encoding="utf-8")


def expand(paths: list[Path]) -> list[Path]:
    """Return the notebooks that `paths` name: files as they are, folders by their .ipynb files."""
    found = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
        found += inside if path.is_dir() else [path]
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("store", "check"))
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "notebooks"])
    options = parser.parse_args(arguments)
    failures = 0
    for path in expand(options.paths):
        start = time.perf_counter()
        if options.action == "store":
            store(path.resolve())
            print(
                f"stored {path} in {time.perf_counter() - start:.1f} s, {path.stat().st_size / 1000:.0f} kB", flush=True
            )
        for problem in problems(path):
            failures += 1
            print(f"{path}: {problem}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
