"""What a reader reads of the lessons, cell after cell, and in which order terms are said."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import course
from glossary import LINK, Term
from lesson_rules import DISPLAY, FENCE, read

HEADER_ENDS = "**Modules"  # the last entry of a lesson's fixed header
SILENT = [  # what is not prose; links to the glossary are taken out apart, since they say a term
    FENCE,
    re.compile(r"<details>.*?</details>", re.DOTALL),
    DISPLAY,
    re.compile(r"^#+ .*$", re.MULTILINE),
    re.compile(r"<!-- lessons -->.*?<!-- /lessons -->", re.DOTALL),
    re.compile(r"`[^`\n]*`"),
    re.compile(r"\$[^$]+\$"),
    re.compile(r"!?\[[^\]]*\]\([^)\s]+[^)]*\)"),
    re.compile(r"<[^>]+>"),
]
SAID = re.compile(r"\{\{([^}]+)\}\}")
BOLD = re.compile(r"\*\*([^*\n]+)\*\*")


class Cell(NamedTuple):
    """A Markdown cell: its lesson, its id, its text."""

    lesson: str
    id: str
    source: str


def cells(*, with_header: bool = False) -> list[Cell]:
    """Return the Markdown cells of all lessons in order, each lesson's header left out unless asked for."""
    found = []
    for lesson in course.written():
        begun = with_header
        for cell in read(course.NOTEBOOKS / lesson.notebook).cells:
            if begun and cell.cell_type == "markdown":
                found.append(Cell(lesson.number, cell.id, cell.source))
            begun = begun or (cell.cell_type == "markdown" and HEADER_ENDS in cell.source)
    return found


def prose(source: str) -> str:
    """Return a cell's prose: what is not prose is a mark, a link to the glossary is {{its anchor}}."""
    text = re.sub(r"\[[^\]]*" + LINK.pattern, r"{{\1}}", source)
    for pattern in SILENT:
        text = pattern.sub(" § ", text)
    return text


def words(forms: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of the forms as whole words, the longest that fits."""
    longest = [r"\s+".join(map(re.escape, form.split())) for form in sorted(forms, key=len, reverse=True)]
    return re.compile(rf"(?<![\w-])(?:{'|'.join(longest)})(?![\w-])", re.IGNORECASE)


def plain(form: str) -> str:
    """Return a form as it is compared: lower case, single spaces."""
    return " ".join(form.lower().split())


def spans(pattern: re.Pattern[str], text: str) -> list[range]:
    """Return where a pattern is found."""
    return [range(*found.span()) for found in pattern.finditer(text)]


def too_early(cells: Iterable[Cell], terms: Iterable[Term]) -> Iterator[tuple[str, Cell]]:
    """Yield each use of a term's form before the term was said: bold in its own cell, or linked to the glossary."""
    of_form: dict[str, list[Term]] = {}
    for term in terms:
        for form in term.forms:
            of_form.setdefault(plain(form), []).append(term)
    pattern, said = re.compile(f"{SAID.pattern}|{words(of_form).pattern}", re.IGNORECASE), set()
    for cell in cells:
        text = prose(cell.source)
        bold = spans(BOLD, text)
        for found in pattern.finditer(text):
            if found[1]:
                said |= {term.term for same in of_form.values() for term in same if term.anchor == found[1]}
                continue
            meant = of_form[plain(found[0])]
            if any(found.start() in span for span in bold):
                said |= {term.term for term in meant if (term.lesson, term.cell) == (cell.lesson, cell.id)}
            if not any(term.term in said for term in meant):
                yield plain(found[0]), cell


def bold(source: str) -> list[str]:
    """Return a cell's bold phrases, without a full stop or colon inside them."""
    return [phrase.strip(" .:?") for phrase in BOLD.findall(prose(source))]


# ---- words that docs/style.md replaces

NOUNS = {  # words that only as nouns, or only in one sense, are replaced
    "deviation (alone)": r"(?<!standard )(?<!mean )deviations?(?! (?:from|of entries))",
    "ends (noun)": r"(?:the|their|its|both|two)\s+ends",
}
LEFT_ALONE = re.compile(r"laws?\s+of\s+total\s+variance|standard\s+deviations?", re.IGNORECASE)


def style_table() -> str:
    """Return the table of words in docs/style.md."""
    text = (course.ROOT / "docs" / "style.md").read_text(encoding="utf-8")
    return text[text.index("| write | not |") :].split("\n\n", 1)[0]


def replaced(text: str) -> list[str]:
    """Return the words of the table's second column, and their plurals, that stand in a text."""
    column = [word.strip() for row in style_table().splitlines()[2:] for word in row.split("|")[2].split(",")]
    patterns = [NOUNS.get(word) or re.escape(word).replace(r"\ ", r"\s+") + "s?" for word in column]
    found = re.finditer(rf"(?<![\w-])(?:{'|'.join(patterns)})(?![\w-])", LEFT_ALONE.sub("§", text), re.IGNORECASE)
    return [plain(match[0]) for match in found]
