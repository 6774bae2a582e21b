"""The glossary of the course: docs/glossary.md, written from docs/glossary.toml and the lessons' defining sentences.

`python tools/glossary.py` writes it. A term's sentence stands in the cell of its lesson, the term in bold; for a term
that a lesson not yet written will define, or where the lesson's sentence does not stand alone, it stands in the table.
"""

import re
import tomllib
from typing import Any, NamedTuple

import course
import nbformat
from kernels import ROOT

TABLE = ROOT / "docs" / "glossary.toml"
PAGE = ROOT / "docs" / "glossary.md"
LINK = re.compile(r"\]\((?:\.\./)?(?:docs/)?glossary\.md#([^)\s]+)\)")


class Term(NamedTuple):
    """One entry: its forms, written out; the lesson that says it, and the cell, once there is one; its own sentence."""

    term: str
    forms: list[str]
    lesson: str
    cell: str = ""
    sentence: str = ""
    chinese: str = ""

    @property
    def anchor(self) -> str:
        """The entry's address in the page, as JupyterLab, GitHub and Sphinx make it."""
        return re.sub(r"[^\w\- ]", "", self.term.lower()).replace(" ", "-")


class Ordinary(NamedTuple):
    """A form of a term, or a word that docs/style.md replaces, that is ordinary English in one cell, and why."""

    form: str
    lesson: str
    cell: str
    reason: str


def table() -> dict[str, Any]:
    """Return the table's entries by kind."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def terms() -> list[Term]:
    """Return the terms, in the table's order."""
    return [Term(**entry) for entry in table()["term"]]


def ordinary() -> list[Ordinary]:
    """Return the exceptions: what is ordinary English in some cell."""
    return [Ordinary(**entry) for entry in table()["ordinary"]]


def cells() -> dict[tuple[str, str], str]:
    """Return the Markdown cells of all lessons, by number and id."""
    found = {}
    for lesson in course.written():
        notebook: Any = nbformat.read(course.NOTEBOOKS / lesson.notebook, as_version=4)
        found |= {(lesson.number, cell.id): cell.source for cell in notebook.cells if cell.cell_type == "markdown"}
    return found


def is_bold(form: str, text: str) -> bool:
    """Return whether a text has the form in bold, alone or at the edge of a longer bold phrase."""
    return re.search(rf"\*\*[^*\n]*(?<!\w){re.escape(form)}(?!\w)[^*\n]*\*\*", text, re.IGNORECASE) is not None


def sentence_of(term: Term, source: str) -> str:
    """Return the sentence of a cell that has one of the term's forms in bold; empty if none has."""
    paragraphs = [" ".join(part.split()) for part in source.split("\n\n") if not part.lstrip().startswith("#")]
    for paragraph in paragraphs:
        for sentence in re.split(r"(?<=[.?!:]) (?=[A-Z$*\[])", re.sub(r"^[-*>] +", "", paragraph)):
            if any(is_bold(form, sentence) for form in term.forms):
                return sentence.strip()
    return ""


def page() -> str:
    """Return the text of docs/glossary.md."""
    sources = cells()
    lines = ["# Glossary", "", "What each term means, and the lesson that says so. Written by `tools/glossary.py`.", ""]
    for term in sorted(terms(), key=lambda term: term.term.lower()):
        text = term.sentence or sentence_of(term, sources[term.lesson, term.cell])
        text = re.sub(r"\]\(#", f"](../notebooks/{course.find(term.lesson).notebook}#", text)
        text = re.sub(r"\]\(\.\./docs/", "](", text)
        other = f" ({term.chinese})" if term.chinese else ""
        lines += [f"## {term.term}", "", f"{text}", "", f"Lesson {term.lesson}{other}.", ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
