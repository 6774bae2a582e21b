"""Every stored lesson, opened in JupyterLab without running it; and one of them run from top to bottom."""

import browsing
import course
import pytest
from canonical import canonical, text_of
from cells import is_folded
from lesson_rules import code_cells, read
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

pytestmark = pytest.mark.browser
LESSONS = [course.NOTEBOOKS / lesson.notebook for lesson in course.written()]
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def trusted(lab):
    """Every lesson, placed and signed at once: its name in the server's folder."""
    names = {lesson: browsing.place(lab, lesson) for lesson in LESSONS}
    browsing.trust(lab, *names.values())
    return names


@each_lesson
def test_a_stored_lesson_is_whole_before_anything_is_run(page, lab, trusted, lesson, record_count):
    browsing.open_notebook(page, lab, trusted[lesson])
    assert browsing.wide_cells(page) == []
    assert browsing.folded_cells(page) == [cell.id for cell in code_cells(read(lesson)) if is_folded(cell)]
    count, wrong = browsing.formulas(page, browsing.NARROW)
    assert wrong == []
    record_count("formulas typeset in JupyterLab", count)
    for number in browsing.explorer_cells(lesson):
        figure = browsing.show_cell(page, number).locator("figure.diffusion-explorer")
        first = browsing.controls(figure)[0]
        assert browsing.change_after(figure, lambda first=first: browsing.move(first, None)), f"cell {number}"


@pytest.mark.deep
def test_lesson_09_run_from_top_to_bottom(page, lab, files, record_count):
    """The others run under nbval; their explorers are live in the gallery."""
    lesson = course.NOTEBOOKS / course.find("09").notebook
    name = browsing.place(lab, lesson)
    browsing.open_notebook(page, lab, name)
    browsing.run_all(page)
    assert browsing.errors(page) == []
    for number in browsing.explorer_cells(lesson):
        figure = browsing.show_cell(page, number).locator("figure.diffusion-explorer")
        record_count("controls moved in a lesson that was run", browsing.move_all(figure, files))
    assert browsing.errors(page) == []


def test_a_formula_that_fails_is_named(page, lab, tmp_path):
    lines = [r"fine: $x^2$", r"broken: $\frac{1}$", r"unknown: $\nonsense$", "open: 5$ or so", rf"$${'a+' * 80}b$$"]
    notebook = new_notebook(cells=[new_markdown_cell(line, id=f"line-{k}") for k, line in enumerate(lines)])
    (tmp_path / "formulas.ipynb").write_text(text_of(canonical(notebook)), encoding="utf-8")
    browsing.open_notebook(page, lab, browsing.place(lab, tmp_path / "formulas.ipynb"))
    number, wrong = browsing.formulas(page, browsing.NARROW)
    assert number == 4
    assert all(word in "\n".join(wrong) for word in ("frac", "nonsense", "5$", "pixels too wide: a")), wrong
    assert len(wrong) == 4


def test_a_code_cell_that_scrolls_sideways_is_named(page, lab, tmp_path):
    lines = ["x = 1", f"wide = {'1 + ' * 60}1", "y = '" + "=" * 94 + "'"]
    notebook = new_notebook(cells=[new_code_cell(line, id=f"line-{k}") for k, line in enumerate(lines)])
    (tmp_path / "wide.ipynb").write_text(text_of(canonical(notebook)), encoding="utf-8")
    browsing.open_notebook(page, lab, browsing.place(lab, tmp_path / "wide.ipynb"))
    (found,) = browsing.wide_cells(page)
    assert "pixels: wide = 1 + 1" in found
