"""Any cell may be run again at once, and prints the same: what a reader does who clicks twice."""

import copy

import course
import kernels
import nbformat
import pytest
from lesson_rules import code_cells
from nbformat import NotebookNode

pytestmark = pytest.mark.deep


def printed(cell: NotebookNode) -> str:
    """Return what a cell printed; images and explorers are not compared."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def doubled(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook with every code cell twice in a row."""
    twice = copy.deepcopy(notebook)
    twice.cells = []
    for cell in code_cells(notebook):
        again = copy.deepcopy(cell)
        again.id = f"{cell.id[:56]}-again"
        twice.cells += [cell, again]
    return twice


def differences(notebook: NotebookNode, folder) -> list[str]:
    """Return the cells that raised when run again, or printed other things."""
    twice = doubled(notebook)
    kernels.run(twice, folder, threads=1, go_on=True, settings={"DIFFUSION_LIB_FRAMES": "skip"})
    found = []
    for first, second in zip(twice.cells[::2], twice.cells[1::2], strict=True):
        raised = [output.evalue for output in second.outputs if output.output_type == "error"]
        if raised or printed(first) != printed(second):
            found.append(f"{first.id}: {raised or [printed(first), printed(second)]}")
    return found


@pytest.mark.parametrize("lesson", course.written(), ids=lambda lesson: f"{lesson.number}_{lesson.stem}")
def test_every_cell_of_a_lesson_runs_twice(lesson):
    notebook = nbformat.read(course.NOTEBOOKS / lesson.notebook, as_version=4)
    assert differences(notebook, course.NOTEBOOKS) == []


def test_a_cell_that_cannot_run_twice_is_named(tmp_path):
    sources = ["import random\nx = [1]", "print(x.pop())", "y = 0", "y += 1\nprint(y)", "print(y)"]
    cells = [nbformat.v4.new_code_cell(source, id=f"cell-{k}") for k, source in enumerate(sources)]
    found = differences(nbformat.v4.new_notebook(cells=cells), tmp_path)
    assert [line.split(":")[0] for line in found] == ["cell-1", "cell-3"]
