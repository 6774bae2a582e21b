"""The rules that a lesson keeps: each is a function from a notebook to the list of what breaks it."""

import ast
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import nbformat
from cells import MAGIC, dotted, is_folded, names_of, python_of, statements
from nbformat import NotebookNode

MIMES = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png"}
HEADER = ("You will be able to", "You need", "Time", "Papers", "Modules")
CLOSING = ("Summary", "Exercises", "Onward")
WORDS_PER_LINE = 4
WIDTH = 100  # columns of code, as notebooks/ruff.toml says
MOST_STATEMENTS = 250
FENCE = re.compile(r"^```.*?^```[ ]*$", re.DOTALL | re.MULTILINE)
DISPLAY = re.compile(r"\$\$(.*?)\$\$", re.DOTALL)
OTHER_DISPLAY = re.compile(r"\\\[|\\begin\{(?:equation|align)\*?\}")
TAG = re.compile(r"\\tag\{([^}]*)\}")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
ANSWER = re.compile(r"<details>\s*<summary>\s*Answer.*?</details>", re.DOTALL)
CHECKS = re.compile(r"^\s*(?:assert\b|claim\(|verify\(|refute\()", re.MULTILINE)
REMOTE_PICTURE = re.compile(r"!\[[^\]]*\]\(https?:[^)\s]+|<img[^>]*src=.https?:[^\s\"'>]+")
REMOTE = re.compile(r"(?:src|href)\s*=\s*[\"']?https?:[^\s\"'>]+|url\(\s*[\"']?https?:")
EXEMPTION = re.compile(r"^\s*#+\s*(?:PYTEST_VALIDATE|NBVAL)_", re.MULTILINE)
FOLDED_TEXT = re.compile(r"<details>.*?</details>", re.DOTALL)
SECOND = re.compile(r"^## [^\n]*\n\s*\*Second reading", re.MULTILINE)
SENTENCE = re.compile(r"[A-Z\"'](?=[^\n]*\d)[^\n]*\.")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """A heading, its level and the cells from it to the next heading of its level or a higher one."""

    title: str
    level: int
    cells: tuple[NotebookNode, ...]

    @property
    def anchor(self) -> str:
        """The id that JupyterLab gives the heading."""
        return self.title.replace(" ", "-")


