"""Exported pages: every formula typeset without a network, explorers alive, whether the notebook was run or not."""

import re
from pathlib import Path

import course
import nbformat
import pages
import pytest
from lesson_rules import TAG, markdown, read
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from small_explorer import SMALL

from diffusion_lib.teaching.server import drop_views

each_lesson = pytest.mark.parametrize("lesson", course.written(), ids=lambda lesson: lesson.stem)
TEXT = r"""The jump (9.1) with $a<b$ and `$code$`:

$$x_t=\bigl\lVert y\bigr\rVert\tag{9.1}$$

```
$$no formula$$
```"""


def prose_of(page: str) -> str:
    """Return what a page says outside code, scripts, styles and formulas."""
    inside = (
        r"<pre.*?</pre>|<code.*?</code>|<script.*?</script>|<style.*?</style>|<figure data-explorer.*?>|<math.*?</math>"
    )
    return re.sub(inside, "", page, flags=re.DOTALL)


@each_lesson
def test_every_formula_of_a_lesson_is_typeset(lesson):
    path = course.NOTEBOOKS / lesson.notebook
    page, notebook = pages.page(nbformat.read(path, as_version=4), path.stem), read(path)
    assert not re.findall(r"\$|\\[a-zA-Z]{2,}", prose_of(page))
    formulas = re.findall(r"<math.*?</math>", page, re.DOTALL)
    assert len(formulas) > 50 and not re.findall(r"<m[io]>(?:&amp;|&|\\[^<]*)</m[io]>", " ".join(formulas))
    numbers = re.findall(r'<div class="equation">.*?<span>\((.*?)\)</span></div>', page, re.DOTALL)
    assert numbers == TAG.findall(markdown(notebook))


def test_formulas_are_those_between_dollars_outside_code():
    page = pages.page(new_notebook(cells=[new_markdown_cell(TEXT, id="text")]), "small")
    assert re.search(r"<mi>a</mi>\s*<mo>&lt;</mo>\s*<mi>b</mi>", page)
    assert "<span>(9.1)</span></div>" in page and page.count("‖") == 2
    assert "<code>$code$</code>" in page and "$$no formula$$" in page
    assert page.count("<math") == 2


@pytest.fixture(scope="module")
def unrun(tmp_path_factory) -> Path:
    """A notebook with an explorer that nobody has run."""
    path = tmp_path_factory.mktemp("pages") / "unrun.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(SMALL, id="explorer")]), path)
    return path


def test_running_and_exporting_in_one_command_keeps_the_explorers(unrun, capsys):
    before = unrun.read_bytes()
    pages.main([str(unrun), "--run", "--out", str(unrun.parent / "out")])
    page = Path(capsys.readouterr().out.strip()).read_text("utf-8")
    assert "data-explorer=" in page and "currentScript" in page and "widget-view" not in page
    assert unrun.read_bytes() == before


def test_a_saved_notebook_exported_the_plain_way_keeps_its_images(unrun):
    notebook = nbformat.read(unrun, as_version=4)
    pages.run(notebook, unrun.parent)
    assert "widget-view" in str(notebook)
    drop_views({"type": "notebook", "content": notebook})
    assert "widget-view" not in str(notebook)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert re.search("<figure data-explorer='[^']+'><img [^>]*src=.data:image/png", page)


@pytest.mark.parametrize(
    "model",
    [
        {"type": "file", "content": "text"},
        {"type": "directory", "content": None},
        {"type": "notebook", "content": None},
    ],
)
def test_the_save_hook_lets_other_files_through(model):
    before = dict(model)
    drop_views(model, path="x", contents_manager=None)
    assert model == before


def test_the_save_hook_leaves_other_widgets_alone():
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntSlider(value=1)"}
    cells = [
        {"cell_type": "code", "outputs": [{"output_type": "display_data", "data": dict(data)}]},
        {"cell_type": "raw"},
    ]
    drop_views({"type": "notebook", "content": {"cells": cells}})
    assert cells[0]["outputs"][0]["data"] == data
