"""The tests of the tests: a small lesson keeps every rule, and each rule is seen to fail when the lesson breaks it."""

from pathlib import Path

import canonical as tool
import cells
import lesson_rules as rules
import nbformat
import pytest
from canonical import FOLDED
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

HEADER = """# 09 A small lesson

What is one plus one?

**You will be able to** add: [J1](#9.1-The-sum).

| **You need** | nothing |
|---|---|
- **Time** to read and run: one minute
- *Papers*: Peano 1889, eq. 1
- **Modules**: none

> a box
"""
SECTION = r"""## 9.1 The sum

Here is a sentence that has more than enough words for the code below it, which is very short, and one more clause.
The sum is [exact](https://example.org), as [the header](#09-A-small-lesson) says. Inline $a_{[x](y)}$ is free.

$$1 + 1 = 2 \tag{9.1}$$

$$n = 2 \tag{9.2 def}$$

$$1 + 1 = 3 \tag{9.1 wrong}$$
"""
CLOSING = """## Summary

We can add.

## Exercises

"""
EXERCISE = """### Exercise {n} (pencil)

Add.

<details><summary>Hint</summary>Count.</details>

<details>
<summary>Answer</summary>

```python
total = one + {n}
assert total == 1 + {n}  # $$not an equation$$
```

</details>

"""
ONWARD = "## Onward\n\nLesson 10 comes next."


def stream(text: str, name: str = "stdout"):
    return new_output("stream", name=name, text=text)


def lesson():
    """Return a lesson that keeps every rule, as it is stored."""
    exercises = "".join(EXERCISE.format(n=n) for n in (1, 2, 3))
    cells = [
        new_markdown_cell(HEADER, id="header"),
        new_code_cell("%matplotlib inline\none = 1", id="setup", execution_count=1),
        new_markdown_cell(SECTION, id="section"),
        new_code_cell(
            'verify("9.1", one + one, 2, route="counting")\nrefute("9.1 wrong", one + one, 3)',
            id="check",
            execution_count=2,
        ),
        new_markdown_cell(CLOSING + exercises + ONWARD, id="closing"),
    ]
    cells[3].outputs = [stream("ok  (9.1)  by counting, exactly\nno  (9.1 wrong)  gives 3 where 2 is right\n")]
    return tool.canonical(new_notebook(cells=cells))


def all_problems(notebook, folder: Path) -> list[str]:
    return [
        *tool.run_problems(notebook),
        *rules.output_problems(notebook),
        *rules.size_problems(notebook),
        *rules.prose_problems(notebook),
        *rules.box_problems(notebook),
        *rules.folding_problems(notebook),
        *rules.magic_problems(notebook),
        *rules.header_problems(notebook),
        *rules.closing_problems(notebook),
        *rules.equation_problems(notebook, "09"),
        *rules.verification_problems(notebook),
        *rules.citation_problems(notebook),
        *rules.row_problems(notebook, ("J1",)),
        *rules.link_problems(notebook, folder),
        *rules.answer_problems(notebook),
        *rules.exemptions(notebook),
    ]


def test_a_good_lesson_keeps_every_rule(tmp_path):
    assert all_problems(lesson(), tmp_path) == []
    assert rules.claims(lesson()) == ["9.1"]
    assert len(rules.answers(lesson())) == 3


def html(text: str):
    return new_output("display_data", data={"text/html": text, "text/plain": "x"})


