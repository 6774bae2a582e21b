"""The skeleton of a lesson that course.toml lists: a small lesson that keeps every rule, to be written over.

It has one section, one equation and its check, one explorer, three exercises; its folder in diffusion_lib/lessons/ and
its tests. Everything in it is true and runs, so that the suite is green from the first minute.
"""

import os
from pathlib import Path

import course
import nbformat
from canonical import FOLDED, canonical, text_of
from kernels import OFFLINE, ROOT, run
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HEADER = """# {number} {title}

**The one question: {question}**

| | |
|---|---|
| **You will be able to** | say what scaling does to a variance, and check it on a sample |
| **You need** | the lessons before this one |
| **Time** | 5 minutes to read; a second to run |
| **Papers** | none yet |
| **Modules it opens** | `noise` (where randomness comes from) |
| **Curriculum** | {rows} |
"""

SETUP = """%matplotlib inline
import torch

from diffusion_lib.lessons.{stem} import explorers
from diffusion_lib.noise import seeded
from diffusion_lib.teaching.checks import claim, source, verify

torch.set_default_dtype(torch.float64)"""

SECTION = r"""## {n}.1 A first section

**Ask.** A number is drawn from a standard normal distribution and multiplied by 3. What is the variance of the product?

**Predict.** 3, 9, or something else? Write your guess down before you run the cell.

For any random number $X$ and any fixed $a$

$$\operatorname{{Var}}[aX]=a^2\operatorname{{Var}}[X]. \tag{{{n}.1}}$$"""

SAMPLE = """x = torch.randn(1_000_000, generator=seeded(0))
claim("three times a standard normal number has a variance of about 9", (3 * x).var().round() == 9)"""

READ = r"""**Read.** The factor counts twice: a variance is a mean of squares.

**Check.** The left side is measured on the sample. The standard error of a variance is $\sqrt{2/N}$ times it."""

CHECK = """error = 9 * (2 / len(x)) ** 0.5
verify("{n}.1", (3 * x).var(), 9.0, route="Monte Carlo, 1,000,000 draws", standard_error=error)"""

PLAY = """Move the factor and watch the histogram widen. The sentence beneath the sliders says what you see."""

CLOSING = r"""## Summary

| equation | in words |
|---|---|
| ({n}.1) | a factor $a$ multiplies a variance by $a^2$ |

## Exercises

{exercises}## Onward

Back to the [start](00_start_here.ipynb)."""

EXERCISE = """### Exercise {k} ({kind})

What is the variance of {k} times a standard normal number?

<details>
<summary>Hint</summary>

The factor counts twice.

</details>

<details>
<summary>Answer</summary>

```python
variance = {k}**2
claim("{k} times a standard normal number has the variance {square}", variance == {square})
```

</details>

"""

FIGURES = '''"""Figures of lesson {number}: arrays in, figures out."""

import numpy as np
from matplotlib.figure import Figure

from diffusion_lib.teaching.style import DATA, label, new_figure


def histogram(x: np.ndarray) -> Figure:
    """Draw the histogram of a sample (n,)."""
    figure, (axes,) = new_figure(4.8, 2.6)
    axes.hist(x, bins=np.linspace(-6, 6, 49), density=True, color=DATA)
    label(axes, "x", "density")
    axes.set(xlim=(-6, 6), ylim=(0, 0.9))
    return figure
'''

EXPLORERS = '''"""Explorers of lesson {number}."""

import torch
from matplotlib.figure import Figure

from diffusion_lib.lessons.{stem} import figures
from diffusion_lib.noise import seeded
from diffusion_lib.teaching.explorer import Control, Explorer, explorer


@explorer
def scaled() -> Explorer:
    """A normal sample times a; slider: the factor a."""
    x = torch.randn(2000, generator=seeded(0), dtype=torch.float64)

    def show(a: float) -> tuple[Figure, str]:
        sentence = f"The sample times {{a:g}} has a standard deviation of {{(a * x).std():.3g}}."
        return figures.histogram((a * x).numpy()), sentence

    return Explorer(show, [Control("a", "factor a", (0.5, 1.0, 1.5, 2.0), 1.0)])
'''

