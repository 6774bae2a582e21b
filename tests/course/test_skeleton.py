"""The skeleton of a new lesson: green in a copy of the tree, and refused where it does not belong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import course
import pytest
import skeleton
from kernels import OFFLINE, ROOT

LEFT_BEHIND = (".git", ".venv*", "build", "__pycache__", ".*_cache", ".ipynb_checkpoints")
RULES = ["tests/course/test_notebooks.py", "tests/course/test_floors.py", "tests/test_explorer.py", "tests/lessons"]
ABOUT_IT = "fast_solvers or tables or of_the_list or one_lesson_shows or registry"
MADE = ["notebooks/15_fast_solvers.ipynb", "diffusion_lib/lessons/fast_solvers"]
MADE += ["tests/lessons/test_lesson_fast_solvers.py"]
NBVAL = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", "tests/support/nbval_sanitize.cfg"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the tree in which lesson 15 has been made by the command."""
    copy = tmp_path_factory.mktemp("tree") / "course"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    done = python(copy, "tools/notebooks.py", "new", "15", "fast_solvers")
    assert done.returncode == 0, done.stdout + done.stderr
    return copy


def python(copy: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run this interpreter in a copy of the tree, with the copy's library."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(copy), str(OFFLINE)]))
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def test_a_new_lesson_keeps_the_rules_the_floors_and_the_registry(tree):
    done = python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *RULES, "-k", ABOUT_IT)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_a_new_lesson_passes_nbval(tree):
    done = python(tree, "-m", "pytest", "-q", "-p", "no:cacheprovider", *NBVAL, "notebooks/15_fast_solvers.ipynb")
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout  # its code cells


def test_a_new_lesson_is_clean_for_the_linter(tree):
    for check in (["check"], ["format", "--check"]):
        done = python(tree, "-m", "ruff", *check, *MADE)
        assert done.returncode == 0, done.stdout


def test_the_tables_link_the_new_lesson(tree):
    assert "[Fast solvers](notebooks/15_fast_solvers.ipynb)" in (tree / "README.md").read_text()
    assert "[Fast solvers](15_fast_solvers.ipynb)" in (tree / "notebooks" / "00_start_here.ipynb").read_text()


def test_another_name_and_a_lesson_that_is_there_are_refused(capsys):
    assert skeleton.main("15", "slow_solvers") == 1
    assert "stem: expected 'fast_solvers', as course.toml has lesson 15, got 'slow_solvers'" in capsys.readouterr().out
    assert skeleton.main("21", "another") == 1
    assert "lesson: expected a number or a stem of notebooks/course.toml, got '21'" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match="expected a lesson that is not begun yet"):
        skeleton.make(course.find("09"))