REPLACED = [  # cell, old text, new text, what the rule says
    ("header", "# 09 A small lesson", "A small lesson", "exactly one # title"),
    ("header", "one plus one?", "one plus one.", "asks no question"),
    ("header", "**You will be able to** add:", "You can add:", "lacks 'You will be able to'"),
    ("header", "**You need**", "**Known**", "lacks 'You need'"),
    ("header", "- **Time**", "- **Hours**", "lacks 'Time'"),
    ("header", "*Papers*", "*Sources*", "lacks 'Papers'"),
    ("header", "**Modules**", "**Files**", "lacks 'Modules'"),
    ("header", "[J1](", "[J2](", "row J1 is not linked"),
    ("header", "(#9.1-The-sum)", "(#9.1-The-product)", "row J1 leads to #9.1-The-product"),
    ("header", "(#9.1-The-sum)", "(#Summary)", "row J1 leads to #Summary, which is no section with a cell"),
    ("header", "> a box", "> a box\n" * 13, "a box of"),
    ("setup", "%matplotlib inline", "%time", "cell setup: %time"),
    ("setup", "one = 1", "one = 1\n" * 9, "the set-up cell has 9 statements, over 8"),
    ("section", r" \tag{9.1}", "", "0 tags in $$1 + 1"),
    ("section", r"\tag{9.1}", r"\tag{9.1} \tag{9.3}", "2 tags in $$1 + 1"),
    ("section", r"\tag{9.1}", r"\tag{8.1}", "tag 8.1: expected 9.n"),
    ("section", r"\tag{9.2 def}", r"\tag{9.1 def}", "tag 9.1 is used twice"),
    ("section", r"\tag{9.2 def}", r"\tag{9.2}", "(9.2) is claimed and never verified"),
    ("section", r"\tag{9.1}", r"\tag{9.1 def}", "verify('9.1') belongs to no displayed equation"),
    ("section", r"\tag{9.1 wrong}", r"\tag{9.3 wrong}", "(9.3 wrong) is printed as wrong and never refuted"),
    ("section", r"\tag{9.1 wrong}", r"\tag{9.3 def}", "refute('9.1 wrong') belongs to no displayed equation"),
    ("section", r"\tag{9.2 def}", r"\tag{9.1 wrong}", "tag 9.1 wrong is used twice"),
    ("section", "Here is", r"\[1 = 1\] Here is", "outside $$"),
    ("section", "Here is", r"\begin{align}1 = 1\end{align} Here is", "outside $$"),
    ("section", "Here is", r"$1 = 1 \tag{9.3}$ Here is", "tag 9.3 outside a displayed equation"),
    (
        "section",
        "Here is",
        "By 9.1, which (9.2) of section 9.2 needs, here is",
        "equation 9.1 is cited without brackets",
    ),
    ("section", "(#09-A-small-lesson)", "(#nowhere)", "link to #nowhere: no such heading"),
    ("section", "(#09-A-small-lesson)", "(08_latent.ipynb)", "link to 08_latent.ipynb, which does not exist"),
    ("section", "Here is", "![alt](https://example.org/x.png) Here is", "remote image"),
    ("check", "verify(", "one\n" * 20 + "verify(", "cell check has 22 statements"),
    ("check", "verify(", "one\n" * 250 + "verify(", "has 253 unfolded statements, over 250"),
    ("check", 'verify("9.1"', 'tag = "9.1"\nverify(tag', "verify(None) belongs to no displayed equation"),
    ("check", "verify(", "# NBVAL_IGNORE_OUTPUT\nverify(", "check"),
    ("closing", "## Summary", "## The end", "the last three sections are"),
    ("closing", "## Onward", "## Exercises", "the last three sections are"),
    ("closing", "## Summary", "## Common mistakes\n\n## An excursion\n\n## Summary", "right before the Summary"),
    ("closing", "### Exercise 3 (pencil)", "**Exercise 3**", "2 exercises, under 3"),
    ("closing", "<summary>Hint</summary>", "", "expected one folded hint"),
    ("closing", "<summary>Answer</summary>", "", "expected one folded answer"),
    ("closing", "</details>", "", "a <details> is not closed"),
    ("closing", "assert total == 1 + 2", "total == 1 + 2", "answer 2 asserts nothing"),
    ("closing", "assert total == 1 + 2", "assert total" + 90 * " " + "== 1 + 2", "has 133 characters, over 100"),
    ("closing", "```python", "```", "no folded answer has code"),
]


@pytest.mark.parametrize(("name", "old", "new", "message"), REPLACED)
def test_a_broken_lesson_is_seen(name, old, new, message, tmp_path):
    notebook = lesson()
    cell = next(cell for cell in notebook.cells if cell.id == name)
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    assert any(message in problem for problem in all_problems(notebook, tmp_path))


