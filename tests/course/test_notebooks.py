"""Every lesson, as stored: run, canonical, small, explained, verified, linked; and its folded answers run."""

from collections import Counter
from pathlib import Path

import course
import lesson_rules as rules
import pytest
import torch
from canonical import problems

from notebooks import MEGABYTE

FOLDER = course.NOTEBOOKS
WRITTEN = course.written()
LESSONS = [FOLDER / lesson.notebook for lesson in WRITTEN]

# Lessons whose figures say their numbers in a printed line beside them, not in a sentence of their own.
PRINTED = {"00", "09", "10", "11", "12", "13", "14"}

# Cells that nbval treats differently, each with its reason: {("09_forward_process.ipynb", "cell-id"): "why"}.
EXEMPT: dict[tuple[str, str], str] = {}


def by_name(path: Path) -> str:
    return path.stem


every_lesson = pytest.mark.parametrize("path", LESSONS, ids=by_name)


def lesson_of(path: Path) -> course.Lesson:
    return WRITTEN[LESSONS.index(path)]


def test_every_notebook_is_a_lesson_of_the_list():
    assert sorted(FOLDER.glob("*.ipynb")) == LESSONS


def test_the_tables_of_lessons_are_those_of_the_list():
    assert [path.name for path, (text, new) in course.tables().items() if text != new] == []


@every_lesson
def test_the_title_is_that_of_the_list(path):
    lesson = lesson_of(path)
    (title,) = [text for level, text in rules.headings(rules.header(rules.read(path))) if level == 1]
    assert title in (lesson.title, f"{lesson.number} {lesson.title}")


@every_lesson
def test_was_run_and_stored_in_canonical_form(path, record_count):
    assert problems(path) == []
    assert path.stat().st_size <= MEGABYTE
    record_count("notebooks stored", 1)


@every_lesson
def test_outputs_need_no_kernel_and_no_network(path):
    assert rules.output_problems(rules.read(path)) == []


@every_lesson
def test_cells_are_short_and_explained(path):
    notebook = rules.read(path)
    assert rules.size_problems(notebook) + rules.prose_problems(notebook) + rules.box_problems(notebook) == []
    assert rules.magic_problems(notebook) + rules.folding_problems(notebook) == []
    assert rules.source_problems(notebook) == []


@every_lesson
def test_header_and_closing(path):
    notebook = rules.read(path)
    assert rules.header_problems(notebook) + rules.closing_problems(notebook) == []


@every_lesson
def test_the_header_says_how_long_a_first_reading_takes(path):
    assert rules.time_problems(rules.read(path)) == []


@every_lesson
def test_every_figure_says_its_numbers_in_a_sentence(path):
    if lesson_of(path).number not in PRINTED:
        assert rules.figure_problems(rules.read(path)) == []


@every_lesson
def test_every_equation_is_numbered_and_every_claim_verified(path, record_count):
    notebook = rules.read(path)
    assert rules.equation_problems(notebook, lesson_of(path).number) + rules.verification_problems(notebook) == []
    assert rules.citation_problems(notebook) == []
    record_count("equations verified", len(rules.claims(notebook)))


@every_lesson
def test_curriculum_rows_lead_to_cells_that_ran(path, record_count):
    rows = lesson_of(path).rows
    assert rules.row_problems(rules.read(path), rows) == []
    record_count("curriculum rows met", len(rows))


# Rows A to E of the curriculum that a later lesson meets: E2 compares families.
LATER = {"E2"}
FOUNDATIONS = {
    f"{letter}{k}" for letter, last in zip("ABCDE", (9, 8, 6, 5, 12), strict=True) for k in range(1, last + 1)
}


def test_every_row_of_the_foundations_is_some_lessons():
    """That a lesson meets its rows is tested above, once it is written."""
    promised = {row for lesson in course.read_course() for row in lesson.rows}
    assert FOUNDATIONS - promised == LATER


@every_lesson
def test_links_lead_somewhere(path):
    assert rules.link_problems(rules.read(path), path.parent) == []


def test_no_equation_number_is_used_twice():
    tags = [tag.removesuffix(" def") for path in LESSONS for tag in rules.TAG.findall(rules.markdown(rules.read(path)))]
    assert [tag for tag, times in Counter(tags).items() if times > 1] == []


def test_few_cells_are_exempt_and_each_has_its_reason(record_count):
    found = {(path.name, name) for path in LESSONS for name in rules.exemptions(rules.read(path))}
    assert found == set(EXEMPT)
    assert len(found) <= len(LESSONS)
    record_count("cells exempt from comparison", len(found))


@every_lesson
def test_answers_check_themselves(path):
    assert rules.answer_problems(rules.read(path)) == []


@pytest.mark.parametrize(
    ("path", "at"),
    [(path, i) for path in LESSONS for i in range(len(rules.answers(rules.read(path))))],
    ids=lambda value: value.stem if isinstance(value, Path) else str(value + 1),
)
def test_folded_answer_runs(path, at, monkeypatch, record_count):
    """An answer needs the lesson's set-up cell and nothing else."""
    notebook = rules.read(path)
    monkeypatch.chdir(path.parent)
    names: dict[str, object] = {"__name__": "__main__"}
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        exec(compile(rules.python_of(rules.code_cells(notebook)[0]), f"{path.name}, set-up", "exec"), names)
        exec(compile(rules.answers(notebook)[at], f"{path.name}, answer {at + 1}", "exec"), names)
    finally:
        torch.set_default_dtype(dtype)  # some lessons work in double precision
        torch.set_num_threads(threads)  # and some on one thread
    record_count("folded answers run", 1)
