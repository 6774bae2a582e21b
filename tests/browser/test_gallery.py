"""Every explorer of the course, live: one notebook made from the registry, each control of it moved."""

import inspect
import re

import browsing
import course
import nbformat
import pytest
from canonical import canonical, text_of
from nbformat.v4 import new_code_cell, new_notebook

from diffusion_lib.teaching.registry import explorers, lesson_of

pytestmark = pytest.mark.browser
DTYPE = re.compile(r"^torch\.set_default_dtype\((torch\.\w+)\)", re.MULTILINE)
GREYS = "torch.linspace(-1, 1, 3).reshape(3, 1, 1, 1).expand(3, 2, 8, 8)"
# arguments that make an explorer quick to make, by their names
SHORT = {"samples": "300", "film": f'explorers.Film((1000, 300, 0), {GREYS}, -{GREYS}, ("one", "two", "three"))'}
BY_LESSON: dict[str, list] = {}
for factory in explorers():
    BY_LESSON.setdefault(lesson_of(factory), []).append(factory)


def default_dtype(stem: str) -> str:
    """Return the default dtype that a lesson's set-up cell chooses, or PyTorch's own."""
    notebook = nbformat.read(course.NOTEBOOKS / course.find(stem).notebook, as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = DTYPE.search(code)
    return found[1] if found else "torch.float32"


def calls_of(factory) -> list[str]:
    """Return the source of each cell that shows an explorer as its lesson does: plain, and with short arguments."""
    short = {name: SHORT[name] for name in inspect.signature(factory).parameters if name in SHORT}
    given = [", ".join(f"{name}={value}" for name, value in short.items())]
    given = ["", *given] if "film" in short else given  # lesson 13 shows a film of its own beside the first one
    stem = lesson_of(factory)
    lines = ["import torch", f"from diffusion_lib.lessons.{stem} import explorers"]
    lines.append(f"torch.set_default_dtype({default_dtype(stem)})")
    return ["\n".join([*lines, f"explorers.{factory.__name__}({arguments})"]) for arguments in given]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """The notebook of all explorers, and which of its cells belong to which lesson."""
    cells, numbers = [], {}
    for stem, factories in BY_LESSON.items():
        sources = [source for factory in factories for source in calls_of(factory)]
        numbers[stem] = range(len(cells), len(cells) + len(sources))
        cells += [new_code_cell(source, id=f"{stem}-{number}") for number, source in enumerate(sources)]
    path = tmp_path_factory.mktemp("gallery") / "gallery.ipynb"
    path.write_text(text_of(canonical(new_notebook(cells=cells))), encoding="utf-8")  # it names its kernel
    return path, numbers


@pytest.fixture(scope="module")
def opened(browser, lab, gallery):
    """The gallery, open in JupyterLab, nothing run."""
    context = browser.new_context(viewport=browsing.VIEW)
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    browsing.open_notebook(page, lab, browsing.place(lab, gallery[0]))
    yield page
    context.close()
    assert not problems, problems


def notebook_of(stem: str) -> str:
    return course.find(stem).notebook.removesuffix(".ipynb")


@pytest.mark.parametrize("stem", BY_LESSON, ids=notebook_of)
def test_every_control_of_a_lessons_explorers_moves(opened, gallery, stem, files, record_count):
    numbers = gallery[1][stem]
    browsing.run_cells(opened, numbers)
    assert browsing.errors(opened) == []
    for number in numbers:
        figure = browsing.show_cell(opened, number).locator("figure.diffusion-explorer")
        record_count("controls moved in JupyterLab", browsing.move_all(figure, files))
    assert browsing.errors(opened) == []


def test_the_gallery_holds_every_explorer_of_every_stored_lesson():
    """What a lesson shows is in the registry: the stored pages have no explorer that the gallery lacks."""
    shown = {stem: len(factories) for stem, factories in BY_LESSON.items()}
    for lesson in course.written():
        notebook = nbformat.read(course.NOTEBOOKS / lesson.notebook, as_version=4)
        code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        called = set(re.findall(r"^explorers\.(\w+)\(", code, re.MULTILINE))
        assert called == {factory.__name__ for factory in BY_LESSON.get(lesson.stem, [])}, lesson.stem
        assert shown.get(lesson.stem, 0) == len(called)