BROKEN_OUTPUTS = [
    (stream("(9.1) passed\n"), "(9.1): the stored output does not show that it passed"),
    (stream("a warning\n", "stderr"), "writes to stderr: a warning"),
    (new_output("error", ename="E", evalue="e", traceback=[]), "cell check holds an error"),
    (new_output("display_data", data={"image/svg+xml": "<svg/>"}), "cell check stores image/svg+xml"),
    (new_output("display_data", data={tool.WIDGET_VIEW: {}}), f"cell check stores {tool.WIDGET_VIEW}"),
    (html('<script src="https://example.org/x.js"></script>'), "loads from a network: src"),
    (html("<div style='background:url(https://example.org/x.png)'>"), "loads from a network: url("),
]


@pytest.mark.parametrize(("output", "message"), BROKEN_OUTPUTS)
def test_a_bad_output_is_seen(output, message, tmp_path):
    notebook = lesson()
    notebook.cells[3].outputs = [nbformat.from_dict(output)]
    assert any(message in problem for problem in all_problems(notebook, tmp_path))


def test_an_unrun_or_disordered_lesson_is_seen(tmp_path):
    for count in (None, 7):
        notebook = lesson()
        notebook.cells[3].execution_count = count
        assert any("was not run top to bottom" in problem for problem in all_problems(notebook, tmp_path))
    notebook = lesson()
    notebook.cells[3].execution_count = None
    assert any("row J1 leads to" in problem for problem in rules.row_problems(notebook, ("J1",)))


def test_long_cells_one_derivation_excepted():
    notebook = lesson()
    body = "def f():\n" + "\n".join(["    x = 1"] * 23)
    notebook.cells[3].source = body
    assert rules.size_problems(notebook) == ["the median cell has 12.5 statements, over 6"]
    notebook.cells.append(new_code_cell(body, id="second"))
    assert any("cell second has 24 statements" in problem for problem in rules.size_problems(notebook))


def test_statements_are_counted_on_the_syntax_tree():
    cell = new_code_cell("%matplotlib inline\nx = [\n    1,\n    2,\n]\ndef f():\n    return x\nfor _ in x: f(); f()")
    assert cells.statements(cell) == 6


def folded(*sources: str, fold: tuple[int, ...]):
    """A notebook of code and (beginning with *) prose; the cells numbered in `fold` are folded."""
    made = [
        new_markdown_cell(s, id=f"c{i}") if s.startswith("*") else new_code_cell(s, id=f"c{i}")
        for i, s in enumerate(sources)
    ]
    for i in fold:
        made[i].metadata["tags"] = [FOLDED]
    return new_notebook(cells=made)


def test_an_explorers_source_stands_below_it():
    shown, below = "explorers.noising()", "source(explorers.noising)"
    assert rules.source_problems(folded(shown, below, "explorers.noising(3)", fold=(1,))) == []
    for broken in (folded(shown, fold=()), folded(shown, below, fold=()), folded(shown, "1", below, fold=(2,))):
        expected = "below cell c0: expected a folded cell source(explorers.noising)"
        assert rules.source_problems(broken) == [expected]


@pytest.mark.parametrize(
    ("sources", "fold", "problem"),
    [
        (("x = 1", "y = x", "x"), (1,), None),
        (("x = 1", "x"), (0,), "cell c1 uses x, which folded cell c0 made"),
        (("def f(): return 1", "f()"), (0,), "cell c1 uses f, which folded cell c0 made"),
        (("x = 1", "x += 1"), (0,), "cell c1 uses x, which folded cell c0 made"),
        (("x = 1", "x = 2\nx"), (0,), None),
        (("x = 1", "[x for x in range(3)]"), (0,), None),
        (("x = 1", "def f(x): return x"), (0,), None),
        (("x = 1", "x"), (0, 1), None),
        (("from diffusion_lib.process import q_sample", "q_sample()"), (1,), "brings diffusion_lib.process.q_sample"),
        (("from diffusion_lib.process import q_sample", "q_sample()", "q_sample()"), (2,), None),
        (("from diffusion_lib import process", "process.q_step()", "process.q_sample()"), (2,), "process.q_sample for"),
        (("from diffusion_lib import process", "process.q_sample()", "process.q_sample()"), (2,), None),
        (("from diffusion_lib.teaching.checks import verify", "verify()"), (1,), None),
        (("x = 1", "**Read.** Here `x` is one."), (0,), "folded cell c0 is what the next cell speaks of"),
        (("x = 1", "**Read.** Look at the cell."), (0,), "folded cell c0 is what the next cell speaks of"),
        (("x = 1", "**Read.** One is one."), (0,), None),
        (("x = 1", "**Ask.** What is `x`?"), (0,), None),
    ],
)
def test_nothing_is_folded_that_a_reader_needs(sources, fold, problem):
    found = rules.folding_problems(folded(*sources, fold=fold))
    assert found == [] if problem is None else len(found) == 1 and problem in found[0]


