"""The wheel: a non-editable install holds every file of the library and imports from where it lies."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from oracles import declared_explorers

from diffusion_lib.teaching.server import enable

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "NOTICE")
IMPORT_ALL = """
import importlib, json, pathlib, pkgutil, diffusion_lib
modules = [m.name for m in pkgutil.walk_packages(diffusion_lib.__path__, "diffusion_lib.")]
for name in modules:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(json.dumps([diffusion_lib.__file__, diffusion_lib.__version__, len(modules)]))
"""
EXPLORERS = """
import json
from diffusion_lib.teaching import registry
print(json.dumps([f"{factory.__module__}.{factory.__name__}" for factory in registry.explorers()]))
"""


def pip(*arguments: str) -> None:
    """Run pip without its network: what is needed is installed or at hand."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which the wheel, built from a clean copy of the sources, is installed."""
    work = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "diffusion_lib", work / "src/diffusion_lib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, work / "src" / name)
    pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(work / "dist"), str(work / "src"))
    wheel = next((work / "dist").glob("diffusion_lib-*.whl"))
    pip("install", "--no-deps", "--no-index", "--target", str(work / "site"), str(wheel))
    return work / "site"


def test_the_wheel_holds_every_file_of_the_library(installed):
    ignore = {"__pycache__", ".ipynb_checkpoints"}
    files = [
        p.relative_to(ROOT) for p in (ROOT / "diffusion_lib").rglob("*") if p.is_file() and not ignore & {*p.parts}
    ]
    assert any(path.suffix == ".js" for path in files)
    assert [str(path) for path in files if not (installed / path).is_file()] == []


def printed(code: str, installed: Path, folder: Path) -> list:
    """Run Python over the installed wheel, in a folder that knows nothing of the sources; return what it prints."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(installed), os.environ["PYTHONPATH"]]))
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout.splitlines()[-1])


def test_the_wheel_imports_from_where_it_lies(installed, tmp_path):
    where, version, modules = printed(IMPORT_ALL, installed, tmp_path)
    assert Path(where).is_relative_to(installed)
    assert version == "0.1.0"
    assert modules > 10


def test_a_jupyter_server_of_the_environment_loads_the_save_hook(installed):
    """What pip puts beside the packages; and the name in it is that of the module."""
    [path] = (installed / "etc" / "jupyter" / "jupyter_server_config.d").iterdir()
    extensions = json.loads(path.read_text(encoding="utf-8"))["ServerApp"]["jpserver_extensions"]
    assert path.name == "diffusion_lib.json" and extensions == {"diffusion_lib.teaching.server": True}


def test_an_editable_install_loads_it_by_a_command(tmp_path):
    path = enable(tmp_path)
    assert path.parent == tmp_path / "etc" / "jupyter" / "jupyter_server_config.d"
    assert json.loads(path.read_text()) == json.loads((ROOT / "diffusion_lib/teaching/diffusion_lib.json").read_text())


def test_the_registry_of_the_wheel_holds_what_its_lessons_declare(installed, tmp_path):
    assert printed(EXPLORERS, installed, tmp_path) == declared_explorers(installed / "diffusion_lib" / "lessons")


def project() -> dict:
    """Return the table [project] of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements() -> list[str]:
    """Return the lines of requirements.txt, without comments."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_librarys_dependencies_are_what_it_imports():
    """Nothing more, or it cannot be installed where a platform pins its own Jupyter; nothing less, or it breaks."""
    other_names = {"PIL": "pillow", "sklearn": "scikit-learn", "IPython": "ipython"}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "diffusion_lib").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    tops = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names) - {"diffusion_lib"}
    assert {re.split("[<>=]", line)[0] for line in project()["dependencies"]} == {other_names.get(n, n) for n in tops}


def test_the_course_needs_the_library_and_jupyter_with_the_same_bounds():
    more = {re.split("[<>=]", line)[0] for line in set(requirements()) - set(project()["dependencies"])}
    assert set(project()["dependencies"]) <= set(requirements())
    assert more == {"ipykernel", "ipywidgets", "jupyterlab", "nbval"}


def test_conda_names_the_same_packages_with_the_same_bounds():
    conda = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
    listed = [line.strip(" -\n") for line in (ROOT / "environment.yml").read_text().splitlines() if ">=" in line]
    named = {conda.get(item.partition(">=")[0], item.partition(">=")[0]) + item[item.index(">=") :] for item in listed}
    assert named == set(requirements())
