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


def strangers(stored: NotebookNode) -> list[str]:
    """Return the cells that print something else when the lesson runs on two threads, without its line."""
    notebook = copy.deepcopy(stored)
    setup = code_cells(notebook)[0]
    setup.source = "\n".join(line for line in setup.source.splitlines() if line != LINE)
    kernels.run(notebook, course.NOTEBOOKS, threads=2, settings={"DIFFUSION_LIB_FRAMES": "skip"})
    pairs = zip(code_cells(stored), code_cells(notebook), strict=True)
    return [old.id for old, new in pairs if printed(old) != printed(new)]


def test_lessons_that_train_on_one_thread_print_the_same_on_two():
    assert {lesson.number: strangers(stored) for lesson, stored in ON_ONE} == {
        lesson.number: [] for lesson, _ in ON_ONE
    }