def test_too_little_prose_is_seen():
    notebook = lesson()
    notebook.cells[1].source = "one = 1\n" * 60
    assert any("for 62 lines of code" in problem for problem in rules.prose_problems(notebook))


def test_words_are_words_of_prose():
    text = (
        "Two words $x y z$\n\n$$a b c$$\n\n```python\ncode here\n```\n[three](https://a.b/c) <b>four</b> it's x-ray 12"
    )
    notebook = new_notebook(cells=[new_markdown_cell(text)])
    assert rules.prose_words(notebook) == 6


def test_tags_and_exemptions_are_found():
    notebook = lesson()
    notebook.cells[1].metadata["tags"] = ["nbval-skip"]
    notebook.cells[3].metadata["tags"] = ["raises-exception"]
    assert rules.exemptions(notebook) == ["setup", "check"]


def test_the_file_on_disk_is_checked_byte_by_byte(tmp_path):
    path = tmp_path / "09_small.ipynb"
    path.write_text(tool.text_of(lesson()), encoding="utf-8")
    assert tool.problems(path) == []
    for broken in (lesson(), lesson()):
        broken.metadata["widgets"] = {}
        path.write_text(tool.text_of(broken), encoding="utf-8")
        assert tool.problems(path) == ["is not in canonical form: run `make notebooks`"]
    path.write_text(tool.text_of(lesson()).rstrip(), encoding="utf-8")
    assert tool.problems(path) == ["is not in canonical form: run `make notebooks`"]


# ---- how long a first reading takes, and what a figure says


def timed(minutes, *sections):
    header = f"# T\n\n| | |\n|---|---|\n| **Time** | {minutes} minutes |"
    cells = [new_markdown_cell(text) for text in (header, *sections)]
    return new_notebook(cells=[*cells, new_code_cell("\n".join(f"x{k} = {k}" for k in range(20)))])


@pytest.mark.parametrize(
    ("minutes", "sections", "problem"),
    [
        (10, ["## A\n\n" + "word " * 1200], None),  # 8 minutes and 2
        (5, ["## A\n\n" + "word " * 1200], "the header's time is 5, expected 10 minutes"),
        (10, ["## A\n\n" + "word " * 1200 + "<details>" + " word" * 3000 + "</details>"], None),
        (65, ["## A\n\n" + "word " * 9500], "a first reading takes 65 minutes, over 60"),
    ],
)
def test_the_time_of_a_first_reading(minutes, sections, problem):
    found = rules.time_problems(timed(minutes, *sections))
    assert [problem in line for line in found] == ([True] if problem else [])


def test_a_second_reading_is_not_counted_and_stays_small():
    first, second = "## A\n\n" + "word " * 1200, "## B\n\n*Second reading.* " + "word " * 500
    last = "## C\n\n"
    notebook = timed(10, first, second, last)
    assert rules.minutes(notebook) == 10 and rules.time_problems(notebook) == []
    assert "are for a second reading" in rules.time_problems(timed(10, first, second + "word " * 200, last))[0]


@pytest.mark.parametrize(
    ("text", "good"),
    [("Bars of 2 and 3.", True), ("<Figure size 640x320 with 1 Axes>", False), ("Bars.", False), ("Bars of 2", False)],
)
def test_a_figure_says_its_numbers(text, good):
    output = new_output("display_data", data={"image/png": "x", "text/plain": text})
    notebook = new_notebook(cells=[new_code_cell("f()", outputs=[output])])
    assert (rules.figure_problems(notebook) == []) == good
