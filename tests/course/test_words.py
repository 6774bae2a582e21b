"""Words: no term before it is said, each in bold once, and none of the words that docs/style.md replaces."""

import ast
import re
from collections import Counter

import course
import glossary
import prose
import pytest
from kernels import ROOT

TERMS, CELLS, ORDINARY = glossary.terms(), prose.cells(), glossary.ordinary()
MOST_ORDINARY = 40
LISTED = {(entry.form, entry.lesson, entry.cell) for entry in ORDINARY}

# ---- a term is said before it is used


def test_no_term_is_used_before_it_is_said(record_count):
    early = {(form, cell.lesson, cell.id) for form, cell in prose.too_early(CELLS, TERMS)}
    assert sorted(early - LISTED) == []
    record_count("forms that are ordinary English in some cell", len(LISTED))


def test_ordinary_english_is_listed_with_reasons_and_where_it_is_needed():
    early = {(form, cell.lesson, cell.id) for form, cell in prose.too_early(CELLS, TERMS)}
    replaced = {(word, cell.lesson, cell.id) for cell in CELLS for word in prose.replaced(prose.prose(cell.source))}
    assert len(LISTED) == len(ORDINARY) <= MOST_ORDINARY
    assert sorted(LISTED - early - replaced) == []
    assert all(len(entry.reason) > 10 for entry in ORDINARY)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.term)
def test_a_term_is_in_bold_once(term):
    """Where it is defined; elsewhere bold is for emphasis and says other words."""
    forms = {prose.plain(form) for form in term.forms}
    bold = [(cell.lesson, cell.id) for cell in CELLS for text in prose.bold(cell.source) if prose.plain(text) in forms]
    assert set(bold) <= {(term.lesson, term.cell)}, Counter(bold)


def test_the_walk_sees_what_it_should():
    step = glossary.Term("step", ["step", "steps"], "09", "b")
    noise = glossary.Term("noise", ["noise"], "02", sentence="Unwanted signal.")

    def early(*sources):
        cells = [prose.Cell("09", name, source) for name, source in zip("abc", sources, strict=False)]
        return [(form, cell.id) for form, cell in prose.too_early(cells, [step, noise])]

    assert early("A STEP here, a footstep not, a step-stone not.") == [("step", "a")]
    assert early("None.", "A step first. A **small step** is one. Two steps.") == [("step", "b")]
    assert early("A **step**.", "A **step**. More steps.", "A step.") == [("step", "a")]
    assert early("# Step\n`step` $step$\n\n$$step$$\n\n<details>A step.</details> [a step](#x)\n```\nstep\n```") == []
    assert early("Noise. [Noise](../docs/glossary.md#noise) again. Noise.") == [("noise", "a")]
    assert early("| a | table |\n|---|---|\n| of | steps |") == [("steps", "a")]
    assert early("<!-- lessons -->\n| steps |\n<!-- /lessons -->") == []


# ---- words that are not written


@pytest.mark.parametrize("lesson", [lesson.number for lesson in course.written()])
def test_lessons_use_the_standard_terms(lesson):
    cells = [cell for cell in prose.cells(with_header=True) if cell.lesson == lesson]
    found = {(word, cell.lesson, cell.id) for cell in cells for word in prose.replaced(prose.prose(cell.source))}
    assert sorted(found - LISTED) == []


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"), ROOT / "NOTICE"]
MODULES = sorted((ROOT / "diffusion_lib").rglob("*.py"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_use_the_standard_terms(path):
    text = path.read_text(encoding="utf-8")
    assert prose.replaced(prose.prose(text.replace(prose.style_table(), "") if path.name == "style.md" else text)) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_use_the_standard_terms(path):
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    documented = [n for n in tree if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    assert prose.replaced(" ".join(re.sub(r"`[^`]*`", "", ast.get_docstring(n) or "") for n in documented)) == []


def test_a_word_that_is_replaced_is_found():
    assert prose.replaced("The LAW of large rooms; a standard deviation, the deviations.") == [
        "law",
        "rooms",
        "deviations",
    ]
    assert prose.replaced("The law of total variance ends here; the pictured floorboard.") == []
    assert prose.replaced("Their ends are the samples. The way\nback.") == ["their ends", "way back"]
