"""The one list of lessons, notebooks/course.toml: read it, and write the two tables that are made from it.

python tools/course.py            write README's table and lesson 00's map anew
python tools/course.py check      say which of them is old; exit code 1 if one is
"""

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
KEYS = {"number", "stem", "title", "question", "rows"}
MARKED = re.compile(r"(?<=<!-- lessons -->\n).*?(?=\n<!-- /lessons -->)", re.DOTALL)


class Lesson(NamedTuple):
    """One lesson of the list; an appendix has a number like "A1"."""

    number: str
    stem: str
    title: str
    question: str
    rows: tuple[str, ...]

    @property
    def notebook(self) -> str:
        """The file's name, whether it is written yet or not."""
        return f"{self.number}_{self.stem}.ipynb"


def read_course(folder: Path = NOTEBOOKS) -> list[Lesson]:
    """Return the lessons of course.toml in order. Raises: ValueError for a key or a value that is out of place."""
    found = tomllib.loads((folder / "course.toml").read_text(encoding="utf-8"))["lesson"]
    for entry in found:
        if set(entry) != KEYS:
            raise ValueError(f"course.toml: expected the keys {sorted(KEYS)}, got {sorted(entry)}")
        if not re.fullmatch(r"\d\d|A\d", entry["number"]) or not re.fullmatch(r"[a-z][a-z0-9_]*", entry["stem"]):
            raise ValueError(f"course.toml: expected a number and a stem, got {entry['number']!r}, {entry['stem']!r}")
    lessons = [Lesson(**{**entry, "rows": tuple(entry["rows"])}) for entry in found]
    for name in ("number", "stem"):
        values = [getattr(lesson, name) for lesson in lessons]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"course.toml: expected each {name} once, got {', '.join(twice)} twice")
    return lessons


def written(folder: Path = NOTEBOOKS) -> list[Lesson]:
    """Return the lessons whose notebook is there."""
    return [lesson for lesson in read_course(folder) if (folder / lesson.notebook).is_file()]


def find(key: str, folder: Path = NOTEBOOKS) -> Lesson:
    """Return the lesson of a number ("9" and "09" alike) or a stem; ValueError if there is none."""
    for lesson in read_course(folder):
        if key in (lesson.stem, lesson.number) or key.zfill(2) == lesson.number:
            return lesson
    raise ValueError(f"lesson: expected a number or a stem of notebooks/course.toml, got {key!r}")


def table(lessons: list[Lesson], folder: Path, prefix: str) -> str:
    """Return the Markdown table of lessons; those that are written are linked, `prefix` before their file's name."""
    lines = ["| | lesson | its question |", "|---|---|---|"]
    for lesson in lessons:
        there = (folder / lesson.notebook).is_file()
        title = f"[{lesson.title}]({prefix}{lesson.notebook})" if there else lesson.title
        lines.append(f"| {lesson.number} | {title} | {lesson.question} |")
    return "\n".join(lines)


def marked(text: str, inside: str, where: str) -> str:
    """Return `text` with `inside` between its two marks; ValueError unless it has them once."""
    if len(MARKED.findall(text)) != 1:
        raise ValueError(f"{where}: expected <!-- lessons --> and <!-- /lessons --> once, each on a line of its own")
    return MARKED.sub(lambda _: inside, text)


def tables(root: Path = ROOT) -> dict[Path, tuple[str, str]]:
    """Return, for README and lesson 00, the file's text as it is and as the list of lessons would have it."""
    folder = root / "notebooks"
    lessons = read_course(folder)
    readme, start = root / "README.md", folder / lessons[0].notebook
    text = readme.read_text(encoding="utf-8")
    found = {readme: (text, marked(text, table(lessons, folder, "notebooks/"), readme.name))}
    text = start.read_text(encoding="utf-8")
    notebook = json.loads(text)
    cell = next((c for c in notebook["cells"] if MARKED.search("".join(c["source"]))), None)
    if cell is None:
        raise ValueError(f"{start.name}: expected a cell with <!-- lessons --> and <!-- /lessons -->, found none")
    cell["source"] = marked("".join(cell["source"]), table(lessons, folder, ""), start.name).splitlines(keepends=True)
    return found | {start: (text, json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")}


def main(arguments: list[str]) -> int:
    """Write the tables, or check them; returns the exit code."""
    old = {path: new for path, (text, new) in tables().items() if text != new}
    for path, new in old.items():
        print(f"{path.relative_to(ROOT)}: {'is old: run python tools/course.py' if arguments else 'written'}")
        if not arguments:
            path.write_text(new, encoding="utf-8")
    return 1 if arguments and old else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
