"""The glossary: one sentence says each term, in its lesson or in the table, and every link has its entry."""

import re
from collections import Counter

import course
import glossary
import pytest

TERMS = glossary.terms()
CELLS = glossary.cells()
WRITTEN = {lesson.number for lesson in course.written()}


def test_the_stored_page_is_made_from_table_and_lessons():
    assert glossary.PAGE.read_text(encoding="utf-8") == glossary.page(), "run `python tools/glossary.py`"


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.term)
def test_a_term_is_said_in_its_lesson_or_in_the_table(term):
    assert term.term in term.forms
    if term.cell:
        assert glossary.sentence_of(term, CELLS[term.lesson, term.cell])
    if term.sentence or not term.cell:
        assert re.fullmatch(r"[A-Z].{20,}[.]", term.sentence)


def test_terms_are_listed_once_and_in_order():
    names = [term.term.lower() for term in TERMS]
    assert names == sorted(names) and not [name for name, n in Counter(names).items() if n > 1]
    assert max(Counter(term.anchor for term in TERMS).values()) == 1


def test_every_link_to_the_glossary_has_its_entry(record_count):
    anchors = {term.anchor for term in TERMS}
    links = [(place, anchor) for place, source in CELLS.items() for anchor in glossary.LINK.findall(source)]
    assert not [link for link in links if link[1] not in anchors]
    assert {anchor for _, anchor in links} >= {term.anchor for term in TERMS if not term.cell}
    record_count("terms in the glossary", len(TERMS))


def test_a_sentence_is_found_by_its_bold_term():
    term = glossary.Term("step", ["step", "steps"], "09", "x")
    source = "## A step\n\nNot here. A **small step** is one. **Steps** too.\n\n- **Step.** Here."
    assert glossary.sentence_of(term, source) == "A **small step** is one."
    assert glossary.sentence_of(term, "## **step**\n\nA step, a **stepmother**.") == ""
    assert glossary.Term("U-Net (a)", [], "12").anchor == "u-net-a"
