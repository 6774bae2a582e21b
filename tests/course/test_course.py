"""tools/course.py: the list of lessons is read with care, and the tables are made from it."""

import json
import shutil

import course
import pytest

GOOD = """[[lesson]]
number = "00"
stem = "start_here"
title = "Start here"
question = "Where?"
rows = []

[[lesson]]
number = "A1"
stem = "letters"
title = "Letters"
question = "Whose?"
rows = ["J1"]
"""


@pytest.fixture
def tree(tmp_path):
    """A folder with a README, a list of two lessons, and the first one's notebook."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "course.toml").write_text(GOOD)
    (tmp_path / "README.md").write_text("before\n<!-- lessons -->\nold\n<!-- /lessons -->\nafter\n")
    cell = {"cell_type": "markdown", "id": "map", "source": ["<!-- lessons -->\n", "old\n", "<!-- /lessons -->"]}
    (tmp_path / "notebooks" / "00_start_here.ipynb").write_text(json.dumps({"cells": [cell]}))
    return tmp_path


def test_the_list_is_read_and_lessons_are_found(tree):
    folder = tree / "notebooks"
    first, second = course.read_course(folder)
    assert (first.notebook, second.rows) == ("00_start_here.ipynb", ("J1",))
    assert course.written(folder) == [first]
    assert course.find("0", folder) == course.find("00", folder) == course.find("start_here", folder) == first
    assert course.find("A1", folder) == second
    with pytest.raises(ValueError, match=r"lesson: expected a number or a stem of .*, got '7'"):
        course.find("7", folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Letters"\n', "", "expected the keys"),
        ('number = "A1"', 'number = "1"', "expected a number and a stem, got '1'"),
        ('stem = "letters"', 'stem = "the letters"', "got 'A1', 'the letters'"),
        ('number = "A1"', 'number = "00"', "expected each number once, got 00 twice"),
        ('stem = "letters"', 'stem = "start_here"', "expected each stem once"),
    ],
)
def test_a_bad_list_is_refused(tree, old, new, message):
    (tree / "notebooks" / "course.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(ValueError, match=message):
        course.read_course(tree / "notebooks")


def test_both_tables_are_made_from_the_list(tree):
    found = {path.name: new for path, (_, new) in course.tables(tree).items()}
    assert "before\n<!-- lessons -->\n| | lesson |" in found["README.md"]
    assert (
        "| 00 | [Start here](notebooks/00_start_here.ipynb) | Where? |\n| A1 | Letters | Whose? |" in found["README.md"]
    )
    source = "".join(json.loads(found["00_start_here.ipynb"])["cells"][0]["source"])
    assert "| 00 | [Start here](00_start_here.ipynb) | Where? |\n| A1 | Letters | Whose? |\n<!-- /lessons -->" in source


def test_a_table_without_its_marks_is_an_error(tree):
    (tree / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match=r"README.md: expected <!-- lessons --> and <!-- /lessons --> once"):
        course.tables(tree)
    shutil.copy(course.ROOT / "README.md", tree / "README.md")
    (tree / "notebooks" / "00_start_here.ipynb").write_text(json.dumps({"cells": []}))
    with pytest.raises(ValueError, match=r"00_start_here.ipynb: expected a cell with"):
        course.tables(tree)


@pytest.mark.parametrize("lesson", course.written()[1:], ids=lambda lesson: lesson.number)
def test_a_title_asks_the_question_of_the_list(lesson):
    first = json.loads((course.NOTEBOOKS / lesson.notebook).read_text(encoding="utf-8"))["cells"][0]
    question = lesson.question[0].lower() + lesson.question[1:]
    assert f"**The one question: {question}**" in "".join(first["source"])