TESTS = '''"""Lesson {number}'s explorers against routes of their own."""

import pytest

from diffusion_lib.lessons.{stem}.explorers import scaled


def test_the_factor_scales_the_standard_deviation():
    one, two = (float(scaled().description(a=a).split()[-1].rstrip(".")) for a in (1.0, 2.0))
    assert two == pytest.approx(2 * one, rel=0.01)
'''


def cells(lesson: course.Lesson) -> list:
    """Return the cells of the skeleton's notebook."""
    n = str(int(lesson.number)) if lesson.number.isdigit() else lesson.number
    rows = " ".join(f"[{row}](#{n}.1-A-first-section)" for row in lesson.rows) or "none yet"
    kinds = ((2, "pencil"), (3, "change a line"), (4, "build"))
    exercises = "".join(EXERCISE.format(k=k, kind=kind, square=k**2) for k, kind in kinds)
    question = lesson.question[0].lower() + lesson.question[1:]
    about = {"number": lesson.number, "title": lesson.title, "question": question, "rows": rows}
    return [
        new_markdown_cell(HEADER.format(**about), id="header"),
        new_code_cell(SETUP.format(stem=lesson.stem), id="setup"),
        new_markdown_cell(SECTION.format(n=n), id="first"),
        new_code_cell(SAMPLE, id="sample"),
        new_markdown_cell(READ, id="first-read"),
        new_code_cell(CHECK.format(n=n), id="first-check"),
        new_markdown_cell(PLAY, id="play"),
        new_code_cell("explorers.scaled()", id="scaled"),
        new_code_cell("source(explorers.scaled)", id="scaled-source", metadata={"tags": [FOLDED]}),
        new_markdown_cell(CLOSING.format(n=n, exercises=exercises), id="closing"),
    ]


def files(lesson: course.Lesson, root: Path) -> dict[Path, str]:
    """Return the Python files of the skeleton, path by path."""
    folder = root / "diffusion_lib" / "lessons" / lesson.stem
    about = {"number": lesson.number, "stem": lesson.stem}
    return {
        folder / "__init__.py": f'"""Lesson {lesson.number}: {lesson.title}."""\n',
        folder / "figures.py": FIGURES.format(**about),
        folder / "explorers.py": EXPLORERS.format(**about),
        root / "tests" / "lessons" / f"test_lesson_{lesson.stem}.py": TESTS.format(**about),
    }


def make(lesson: course.Lesson, root: Path = ROOT) -> Path:
    """Write the skeleton of a lesson, run and stored; return the notebook's path. Raises: FileExistsError."""
    path = root / "notebooks" / lesson.notebook
    sources = files(lesson, root)
    if there := [str(file) for file in (path, *sources) if file.exists()]:
        raise FileExistsError(f"{', '.join(there)}: expected a lesson that is not begun yet")
    for file, text in sources.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    notebook = canonical(new_notebook(cells=cells(lesson)))
    try:
        run(notebook, path.parent, settings={"PYTHONPATH": os.pathsep.join([str(root), str(OFFLINE)])})
    except Exception:
        for file in sources:
            file.unlink()  # so that the command can be given again
        raise
    path.write_text(text_of(canonical(nbformat.from_dict(notebook))), encoding="utf-8")
    return path


def main(number: str, stem: str) -> int:
    """Make the skeleton of a lesson and write the tables anew; returns the exit code."""
    try:
        lesson = course.find(number)
    except ValueError as error:
        print(error)
        return 1
    if lesson.stem != stem:
        print(f"stem: expected {lesson.stem!r}, as course.toml has lesson {lesson.number}, got {stem!r}")
        return 1
    print(f"{make(lesson)}: run and stored")
    return course.main([])
