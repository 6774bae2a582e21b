"""Store one lesson, try it, and leave a contact sheet of its page: `make lesson L=15`.

Its rules, its tests, and its explorers in a real browser; then build/15_fast_solvers_lab.png, the notebook in
JupyterLab in a window 1280 pixels wide, and build/15_fast_solvers_page.png, the exported page. Look at both.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import course
import pages
from kernels import ROOT, kernel_environment
from PIL import Image

import notebooks

BUILD = ROOT / "build"
SHEET = (4, 0.5)  # columns of a contact sheet; its scale
SCREEN = {"width": 1280, "height": 2000}


def tests_of(lesson: course.Lesson) -> list[str]:
    """Return pytest's arguments for the tests of one lesson: its own, the rules, the imports, its page in a browser."""
    stem = Path(lesson.notebook).stem
    own = ROOT / "tests" / "lessons" / f"test_lesson_{lesson.stem}.py"
    files = ["tests/course/test_notebooks.py", "tests/course/test_floors.py", "tests/test_explorer.py", "tests/browser"]
    files += [str(own.relative_to(ROOT))] if own.is_file() else []
    about_all = "one_lesson_shows or of_the_list or tables or used_twice or are_exempt or registry or gallery_holds"
    names = f"{stem} or {lesson.stem} or test_lesson_{lesson.stem} or {about_all}"
    return [*files, "-k", names, "-m", "not deep", "-q", "-n", "2", "--dist", "worksteal"]


def contact_sheet(shots: list[Path], target: Path) -> None:
    """Lay screenshots of one page side by side, from left to right and down, and write them as one image."""
    columns, scale = SHEET
    images = [Image.open(shot).convert("RGB") for shot in shots]
    size = (round(images[0].width * scale), round(images[0].height * scale))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (size[0] * min(columns, len(images)), size[1] * rows), "white")
    for k, image in enumerate(images):
        small = image.resize((size[0], round(image.height * scale)), Image.Resampling.LANCZOS)
        sheet.paste(small, (k % columns * size[0], k // columns * size[1]))
    sheet.save(target)


def photograph(lesson: course.Lesson, folder: Path) -> list[Path]:
    """Write the contact sheets of a stored lesson, in JupyterLab and exported, and return their paths."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import binaries  # both are for a Chromium, which the rest of this program does not need
    import browsing

    if not binaries.chromium():
        print("no Chromium found: no contact sheets")
        return []
    path = course.NOTEBOOKS / lesson.notebook
    made = []
    with browsing.running_browser(binaries.chromium()) as browser:
        page = browser.new_page(viewport=SCREEN)
        page.goto(pages.export(path, folder).as_uri())
        made.append((browsing.screens(page, "html", folder / "page"), BUILD / f"{path.stem}_page.png"))
        with browsing.running_lab(folder) as lab:
            name = browsing.place(lab, path)
            browsing.trust(lab, name)
            browsing.open_notebook(page, lab, name)
            made.append((browsing.screens(page, browsing.SCROLLER, folder / "lab"), BUILD / f"{path.stem}_lab.png"))
    for shots, target in made:
        contact_sheet(shots, target)
    return [target for _, target in made]


def main(key: str) -> int:
    """Store, test, photograph; returns the exit code."""
    start = time.monotonic()
    BUILD.mkdir(exist_ok=True)
    lesson = course.find(key)
    path = course.NOTEBOOKS / lesson.notebook
    print(notebooks.stored_line(path, notebooks.store(path)), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", *tests_of(lesson)]
        code = subprocess.run(command, cwd=ROOT, env=kernel_environment(1, folder), check=False).returncode
        for target in photograph(lesson, Path(folder)):
            print(f"look at {target.relative_to(ROOT)}")
    print(f"lesson {lesson.number}: {'green' if not code else 'NOT green'}, {time.monotonic() - start:.0f} s")
    return code


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make lesson L=15   (a number or a stem of notebooks/course.toml)")
    try:
        sys.exit(main(sys.argv[1]))
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"{error}\n(a lesson without a notebook is begun by `python tools/notebooks.py new NUMBER STEM`)")