def read(path: Path) -> NotebookNode:
    """Return a stored notebook."""
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook: NotebookNode) -> str:
    """Return all prose, fenced code taken out."""
    return "\n\n".join(FENCE.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown")


def header(notebook: NotebookNode) -> str:
    """Return the prose before the first code cell."""
    first = next((i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"), len(notebook.cells))
    return "\n\n".join(cell.source for cell in notebook.cells[:first])


def lines_of(source: str) -> list[str]:
    """Return the lines that are not blank."""
    return [line for line in source.splitlines() if line.strip()]


def headings(source: str) -> list[tuple[int, str]]:
    """Return level and text of each heading of a markdown cell."""
    return [(len(m[1]), m[2]) for m in re.finditer(r"^(#{1,6}) +(.*?)\s*$", FENCE.sub("", source), re.MULTILINE)]


def sections(notebook: NotebookNode) -> list[Section]:
    """Return every section of a lesson, in order."""
    starts = [(i, *h) for i, c in enumerate(notebook.cells) if c.cell_type == "markdown" for h in headings(c.source)]
    found = []
    for k, (at, level, title) in enumerate(starts):
        end = next((i for i, other, _ in starts[k + 1 :] if other <= level), len(notebook.cells))
        found.append(Section(title, level, tuple(notebook.cells[at : max(end, at + 1)])))
    return found


def claims(notebook: NotebookNode) -> list[str]:
    """Return the tags of the displayed equations that claim something, in order."""
    return [tag for tag in TAG.findall(markdown(notebook)) if not tag.endswith((" def", " wrong"))]


def slips(notebook: NotebookNode) -> list[str]:
    """Return the tags of the displayed equations that are printed as wrong, in order."""
    return [tag for tag in TAG.findall(markdown(notebook)) if tag.endswith(" wrong")]


def checked_by(function: str, cell: NotebookNode) -> list[str | None]:
    """Return the tags of the calls of verify or refute in a code cell; None for a tag that is not a literal."""
    calls = [node for node in ast.walk(ast.parse(python_of(cell))) if isinstance(node, ast.Call)]
    calls = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == function]
    first = [call.args[0] if call.args else None for call in calls]
    return [node.value if isinstance(node, ast.Constant) else None for node in first]


def stdout_of(cell: NotebookNode) -> list[str]:
    """Return the lines that a cell printed."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout").splitlines()


def answers(notebook: NotebookNode) -> list[str]:
    """Return the Python code of each folded answer that has some."""
    folded = [a for c in notebook.cells if c.cell_type == "markdown" for a in ANSWER.findall(c.source)]
    return ["\n".join(blocks) for blocks in map(PYTHON.findall, folded) if blocks]


# --- the rules


def equation_problems(notebook: NotebookNode, number: str) -> list[str]:
    """Every displayed equation has one tag, of this lesson and nobody else's."""
    text = markdown(notebook)
    tagged = {block.strip(): len(TAG.findall(block)) for block in DISPLAY.findall(text)}
    found = [f"{count} tags in $${block[:60]}$$" for block, count in tagged.items() if count != 1]
    outside = DISPLAY.sub("", text)
    found += [f"display mathematics outside $$: {m}" for m in OTHER_DISPLAY.findall(outside)]
    found += [f"tag {tag} outside a displayed equation" for tag in TAG.findall(outside)]
    tags = TAG.findall(text)
    number = number.lstrip("0") or "0"
    form = re.compile(rf"{number}\.\d+[a-z]?( def| wrong)?")
    found += [
        f"tag {tag}: expected {number}.n, {number}.n def or {number}.n wrong" for tag in tags if not form.fullmatch(tag)
    ]
    numbers = [tag.removesuffix(" def") for tag in tags]
    return found + [f"tag {tag} is used twice" for tag in sorted({t for t in numbers if numbers.count(t) > 1})]


def citation_problems(notebook: NotebookNode) -> list[str]:
    """An equation is cited in brackets, as in (9.4), so that it does not look like a section."""
    text = re.sub(
        r"\$[^$]*\$|`[^`]*`|\]\([^)]*\)|^#+ .*$", " ", DISPLAY.sub(" ", markdown(notebook)), flags=re.MULTILINE
    )
    tags = {tag.removesuffix(" def") for tag in TAG.findall(markdown(notebook))}
    text = re.sub(
        r"\([^()]*\)|\b[Ss]ections?\b[ \d.,]*(?:(?:and|to) [\d.]+)?", " ", text
    )  # in brackets, or a section's number
    bare = re.findall(r"(?<![\w.])(\d+\.\d+[a-z]?)(?![\w%]|\.\d)", text)
    return [
        f"equation {tag} is cited without brackets" for tag in bare if tag in tags and float(tag.rstrip("abc")) >= 1
    ]


def verification_problems(notebook: NotebookNode) -> list[str]:
    """Every claim is verified in its lesson and every slip refuted, each check has its formula, and passed."""
    return [
        *_check_problems(notebook, "verify", claims(notebook), "claimed and never verified", "ok"),
        *_check_problems(notebook, "refute", slips(notebook), "printed as wrong and never refuted", "no"),
    ]


def _check_problems(notebook: NotebookNode, function: str, tags: list[str], lacks: str, word: str) -> list[str]:
    """What is wrong with the checks of one kind; `word` begins the line that a passed one prints."""
    cells = [(cell, checked_by(function, cell)) for cell in code_cells(notebook)]
    checked = [tag for _, found in cells for tag in found]
    found = [f"({tag}) is {lacks}" for tag in tags if tag not in checked]
    found += [f"{function}({tag!r}) belongs to no displayed equation" for tag in checked if tag not in tags]
    for cell, calls in cells:
        printed = stdout_of(cell)
        silent = [tag for tag in calls if not any(line.startswith(f"{word}  ({tag})  ") for line in printed)]
        found += [f"({tag}): the stored output does not show that it passed" for tag in silent]
    return found


def size_problems(notebook: NotebookNode) -> list[str]:
    """Cells are short, counted in statements: median 6, cap 20 (25 for one that derives a function), set-up 8, all 250.

    The 250 are what a reader has to read: folded cells do not count towards them.
    """
    cells = code_cells(notebook)
    lengths = [statements(cell) for cell in cells]
    if not lengths:
        return ["has no code"]
    found = [f"the set-up cell has {lengths[0]} statements, over 8"] if lengths[0] > 8 else []
    if statistics.median(lengths) > 6:
        found.append(f"the median cell has {statistics.median(lengths)} statements, over 6")
    unfolded = sum(length for cell, length in zip(cells, lengths, strict=True) if not is_folded(cell))
    found += [f"has {unfolded} unfolded statements, over {MOST_STATEMENTS}"] if unfolded > MOST_STATEMENTS else []
    long = [(cell, length) for cell, length in zip(cells, lengths, strict=True) if length > 20]
    derivations = [cell for cell, length in long if length <= 25 and re.search(r"^def ", cell.source, re.M)]
    return found + [f"cell {cell.id} has {n} statements" for cell, n in long if cell not in derivations[:1]]


def folding_problems(notebook: NotebookNode) -> list[str]:
    """Nothing is folded that a reader needs.

    No unfolded cell may use a name that a folded one made, no Read may speak of it, and no function of the library may
    have its first use there.
    """
    found, made, library, seen = [], {}, {}, set()
    for at, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        use = names_of(cell)
        library |= use.imports
        used = {library[name] for name in use.needs | use.inside if name in library} | dotted(cell, library)
        if is_folded(cell):
            found += [f"folded cell {cell.id} brings {name} for the first time" for name in sorted(used - seen)]
            if cell.source.startswith("source("):
                continue  # a Read after it speaks of the explorer above
            after = next((c.source for c in notebook.cells[at + 1 :] if c.source.strip()), "")
            if after.lstrip().startswith("**Read.") and speaks_of(after, use.makes | use.inside):
                found.append(f"folded cell {cell.id} is what the next cell speaks of")
        else:
            hidden = sorted(name for name in use.needs if is_folded(made.get(name, cell)))
            found += [f"cell {cell.id} uses {name}, which folded cell {made[name].id} made" for name in hidden]
            seen |= used
        made |= dict.fromkeys(use.makes, cell)
    return found


def source_problems(notebook: NotebookNode) -> list[str]:
    """Below the first cell that shows an explorer stands a folded cell with its source."""
    cells, found, seen = code_cells(notebook), [], set()
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        shown = re.search(r"^explorers\.(\w+)\(", cell.source, re.MULTILINE)
        if not shown or shown[1] in seen:
            continue
        seen.add(shown[1])
        if after is None or after.source != f"source(explorers.{shown[1]})" or not is_folded(after):
            found.append(f"below cell {cell.id}: expected a folded cell source(explorers.{shown[1]})")
    return found


def speaks_of(read: str, names: set[str]) -> bool:
    """Return whether a Read speaks of the code above it: it quotes one of its names, or says "the code", "the cell"."""
    quoted = {word for code in re.findall(r"`([^`]+)`", read) for word in re.findall(r"\w+", code)}
    return bool(quoted & names) or re.search(r"\bthe (?:code|cell|line)\b", read) is not None


def prose_words(text: NotebookNode | str) -> int:
    """Return the number of words of prose, of a notebook or a text: no mathematics, code, addresses, mark-up."""
    text = text if isinstance(text, str) else markdown(text)
    text = re.sub(r"\$[^$]*\$", " ", DISPLAY.sub(" ", text))
    text = re.sub(r"<[^>]*>|\]\([^)]*\)|https?://\S+", " ", text)
    return len(re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text))


def prose_problems(notebook: NotebookNode) -> list[str]:
    """Enough words of prose for each line of code."""
    lines = sum(len(lines_of(cell.source)) for cell in code_cells(notebook))
    words = prose_words(notebook)
    return (
        [f"{words} words for {lines} lines of code, under {WORDS_PER_LINE} a line"]
        if words < WORDS_PER_LINE * lines
        else []
    )


def first_reading(notebook: NotebookNode) -> NotebookNode:
    """Return the lesson without its sections for a second reading: `## ` headings right above "*Second reading"."""
    later = [cell for section in second_readings(notebook) for cell in section.cells]
    kept = [cell for cell in notebook.cells if not any(cell is other for other in later)]
    return nbformat.from_dict({**notebook, "cells": kept})


def second_readings(notebook: NotebookNode) -> list[Section]:
    """Return the sections whose text begins "*Second reading": nothing in a later lesson needs them."""
    main = [section for section in sections(notebook) if section.level == 2]
    return [section for section in main if SECOND.search(section.cells[0].source)]


def minutes(notebook: NotebookNode) -> int:
    """Return the minutes of a first reading: 150 words or 10 statements a minute, nothing folded, to 5 minutes."""
    first = first_reading(notebook)
    count = sum(statements(cell) for cell in code_cells(first) if not is_folded(cell))
    folded = sum(prose_words(text) for text in FOLDED_TEXT.findall(markdown(first)))
    return max(5, 5 * round(((prose_words(first) - folded) / 150 + count / 10) / 5))


def time_problems(notebook: NotebookNode) -> list[str]:
    """The header says how long a first reading takes: at most 60 minutes, at most a third of the words left out."""
    found, said = [], re.search(r"^(?:\| )?\*\*Time\*\*(?: \|)? (\d+) minutes\b", header(notebook), re.MULTILINE)
    due, first, whole = minutes(notebook), prose_words(first_reading(notebook)), prose_words(notebook)
    if not said or int(said[1]) != due:
        found.append(f"the header's time is {said[1] if said else 'missing'}, expected {due} minutes")
    found += [f"a first reading takes {due} minutes, over 60"] if due > 60 else []
    return found + ([f"{whole - first} of {whole} words are for a second reading"] if 3 * first < 2 * whole else [])


def figure_problems(notebook: NotebookNode) -> list[str]:
    """Every static figure is stored with one sentence that has its numbers: its repr, which nbval compares."""
    found = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            text = "".join(output.get("data", {}).get("text/plain", ""))
            if "image/png" in output.get("data", {}) and not SENTENCE.fullmatch(text):
                found.append(
                    f"cell {cell.id}: expected a figure that says its numbers in a sentence, got {text[:60]!r}"
                )
    return found


def header_problems(notebook: NotebookNode) -> list[str]:
    """The header has a title, the lesson's question, and its five fixed parts."""
    text = header(notebook)
    found = [] if [level for level, _ in headings(text)].count(1) == 1 else ["the header needs exactly one # title"]
    found += [] if "?" in text else ["the header asks no question"]
    starts = [re.sub(r"^[\W_]+", "", line).lower() for line in text.splitlines()]
    missing = [part for part in HEADER if not any(start.startswith(part.lower()) for start in starts)]
    return found + [f"the header lacks {part!r}" for part in missing]


def closing_problems(notebook: NotebookNode) -> list[str]:
    """The lesson ends with a summary, at least three exercises with hint and folded answer, and onward links."""
    every = sections(notebook)
    titles = [section.title for section in every if section.level == 2]
    if tuple(titles[-3:]) != CLOSING:
        return [f"the last three sections are {titles[-3:]}, expected {list(CLOSING)}"]
    if "Common mistakes" in titles[:-4]:
        return ["the section Common mistakes stands right before the Summary"]
    exercises = [section for section in every if section.level == 3 and section.title.startswith("Exercise ")]
    found = [f"{len(exercises)} exercises, under 3"] if len(exercises) < 3 else []
    text = "\n\n".join(c.source for s in every if s.title == "Exercises" and s.level == 2 for c in s.cells)
    for piece in re.split(r"^### ", FENCE.sub("", text), flags=re.MULTILINE)[1:]:
        title = piece.splitlines()[0]
        for part in ("Hint", "Answer"):
            if len(re.findall(rf"<details>\s*<summary>\s*{part}", piece)) != 1:
                found.append(f"{title}: expected one folded {part.lower()}")
    every_source = "\n".join(cell.source for cell in notebook.cells)
    if every_source.count("<details") != every_source.count("</details>"):
        found.append("a <details> is not closed")
    return found


def answer_problems(notebook: NotebookNode) -> list[str]:
    """Answers with code exist, no line is wider than a cell's, and each checks itself."""
    code = answers(notebook)
    found = [] if code else ["no folded answer has code"]
    wide = [line for text in code for line in text.splitlines() if len(line) > WIDTH]
    found += [f"an answer's line has {len(line)} characters, over {WIDTH}: {line.strip()[:40]}" for line in wide]
    toothless = [i for i, text in enumerate(code, 1) if not CHECKS.search(text)]
    return found + [f"answer {i} asserts nothing" for i in toothless]


def row_problems(notebook: NotebookNode, rows: tuple[str, ...]) -> list[str]:
    """Each curriculum row is linked in the header to a section of the page that holds a code cell that was run."""
    linked = dict(re.findall(r"\[([A-Z]\d+)\]\(#([^)\s]+)\)", header(notebook)))
    found = [f"row {row} is not linked in the header" for row in rows if row not in linked]
    places = {section.anchor: section for section in sections(notebook)}
    for row, anchor in linked.items():
        section = places.get(anchor)
        ran = section and any(cell.cell_type == "code" and cell.execution_count for cell in section.cells)
        found += [] if ran else [f"row {row} leads to #{anchor}, which is no section with a cell that ran"]
    return found


def link_problems(notebook: NotebookNode, folder: Path) -> list[str]:
    """Links lead somewhere: anchors to headings, paths to files; images never come from a network."""
    text = re.sub(r"\$[^$]*\$", " ", DISPLAY.sub(" ", markdown(notebook)))
    found = [f"remote image {address}" for address in REMOTE_PICTURE.findall(text)]
    for target in LINK.findall(text):
        if re.match(r"https?:|mailto:|data:|attachment:", target):
            continue
        path, _, anchor = target.partition("#")
        if path and not (folder / path).exists():
            found.append(f"link to {path}, which does not exist")
        elif anchor and (path.endswith(".ipynb") or not path):
            page = read(folder / path) if path else notebook
            anchors = {section.anchor for section in sections(page)}
            found += [] if anchor in anchors else [f"link to {target}: no such heading"]
    return found


def output_problems(notebook: NotebookNode) -> list[str]:
    """Outputs are text, HTML that needs no network, or PNG; no widget view and no widget state."""
    found = ["widget state is stored"] if "widgets" in notebook.metadata else []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            found += [f"cell {cell.id} stores {kind}" for kind in sorted(set(data) - MIMES)]
            remote = REMOTE.findall(data.get("text/html", ""))
            found += [f"cell {cell.id} loads from a network: {address}" for address in remote]
    return found


def box_problems(notebook: NotebookNode) -> list[str]:
    """A box (a blockquote) has at most 12 lines."""
    boxes = re.findall(r"(?:^>.*\n?)+", markdown(notebook), re.MULTILINE)
    return [f"a box of {box.count(chr(10)) + 1} lines: {box[:40]!r}" for box in boxes if len(box.splitlines()) > 12]


def exemptions(notebook: NotebookNode) -> list[str]:
    """Return the ids of the cells that nbval is told to treat differently, by tag or by comment."""
    tags = {cell.id: " ".join(cell.metadata.get("tags", [])) for cell in code_cells(notebook)}
    tagged = {name for name, text in tags.items() if re.search(r"nbval|exception|skip", text)}
    return [cell.id for cell in code_cells(notebook) if cell.id in tagged or EXEMPTION.search(cell.source)]


def magic_problems(notebook: NotebookNode) -> list[str]:
    """The only magic is `%matplotlib inline`, and it stands in the set-up cell."""
    found = []
    for i, cell in enumerate(code_cells(notebook)):
        magics = [line.strip() for line in cell.source.splitlines() if MAGIC.match(line)]
        found += [f"cell {cell.id}: {magic}" for magic in magics if i or magic != "%matplotlib inline"]
    return found
