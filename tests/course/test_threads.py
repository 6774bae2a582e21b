"""Lessons that train on one thread print the same on as many as the machine has: two runs, one without their line."""

import copy

import course
import kernels
import nbformat
import pytest
from lesson_rules import code_cells
from nbformat import NotebookNode

pytestmark = pytest.mark.deep

LINE = "torch.set_num_threads(1)"
LESSONS = [(lesson, nbformat.read(course.NOTEBOOKS / lesson.notebook, as_version=4)) for lesson in course.written()]
ON_ONE = [(lesson, notebook) for lesson, notebook in LESSONS if LINE in code_cells(notebook)[0].source.splitlines()]


def printed(cell: NotebookNode) -> str:
    """Return what a cell printed; images and explorers are not compared."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


@pytest.mark.parametrize("pair", ON_ONE, ids=lambda pair: f"{pair[0].number}_{pair[0].stem}")
def test_a_lesson_that_trains_on_one_thread_prints_the_same_on_two(pair):
    _, stored = pair
    notebook = copy.deepcopy(stored)
    setup = code_cells(notebook)[0]
    setup.source = "\n".join(line for line in setup.source.splitlines() if line != LINE)
    kernels.run(notebook, course.NOTEBOOKS, threads=2, settings={"DIFFUSION_LIB_FRAMES": "skip"})
    pairs = zip(code_cells(stored), code_cells(notebook), strict=True)
    assert [old.id for old, new in pairs if printed(old) != printed(new)] == []
